-- A worker that is killed loses the packet that it is serving, and none that is not named (methods.md 14, design 6).
local support = require 'support'

local COUNT, FATAL = 60, 19 -- packets of a client; whose number ends so among twenty kills the worker

describe('packets that wait for a worker that is killed, PROCESS,', function()
  after_each(support.cleanup)

  -- Of a packet in chunks from another reactor the dead one had taken the first, and nobody spoke of it.
  for name, size in pairs { small = 20, ['in chunks'] = 30000, ['larger than half of the ring'] = 150000 } do
    it('go to its successor, but the one that it was serving: ' .. name, function()
      local app = support.boot('PROCESS', ([[
        local ffi = require 'ffi'
        ffi.cdef 'int kill(int pid, int signal);'
        local server = new_server { reactor_num = 2, worker_num = 2, dispatch_mode = 4, worker_ring_size = '64k',
                                    open_eof_split = true, package_eof = '\n' }
        server:on('receive', function(self, fd, reactor, data)
          local number = tonumber(data:match '^%%d+')
          if number > 0 and #data ~= %d then emit('torn', #data) end
          if number %% 20 == %d then ffi.C.kill(srvlua.getpid(), 9) end
          self:send(fd, number .. '\n')
        end)
        run(server)
      ]]):format(size, FATAL))
      local packets, clients = {}, {}
      for number = 1, COUNT do
        packets[number] = ('%04d'):format(number) .. ('x'):rep(size - 5) .. '\n'
      end
      local stream, at = table.concat(packets), 1
      for i = 1, 4 do clients[i] = app:connect() end
      while at <= #stream do -- a part of each in turn
        for i = 1, 4 do clients[i]:send(stream:sub(at, at + size * 10 - 1)) end
        at = at + size * 10
      end
      local missing = 0
      for i = 1, 4 do
        clients[i]:send '0000\n'
        local last = 0
        repeat
          local number = tonumber(clients[i]:line())
          missing = missing + (number > 0 and number or COUNT + 1) - last - 1
          assert.is_true(number > last or number == 0)
          last = number
        until number == 0
      end
      assert.equal(0, app:count 'torn')
      local named = app:log_count 'that request is lost'
      if size <= 32768 then assert.equal(4 * COUNT / 20, named) end
      assert.equal(named, missing)
    end)
  end
end)
