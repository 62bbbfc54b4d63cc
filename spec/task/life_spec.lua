local support = require 'support'

-- Tasks are { act = ..., ... }, or a string that is answered with itself; clients send what to do.
local SERVER = [[
  local server = new_server(loadstring('return ' .. arg[2])())
  local DIR = arg[3]
  local acts = {}
  function acts.hold(data)
    emit('running', srvlua.getpid(), data.name)
    if server.setting.task_enable_coroutine then
      while not io.open(DIR .. '/' .. data.name) do srvlua.sleep(0.001) end
    else
      hold(DIR .. '/' .. data.name)
    end
    return data.name
  end
  function acts.spin(data)
    local stop = srvlua.now() + data.seconds
    while srvlua.now() < stop do end
    return 'spun'
  end
  function acts.pid() return srvlua.getpid() end
  local function run_task(data)
    if type(data) == 'table' then return acts[data.act](data) end
    return data
  end
  server:on('task', function(_, id, _, data)
    if type(id) == 'table' then return run_task(id.data) end
    return run_task(data)
  end)
  server:on('finish', function(s, _, data) emit('finish', data, s.worker_id, srvlua.getpid()) end)
  server:on('workerStart', function(s, id) if s.taskworker then emit('task worker', id, srvlua.getpid()) end end)
  server:on('workerStop', function(s, id) if s.taskworker then emit('stopped', id, srvlua.getpid()) end end)
  server:on('workerError', function(_, id, pid, code, signal) emit('workerError', id, pid, code, signal) end)
  server:on('beforeReload', function() emit 'beforeReload' end)
  server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
  server:on('receive', function(s, _, _, data)
    local answer = loadstring(data)
    setfenv(answer, setmetatable({ s = s, emit = emit, srvlua = srvlua }, { __index = _G }))()
  end)
  run(server)
]]

