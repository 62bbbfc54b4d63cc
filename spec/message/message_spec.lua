local support = require 'support'

local HELPERS = [[
  local function result(name, ...)
    local value, _, code = ...
    emit(name, select('#', ...), value, code)
  end
]]

describe('a message', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode, function()
      local function boot(source, options)
        return support.boot(mode, HELPERS .. source, options)
      end

      it('reaches event and task workers from every kind of process', function()
        local app = boot [[
          local server = new_server { worker_num = 2, task_worker_num = 1 }
          local function send_all(from)
            for id = 0, 2 do
              if id ~= server.worker_id then emit('sent', from, id, server:sendMessage({ from = from }, id)) end
            end
          end
          server:addProcess(srvlua.Process(function()
            send_all 'user'
            stall()
          end))
          server:on('managerStart', function() send_all 'manager' end)
          server:on('receive', function(s) send_all 'worker' s:task 'x' end)
          server:on('task', function() send_all 'task' end)
          server:on('pipeMessage', function(s, source, message) emit('message', message.from, s.worker_id, source) end)
          run(server, function() send_all 'start' end)
        ]]
        local in_master = mode == 'PROCESS' -- BASE: start runs in worker 0
        local function arrive(from, ids, source)
          for _, id in ipairs(ids) do
            app:expect('sent', from, id, true)
            app:expect('message', from, id, source)
          end
        end
        arrive('user', { 0, 1, 2 }, 3)
        arrive('manager', { 0, 1, 2 }, -1)
        arrive('start', in_master and { 0, 1, 2 } or { 1, 2 }, in_master and -1 or 0)
        app:connect():send 'x'
        app:expect('sent', 'worker')
        app:expect('message', 'worker')
        arrive('task', { 0, 1 }, 2)
      end)

      it('is refused where it makes no sense', function()
        local app = boot [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s)
            result('own', s:sendMessage('x', s.worker_id))
            result('unknown', s:sendMessage('x', 2))
            result('negative', s:sendMessage('x', -1))
            local send, other = s.sendMessage, 1 - s.worker_id
            emit('raised', (pcall(send, s)), (pcall(send, s, 'x')), (pcall(send, s, 'x', 'y')),
              (pcall(send, s, print, other)), (pcall(send, s, { s }, other)))
            result('finish', s:finish 'x')
            result('good', s:sendMessage('good', 1 - s.worker_id))
          end)
          server:on('pipeMessage', function(s, _, message)
            emit('message', message)
            result('finish', s:finish 'x')
          end)
          result('early', server:sendMessage('x', 0))
          run(server)
        ]]
        app:expect('early', 3, false, 509)
        app:connect():send 'x'
        app:expect('own', 3, false, 505)
        app:expect('unknown', 3, false, 505)
        app:expect('negative', 3, false, 505)
        app:expect('raised', false, false, false, false, false)
        app:expect('finish', 3, false, 509)
        app:expect('good', 1, true)
        app:expect('message', 'good')
        app:expect('finish', 3, false, 509)
        assert.equal(0, app:count 'message')
        app = boot [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s) result('no callback', s:sendMessage('x', 1 - s.worker_id)) end)
          run(server)
        ]]
        app:connect():send 'x'
        app:expect('no callback', 3, false, 9015)
      end)

      it('comes in order, whatever its size', function()
        local app = boot [[
          local server = new_server { worker_num = 2, task_worker_num = 1, message_stash_size = '64m' }
          local pads = { '', ('x'):rep(70000), ('x'):rep(1000), ('x'):rep(3000000) }
          server:on('receive', function(s)
            for i = 1, 200 do
              local message = { i, i % 100 == 0 and pads[4] or pads[i % 3 + 1] }
              s:sendMessage(message, 1 - s.worker_id)
              s:sendMessage(message, 2)
            end
          end)
          local expected = 1
          server:on('task', function() end)
          server:on('pipeMessage', function(s, _, message)
            local pad = message[1] % 100 == 0 and pads[4] or pads[message[1] % 3 + 1]
            if message[1] ~= expected or message[2] ~= pad then emit('wrong', message[1]) end
            expected = expected + 1
            if expected == 201 then emit('all', s.taskworker) end
          end)
          run(server)
        ]]
        app:connect():send 'x'
        app:expect('all', true)
        app:expect('all', false)
        assert.equal(0, app:count 'wrong')
      end)

      it('that finds no room is kept, up to message_stash_size; then it is refused', function()
        local directory = support.directory()
        local app = boot([[
          local server = new_server { worker_num = 2, message_stash_size = 100000 }
          local got = 0
          server:on('receive', function(s)
            s:sendMessage('hold', 1 - s.worker_id)
            local accepted, code = 0, nil
            for i = 1, 100000 do
              local ok, _, why = s:sendMessage({ i, ('x'):rep(100) }, 1 - s.worker_id)
              code = why
              if not ok then break end
              accepted = accepted + 1
            end
            result('large', s:sendMessage(('x'):rep(200000), 1 - s.worker_id))
            emit('accepted', accepted, code)
            local function tell()
              if not s:sendMessage('last', 1 - s.worker_id) then s:after(1, tell) end
            end
            tell()
          end)
          server:on('pipeMessage', function(_, _, message)
            if message == 'hold' then return hold(arg[2] .. '/go') end
            if message == 'last' then return emit('got', got) end
            got = got + 1
            if message[1] ~= got then emit('wrong', message[1]) end
          end)
          run(server)
        ]], { args = { directory } })
        app:connect():send 'x'
        app:expect('large', 3, false, 9006)
        local accepted, code = app:expect 'accepted'
        assert.equal(9006, code)
        assert.is_true(accepted > 400 and accepted < 100000, accepted)
        support.write_file(directory .. '/go', '')
        app:expect('got', accepted)
        assert.equal(0, app:count 'wrong')
      end)

      it('of a process without a loop waits for room; two of them do not hold each other up', function()
        local app = boot [[
          local server = new_server { task_worker_num = 2 }
          server:on('receive', function(s) s:task('flood', 0) s:task('flood', 1) end)
          local got, sent = 0, false
          local function settle(s) if sent and got == 2000 then emit('all', s.worker_id) end end
          server:on('task', function(s)
            local failed = 0
            for i = 1, 2000 do
              local ok = s:sendMessage({ i, ('x'):rep(i % 20 == 0 and 100000 or 500) }, 3 - s.worker_id)
              if not ok then failed = failed + 1 end
            end
            sent = true
            emit('failed', failed)
            settle(s)
          end)
          server:on('pipeMessage', function(s, _, message)
            got = got + 1
            if message[1] ~= got then emit('wrong', message[1], got) end
            settle(s)
          end)
          run(server)
        ]]
        app:connect():send 'x'
        app:expect('failed', 0)
        app:expect('failed', 0)
        app:expect('all', 1)
        app:expect('all', 2)
        assert.equal(0, app:count 'wrong')
      end)

      it('comes between the tasks of a sync task worker, and beside those of one with coroutines', function()
        for _, is_beside in ipairs { false, true } do
          local directory = support.directory()
          local app = boot([[
            local is_beside = arg[3] == 'true'
            local server = new_server { task_worker_num = 1, task_enable_coroutine = is_beside }
            server:on('receive', function(s, _, _, data)
              if data == 'task' then s:task 'x' else emit('sent', s:sendMessage('m', 1)) end
            end)
            server:on('task', function()
              emit 'began'
              if is_beside then
                while not io.open(arg[2] .. '/go') do srvlua.sleep(0.001) end
              else
                hold(arg[2] .. '/go')
              end
              emit 'ended'
            end)
            server:on('pipeMessage', function(_, _, message) emit('message', message) end)
            run(server)
          ]], { args = { directory, tostring(is_beside) } })
          local client = app:connect()
          client:send 'task'
          app:expect 'began'
          client:send 'message'
          app:expect('sent', true)
          if is_beside then app:expect 'message' else assert.equal(0, app:count 'message') end
          support.write_file(directory .. '/go', '')
          app:expect 'ended'
          if not is_beside then app:expect 'message' end
          app:stop()
        end
      end)

      it('that waits for a worker that is killed is taken by its successor', function()
        local directory = support.directory()
        local app = boot([[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s)
            s:sendMessage('hold', 1 - s.worker_id)
            for i = 1, 100 do s:sendMessage({ i, ('x'):rep(i == 50 and 300000 or 10) }, 1 - s.worker_id) end
            emit 'sent'
          end)
          server:on('pipeMessage', function(_, _, message)
            if message == 'hold' then
              emit('held', srvlua.getpid())
              hold(arg[2] .. '/never')
            end
            emit('message', message[1], #message[2], srvlua.getpid())
          end)
          run(server)
        ]], { args = { directory } })
        app:connect():send 'x'
        local victim = app:expect 'held'
        app:expect 'sent'
        support.kill(victim, support.signals.KILL)
        for i = 1, 100 do
          local number, length, pid = app:expect 'message'
          assert.same({ i, i == 50 and 300000 or 10 }, { number, length })
          assert.not_equal(victim, pid)
        end
      end)
    end)
  end)
