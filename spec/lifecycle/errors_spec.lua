local support = require 'support'

describe('an uncaught error', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('is logged with its traceback and counted, and the worker goes on', function()
        local app = support.boot(mode, [[
          local server = new_server()
          local function deeper(what) error('no good: ' .. what) end
          server:on('connect', function() deeper 'connect' end)
          server:on('receive', function(s, fd, _, data)
            if data == 'count' then s:send(fd, s:stats().error_count .. ' ' .. srvlua.getpid() .. '\n') return end
            if data == 'sleep' then srvlua.sleep(0.001) end
            if data == 'table' then error { message = 'a table' } end
            if data == 'nothing' then error() end
            deeper(data)
          end)
          server:on('close', function(_, fd) emit('close', fd) deeper 'close' end)
          server:on('workerStart', function(s)
            emit('worker', srvlua.getpid())
            s:after(1, deeper, 'timer')
            s:defer(function() deeper 'deferred' end)
          end)
          server:on('workerError', function() emit 'workerError' end)
          server:on('workerStop', function() deeper 'workerStop' end)
          run(server)
        ]])
        local pid = app:expect 'worker'
        local client = app:connect()
        for _, word in ipairs { 'receive', 'sleep' } do
          client:send(word)
          local line = app:logs('no good: ' .. word)
          assert.truthy(line:find 'ERROR', line)
        end
        client:send 'table'
        app:logs 'a table'
        client:send 'nothing'
        for _, word in ipairs { 'connect', 'timer', 'deferred' } do
          app:logs('no good: ' .. word)
        end
        app:logs 'deeper' -- the traceback
        client:close()
        app:expect('close', 1)
        app:logs 'no good: close'
        local other = app:connect()
        other:send 'count'
        assert.equal('9 ' .. pid, other:line())
        assert.equal(0, app:stop())
        app:logs 'no good: workerStop'
        assert.equal(0, app:count 'workerError')
      end)

      it('ends the worker with 255 when exit_on_error says so', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2, exit_on_error = true }
          server:on('receive', function() error 'the last word' end)
          server:on('workerStop', function() emit 'workerStop' end)
          server:on('workerError', function(_, id, pid, code, signal) emit('workerError', code, signal) end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('workerError', 255, 0)
        app:logs 'the last word'
        assert.equal(0, app:count 'workerStop')
        assert.equal(0, app:stop())
      end)

      it('in workerStart ends the process with 255, and it is replaced', function()
        local path = support.directory() .. '/once'
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          server:on('workerStart', function(_, id)
            if id == 0 and not io.open(arg[2]) then
              io.open(arg[2], 'w'):close()
              error 'bad start'
            end
            emit('worker', id)
          end)
          server:on('workerError', function(_, id, _, code) emit('workerError', id, code) end)
          run(server)
        ]], { args = { path } })
        app:expect('workerError', 0, 255)
        app:expect('worker', 0)
        app:logs 'bad start'
        assert.equal('x', app:connect():echo 'x')
      end)

      it('in master or manager takes nobody down', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          for _, name in ipairs { 'managerStart', 'managerStop', 'beforeShutdown', 'shutdown' } do
            server:on(name, function() error('bad ' .. name) end)
          end
          run(server, function(s)
            s:after(1, function() emit 'timer' error 'bad timer' end)
            emit('start', { s.port })
            error 'bad start'
          end)
        ]])
        app:logs 'bad start'
        app:logs 'bad managerStart'
        app:expect 'timer'
        assert.equal('x', app:connect():echo 'x')
        assert.equal(0, app:stop())
        for _, name in ipairs { 'timer', 'managerStop', 'beforeShutdown', 'shutdown' } do
          app:logs('bad ' .. name)
        end
        app:expect('returned', true)
      end)

      it('with os.exit ends the worker and reports its status', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s, fd, _, data)
            s:send(fd, 'bye')
            os.exit(tonumber(data))
          end)
          server:on('workerStart', function(_, id) emit('worker', id) end)
          server:on('workerStop', function() emit 'workerStop' end)
          server:on('workerError', function(_, id, _, code, signal) emit('workerError', id, code, signal) end)
          run(server)
        ]])
        app:expect('worker', 0)
        app:expect('worker', 1)
        local client = app:connect()
        client:send '7'
        assert.equal('bye', client:receive(3)) -- what was accepted goes out
        local id = app:expect 'workerError'
        app:expect('worker', id)
        app:logs 'ended with status 7'
        assert.equal(0, app:count 'workerStop')

        client = app:connect()
        client:send '0'
        assert.equal('bye', client:receive(3))
        app:expect 'worker'
        assert.equal(0, app:count 'workerError')
      end)
    end)
  end)
end)
