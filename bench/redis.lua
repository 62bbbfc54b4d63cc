-- redis.lua PORT COROUTINES GETS [pool]: asks a redis server from one worker, each coroutine over a connection of its
-- own, or (pool) one that it takes from the pool and gives back each time. Prints GETs per second and microseconds of
-- CPU per GET.
local srvlua = require 'srvlua'
local port, coroutines, gets, uses_pool = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3]), arg[4] == 'pool'

local REQUEST = { '*2\r\n$3\r\nGET\r\n$', 3, '\r\n', 'key', '\r\n' } -- as client libraries put it together
local OPTIONS = { pool_size = coroutines }

local function connect()
  local sock = srvlua.socket.tcp()
  assert(sock:connect('127.0.0.1', port, OPTIONS))
  return sock
end

local function get(sock)
  assert(sock:send(REQUEST))
  local length = tonumber(assert(sock:receive()):sub(2))
  local value = assert(sock:receive(length))
  assert(sock:receive(2))
  return value
end

local left, running = gets, 0

local function ask()
  local sock = not uses_pool and connect()
  while left > 0 do
    left = left - 1
    local current = sock or connect()
    assert(get(current) == 'hello')
    if uses_pool then assert(current:setkeepalive()) end
  end
  if sock then sock:close() end
end

local function measure()
  local first = connect()
  assert(first:send 'SET key hello\r\n' and first:receive() == '+OK')
  first:close()
  local begun, cpu = srvlua.hrtime(), os.clock()
  for _ = 1, coroutines do
    running = running + 1
    srvlua.go(function()
      ask()
      running = running - 1
      if running > 0 then return end
      local seconds = (srvlua.hrtime() - begun) / 1e9
      print(('%.0f %.2f'):format(gets / seconds, (os.clock() - cpu) / gets * 1e6))
    end)
  end
end

assert(srvlua.run(measure))
