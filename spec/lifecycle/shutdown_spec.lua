local support = require 'support'

describe('a shutdown', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      for _, from in ipairs { 'receive', 'start', 'managerStart', 'timer', 'workerStart' } do
        it('may be asked for by ' .. from, function()
          local app = support.boot(mode, [[
            local server = new_server { worker_num = 2 }
            local function shut(s) emit('asked', s:shutdown(), s:shutdown()) end
            server:on('receive', function(s) if arg[2] == 'receive' then shut(s) end end)
            server:on('managerStart', function(s) if arg[2] == 'managerStart' then shut(s) end end)
            server:on('workerStart', function(s, id)
              if id == 1 and arg[2] == 'workerStart' then shut(s) end
              if id == 1 and arg[2] == 'timer' then s:after(1, shut, s) end
            end)
            run(server, function(s) if arg[2] == 'start' then shut(s) end end)
          ]], { args = { from }, start = from == 'receive' })
          if from == 'receive' then app:connect():send 'x' end
          app:expect('asked', true, true)
          app:expect('returned', true)
          assert.equal(0, app:wait())
          assert.is_true(app:is_gone())
        end)
      end

      it('sends what was accepted before, and ends the streams', function()
        local app = support.boot(mode, [[
          local server = new_server { socket_buffer_size = '16M' }
          server:on('receive', function(s, fd)
            for _ = 1, 4 do s:send(fd, ('x'):rep(1000000)) end
            s:shutdown()
          end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        assert.equal(4000000, #client:rest())
        app:expect('returned', true)
      end)

      it('lets handlers finish, suspended ones too', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd)
            emit 'begun'
            srvlua.sleep(0.2)
            emit('answered', s:send(fd, 'late'))
          end)
          run(server)
        ]])
        local client = app:connect()
        client:send 'x'
        app:expect 'begun'
        app:kill 'TERM'
        assert.equal('late', client:receive(4))
        app:expect('answered', true)
        app:expect('returned', true)
      end)

      it('accepts nobody after it', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd) s:shutdown() srvlua.sleep(0.2) s:send(fd, 'bye') end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('returned', true)
        assert.has_error(function() app:connect() end)
      end)

      it('closes live connections', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          server:on('close', function(_, fd, reactor_id) emit('close', fd, reactor_id) end)
          run(server)
        ]])
        local one, two = app:connect(), app:connect()
        one:echo 'x'
        two:echo 'x'
        assert.equal(0, app:stop())
        assert.same({ 'end', 'end' }, { one:ending(), two:ending() })
        -- with events only where the owner is a worker
        assert.equal(mode == 'BASE' and 2 or 0, app:count 'close')
        if mode == 'BASE' then
          app:expect('close', 1, -1)
          app:expect('close', 2, -1)
        end
      end)

      it('kills what does not end in twice its time', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2, max_wait_time = 0.3 }
          server:on('receive', function() emit 'stuck' while true do end end)
          server:on('workerStop', function() emit 'workerStop' end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect 'stuck'
        local start = support.now()
        app:kill 'TERM'
        app:expect('returned', true)
        local took = support.now() - start
        assert.is_true(took >= 0.5 and took < 5, took)
        assert.equal(0, app:wait())
        assert.is_true(app:is_gone())
        assert.equal(1, app:count 'workerStop')
      end)

      it('drops output that nobody reads when its time is over', function()
        local app = support.boot(mode, [[
          local server = new_server { max_wait_time = 0.3, socket_buffer_size = '64M' }
          server:on('receive', function(s, fd)
            for _ = 1, 20 do s:send(fd, ('x'):rep(2000000)) end
            emit 'sent'
          end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect 'sent'
        local start = support.now()
        assert.equal(0, app:stop())
        local took = support.now() - start
        assert.is_true(took < 5, took)
      end)

      it('removes unix sockets', function()
        local path = support.directory() .. '/socket'
        local app = support.boot(mode, [[
          local server = new_server(nil, srvlua.SOCK_UNIX_STREAM, arg[2])
          server:addListener(arg[2] .. '.dgram', 0, srvlua.SOCK_UNIX_DGRAM)
          server:on('receive', function() end)
          server:on('packet', function() end)
          run(server)
        ]], { args = { path } })
        local lfs = require 'lfs'
        assert.equal('socket', lfs.attributes(path, 'mode'))
        assert.equal('socket', lfs.attributes(path .. '.dgram', 'mode'))
        app:stop()
        assert.is_nil(lfs.attributes(path))
        assert.is_nil(lfs.attributes(path .. '.dgram'))
      end)

      it('does not wait for ever for timers of its first process', function()
        local app = support.boot(mode, [[
          local server = new_server { max_wait_time = 0.3 }
          server:on('receive', function() end)
          run(server, function(s) s:tick(20, function() end) end)
        ]])
        local start = support.now()
        assert.equal(0, app:stop())
        assert.is_true(support.now() - start < 5)
      end)

      it('is not what other signals do', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          server:on('workerStart', function() emit('pid', srvlua.getpid()) end)
          server:on('managerStart', function() emit('pid', srvlua.getpid()) end)
          run(server)
        ]])
        local client = app:connect()
        client:echo 'x'
        local pids = { app.pid, (app:expect 'pid'), (app:expect 'pid'), (app:expect 'pid') }
        for _, pid in ipairs(pids) do
          for _, signal in ipairs { 'HUP', 'PIPE', 'ALRM', 28, 29 } do -- WINCH, IO
            support.kill(pid, signal)
          end
        end
        app:logs 'has no handler'
        assert.equal('y', client:echo 'y')
        for _, pid in ipairs(pids) do
          assert.is_true(support.is_alive(pid))
        end
      end)

      it('does not happen in order at SIGINT', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function() end)
          server:on('shutdown', function() emit 'shutdown' end)
          run(server)
        ]])
        app:kill 'INT'
        assert.same({ [2] = 2 }, { [2] = select(2, app:wait()) })
        assert.is_true(app:is_gone())
        assert.equal(0, app:count 'shutdown')
      end)
    end)
  end)

  it('follows when the manager is asked to end', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2 }
      server:on('receive', function() end)
      server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
      server:on('shutdown', function() emit 'shutdown' end)
      run(server)
    ]])
    support.kill(app:expect 'manager', 'TERM')
    app:expect('returned', true)
    assert.equal(1, app:count 'shutdown')
  end)

  support.in_both_modes(function(mode)
    it('of one worker by SIGTERM gives it a successor, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function() end)
        server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
        server:on('workerStop', function(_, id) emit('workerStop', id, srvlua.getpid()) end)
        server:on('workerError', function() emit 'workerError' end)
        run(server)
      ]])
      local _, pid = app:expect('worker', 1)
      support.kill(pid, 'TERM')
      app:expect('workerStop', 1, pid)
      local _, successor = app:expect('worker', 1)
      assert.not_equal(pid, successor)
      assert.equal(0, app:count 'workerError')
    end)
  end)

  support.in_both_modes(function(mode)
    it('ends task workers in good order though there are more tasks than time, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local ffi = require 'ffi'
        local server = new_server { task_worker_num = 2, max_wait_time = 1 }
        server:on('receive', function(s)
          for _ = 1, 2000 do s:task 'x' end
          emit 'given'
        end)
        server:on('task', function() ffi.C.usleep(5000) end)
        server:on('workerStop', function(_, id) emit('stopped', id) end)
        server:on('managerStop', function(s) emit('lost', s:stats().lost_count) end)
        run(server)
      ]])
      app:connect():send 'x'
      app:expect 'given'
      assert.equal(0, app:stop())
      app:expect('stopped', 0)
      app:expect('stopped', 1)
      app:expect('stopped', 2)
      assert.is_true(app:expect 'lost' > 1000)
      app:logs 'leaves after max_wait_time of 1 s with work left behind'
    end)
  end)
end)
