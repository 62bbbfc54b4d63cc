local support = require 'support'

support.in_both_modes(function(mode)
  describe('coroutines of a worker, ' .. mode, function()
    after_each(support.cleanup)

    it('are started by callbacks, timers and each other', function()
      local app = support.boot(mode, [[
        local server = new_server()
        local co = srvlua.coroutine
        server:on('receive', function(s, fd)
          local me = co.id()
          local id = srvlua.go(function()
            srvlua.sleep(0.002)
            emit('go', co.parent(co.id()) == me, s:send(fd, 'from go'))
          end)
          s:after(1, function() emit('timer', co.id() > id, co.parent()) end)
          emit('callback', me >= 1, co.parent(), id > me, co.exists(id))
          local own = co.stats()
          local all = s:stats()
          emit('stats', own.coroutine_num == all.coroutine_num, own.coroutine_peak_num == all.coroutine_peek_num)
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'x'
      app:expect('callback', true, -1, true, true)
      app:expect('stats', true, true)
      app:expect('timer', true, -1)
      app:expect('go', true, true)
      assert.equal('from go', client:receive(7))
    end)

    it('are not started any more in workerStop, where nothing would go on with them', function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function() end)
        server:on('workerStop', function()
          local ok, _, code = srvlua.go(print)
          emit('stop', ok, code, srvlua.sleep(0.001))
        end)
        run(server)
      ]])
      app:stop()
      app:expect('stop', false, 509, true)
    end)

    it('tell of errors with the whole stack, and are counted', function()
      local app = support.boot(mode, [[
        local server = new_server()
        local function inner() srvlua.sleep(0.001) error('boom') return 1 end
        local function outer() local x = inner() return x end
        server:on('receive', function(s, fd, _, data)
          if data == 'go' then
            srvlua.go(function() local x = outer() return x end)
            srvlua.go(function() error { message = 'at once' } end)
          elseif data == 'yield' then
            local waiting
            srvlua.go(function() waiting = coroutine.running() coroutine.yield() error('resumed') end)
            emit('resumed', (coroutine.resume(waiting)))
          else
            emit('errors', s:stats().error_count, srvlua.getpid())
          end
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'look'
      local _, pid = app:expect('errors', 0)
      client:send 'go'
      app:logs ': at once'
      app:logs 'boom'
      app:logs "in function 'inner'"
      app:logs "in function 'outer'"
      app:logs 'started in coroutine '
      client:send 'yield'
      app:expect('resumed', false)
      local errors, same_pid
      support.eventually(function() -- one that was resumed is counted at the end of the turn
        client:send 'look'
        errors, same_pid = app:expect 'errors'
        return errors >= 3
      end)
      assert.same({ 3, pid }, { errors, same_pid })
    end)

    it('end the worker by an error with exit_on_error', function()
      local app = support.boot(mode, [[
        local server = new_server { exit_on_error = true, worker_num = 2 }
        server:on('workerError', function(_, _, _, code) emit('workerError', code) end)
        server:on('receive', function() srvlua.go(function() error 'gone wrong' end) end)
        run(server)
      ]])
      app:connect():send 'x'
      app:expect('workerError', 255)
    end)

    it('are refused beyond max_coroutine', function()
      local app = support.boot(mode, [[
        local server = new_server { max_coroutine = 4 }
        server:on('receive', function()
          local count, message, code = 0, nil, nil
          local ids = {}
          while true do
            local id
            id, message, code = srvlua.go(coroutine.yield)
            if not id then break end
            ids[#ids + 1] = id
            count = count + 1
          end
          emit('refused', count, code)
        end)
        run(server)
      ]])
      app:connect():send 'x'
      app:expect('refused', 3, 506)
      app:logs 'coroutine refused: max_coroutine (4) is reached'
      assert.equal(0, app:stop())
    end)

    it('keep a worker from leaving, until max_wait_time', function()
      local app = support.boot(mode, [[
        local server = new_server { max_wait_time = 0.3, worker_num = 2 }
        server:on('workerStart', function(_, id)
          if id > 0 then return end
          srvlua.go(function() srvlua.Channel():pop() end)
          srvlua.go(function() srvlua.WaitGroup(1):wait() end)
          srvlua.go(function() pcall(srvlua.sleep, 1000) emit 'never' end)
        end)
        server:on('receive', function() end)
        run(server)
      ]])
      assert.equal(0, app:stop())
      assert.equal(0, app:count 'never')
    end)

    it('may be none, and go makes one all the same', function()
      local app = support.boot(mode, [[
        local server = new_server { enable_coroutine = false }
        server:on('receive', function()
          local co = srvlua.coroutine
          emit('plain', co.id(), (select(3, co.context())), (select(3, srvlua.Channel():pop())))
          local channel = srvlua.Channel()
          srvlua.go(function() emit('popped', co.id() > 0, channel:pop()) end)
          channel:push 'x'
          emit 'goes on'
        end)
        run(server)
      ]])
      app:connect():send 'x'
      app:expect('plain', -1, 10001, 10001)
      app:expect 'goes on'
      app:expect('popped', true, 'x')
    end)

    it('send and wait for room inside coroutines of the program', function()
      local app = support.boot(mode, [[
        local server = new_server { send_yield = true, socket_buffer_size = 100000 }
        server:on('receive', function(s, fd)
          local sent = 0
          local sender = coroutine.wrap(function()
            for _ = 1, 100 do
              if s:send(fd, ('x'):rep(50000)) then sent = sent + 1 end
            end
          end)
          sender()
          emit('sent', sent)
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'x'
      client:receive(100 * 50000)
      app:expect('sent', 100)
    end)
  end)
end)

describe('coroutines', function()
  after_each(support.cleanup)

  it('run in the master and in processes with a loop, and nowhere else', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 1 }
      local function try(name)
        emit(name, (select(3, srvlua.go(function() srvlua.sleep(0) emit(name .. ' slept', srvlua.coroutine.id()) end))))
      end
      server:on('managerStart', function() try 'manager' end)
      server:addProcess(srvlua.Process(function() try 'user' srvlua.sleep(100) end, false, 2, true))
      server:addProcess(srvlua.Process(function() try 'plain' srvlua.sleep(100) end))
      server:on('receive', function() end)
      try 'before'
      run(server, function() try 'master' end)
    ]])
    app:expect('before', 509)
    app:expect('manager', 509)
    app:expect('plain', 509)
    app:expect('master', nil)
    app:expect('user', nil)
    assert.is_true(app:expect 'master slept' > 0)
    assert.is_true(app:expect 'user slept' > 0)
  end)

  it('that are suspended when a user process has nothing left are warned of', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      server:addProcess(srvlua.Process(function()
        srvlua.go(function() local value = srvlua.Channel():pop() return value end)
        srvlua.sleep(0.001)
      end, false, 2, true))
      server:on('receive', function() end)
      run(server)
    ]])
    app:logs 'the process ends while coroutines (1) are suspended'
    app:logs 'waits in Channel:pop'
  end)
end)
