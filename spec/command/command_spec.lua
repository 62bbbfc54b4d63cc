local support = require 'support'

describe('a command', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('is answered by the process that it names, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2, task_worker_num = 2 }
        local E, T = srvlua.COMMAND_EVENT_WORKER, srvlua.COMMAND_TASK_WORKER
        local M, A = srvlua.COMMAND_MANAGER, srvlua.COMMAND_MASTER
        server:addCommand('who', E + T + M + A, function(self, data)
          return ('[%d,%d,%q]'):format(srvlua.getpid(), self.worker_id, data.word)
        end)
        server:on('receive', function() end)
        server:on('task', function() end)
        server:on('start', function() end)
        run(server, function(self)
          local function ask(name, id, kind, worker)
            local answer = self:command('who', id, kind, { word = name })
            local pid = kind == M and self:getManagerPid() or kind == A and self:getMasterPid() or
              self:getWorkerPid(worker)
            emit(name, answer[1] == pid, answer[2] == worker, answer[3])
          end
          ask('event', 0, E, 0)
          ask('event', 1, E, 1)
          ask('task', 0, T, 2)
          ask('task', 1, T, 3)
          ask('manager', 77, M, -1)
          ask('master', 99, A, arg[1] == 'BASE' and 0 or -1)
        end)
      ]])
      for _, name in ipairs { 'event', 'event', 'task', 'task', 'manager', 'master' } do
        app:expect(name, true, true, name)
      end
    end)

    it('that is taken is answered by the old process when it is replaced meanwhile, ' .. mode, function()
      local app = support.boot(mode, [[
        local go = srvlua.Atomic()
        local server = new_server { worker_num = 2 }
        server:addCommand('slow', srvlua.COMMAND_EVENT_WORKER, function()
          emit('taken', srvlua.getpid())
          while go:get() == 0 do srvlua.sleep(0.001) end
          return tostring(srvlua.getpid())
        end)
        server:addCommand('pid', srvlua.COMMAND_EVENT_WORKER, function() return tostring(srvlua.getpid()) end)
        server:on('receive', function() end)
        server:on('workerStart', function(self, id)
          if self.worker_id == 1 then emit('born', srvlua.getpid()) end
        end)
        run(server, function(self)
          self:after(1, function()
            emit('answer', self:command('slow', 1, srvlua.COMMAND_EVENT_WORKER, 1))
            emit('later', self:command('pid', 1, srvlua.COMMAND_EVENT_WORKER, 1))
          end)
          self:after(1, function()
            local old
            repeat srvlua.sleep(0.005); old = self:getWorkerPid(1) until old
            emit 'watching'
            while self:getWorkerPid(1) == old do srvlua.sleep(0.005) end
            go:set(1)
          end)
        end)
      ]])
      local old = app:expect 'taken'
      app:expect('born', old)
      app:expect 'watching'
      app:kill 'USR1'
      app:expect('answer', old)
      local new = app:expect 'later'
      assert.are_not.equal(old, new)
      app:expect('born', new)
      app:stop()
    end)

    it('waits for a process that is just being started again, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2, respawn_burst = 0 }
        server:addCommand('pid', srvlua.COMMAND_EVENT_WORKER, function(_, data)
          if data == 'die' then emit('dying', srvlua.getpid()); stall() end
          return tostring(srvlua.getpid())
        end)
        server:on('receive', function() end)
        run(server, function(self)
          self:after(1, function()
            for _ = 1, 2 do
              local ok, message, code = self:command('pid', 1, srvlua.COMMAND_EVENT_WORKER, 'die')
              emit('lost', ok, type(message), code, self:getLastError())
            end
            emit('alive', self:command('pid', 1, srvlua.COMMAND_EVENT_WORKER, 'live'))
          end)
        end)
      ]])
      local first = app:expect 'dying'
      support.kill(first, 'KILL')
      app:expect('lost', false, 'string', 9003, 9003)
      local second = app:expect 'dying'
      support.kill(second, 'KILL') -- the second quick death: the next start is 0.1 s away
      app:expect('lost', false, 'string', 9003, 9003)
      local third = app:expect 'alive'
      assert.is_true(third ~= first and third ~= second)
    end)

    it('of any size goes to a process that is busy without holding up others, ' .. mode, function()
      local app = support.boot(mode, [[
        local go, answers = srvlua.Atomic(), {}
        local server = new_server { worker_num = 3 }
        local big = ('x'):rep(3000000)
        server:addCommand('echo', srvlua.COMMAND_EVENT_WORKER, function(_, data)
          if data == 'hold' then emit('held'); while go:get() == 0 do srvlua.sleep(0.001) end end
          return data
        end)
        server:on('receive', function() end)
        run(server, function(self)
          local function ask(id, data, what)
            self:after(1, function()
              local answer = self:command('echo', id, srvlua.COMMAND_EVENT_WORKER, data, false)
              answers[what] = true
              emit(what, answer == data)
            end)
          end
          ask(1, 'hold', 'freed')
          for _ = 1, 4 do ask(1, big, 'big') end
          self:after(50, function()
            local answer = self:command('echo', 2, srvlua.COMMAND_EVENT_WORKER, big, false)
            emit('other', answer == big, next(answers))
            go:set(1)
          end)
        end)
      ]])
      app:expect 'held'
      app:expect('other', true, nil)
      app:expect('freed', true)
      for _ = 1, 4 do app:expect('big', true) end
    end)

    it('that nobody will answer any more ends with the server, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2, max_wait_time = 1 }
        server:addCommand('never', srvlua.COMMAND_EVENT_WORKER, function() emit('held'); stall() end)
        server:on('receive', function() end)
        run(server, function(self)
          self:after(1, function()
            local ok, _, code = self:command('never', 1, srvlua.COMMAND_EVENT_WORKER, 1)
            emit('lost', ok, code)
          end)
        end)
      ]])
      app:expect 'held'
      app:kill 'TERM'
      if mode == 'PROCESS' then app:expect('lost', false, 9003) end
      app:expect 'returned'
      assert.equal(0, (app:wait()))
    end)
  end)

  it('is asked and answered where the master is a reactor, too', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2, single_thread = true, exit_on_error = true }
      local E = srvlua.COMMAND_EVENT_WORKER
      local big = ('x'):rep(500000)
      server:addCommand('echo', E, function(_, data)
        if data == 'stall' then emit('stalls', srvlua.getpid()); stall() end
        if data == 'fail' then error 'on purpose' end
        return data
      end)
      server:on('receive', function() end)
      run(server, function(self)
        self:after(1, function()
          emit('big', self:command('echo', 1, E, big, false) == big)
          local pid = self:getWorkerPid(1)
          emit('failed', self:command('echo', 1, E, 'fail', false))
          while self:getWorkerPid(1) == pid do srvlua.sleep(0.005) end
          emit('lost', select(3, self:command('echo', 1, E, 'stall')))
          emit('again', self:command('echo', 1, E, 'there', false))
        end)
      end)
    ]])
    app:expect('big', true)
    app:expect('failed', '{"data":"failed to call function","code":-1}') -- its process ends right after that
    support.kill(app:expect 'stalls', 'KILL')
    app:expect('lost', 9003)
    app:expect('again', 'there')
  end)

  it('without a coroutine is refused where it may be given, and without a server everywhere', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2, enable_coroutine = false }
      server:addCommand('ping', srvlua.COMMAND_EVENT_WORKER, function() return '1' end)
      local function tell(name, ...) local ok, message, code = ...; emit(name, ok, type(message), code) end
      tell('before', server:command('ping', 0, srvlua.COMMAND_EVENT_WORKER, 1))
      server:on('receive', function() end)
      server:on('workerStart', function(self, id)
        if id == 0 then tell('worker', self:command('ping', 1, srvlua.COMMAND_EVENT_WORKER, 1)) end
      end)
      run(server, function(self) tell('master', self:command('ping', 1, srvlua.COMMAND_EVENT_WORKER, 1)) end)
    ]])
    app:expect('before', false, 'string', 509)
    app:expect('worker', false, 'string', 509)
    app:expect('master', false, 'string', 10001)
  end)

  it('that is wrong is refused, each fault with its code', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2 }
      local E, M = srvlua.COMMAND_EVENT_WORKER, srvlua.COMMAND_MANAGER
      server:addCommand('ping', E + M, function() return '"pong"' end)
      server:on('receive', function() end)
      run(server, function(self)
        local function tell(...) local ok, message, code = self:command(...); emit('told', ok, type(message), code) end
        tell('pong', 0, E, 1); tell('ping', 0, E + M, 1); tell('ping', 0, 0, 1)
        tell('ping', 0, srvlua.COMMAND_REACTOR_THREAD, 1)
        tell('ping', 0, srvlua.COMMAND_TASK_WORKER, 1); tell('ping', 2, E, 1); tell('ping', 2 ^ 40, E, 1)
        tell('ping', 0, M, ('x'):rep(8192))
        emit('most', self:command('ping', 0, M, ('x'):rep(8191)))
        emit('raised', (pcall(self.command, self, 'ping', 0, E)), (pcall(self.command, self, 'ping', 'x', E, 1)),
          (pcall(self.command, self, 'ping', 0, E, print)), (pcall(self.command, self, 'ping', 0, E, 1, 1)))
      end)
    ]])
    for _, code in ipairs { 9012, 505, 505, 507, 507, 505, 505, 1202 } do app:expect('told', false, 'string', code) end
    app:expect('most', 'pong')
    app:expect('raised', false, false, false, false)
    assert.equal(1, app:log_count 'invalid process_id 1099511627776')
  end)

  it('whose callback fails is answered, logged and counted', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local E = srvlua.COMMAND_EVENT_WORKER
      server:addCommand('raise', E, function() error 'so it goes' end)
      server:addCommand('count', E, function(self) return tostring(self:stats().error_count) end)
      server:on('receive', function() end)
      run(server, function(self)
        emit('raised', self:command('raise', 0, E, 1, false))
        emit('count', self:command('count', 0, E, 1))
      end)
    ]])
    app:expect('raised', '{"data":"failed to call function","code":-1}')
    app:expect('count', 1)
    app:logs "uncaught error in callback of the command 'raise'"
  end)

  it('with an answer that is no JSON is false, unless it is not decoded', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local E = srvlua.COMMAND_EVENT_WORKER
      server:addCommand('say', E, function(_, text) return text end)
      server:on('receive', function() end)
      run(server, function(self)
        local ok, message, code = self:command('say', 0, E, '{')
        emit('bad', ok, type(message), code, self:getLastError())
        emit('raw', self:command('say', 0, E, '{', false))
        emit('false', self:command('say', 0, E, 'false'))
        emit('null', self:command('say', 0, E, 'null') == srvlua.json.null)
      end)
    ]])
    app:expect('bad', false, 'string', 505, 505)
    app:expect('raw', '{')
    app:expect('false', false)
    app:expect('null', true)
  end)

  it('is found by the collector with a server that never ran', function()
    local app = support.boot('PROCESS', [[
      for _ = 1, 3 do
        local server = srvlua.Server('127.0.0.1', 0)
        server:addCommand('self', srvlua.COMMAND_MASTER, function() return server.host end)
        server = nil
        collectgarbage(); collectgarbage()
      end
      emit 'done'
    ]], { start = false })
    app:expect 'done'
  end)
end)
