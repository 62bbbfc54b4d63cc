-- Packets that were read before a server shuts down, or a worker leaves, are served (design 6, settings.md 3.8).
local support = require 'support'

local LINES = "open_eof_split = true, package_eof = '\\n', package_max_length = '4m'"

-- Waits until nothing that came to a port is left in the kernel.
local function expect_all_read(port)
  local established = ('\n *%%d+: %%x+:%04X %%x+:%%x+ 01 %%x+:(%%x+)'):format(port)
  assert(support.eventually(function()
    for left in support.read_file '/proc/net/tcp':gmatch(established) do
      if left ~= '00000000' then return false end
    end
    return true
  end), 'the reactor does not read')
end

describe('whole packets that were read, PROCESS,', function()
  after_each(support.cleanup)

  -- What found no room in the worker's ring came there when the worker had gone.
  for name, stream in pairs {
    ['many small ones'] = (('x'):rep(48) .. '\n'):rep(1300),
    ['large ones'] = ('x'):rep(299999) .. '\n',
  } do
    it('are served in a shutdown, though the ring is full: ' .. name, function()
      local gate = support.directory() .. '/gate'
      local app = support.boot('PROCESS', ([[
        local server = new_server { worker_ring_size = '64k', %s }
        local total = 0
        server:on('receive', function(self, fd, reactor, data)
          if total == 0 then
            emit 'held'
            hold(%q)
          end
          total = total + #data
        end)
        server:on('workerStop', function() emit('total', total) end)
        run(server)
      ]]):format(LINES, gate))
      local client = app:connect()
      client:send 'first\n'
      app:expect 'held'
      if #stream < 65536 then -- it must come in one read: who waits for room is not read
        client:send_at_once(stream)
      else
        client:send(stream)
        for _ = 1, 3 do app:connect():send(stream) end
        stream = stream:rep(4)
      end
      expect_all_read(app.where[1])
      app:kill 'TERM'
      app:logs 'the server shuts down'
      support.write_file(gate, '')
      assert.equal(6 + #stream, (app:expect 'total'))
    end)
  end
end)

describe('whole packets that were read, BASE,', function()
  after_each(support.cleanup)

  -- A turn of the loop passes on a few of them only; the worker left with the rest in its hands.
  for way, settings in pairs { ['a shutdown'] = 'worker_num = 1', ['a reload'] = 'worker_num = 2' } do
    for kind, framing in pairs { lines = LINES, raw = '' } do
      it(('are served in %s, %s'):format(way, kind), function()
        local app = support.boot('BASE', ([[
          local server = new_server { max_wait_time = 15, %s, %s }
          local total = 0
          server:on('receive', function(self, fd, reactor, data)
            if total == 0 then
              emit 'first'
              if %q == 'a reload' then self:reload() end
            end
            local last = os.clock() + 0.002
            repeat until os.clock() >= last
            total = total + #data
            self:send(fd, 'y')
          end)
          server:on('close', function(_, fd, reactor) emit('close', total, reactor) end)
          run(server)
        ]]):format(settings, framing, way))
        local client = app:connect()
        client:send_at_once(('x\n'):rep(200))
        app:expect 'first'
        if way == 'a shutdown' then app:kill 'TERM' end
        app:expect('close', 400, -1)
        assert.equal(kind == 'raw' and 1 or 200, #client:rest())
      end)
    end
  end
end)

support.in_both_modes(function(mode)
  describe('what has come of a packet, ' .. mode .. ',', function()
    after_each(support.cleanup)

    it('holds nobody up in a shutdown, and is dropped without a word', function()
      local app = support.boot(mode, ([[
        local server = new_server { %s }
        server:on('receive', function(self, fd, reactor, data) self:send(fd, data) end)
        local port = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        port:set { open_proxy_protocol = true, proxy_protocol_trusted = { '127.0.0.0/8' } }
        run(server)
      ]]):format(LINES))
      local client, stranger = app:connect(), app:connect(2)
      client:send_at_once 'whole\nhalf of'
      stranger:send_at_once 'PROXY TCP4 192.0.2.7 198'
      stranger:arrived()
      expect_all_read(app.where[2])
      assert.equal('whole', client:line())
      local began = support.now()
      assert.equal(0, (app:stop()))
      assert.is_true(support.now() - began < 1.5)
      assert.equal('end', client:ending())
      assert.equal('end', stranger:ending())
      assert.equal(0, app:log_count 'WARNING')
    end)
  end)
end)
