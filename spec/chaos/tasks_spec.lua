-- Task workers are killed all the time: every task is finished, or named in the log as what a killed one was running.
--   CHAOS_TASKS   how many (100000; the full size is 1000000), a tenth of it where they wait in a message queue
local support = require 'support'

local TASKS = tonumber(os.getenv 'CHAOS_TASKS') or 100000
local WORKERS, KILL_EVERY, LEAST_KILLS = 3, 0.1, 5
local PATIENCE = 60 + TASKS / 10000 -- seconds

-- Gives tasks until both are reached, the number and arg[3] kills; then tells which have not come back.
local APP = [[
  local ffi = require 'ffi'
  local wanted, way = tonumber(arg[2]), tonumber(arg[3])
  local server = new_server {
    worker_num = 1, task_worker_num = ]] .. WORKERS .. [[, task_ipc_mode = way, respawn_delay_max = 0,
    log_level = 'warning',
  }
  local done, given, finished, is_enough = {}, 0, 0, false
  server:on('workerStart', function(self, id)
    if id > 0 then emit('up', id, srvlua.getpid()) end
  end)
  server:on('task', function(_, id)
    for _ = 1, 2000 do id = id + 0 end
    return id
  end)
  server:on('finish', function(_, id, result)
    if done[id] or result ~= id then emit('wrong', id, result) end
    done[id], finished = true, finished + 1
  end)
  local function tell(self)
    -- who is killed between a task's result and the end of the task has both: a result, and its name in the log
    local stats, before
    repeat
      before = finished
      srvlua.sleep(0.1)
      stats = self:stats()
      local is_quiet = stats.task_queue_num == 0 and stats.tasking_num == 0 and finished == before
    until is_quiet and finished + stats.lost_count >= given
    local missing = {}
    for id = 0, given - 1 do
      if not done[id] then missing[#missing + 1] = id end
    end
    emit('end', given, missing)
  end
  server:on('receive', function(self, _, _, data)
    if data == 'enough' then is_enough = true return end
    while given < wanted or not is_enough do
      local id = self:task({ 'some', 'text', number = given })
      if id ~= given then emit('wrong id', id, given) end
      given = given + 1
      if given % 1000 == 0 then srvlua.sleep(0) end
    end
    emit 'given'
    tell(self)
  end)
  run(server)
]]

describe('task workers that are killed all the time', function()
  after_each(support.cleanup)

  local function follow(app, pids)
    while app:count 'up' > 0 do
      local id, pid = app:expect 'up'
      pids[id] = pid
    end
  end

  support.in_both_modes(function(mode)
    for _, way in ipairs { 1, 3 } do
      it(('lose what they were running only, each by name, %s, task_ipc_mode %d'):format(mode, way), function()
        local wanted = way == 1 and TASKS or math.ceil(TASKS / 10)
        local app = support.boot(mode, APP, { args = { wanted, way } })
        local client, pids, kills = app:connect(), {}, 0
        client:send 'begin'
        local last, turn = support.now() + PATIENCE, 0
        repeat
          assert.is_true(support.now() < last, 'the tasks do not come to an end')
          local next_kill = support.now() + KILL_EVERY
          while support.now() < next_kill do app.process:pump(next_kill - support.now()) end
          follow(app, pids)
          turn = turn % WORKERS + 1
          if pids[turn] then
            support.kill(pids[turn], 'KILL')
            pids[turn], kills = nil, kills + 1
          end
          if kills == LEAST_KILLS then client:send 'enough' end
        until kills >= LEAST_KILLS and app:count 'given' > 0
        local given, missing = app:expect 'end'
        app:stop()
        assert.equal(0, app:count 'wrong' + app:count 'wrong id')
        local lost, count = {}, 0
        for id in app.process.err:gmatch 'died while it ran task (%d+) of process 0: that task is lost' do
          lost[tonumber(id)], count = true, count + 1
        end
        for _, id in ipairs(missing) do
          assert.is_true(lost[id], ('task %d was neither finished nor named as lost'):format(id))
        end
        assert.is_true(given >= wanted and count <= kills, ('%d of %d, %d kills'):format(count, given, kills))
      end)
    end
  end)
end)
