--- What coroutines cost: `build/srvlua bench/coroutines.lua [count]`.
-- Prints nanoseconds for each thing, the best of some rounds.

local srvlua = require 'srvlua'

local COUNT = tonumber(arg[1]) or 200000
local ROUNDS = 5

--- Runs a function in a loop of its own, several times.
local function measure(what, fn)
  local best = math.huge
  for _ = 1, ROUNDS do
    local start, took
    srvlua.run(function()
      start = srvlua.hrtime()
      took = fn(COUNT)
    end)
    best = math.min(best, (took or srvlua.hrtime() - start) / COUNT)
  end
  print(('%8.0f ns  %s'):format(best, what))
end

local function nothing() end

measure('go, to the end of the function', function(count)
  for _ = 1, count do srvlua.go(nothing) end
end)

measure('go and sleep(0), 1000 at a time', function(count)
  for i = 1, count do
    srvlua.go(srvlua.sleep, 0)
    if i % 1000 == 0 then srvlua.sleep(0) end
  end
end)

measure('sleep(0) of the only coroutine: a turn of the loop', function(count)
  for _ = 1, count do srvlua.sleep(0) end
end)

measure('push and pop of a channel, nobody waits', function(count)
  local channel = srvlua.Channel()
  for i = 1, count do
    channel:push(i)
    channel:pop()
  end
end)

measure('push and pop, from coroutine to coroutine, capacity 1', function(count)
  local channel = srvlua.Channel(1)
  srvlua.go(function() for i = 1, count do channel:push(i) end end)
  for _ = 1, count do channel:pop() end
end)

measure('push and pop, from coroutine to coroutine, capacity 100', function(count)
  local channel = srvlua.Channel(100)
  srvlua.go(function() for i = 1, count do channel:push(i) end end)
  for _ = 1, count do channel:pop() end
end)

measure('question and answer through two channels', function(count)
  local questions, answers = srvlua.Channel(), srvlua.Channel()
  srvlua.go(function() for _ = 1, count do answers:push(questions:pop()) end end)
  for i = 1, count do
    questions:push(i)
    answers:pop()
  end
end)

measure('resume and yield of a coroutine of the program', function(count)
  local thread = coroutine.create(function() while true do coroutine.yield() end end)
  for _ = 1, count do coroutine.resume(thread) end
end)

measure('the same by coroutine.wrap', function(count)
  local step = coroutine.wrap(function() while true do coroutine.yield() end end)
  for _ = 1, count do step() end
end)
