-- taskwait.lua [port [BASE|PROCESS]]: counts primes up to each number that is sent, in task workers side by side, and
-- waits for them; other clients are served meanwhile. Try: echo 10 1000 100000 | nc 127.0.0.1 9501
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])
server:set { worker_num = 1, task_worker_num = 4 }

local function count_primes(limit)
  local is_composite, count = {}, 0
  for number = 2, limit do
    if not is_composite[number] then
      count = count + 1
      for multiple = number * number, limit, number do is_composite[multiple] = true end
    end
  end
  return count
end

server:on('start', function()
  print('primes on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, fd, _, data)
  local limits = {}
  for word in data:gmatch '%d+' do
    limits[#limits + 1] = math.min(tonumber(word), 1e6)
  end
  if #limits == 0 then
    server:send(fd, 'numbers, please\n')
  elseif #limits == 1 then
    local count, message = server:taskwait(limits[1], 5)
    server:send(fd, (count or message) .. '\n')
  else
    local counts = server:taskWaitMulti(limits, 5)
    for i = 1, #limits do
      server:send(fd, ('%d: %s\n'):format(limits[i], counts and counts[i] or 'no answer in time'))
    end
  end
end)
server:on('task', function(_, _, _, limit)
  return count_primes(limit)
end)

assert(server:start())
