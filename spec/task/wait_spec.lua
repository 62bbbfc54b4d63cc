local support = require 'support'

local HELPERS = [[
  local function result(name, ...)
    local value, _, code = ...
    emit(name, select('#', ...), value, code)
  end
  local WAYS = { coroutine = true, blocking = false }
]]

-- Answers with what it is told to, when a file is there.
local TASK = [[
  server:on('task', function(_, _, _, data)
    if type(data) ~= 'table' then return data end
    if data.tell then emit('running', srvlua.getpid()) end
    if data.hold then hold(data.hold) end
    if data.fail then error 'boom' end
    return data.answer
  end)
  server:on('finish', function() emit 'finish' end)
]]

describe('waiting for tasks', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    for _, way in ipairs { 'coroutine', 'blocking' } do
      describe(('in %s, %s,'):format(mode, way), function()
        local function boot(body, settings)
          local directory = support.directory()
          local app = support.boot(mode, HELPERS .. ([[
            local DIR = arg[3]
            local server = new_server { task_worker_num = 4, enable_coroutine = WAYS[arg[2] ] }
            server:set { %s }
            %s
            server:on('receive', function(s, fd, _, data)
              %s
            end)
            run(server)
          ]]):format(settings or '', TASK, body), { args = { way, directory } })
          return app
        end

        it('taskwait returns what the task returns', function()
          local app = boot [[
            for _, value in ipairs { 0, '', false, 'text' } do result('one', s:taskwait(value, 10)) end
            result('none', s:taskwait({ answer = nil }, 0.02))
            emit('table', s:taskwait({ answer = { 1, two = 2 } }, 10))
            result('dst', s:taskwait('x', 10, 3))
            result('no dst', s:taskwait('x', 10, 4))
            result('without limit', s:taskwait('x', 0))
            emit('raised', (pcall(s.taskwait, s)), (pcall(s.taskwait, s, 1, 'x')), (pcall(s.taskwait, s, 1, 0/0)))
          ]]
          app:connect():send 'x'
          for _, value in ipairs { 0, '', false, 'text' } do
            app:expect('one', 1, value)
          end
          app:expect('none', 3, false, 2003)
          assert.same({ 1, two = 2 }, (app:expect 'table'))
          app:expect('dst', 1, 'x')
          app:expect('no dst', 3, false, 505)
          app:expect('without limit', 1, 'x')
          app:expect('raised', false, false, false)
          assert.equal(0, app:count 'finish')
        end)

        it('a late result reaches nobody', function()
          local app = boot [[
            result('late', s:taskwait({ hold = DIR .. '/go', answer = 'late' }, 0.02))
            result('next', s:taskwait('next', 10))
            local multi = s:taskWaitMulti({ { hold = DIR .. '/go', answer = 'late' }, 'in time' }, 0.05)
            emit('multi', multi[1], multi[2], multi.n)
            io.open(DIR .. '/go', 'w'):close()
            for i = 1, 50 do
              if s:taskwait(i, 10) ~= i then emit 'wrong' end
            end
            emit 'over'
          ]]
          app:connect():send 'x'
          app:expect('late', 3, false, 2003)
          app:expect('next', 1, 'next')
          app:expect('multi', nil, 'in time', 2)
          app:expect 'over'
          assert.equal(0, app:count 'wrong')
          app:logs 'task expired'
        end)

        it('taskWaitMulti gives each its place, and leaves out what failed', function()
          local app = boot [[
            local started = srvlua.now()
            local results = s:taskWaitMulti({ 'a', { fail = true }, { answer = { 'c' } }, { answer = false }, 5 }, 0.1)
            emit('results', results[1], results[2], results[3][1], results[4], results[5], results.n)
            emit('in time', srvlua.now() - started < 2)
            local many = {}
            for i = 1, 1024 do many[i] = i end
            local all, right = s:taskWaitMulti(many, 10), 0
            for i = 1, 1024 do right = right + (all[i] == i and 1 or 0) end
            emit('many', right)
            many[1025] = 1
            result('too many', s:taskWaitMulti(many))
            result('empty', s:taskWaitMulti {})
            emit('raised', (pcall(s.taskWaitMulti, s, { 1, nil, 3 })), (pcall(s.taskWaitMulti, s, { a = 1 })),
              (pcall(s.taskWaitMulti, s, 'x')), (pcall(s.taskWaitMulti, s)))
          ]]
          app:connect():send 'x'
          app:expect('results', 'a', nil, 'c', false, 5, 5)
          app:expect('in time', true)
          app:expect('many', 1024)
          app:expect('too many', 3, false, 505)
          app:expect('empty', 3, false, 2002)
          app:expect('raised', false, false, false, false)
          app:logs 'boom'
          assert.equal(0, app:count 'finish')
        end)

        it('a task worker that dies lets its waiter wait until the end of its time', function()
          local app = boot [[
            result('killed', s:taskwait({ tell = true, hold = DIR .. '/never' }, 0.2, 0))
            result('next', s:taskwait('next', 10, 0))
          ]]
          app:connect():send 'x'
          support.kill(app:expect 'running', support.signals.KILL)
          app:expect('killed', 3, false, 2003)
          app:expect('next', 1, 'next')
          app:logs 'died while it ran task 0 of process 0: that task is lost'
        end)
      end)
    end

    describe('in ' .. mode, function()
      it('taskCo has a value for every task, and works in coroutines only', function()
        local app = support.boot(mode, HELPERS .. [[
          local server = new_server { task_worker_num = 2 }
        ]] .. TASK .. [[
          server:on('receive', function(s)
            local results = s:taskCo({ 'a', { fail = true }, { answer = nil }, 4 }, 0.1)
            emit('results', #results, unpack(results))
            emit('all', unpack(s:taskCo({ 1, 2, 3 }, 10)))
            result('empty', s:taskCo {})
            emit('raised', (pcall(s.taskCo, s, { 1, nil, 3 })), (pcall(s.taskCo, s, 1)))
          end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('results', 4, 'a', false, false, 4)
        app:expect('all', 1, 2, 3)
        app:expect('empty', 3, false, 2002)
        app:expect('raised', false, false)
        app = support.boot(mode, HELPERS .. [[
          local server = new_server { task_worker_num = 1, enable_coroutine = false }
          server:on('task', function() return 1 end)
          server:on('receive', function(s) result('taskCo', s:taskCo { 1 }) end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('taskCo', 3, false, 10001)
      end)

      it('in a coroutine holds up nobody else', function()
        local directory = support.directory()
        local app = support.boot(mode, HELPERS .. [[
          local server = new_server { task_worker_num = 3 }
        ]] .. TASK .. [[
          server:on('receive', function(s, fd, _, data)
            if data == 'echo' then return s:send(fd, data) end
            emit('waited', data, s:taskwait({ hold = arg[2] .. '/' .. data, answer = data }, 10))
          end)
          run(server)
        ]], { args = { directory } })
        local client = app:connect()
        for _, name in ipairs { 'a', 'b', 'c' } do
          app:connect():send(name)
        end
        assert.equal('echo', client:echo 'echo')
        for _, name in ipairs { 'b', 'c', 'a' } do
          assert.equal(0, app:count 'waited')
          support.write_file(directory .. '/' .. name, '')
          app:expect('waited', name, name)
        end
      end)

      it('in a blocking way leaves events, messages and finish events for later', function()
        local directory = support.directory()
        local app = support.boot(mode, HELPERS .. [[
          local server = new_server { task_worker_num = 2, enable_coroutine = false }
          server:on('task', function(s, _, _, data)
            if data == 'wait' then
              for i = 1, 3 do s:sendMessage(i, 0) end
              emit 'waiting'
              hold(arg[2] .. '/go')
            end
            return data
          end)
          server:on('pipeMessage', function(_, _, message) emit('message', message) end)
          server:on('finish', function(_, _, data) emit('finish', data) end)
          server:on('receive', function(s, _, _, data)
            if data ~= 'wait' then return emit('receive', data) end
            s:task('first', 1)
            emit('waited', s:taskwait('wait', 10, 0))
          end)
          run(server)
        ]], { args = { directory } })
        local client, other = app:connect(), app:connect()
        client:send 'wait'
        app:expect 'waiting'
        client:send 'more'
        other:send 'other'
        assert.same({}, app:names())
        support.write_file(directory .. '/go', '')
        app:expect('waited', 'wait')
        for i = 1, 3 do
          app:expect('message', i)
        end
        app:expect('finish', 'first')
        app:expect('receive', 'more')
        app:expect('receive', 'other')
      end)

      it('raises where it can neither suspend nor block: in a function that C calls', function()
        local app = support.boot(mode, HELPERS .. [[
          local server = new_server { task_worker_num = 1 }
          server:on('task', function() return 1 end)
          server:on('receive', function(s)
            local list = { 2, 1 }
            local ok, message = pcall(table.sort, list, function(a, b) s:taskwait('x', 10) return a < b end)
            emit('sort', ok, tostring(message):find('cannot suspend here', 1, true) ~= nil)
            emit('next', s:taskwait('x', 10))
          end)
          run(server)
        ]])
        app:connect():send 'x'
        app:expect('sort', false, true)
        app:expect('next', 1)
      end)

      it('that blocks a worker that is to leave ends with its result, or with the time to leave', function()
        local app = support.boot(mode, HELPERS .. [[
          local server = new_server {
            task_worker_num = 1, enable_coroutine = false, reload_async = false, max_wait_time = 1,
          }
          server:on('task', function(_, _, _, path)
            if path == '' then stall() end
            hold(path)
            return 'held'
          end)
          server:on('receive', function(s, _, _, path)
            emit('waits', srvlua.getpid())
            result('result', s:taskwait(path == 'stall' and '' or path, 0))
          end)
          server:on('workerStop', function(_, id) emit('stopped', id) end)
          server:on('workerStart', function(_, id) emit('worker', id) end)
          run(server)
        ]])
        app:expect('worker', 0)
        local path = support.directory() .. '/go'
        for _, told in ipairs { path, 'stall' } do
          app:connect():send(told)
          support.kill(app:expect 'waits', 'TERM')
          if told == path then
            assert.equal(0, app:count 'stopped')
            support.write_file(path, '')
            app:expect('result', 1, 'held')
          else
            app:expect('result', 3, false, 2003)
          end
          app:expect('stopped', 0)
          app:expect('worker', 0)
        end
      end)

      it('blocks in workerStop, where no loop turns any more', function()
        local app = support.boot(mode, HELPERS .. [[
          local server = new_server { task_worker_num = 1 }
          server:on('task', function(_, _, _, data) return data .. '!' end)
          server:on('receive', function() end)
          server:on('workerStop', function(s, id)
            if id == 0 then emit('result', s:taskwait('last words', 10)) end
          end)
          run(server)
        ]])
        assert.equal(0, app:stop())
        app:expect('result', 'last words!')
      end)
    end)
  end)
end)
