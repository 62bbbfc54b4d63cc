local support = require 'support'

describe('task objects', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode, function()
      for _, setting in ipairs { 'task_object', 'task_use_object', 'task_enable_coroutine', 'event_object' } do
        it(('have all there is to know with %s'):format(setting), function()
          local app = support.boot(mode, ([[
            local server = new_server { task_worker_num = 1, %s = true }
            local is_object = arg[2] == 'event_object'
            server:on('receive', function(s, fd)
              emit('given', s:task({ text = 'hello' }), srvlua.now())
            end)
            server:on('task', function(s, task, none)
              emit('task', task.id, task.worker_id, task.data.text, task.flags, none)
              emit('time', task.dispatch_time)
              emit('finished', task:finish 'by method')
              return { 'by return', task.id }
            end)
            server:on('finish', function(_, id, data)
              if is_object then
                emit('finish', id.task_id, type(id.data) == 'table' and id.data[1] or id.data)
                emit('where', id.task_worker_id, id.dispatch_time > 1e9)
              else
                emit('finish', id, type(data) == 'table' and data[1] or data)
              end
            end)
            run(server)
          ]]):format(setting), { args = { setting } })
          app:connect():send 'x'
          local id, now = app:expect 'given'
          -- SERIALIZE + NONBLOCK
          app:expect('task', id, 0, 'hello', 6, nil)
          assert.is_true(math.abs(app:expect 'time' - now) < 60)
          app:expect('finished', true)
          app:expect('finish', id, 'by method')
          app:expect('finish', id, 'by return')
          if setting == 'event_object' then app:expect('where', 1, true) end
        end)
      end

      it('can be sent on, and finished in a later coroutine', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2, task_worker_num = 1, task_enable_coroutine = true }
          server:on('receive', function(s) emit('result', s:taskwait('x', 10)) end)
          server:on('task', function(s, task)
            s:sendMessage(task, 0)
            s:after(1, function() emit('finished', task:finish(task)) end)
          end)
          server:on('pipeMessage', function(_, _, task) emit('message', task.data, task.finish) end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('message', 'x', nil)
        app:expect('finished', true)
        assert.equal('x', (app:expect 'result').data)
      end)

      it('are those of this process only', function()
        local app = support.boot(mode, [[
          local server = new_server { task_worker_num = 1, task_object = true }
          server:on('receive', function(s) s:taskwait('x', 10) emit 'over' end)
          server:on('task', function(s, task)
            local ok, _, code = task.finish({ id = task.id }, 'forged')
            emit('forged', ok, code)
            emit('raised', (pcall(task.finish, 'x', 1)), (pcall(task.finish, task)), (pcall(task.finish, task, print)))
            return 1
          end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('forged', false, 509)
        app:expect('raised', false, false, false)
        app:expect 'over'
      end)

      it('belong to tasks that run side by side with task_enable_coroutine', function()
        local app = support.boot(mode, [[
          local server = new_server { task_worker_num = 1, task_enable_coroutine = true }
          server:on('receive', function(s)
            local results = s:taskCo({ 3, 1, 2 }, 10)
            emit('results', unpack(results))
          end)
          local turn, waiting = 0, {}
          server:on('task', function(s, task)
            emit('began', task.data)
            emit('server:finish', (pcall(s.finish, s, 1)))
            while turn < task.data do
              srvlua.sleep(0.001)
              if turn == 0 and task.data == 2 then turn = 1 end -- all three have begun
            end
            turn = turn + 1
            emit('ends', task.data)
            return task.data * 10
          end)
          run(server)
        ]])
        app:connect():send 'x'
        for _, number in ipairs { 3, 1, 2 } do
          app:expect('began', number)
          app:expect('server:finish', false)
        end
        for number = 1, 3 do
          assert.equal(number, (app:expect 'ends'))
        end
        app:expect('results', 30, 10, 20)
      end)

      it('are what a callback of a task and pipeMessage get with event_object', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2, task_worker_num = 1, event_object = true }
          server:on('receive', function(s)
            local id
            id = s:task('x', -1, function(same, event, none)
              emit('callback', same == s, event.task_id == id, event.task_worker_id, event.data, none)
            end)
            s:sendMessage('hello', 1 - s.worker_id)
            emit('sender', s.worker_id)
          end)
          server:on('task', function(_, task) return task.data .. 'y' end)
          server:on('pipeMessage', function(_, event, none)
            emit('message', event.source_worker_id, event.worker_id, event.data, event.dispatch_time > 1e9, none)
          end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('callback', true, true, 2, 'xy', nil)
        local sender = app:expect 'sender'
        app:expect('message', sender, sender, 'hello', true, nil)
      end)
    end)
  end)
end)
