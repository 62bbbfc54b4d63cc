local support = require 'support'

-- `result` emits what a call returned: how many values, the first, and the third, the code of a failure.
local HELPERS = [[
  local function result(name, ...)
    local value, _, code = ...
    emit(name, select('#', ...), value, code)
  end
]]

describe('a task', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode, function()
      local function boot(source, options)
        return support.boot(mode, HELPERS .. source, options)
      end

      it('runs in a task worker; its result fires finish in the worker that gave it', function()
        local app = boot [[
          local server = new_server { worker_num = 2, task_worker_num = 2 }
          server:on('receive', function(s, _, _, data) emit('given', s.worker_id, s:task(data)) end)
          server:on('task', function(s, id, source, data)
            emit('task', data, s.worker_id, s.taskworker, source, id)
            return { 'from', data }
          end)
          server:on('finish', function(s, id, data) emit('finish', s.worker_id, id, data) end)
          run(server)
        ]]
        for i = 1, 6 do
          app:connect():send('d' .. i)
          local giver, id = app:expect 'given'
          local _, worker, is_task_worker, source, same_id = app:expect('task', 'd' .. i)
          assert.is_true(worker >= 2 and worker < 4 and is_task_worker)
          assert.same({ giver, id }, { source, same_id })
          assert.same({ 'from', 'd' .. i }, (select(3, app:expect('finish', giver, id))))
        end
      end)

      it('has as many results as finish() and its return value make', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          server:on('receive', function(s, _, _, data) emit('given', s:task(data)) end)
          server:on('task', function(s, _, _, data)
            if data == 'nothing' then return end
            if data == 'false' then return false end
            if data == 'three' then emit('finished', s:finish(1), s:finish 'two') return 3 end
            if data == 'nil' then s:finish(nil) end
          end)
          server:on('finish', function(_, id, data) emit('finish', id, data) end)
          run(server)
        ]]
        local client = app:connect()
        client:send 'nothing'
        app:expect 'given'
        client:send 'three'
        local id = app:expect 'given'
        app:expect('finished', true, true)
        for _, value in ipairs { 1, 'two', 3 } do
          app:expect('finish', id, value)
        end
        client:send 'false'
        app:expect('finish', app:expect 'given', false)
        client:send 'nil'
        app:expect('finish', app:expect 'given', nil)
        assert.equal(0, app:count 'finish')
      end)

      it('may have a callback of its own, which is called once', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          server:on('receive', function(s)
            local id = s:task('twice', -1, function(same, task_id, data)
              emit('called', same == s, task_id, data)
            end)
            emit('given', id)
            emit('raised', (pcall(s.task, s, 'x', -1, 'no function')))
            s:task('nil is none', -1, nil)
          end)
          server:on('task', function(s, _, _, data)
            if data == 'twice' then s:finish(data) end
            return 'second'
          end)
          server:on('finish', function(_, id, data) emit('finish', id, data) end)
          run(server)
        ]]
        app:connect():send 'x'
        local id = app:expect 'given'
        app:expect('called', true, id, 'twice')
        app:expect('raised', false)
        app:expect('finish', id + 1, 'second')
        app:logs(('a result of task %d is dropped: its callback has had one'):format(id))
        assert.same({ 0, 0 }, { app:count 'finish', app:count 'called' })
      end)

      it('for one task worker runs there, in order; others run where there is time', function()
        local directory = support.directory()
        local app = boot([[
          local server = new_server { task_worker_num = 2 }
          server:on('receive', function(s, _, _, data)
            if data == 'slow' then s:task('slow', 0) return end
            for i = 1, 20 do s:task({ 'own', i }, 0) end
            for i = 1, 20 do s:task({ 'any', i }) end
            result('none', s:task('x', 2))
          end)
          server:on('task', function(s, _, _, data)
            if data == 'slow' then emit 'began' hold(arg[2] .. '/go') return end
            emit(data[1], data[2], s.worker_id)
          end)
          run(server)
        ]], { args = { directory } })
        local client = app:connect()
        client:send 'slow'
        app:expect 'began'
        client:send 'rest'
        app:expect('none', 3, false, 505)
        for i = 1, 20 do
          assert.same({ i, 2 }, { app:expect 'any' }) -- none waits behind the slow one
        end
        assert.equal(0, app:count 'own')
        support.write_file(directory .. '/go', '')
        for i = 1, 20 do
          assert.same({ i, 1 }, { app:expect 'own' })
        end
      end)

      it('that waits is warned of, and run by whoever is idle first', function()
        local directory = support.directory()
        local app = boot([[
          local server = new_server { task_worker_num = 2 }
          server:on('receive', function(s, _, _, data)
            s:task(data .. '1')
            s:task(data .. '2')
            emit 'given'
          end)
          server:on('task', function(s, _, _, data)
            emit('began', data, s.worker_id)
            if data:find '^held' then hold(arg[2] .. '/' .. data) end
          end)
          run(server)
        ]], { args = { directory } })
        local client = app:connect()
        client:send 'held'
        app:expect('began', 'held1')
        local _, second = app:expect('began', 'held2')
        client:send 'waits'
        app:logs 'No idle task worker'
        app:expect 'given'
        assert.equal(0, app:count 'began')
        support.write_file(directory .. '/held2', '')
        app:expect('began', 'waits1', second)
        app:expect('began', 'waits2', second)
        assert.equal(1, app:log_count 'No idle task worker')
        support.write_file(directory .. '/held1', '')
      end)

      it('may carry any value that can be sent, of any size, both ways', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          local huge = ('0123456789abcdef'):rep(2^20) -- 16 MiB
          local list = {}
          for i = 1, 50000 do list[i] = { id = i, name = 'n' .. i } end
          server:on('receive', function(s)
            for i, length in ipairs { 0, 1, 65535, 65536, 65537, 300000, #huge } do
              local data = huge:sub(1, length)
              emit('string', i, s:taskwait(data, 10) == data)
            end
            local copy = s:taskwait(list, 10)
            emit('table', #copy, copy[50000].name, copy[1].id)
            for i, value in ipairs { 0, -1.5, true, false, 2^53, 12345678901234567LL } do
              local back = s:taskwait(value, 10)
              emit('scalar', i, type(back) == type(value) and back == value)
            end
            result('nil', s:taskwait(nil, 10))
          end)
          server:on('task', function(s, _, _, data) if data == nil then s:finish(nil) end return data end)
          run(server)
        ]]
        app:connect():send 'x'
        for i = 1, 7 do
          app:expect('string', i, true)
        end
        app:expect('table', 50000, 'n50000', 1)
        for i = 1, 6 do
          app:expect('scalar', i, true)
        end
        app:expect('nil', 1, nil, nil)
      end)

      it('that cannot be sent raises before anything is sent', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          local circle = {}
          circle.self = circle
          server:on('receive', function(s)
            for i, value in ipairs { print, coroutine.create(print), io.stdout, s, circle, { { print } } } do
              local ok, message = pcall(s.task, s, value)
              emit('task', i, ok, tostring(message):find("bad argument #1 to 'task'", 1, true) ~= nil)
              emit('others', i, (pcall(s.taskwait, s, value)), (pcall(s.taskWaitMulti, s, { 1, value })),
                (pcall(s.taskCo, s, { 1, value })))
            end
            emit('none', (pcall(s.task, s)), (pcall(s.task, s, 1, 'x')), (pcall(s.task, s, 1, 0.5)))
            emit('next', s:taskwait('good', 10))
          end)
          server:on('task', function(s, _, _, data)
            emit('ran', data)
            emit('finish', (pcall(s.finish, s, print)), (pcall(s.finish, s)))
            return data
          end)
          run(server)
        ]]
        app:connect():send 'x'
        for i = 1, 6 do
          app:expect('task', i, false, true)
          app:expect('others', i, false, false, false)
        end
        app:expect('none', false, false, false)
        app:expect('next', 'good')
        app:expect('ran', 'good')
        app:expect('finish', false, false)
        assert.equal(0, app:count 'ran')
      end)

      it('is one-way where its giver is no event worker', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          local function callback() emit 'callback' end
          server:addProcess(srvlua.Process(function()
            emit('given', 'user', server:task({ from = 'user' }), (server:task({ from = 'user' }, 0, callback)))
            result('wait', server:taskwait('x', 1))
            stall()
          end))
          server:on('managerStart', function(s)
            emit('given', 'manager', s:task { from = 'manager' })
            result('wait', s:taskwait('x', 1))
          end)
          server:on('receive', function(s) s:task { from = 'worker' } end)
          server:on('task', function(s, _, source, data)
            local ok, _, code = s:finish 'x'
            emit('task', data.from, source, ok, code)
            result('from a task worker', s:task 'x')
            return 'dropped'
          end)
          server:on('finish', function(_, _, data) emit('finish', data) end)
          run(server, function(s)
            emit('given', 'master', s:task { from = 'start' })
            if s.worker_id < 0 then result('wait', s:taskwait('x', 1)) end
          end)
        ]]
        local waits = mode == 'PROCESS' and 3 or 2 -- BASE: start runs in worker 0
        for _ = 1, waits do
          app:expect('wait', 3, false, 509)
        end
        for _ = 1, 2 do
          app:expect('task', 'user', 2, false, 507)
        end
        app:expect('task', 'manager', -1, false, 507)
        if mode == 'PROCESS' then
          app:expect('task', 'start', -1, false, 507)
        else
          app:expect('task', 'start', 0, true, nil)
          app:expect('finish', 'x')
          app:expect('finish', 'dropped')
        end
        app:expect('from a task worker', 3, false, 509)
        app:connect():send 'x'
        app:expect('task', 'worker', 0, true, nil)
        app:expect('finish', 'x')
        app:expect('finish', 'dropped')
        assert.same({ 0, 0 }, { app:count 'finish', app:count 'callback' })
      end)

      it('needs task workers, a running server and a callback', function()
        local app = boot [[
          local server = new_server()
          server:on('receive', function(s)
            result('task', s:task 'x')
            result('taskwait', s:taskwait 'x')
            result('taskWaitMulti', s:taskWaitMulti { 'x' })
            result('taskCo', s:taskCo { 'x' })
            result('finish', s:finish 'x')
          end)
          result('early', server:task 'x')
          run(server)
        ]]
        app:expect('early', 3, false, 509)
        app:connect():send 'x'
        for _, name in ipairs { 'task', 'taskwait', 'taskWaitMulti', 'taskCo' } do
          app:expect(name, 3, false, 507)
        end
        app:expect('finish', 3, false, 509)
        app = boot([[
          local server = new_server { task_worker_num = 1 }
          server:on('receive', print)
          result('start', server:start())
        ]], { start = false })
        app:expect('start', 3, false, 9015)
      end)

      it('whose result nobody takes is logged, once a second at most', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          server:on('receive', function(s) for _ = 1, 50 do s:task 'x' end s:taskwait('last', 10) emit 'over' end)
          server:on('task', function() return 1 end)
          run(server)
        ]]
        app:connect():send 'x'
        app:expect 'over'
        assert.equal(1, app:log_count "is dropped: there is no 'finish' callback")
      end)

      it('may fail: it has no result then, and the task worker goes on', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1 }
          server:on('receive', function(s)
            local pid = s:taskwait('pid', 10)
            result('error', s:taskwait('error', 0.05))
            result('function', s:taskwait('function', 0.05))
            emit('same', s:taskwait('pid', 10) == pid)
          end)
          server:on('task', function(_, _, _, data)
            if data == 'error' then error 'boom' end
            if data == 'function' then return print end
            return srvlua.getpid()
          end)
          server:on('workerError', function() emit 'workerError' end)
          run(server)
        ]]
        app:connect():send 'x'
        app:expect('error', 3, false, 2003)
        app:expect('function', 3, false, 2003)
        app:expect('same', true)
        app:logs 'boom'
        assert.equal(0, app:count 'workerError')
      end)

      it('is counted while it waits and runs', function()
        local directory = support.directory()
        local app = boot([[
          local server = new_server { task_worker_num = 2 }
          server:on('receive', function(s)
            s:task('held', 0)
            for _ = 1, 3 do s:task(('x'):rep(100), 0) end
            while s:stats().tasking_num < 1 or s:stats().task_queue_num ~= 3 do srvlua.sleep(0.001) end
            emit('stats', s:stats())
            s:taskwait('release', 10, 1)
            while s:stats().tasking_num > 0 or s:stats().task_queue_num > 0 do srvlua.sleep(0.001) end
            emit('stats', s:stats())
          end)
          server:on('task', function(_, _, _, data)
            if data == 'held' then hold(arg[2] .. '/go') end
            if data == 'release' then io.open(arg[2] .. '/go', 'w'):close() return 1 end
          end)
          run(server)
        ]], { args = { directory } })
        app:connect():send 'x'
        local stats = app:expect 'stats'
        assert.same({ 2, 1, 1, 3, 300 }, { stats.task_worker_num, stats.tasking_num, stats.task_idle_worker_num,
          stats.task_queue_num, stats.task_queue_bytes })
        stats = app:expect 'stats'
        assert.same({ 0, 2, 0, 0 }, { stats.tasking_num, stats.task_idle_worker_num, stats.task_queue_num,
          stats.task_queue_bytes })
      end)

      it('waits for room in its giver, whose other coroutines go on', function()
        local directory = support.directory()
        local app = boot([[
          local server = new_server { task_worker_num = 1, task_ring_size = 65536 }
          local given = 0
          server:on('receive', function(s, fd, _, data)
            if data == 'echo' then return s:send(fd, 'echo') end
            for i = 1, 300 do
              if s:task(('x'):rep(1000)) then given = given + 1 end
              if i == 10 then emit 'began' end
            end
            emit('given', given)
          end)
          local ran = 0
          server:on('task', function()
            hold(arg[2] .. '/go')
            ran = ran + 1
            if ran == 300 then emit 'all' end
          end)
          run(server)
        ]], { args = { directory } })
        app:connect():send 'go'
        app:expect 'began'
        assert.equal('echo', app:connect():echo 'echo')
        assert.equal(0, app:count 'given')
        support.write_file(directory .. '/go', '')
        app:expect('given', 300)
        app:expect 'all'
      end)

      it('waits for room where nothing can be suspended, too', function()
        local app = boot [[
          local server = new_server { task_worker_num = 1, task_ring_size = 65536, enable_coroutine = false }
          server:on('receive', function(s)
            local given = 0
            for _ = 1, 1000 do if s:task(('x'):rep(1000)) then given = given + 1 end end
            emit('given', given)
          end)
          local ran = 0
          server:on('task', function(_, _, _, data)
            ran = ran + 1
            if ran == 1000 then emit('all', #data) end
          end)
          run(server)
        ]]
        app:connect():send 'x'
        app:expect('given', 1000)
        app:expect('all', 1000)
      end)
    end)
  end)

  it('of the master is refused when there is no room, for the master never waits', function()
    local directory = support.directory()
    local app = support.boot('PROCESS', HELPERS .. [[
      local server = new_server { task_worker_num = 1, task_ring_size = 65536 }
      server:on('receive', print)
      server:on('task', function() hold(arg[2] .. '/go') end)
      run(server, function(s)
        local given, code = 0, nil
        repeat
          local id, _, why = s:task(('x'):rep(1000))
          given, code = given + (id and 1 or 0), why
        until not id
        emit('given', given > 50 and given < 100, code)
        io.open(arg[2] .. '/go', 'w'):close()
      end)
    ]], { args = { directory } })
    app:expect('given', true, 2002)
  end)
end)
