local support = require 'support'

-- What a client sends tells a worker what to do.
local source = [[
  local server = new_server { worker_num = 2, max_wait_time = 0.5 }
  server:on('workerStart', function() emit('workerStart', srvlua.getpid()) end)
  server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
  server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
  server:on('receive', function(s, fd, _, data)
    if data == 'stall' then
      emit 'stalled'
      stall()
    end
    s:send(fd, data)
  end)
  run(server)
]]

describe('a reload', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    -- The order to leave stayed unread in the inbox of the process that had to be killed. The next process there took it
    -- for its own: in BASE mode it left at once, with its clients.
    it('after one that killed a worker gives workers that stay, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, source)
      local manager = app:expect 'manager'
      for _ = 1, 2 do
        app:expect 'workerStart'
      end
      app:connect():send 'stall'
      app:expect 'stalled'
      for _ = 1, 2 do
        support.kill(manager, 'USR1')
        app:expect('afterReload', true)
        for _ = 1, 2 do
          app:expect 'workerStart'
        end
      end
      local clients = { app:connect(), app:connect(), app:connect() }
      local last = support.now() + 1
      while support.now() < last do
        for _, client in ipairs(clients) do
          assert.equal('hello', client:echo 'hello')
        end
      end
      assert.equal(0, app:count 'workerStart')
    end)
  end)
end)
