local support = require 'support'

describe('close', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('delivers what send accepted before the end of the stream', function()
        local app = support.boot(mode, [[
          local server = new_server { socket_buffer_size = '8M' }
          server:on('receive', function(s, fd)
            s:send(fd, ('x'):rep(2 * 1024 * 1024))
            s:send(fd, 'end')
            emit('closed', s:close(fd))
            emit('again', s:send(fd, 'more'))
          end)
          server:on('close', function(_, fd, reactor_id) emit('close', fd, reactor_id) end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        app:expect('closed', true)
        local data = client:rest()
        assert.equal(2 * 1024 * 1024 + 3, #data)
        assert.equal('end', data:sub(-3))
        app:expect('close', 1, -1)
        assert.equal(1001, select(3, app:expect('again', false)))
      end)

      it('runs the close callback before it returns, in the worker that owns the connection', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd)
            emit 'before'
            s:close(fd)
            emit 'after'
          end)
          server:on('close', function() emit 'close' end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        assert.equal('end', client:ending())
        app:expect 'after'
        assert.same({ 'before', 'close' }, app:names())
      end)

      it('with reset drops what waits, and the peer gets a reset', function()
        local app = support.boot(mode, [[
          local server = new_server { socket_buffer_size = '16M', kernel_socket_send_buffer_size = 65536 }
          server:on('receive', function(s, fd)
            s:send(fd, ('x'):rep(2000000))
            s:send(fd, ('x'):rep(2000000))
            emit('closed', s:close(fd, true))
          end)
          server:on('close', function(_, fd, reactor_id) emit('close', fd, reactor_id) end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        app:expect('closed', true)
        app:expect('close', 1, -1)
        assert.equal('reset', client:ending())
      end)

      it('answers with what became of the connection', function()
        local app = support.boot(mode, [[
          local server = new_server()
          local function code(...) return select('#', ...) == 1 and (...) or (select(3, ...)) end
          server:on('receive', function(s, fd, _, data)
            if data == 'ask' then
              emit('answers', code(s:close(0)), code(s:close(-1)), code(s:close(99)), code(s:close(1)),
                code(s:close(1, true)))
              emit('arguments', (pcall(s.close, s, 'x')), (pcall(s.close, s, 1.5)), (pcall(s.close, s)))
            else
              emit('first', s:close(fd))
              emit('second', code(s:close(fd)))
            end
          end)
          server:on('close', function(s, fd)
            emit('inside', code(s:close(fd)), s:exist(fd), code(s:send(fd, 'x')), s:getClientInfo(fd) ~= false)
          end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        app:expect('first', true)
        app:expect('second', 1004)
        assert.same({ 1003, false, 1003, true }, { app:expect 'inside' })
        client:ending()
        app:connect():send 'ask'
        assert.same({ 1006, 1006, 1005, 1004, 1004 }, { app:expect 'answers' })
        app:expect('arguments', false, false, false)
      end)

      it('in the connect callback ends it before any data is heard', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('connect', function(s, fd)
            if fd == 1 then srvlua.sleep(0.05) s:close(fd) end
          end)
          server:on('receive', function(s, fd, _, data) emit('receive', fd) s:send(fd, data) end)
          server:on('close', function(_, fd, reactor_id) emit('close', fd, reactor_id) end)
          run(server)
        ]])
        local client = app:connect()
        assert.equal('end', client:ending())
        app:expect('close', 1, -1)
        app:connect():echo 'x'
        assert.equal(0, app:count('receive', 1))
      end)

      for _, from in ipairs { 'other worker', 'manager', 'start' } do
        it('works from elsewhere: ' .. from, function()
          local path = support.directory() .. '/fd'
          local app = support.boot(mode, [[
            local server = new_server { worker_num = 2, socket_buffer_size = '4M' }
            local is_owner = false
            local function watch(s)
              s:tick(5, function(id)
                local file = not is_owner and io.open(arg[3])
                if not file then return end
                s:clearTimer(id)
                emit('closed', s:close(tonumber((file:read '*a'))))
              end)
            end
            server:on('workerStart', function(s) if arg[2] == 'other worker' then watch(s) end end)
            server:on('managerStart', function(s) if arg[2] == 'manager' then watch(s) end end)
            server:on('receive', function(s, fd)
              is_owner = arg[2] == 'other worker'
              s:send(fd, ('x'):rep(1000000))
            end)
            server:on('close', function(_, fd, reactor_id) emit('close', fd, reactor_id) end)
            run(server, function(s) if arg[2] == 'start' then watch(s) end end)
          ]], { args = { from, path } })
          local client = app:connect()
          client:send 'x'
          client:receive(1)
          support.write_file(path, '1')
          app:expect('closed', true)
          app:expect('close', 1, -1)
          assert.equal(999999, #client:rest())
        end)
      end

      -- The owner's call marked the callback as begun, and nobody ran it.
      it('by two workers at once fires one event', function()
        local path = support.directory() .. '/fd'
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('workerStart', function(s)
            s:tick(2, function(id)
              if not io.open(arg[2]) then return end
              s:clearTimer(id)
              emit('closed', s:close(1))
              io.open(arg[2] .. '.closed', 'w'):close()
            end)
          end)
          server:on('receive', function(s, fd)
            io.open(arg[2], 'w'):close()
            while not io.open(arg[2] .. '.closed') do end
            emit('own', s:close(fd))
          end)
          server:on('close', function(_, fd, reactor_id) emit('close', fd, reactor_id) end)
          run(server)
        ]], { args = { path } })
        local client = app:connect()
        client:send 'x'
        app:expect('closed', true)
        assert.equal(1004, select(3, app:expect('own', false)))
        app:expect('close', 1, -1)
        assert.equal('end', client:ending())
        assert.equal(0, app:count 'close')
      end)

      it('of the peer is told with the reactor that saw it', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd) s:send(fd, 'x') end)
          server:on('close', function(s, fd, reactor_id)
            local info = s:getClientInfo(fd)
            emit('close', fd, reactor_id, info.close_errno)
          end)
          run(server)
        ]])
        local client = app:connect()
        client:echo 'x'
        client:close()
        app:expect('close', 1, 0, 0)
        client = app:connect()
        client:echo 'x'
        client:reset()
        assert.same({ 2, 0, 104 }, { app:expect('close', 2) }) -- ECONNRESET
      end)

      it('of the peer is remembered as such', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd, _, data)
            if data == 'ask' then
              emit('send', (select(3, s:send(1, 'x'))), s:getLastError(), (select(3, s:getClientInfo(1))), s:exist(1))
              local last = s:getClientInfo(1, -1, true)
              emit('last', last and last.remote_ip, last and last.server_port == s.port)
            end
          end)
          server:on('close', function(_, fd) emit('close', fd) end)
          run(server)
        ]])
        app:connect():close()
        app:expect('close', 1)
        app:connect():send 'ask'
        app:expect('send', 1002, 1002, 1002, false)
        app:expect('last', '127.0.0.1', true)
      end)

      it('of half a stream by the peer ends it all', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          server:on('close', function(_, fd) emit('close', fd) end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'question'
        client:half_close()
        client:ending()
        app:expect('close', 1)
      end)
    end)
  end)
end)