end)

describe('a reload', function()
  after_each(support.cleanup)

  -- Both processes of a slot are there for a while: what was sent to the former one is taken by one of them, once.
  support.in_both_modes(function(mode)
    for _, sender in ipairs { 'worker', 'task worker', 'user process' } do
      it(('loses no message of a %s, in %s'):format(sender, mode), function()
        local app = support.boot(mode, [[
          local COUNT = 3000
          local server = new_server { worker_num = 2, task_worker_num = 1, max_wait_time = 10 }
          local seen = srvlua.Table(8192)
          seen:column('count', srvlua.Table.TYPE_INT)
          seen:create()
          local begin = srvlua.Atomic(0)
          local function flood()
            local failed = 0
            for i = 1, COUNT do
              local message = { i, ('x'):rep(i % 100 == 0 and 150000 or 20) }
              while not server:sendMessage(message, 1) do
                failed = failed + 1
                srvlua.sleep(0.001)
              end
              if i % 500 == 0 then emit('sent', i) end
              if i % 50 == 0 and server.worker_id == 0 then srvlua.sleep(0) end
            end
            emit('sent', 'all')
          end
          server:addProcess(srvlua.Process(function()
            while not begin:wait(10) do end
            flood()
            stall()
          end))
          server:on('workerStart', function(s, id) if id == 1 then emit('worker', srvlua.getpid()) end end)
          server:on('receive', function(s, fd, _, data)
            if data == 'who' then return s:send(fd, tostring(s.worker_id)) end
            if data == 'worker' then flood() end
            if data == 'task worker' then server:task 'x' end
            if data == 'user process' then begin:wakeup() end
          end)
          server:on('task', flood)
          server:on('pipeMessage', function(_, _, message)
            if seen:incr(tostring(message[1]), 'count') > 1 then emit('twice', message[1]) end
            if seen:count() == COUNT then emit 'all' end
          end)
          server:on('afterReload', function(_, ok) emit('reloaded', ok) end)
          run(server)
        ]])
        local pid = app:expect 'worker'
        local client
        repeat
          client = app:connect()
          client:send 'who'
        until client:receive(1) == '0' -- worker 1 is the one that is replaced
        client:send(sender)
        app:expect 'sent'
        support.kill(pid, support.signals.TERM)
        assert.not_equal(pid, (app:expect 'worker'))
        app:expect('sent', 'all')
        app:expect 'all'
        assert.equal(0, app:count 'twice')
      end)
    end
  end)
end)