describe('the life of task workers', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ':', function()
      local function boot(settings)
        local directory = support.directory()
        local app = support.boot(mode, SERVER, { args = { settings, directory } })
        return app, function(name)
          support.write_file(directory .. '/' .. name, '')
        end
      end

      it('task_max_request replaces them, and no task is lost', function()
        local app = boot '{ task_worker_num = 2, task_max_request = 10 }'
        app:connect():send [[
          local right = 0
          for i = 1, 300 do right = right + (s:taskwait('x' .. i, 10) == 'x' .. i and 1 or 0) end
          emit('right', right)
        ]]
        app:expect('right', 300)
        for _ = 1, 20 do
          app:expect 'task worker'
        end
        assert.same({ 0, 0, 0 }, { app:count 'workerError', app:count 'beforeReload', app:count 'afterReload' })
      end)

      it('task_max_request is exact without a grace', function()
        local app = boot '{ task_worker_num = 1, task_max_request = 5, task_max_request_grace = 0 }'
        app:connect():send [[
          local counts, order = {}, {}
          for _ = 1, 20 do
            local pid = s:taskwait({ act = 'pid' }, 10)
            if not counts[pid] then order[#order + 1] = pid end
            counts[pid] = (counts[pid] or 0) + 1
          end
          for i, pid in ipairs(order) do order[i] = counts[pid] end
          emit('counts', order)
        ]]
        assert.same({ 5, 5, 5, 5 }, (app:expect 'counts'))
      end)

      it('one that is killed loses the task that it was running, by name, and no other', function()
        local app, release = boot '{ task_worker_num = 1 }'
        app:connect():send [[
          s:task('first')
          s:task { act = 'hold', name = 'victim' }
          for i = 1, 20 do s:task('queued' .. i) end
        ]]
        app:expect('finish', 'first')
        local pid = app:expect 'running'
        support.kill(pid, support.signals.KILL)
        app:logs(('task worker 1 (pid %d) died while it ran task 1 of process 0: that task is lost'):format(pid))
        app:expect('workerError', 1, pid, 0, 9)
        for i = 1, 20 do
          app:expect('finish', 'queued' .. i)
        end
        release 'victim'
        app:connect():send "emit('stats', s:stats())"
        assert.equal(1, (app:expect 'stats').lost_count)
      end)

      for _, is_beside in ipairs { false, true } do
        local way = is_beside and 'side by side' or 'one by one'
        it('on_lost_request = redeliver gives a task once more, ' .. way, function()
          local settings = "{ task_worker_num = 1, on_lost_request = 'redeliver', task_enable_coroutine = %s }"
          local app, release = boot(settings:format(is_beside))
          app:connect():send "s:task { act = 'hold', name = 'again' } s:task { act = 'hold', name = 'lost' }"
          local pid = app:expect 'running'
          if is_beside then app:expect('running', pid, 'lost') end
          support.kill(pid, support.signals.KILL)
          app:logs 'died while it ran task 0: it is given once more'
          pid = app:expect 'running'
          release 'again'
          app:expect('finish', 'again')
          if is_beside then
            app:expect('running', pid, 'lost')
          else -- the second one has not begun before
            app:expect('running', pid, 'lost')
            support.kill(pid, support.signals.KILL)
            pid = app:expect('running')
          end
          support.kill(pid, support.signals.KILL)
          app:logs 'task 1 of process 0: that task is lost'
          app:connect():send "emit('next', s:taskwait('next', 10))"
          app:expect('next', 'next')
          assert.equal(0, app:count 'finish')
        end)
      end

      it('a shutdown ends with all tasks that were given', function()
        local app, release = boot '{ task_worker_num = 1, max_wait_time = 20 }'
        app:connect():send [[
          s:task { act = 'hold', name = 'go' }
          for i = 1, 50 do s:task { act = 'hold', name = 'go' } end
          s:shutdown()
        ]]
        for i = 1, 51 do
          app:expect 'running'
          if i == 1 then
            app:logs 'the server shuts down'
            release 'go'
          end
        end
        app:expect 'stopped'
        assert.equal(0, app:wait())
        assert.is_true(app:is_gone())
        assert.equal(0, app:log_count 'are lost')
      end)

      it('task_hang_warning names the code of a task that runs for long', function()
        local app = boot '{ task_worker_num = 1, hang_warning = 0.1, task_hang_warning = 0.2 }'
        app:connect():send "emit('spun', s:taskwait({ act = 'spin', seconds = 0.5 }, 10))"
        app:logs 'has been in one callback for 0.2 s, running task 0'
        app:expect('spun', 'spun')
        app:logs '(command line):'
        local quiet = boot '{ task_worker_num = 1, hang_warning = 0.05 }'
        quiet:connect():send "emit('spun', s:taskwait({ act = 'spin', seconds = 0.2 }, 10))"
        quiet:expect('spun', 'spun')
        assert.equal(0, quiet:log_count 'has been in one callback')
      end)

      it('task_hang_timeout ends one whose task has no end', function()
        local app = boot '{ task_worker_num = 1, task_hang_timeout = 0.2 }'
        app:connect():send [[
          emit('waited', select('#', s:taskwait({ act = 'spin', seconds = 1000 }, 0.5)))
          emit('next', s:taskwait('next', 10))
        ]]
        app:expect('waited', 3)
        app:expect('next', 'next')
        app:logs 'died while it ran task 0 of process 0: that task is lost'
      end)

      it('a worker that gave a task and died gets the result in its successor', function()
        local app, release = boot '{ task_worker_num = 1 }'
        app:connect():send [[
          s:task { act = 'hold', name = 'event' }
          s:task({ act = 'hold', name = 'callback' }, -1, function() emit 'callback' end)
          emit('giver', srvlua.getpid())
        ]]
        local giver = app:expect 'giver'
        app:expect('running')
        support.kill(giver, support.signals.KILL)
        app:expect('workerError', 0, giver, 0, 9)
        release 'event'
        release 'callback'
        local _, _, pid = app:expect('finish', 'event')
        assert.not_equal(giver, pid)
        app:logs 'a result of task 1 is dropped'
        assert.same({ 0, 0 }, { app:count 'callback', app:count 'finish' })
      end)
    end)
  end)

  describe('in PROCESS:', function()
    local function boot(settings)
      local directory = support.directory()
      local app = support.boot('PROCESS', SERVER, { args = { settings, directory } })
      return app, function(name)
        support.write_file(directory .. '/' .. name, '')
      end
    end

    for _, way in ipairs { 'reload(true)', 'SIGUSR2' } do
      it(way .. ' replaces them, and lets the running task end', function()
        local app, release = boot '{ worker_num = 2, task_worker_num = 2, max_wait_time = 20 }'
        local former = {}
        for _ = 1, 2 do
          local id, pid = app:expect 'task worker'
          former[id] = pid
        end
        local client = app:connect()
        client:send "s:task({ act = 'hold', name = 'go' }, 0)"
        assert.equal(former[2], (app:expect 'running'))
        if way == 'SIGUSR2' then
          support.kill(app.pid, support.signals.USR2)
        else
          client:send "emit('reload', s:reload(true))"
          app:expect('reload', true)
        end
        app:expect 'beforeReload'
        for _ = 1, 2 do
          local id, pid = app:expect 'task worker'
          assert.not_equal(former[id], pid)
          former[id + 10] = pid
        end
        app:expect('stopped', 3, former[3])
        client:send "emit('pid', s:taskwait({ act = 'pid' }, 10, 1))"
        assert.equal(former[13], (app:expect 'pid'))
        assert.equal(0, app:count 'finish')
        release 'go'
        app:expect('finish', 'go')
        app:expect('afterReload', true)
        app:expect('stopped', 2, former[2])
        client:send "emit('pid', s:taskwait({ act = 'pid' }, 10, 0))"
        assert.equal(former[12], (app:expect 'pid'))
        assert.equal(0, app:count 'workerError')
      end)
    end
  end)

  it('in BASE they are not reloaded', function()
    local app = support.boot('BASE', SERVER, { args = { '{ task_worker_num = 1 }', support.directory() } })
    app:expect 'task worker'
    support.kill(app.pid, support.signals.USR2)
    app:logs 'BASE mode cannot reload task workers'
    assert.same({ 0, 0 }, { app:count 'task worker', app:count 'beforeReload' })
  end)
end)
