local support = require 'support'

describe('Process.signal', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('takes the place of the server\'s reaction to SIGHUP and gives it back, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('workerStart', function(_, id)
          if id > 0 then return end
          emit('pid', srvlua.getpid())
          srvlua.Process.signal(srvlua.SIGHUP, function(signo)
            emit('handled', signo, srvlua.Process.signal(signo, nil))
          end)
        end)
        server:on('receive', function() end)
        run(server)
      ]])
      local pid = app:expect 'pid'
      support.kill(pid, 'HUP')
      app:expect('handled', 1, true)
      assert.equal(0, app:log_count 'signal 1')
      support.kill(pid, 'HUP')
      app:logs 'signal 1 (Hangup) has no handler and is ignored'
      assert.equal(0, app:stop())
    end)

    it('ignores signals, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('workerStart', function(_, id)
          if id > 0 then return end
          for _, signo in ipairs { srvlua.SIGINT, srvlua.SIGALRM } do
            emit('set', srvlua.Process.signal(signo, srvlua.SIG_IGN))
          end
          emit('pid', srvlua.getpid())
        end)
        server:on('receive', function(s, fd)
          emit('unset', srvlua.Process.signal(srvlua.SIGALRM, nil))
          s:send(fd, tostring(srvlua.getpid()))
        end)
        run(server)
      ]])
      app:expect('set', true)
      app:expect('set', true)
      local pid = app:expect 'pid'
      support.kill(pid, 'INT')
      support.kill(pid, 'ALRM')
      local client = app:connect()
      client:send 'x'
      app:expect('unset', true)
      support.kill(pid, 'ALRM')
      app:logs 'signal 14 (Alarm clock)'
      assert.equal(1, app:log_count 'signal 14')
      assert.is_true(support.is_alive(pid))
    end)

    -- A signal goes to any thread that does not block it: the reactors' must.
    it('works in the master under load, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 1, reactor_num = 2 }
        server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
        run(server, function()
          local count = 0
          emit('set', srvlua.Process.signal(srvlua.SIGINT, function() count = count + 1 emit('count', count) end))
        end)
      ]])
      app:expect('set', true)
      local client = app:connect()
      for i = 1, 10 do
        app:kill 'INT'
        assert.equal('x', client:echo 'x')
        app:expect('count', i)
      end
      assert.equal(0, app:stop())
    end)

    -- What the manager handled stayed blocked in the processes that it forked later.
    it('of the manager is not inherited, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('managerStart', function()
          srvlua.Process.signal(srvlua.SIGINT, function() emit 'manager' end)
          emit('armed', srvlua.getpid())
        end)
        server:on('workerStart', function(_, id)
          emit('worker', id, srvlua.getpid(), (srvlua.Process.signal(srvlua.SIGINT, nil)))
        end)
        server:on('receive', function() end)
        run(server)
      ]])
      local manager = app:expect 'armed'
      local _, first = app:expect('worker', 0)
      support.kill(first, 'KILL')
      local _, second = app:expect('worker', 0)
      support.kill(second, 'INT')
      local _, _, was_there = app:expect('worker', 0)
      assert.is_false(was_there)
      support.kill(manager, 'INT')
      app:expect 'manager'
      assert.equal(0, app:stop())
    end)
  end)

  it('works in srvlua.run, and is over with it', function()
    local app = support.boot('PROCESS', [[
      local Process = srvlua.Process
      emit('run', srvlua.run(function()
        local count = 0
        Process.signal(srvlua.SIGTERM, function(signo)
          count = count + 1
          srvlua.sleep(0.001)
          emit('signal', signo, count)
          if count == 2 then srvlua.Timer.clearAll() end
        end)
        srvlua.Timer.tick(60000, print)
        Process.kill(srvlua.getpid())
        srvlua.sleep(0.02)
        Process.kill(srvlua.getpid())
      end))
      Process.kill(srvlua.getpid())
      emit 'never'
    ]], { start = false })
    app:expect('signal', 15, 1)
    app:expect('signal', 15, 2)
    app:expect('run', true)
    assert.same({ nil, 15 }, { app:wait() })
    assert.equal(0, app:count 'never')
  end)

  it('refuses what is no handler or no signal', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2 }
      server:on('workerStart', function(_, id)
        if id > 0 then return end
        local signal = srvlua.Process.signal
        emit('handler', pcall(signal, 2, 5))
        emit('text', pcall(signal, 'INT', print))
        for _, signo in ipairs { 0, 65, -1, 2 ^ 40, 32 } do emit('none', select(3, signal(signo, print))) end
        for _, signo in ipairs { srvlua.SIGKILL, srvlua.SIGSTOP } do emit('never', signal(signo, print)) end
        emit('own', signal(srvlua.SIGTERM, print))
        emit('removed', signal(2))
      end)
      server:on('receive', function() end)
      run(server)
    ]])
    app:expect('handler', false, "bad argument #2 to 'signal' (function expected, got number)")
    app:expect('text', false, "bad argument #1 to 'signal' (number expected, got string)")
    for _ = 1, 5 do
      app:expect('none', 505)
    end
    app:expect('never', false, 'nobody can handle signal 9 (Killed)', 509)
    app:expect('never', false, 'nobody can handle signal 19 (Stopped (signal))', 509)
    app:expect('own', false, "signal 15 (Terminated) is the server's own in this process", 509)
    app:expect('removed', false, 'signal 2 (Interrupt) has no handler', 505)
  end)
end)
