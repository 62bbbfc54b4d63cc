local support = require 'support'

describe('a connection', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('is told by connect, receive and close, in this order, to one worker', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('connect', function(s, fd, reactor) emit('connect', fd, reactor, s == server, s.worker_id) end)
          server:on('receive', function(s, fd, reactor_id, data) emit('receive', fd, reactor_id, data, s.worker_id) end)
          server:on('close', function(s, fd, reactor_id) emit('close', fd, reactor_id, s.worker_id) end)
          run(server)
        ]])
        for fd = 1, 4 do
          local client = app:connect()
          client:send 'a\0b'
          client:close()
          local _, reactor_id, is_server, worker_id = app:expect('connect', fd)
          assert.is_true(is_server)
          if mode == 'BASE' then assert.equal(worker_id, reactor_id) end
          assert.same({ fd, reactor_id, 'a\0b', worker_id }, { app:expect('receive', fd) })
          assert.same({ fd, reactor_id, worker_id }, { app:expect('close', fd) })
        end
      end)

      it('keeps data apart from its end, and has no event after it', function()
        local app = support.boot(mode, [[
          local server = new_server()
          for _, name in ipairs { 'connect', 'receive', 'close' } do
            server:on(name, function() emit(name) end)
          end
          run(server)
        ]])
        local client = app:connect()
        client:send 'data before the end'
        client:close()
        app:expect 'close'
        assert.same({ 'connect', 'receive' }, app:names())
      end)

      it('may overlap with itself when a callback suspends, but starts in order', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd, _, data)
            emit('begin', data)
            if data == 'slow' then srvlua.sleep(0.1) end
            emit('end', data)
            s:send(fd, data)
          end)
          server:on('close', function() emit 'close' end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'slow'
        app:expect('begin', 'slow')
        client:send 'fast'
        assert.equal('fast', client:receive(4))
        assert.equal('slow', client:receive(4))
        assert.same({ 'begin', 'end', 'end' }, app:names())
      end)

      it('is not served by coroutines without enable_coroutine', function()
        local app = support.boot(mode, [[
          local server = new_server { enable_coroutine = false }
          server:on('receive', function(s, fd, _, data)
            emit('receive', data, coroutine.running() == nil)
            srvlua.sleep(0.05) -- blocks
            emit('done', data)
          end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'one'
        app:expect('receive', 'one', true)
        client:send 'two'
        app:expect('done', 'two')
        assert.same({ 'done', 'receive' }, app:names())
      end)

      it('runs out of numbers never: ids count up over all ports', function()
        local app = support.boot(mode, [[
          local server = new_server { start_session_id = 4294967294 }
          local port = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          server:on('receive', function(s, fd) s:send(fd, fd .. '\n') end)
          run(server)
        ]])
        for i, id in ipairs { '4294967295', '4294967296', '4294967297' } do
          local client = app:connect(1 + i % 2)
          client:send 'x'
          assert.equal(id, client:line())
        end
      end)

      it('has other callbacks on ports of their own', function()
        local app = support.boot(mode, [[
          local server = new_server()
          local own = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          server:on('connect', function(_, fd) emit('connect', 'primary', fd) end)
          server:on('receive', function(s, fd, _, data) s:send(fd, 'primary ' .. data) end)
          own:on('receive', function(s, fd, _, data) s:send(fd, 'own ' .. data) end)
          emit('own', own:getCallback 'connect', server:getCallback 'CONNECT' ~= nil, type(own:getCallback 'receive'))
          run(server)
        ]])
        assert.same({ nil, true, 'function' }, { app:expect 'own' })
        local answers = { 'primary x', 'own x', 'primary x' }
        for index, answer in ipairs(answers) do
          local client = app:connect(index)
          client:send 'x'
          assert.equal(answer, client:receive(#answer))
          app:expect('connect', 'primary', index)
        end
      end)

      it('is read 64 KiB at a time at most', function()
        local app = support.boot(mode, [[
          local server = new_server()
          local total, largest = 0, 0
          server:on('receive', function(_, _, _, data)
            total, largest = total + #data, math.max(largest, #data)
            if total == 3000000 then emit('largest', largest) end
          end)
          run(server)
        ]])
        app:connect():send(('x'):rep(3000000))
        local largest = app:expect 'largest'
        assert.is_true(largest > 0 and largest <= 65536, largest)
      end)

      it('takes the object form of its events', function()
        local app = support.boot(mode, [[
          local server = new_server { event_object = true }
          server:on('connect', function(s, e) emit('connect', e.fd, e.reactor_id, e.dispatch_time, e.data) end)
          server:on('receive', function(s, e) emit('receive', e.fd, e.data, e.dispatch_time) s:close(e.fd) end)
          server:on('close', function(s, e) emit('close', e.fd, e.reactor_id) end)
          run(server)
        ]])
        app:connect():send 'x'
        assert.same({ 1, 0, 0, nil }, { app:expect 'connect' })
        local _, _, time = app:expect('receive', 1, 'x')
        assert.is_true(math.abs(time - os.time()) < 100)
        app:expect('close', 1, -1)
      end)

      it('is refused beyond max_connection', function()
        local app = support.boot(mode, [[
          local server = new_server { max_connection = 3 }
          server:on('receive', function(s, fd, _, data)
            s:send(fd, data == '?' and s:stats().abort_count .. '\n' or data)
          end)
          run(server)
        ]])
        local clients = {}
        for i = 1, 3 do
          clients[i] = app:connect()
          clients[i]:echo 'x'
        end
        app:connect():ending()
        assert.is_truthy(support.eventually(function()
          clients[1]:send '?'
          return clients[1]:line() == '1'
        end))
        clients[2]:close()
        assert.is_truthy(support.eventually(function()
          local client = app:connect()
          local ok = pcall(client.echo, client, 'x')
          client:close()
          return ok
        end))
      end)

      it('that comes, knocks and goes does no harm', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          server:on('close', function(s, fd) emit('close', fd) end)
          run(server)
        ]])
        for i = 1, 100 do
          local client = app:connect()
          if i % 3 == 0 then client:reset() elseif i % 3 == 1 then client:close() end
        end
        assert.equal('x', app:connect():echo 'x')
        for i = 1, 100 do
          if i % 3 < 2 then app:expect('close', i) end
        end
      end)
    end)
  end)

  it('goes to all workers in turn of its descriptors in PROCESS mode', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2 }
      server:on('receive', function(s, fd) s:send(fd, s.worker_id .. ' ' .. s:getClientInfo(fd).socket_fd .. '\n') end)
      run(server)
    ]])
    for _ = 1, 6 do
      local client = app:connect()
      client:send 'x'
      local worker, descriptor = client:line():match '(%d+) (%d+)'
      assert.equal(descriptor % 2, tonumber(worker))
      client:send 'x'
      assert.equal(worker .. ' ' .. descriptor, client:line())
    end
  end)
end)
