-- tasks.lua MODE [SCALE]: what tasks cost: one event worker gives tasks with a table of five keys to one task worker, and
-- waits for answers. Prints `tasks GIVEN/S GIVEN/CPU-S FINISHED/S P50 P99`: how many server:task() calls return in a second
-- (and in a second of CPU time) while there is room, how many tasks come back as finish events, and the microseconds of a
-- taskwait round trip. SCALE: 1, or less for a quick look.
local srvlua = require 'srvlua'

local scale = tonumber(arg[2]) or 1
local BURST, BURSTS = 20000, math.ceil(10 * scale) -- what has room in the rings at once
local MANY = math.ceil(300000 * scale)
local TRIPS = math.ceil(50000 * scale)

local server = srvlua.Server('127.0.0.1', 0, srvlua[arg[1]])
server:set { worker_num = 1, reactor_num = 1, task_worker_num = 1, task_ring_size = '16M', log_level = 'warning' }

local left, ended = 0, 0

local function median(values)
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

-- Gives so many tasks and waits until all have come back: seconds until all were given, CPU seconds of that, and seconds
-- until all were back.
local function give(count)
  local order = { id = 4711, name = 'a customer', amount = 12.5, paid = true, note = 'to be sent by Friday' }
  left = count
  local began, cpu = srvlua.hrtime(), os.clock()
  for _ = 1, count do
    server:task(order)
  end
  local given = srvlua.hrtime()
  cpu = os.clock() - cpu
  while left > 0 do
    srvlua.sleep(0.002)
  end
  return tonumber(given - began) / 1e9, cpu, tonumber(ended - began) / 1e9
end

local function measure()
  give(BURST)
  local rates, cpu_rates = {}, {}
  for i = 1, BURSTS do
    local seconds, cpu = give(BURST)
    rates[i], cpu_rates[i] = BURST / seconds, BURST / cpu
  end
  local _, _, took = give(MANY)
  local trips = {}
  for i = 1, TRIPS do
    local began = srvlua.hrtime()
    server:taskwait('ping', 5)
    trips[i] = tonumber(srvlua.hrtime() - began) / 1e3
  end
  local p50 = median(trips)
  print(('tasks %.0f %.0f %.0f %.2f %.2f'):format(median(rates), median(cpu_rates), MANY / took, p50,
    trips[math.ceil(TRIPS * 0.99)]))
  server:shutdown()
end

server:on('workerStart', function(_, id)
  if id == 0 then server:after(100, measure) end
end)
server:on('receive', function() end)
server:on('task', function()
  return 0
end)
server:on('finish', function()
  left = left - 1
  if left == 0 then ended = srvlua.hrtime() end
end)

assert(server:start())
