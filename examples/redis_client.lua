-- redis_client.lua [port [BASE|PROCESS [port of Redis]]]: counts in Redis how often each line was sent.
-- Try: redis-server & then: printf 'apple\npear\napple\n' | nc -N 127.0.0.1 9501
--
-- While a request waits for Redis, its worker serves other clients; connections to Redis are kept and shared by all of
-- them. With lua-resty-redis installed, require('srvlua.compat.ngx').install() lets you use that instead.
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local redis_port = tonumber(arg[3] or 6379)

local server = srvlua.Server('127.0.0.1', port, srvlua[mode])

-- ---------------------------------------------------------------------------------------------- a client for Redis

-- Reads a reply: a string, a number or false for "no such thing"; or nil and what went wrong.
local function read_reply(sock)
  local line, err = sock:receive()
  if not line then return nil, err end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == '+' then return rest end
  if kind == ':' then return tonumber(rest) end
  if kind == '-' then return nil, rest end
  if kind ~= '$' then return nil, 'unexpected reply' end
  local length = tonumber(rest)
  if length < 0 then return false end
  local data
  data, err = sock:receive(length + 2)
  if not data then return nil, err end
  return data:sub(1, length)
end

-- Sends one command and returns its reply, on a connection of the pool.
local function redis(...)
  local request = { '*', select('#', ...), '\r\n' }
  for i = 1, select('#', ...) do
    local argument = tostring((select(i, ...)))
    request[#request + 1] = { '$', #argument, '\r\n', argument, '\r\n' }
  end
  local sock = srvlua.socket.tcp()
  sock:settimeouts(1000, 1000, 1000) -- connect, send, receive; milliseconds
  local ok, err = sock:connect('127.0.0.1', redis_port)
  if ok then ok, err = sock:send(request) end
  if not ok then return nil, err end
  local reply, reply_err = read_reply(sock)
  if reply_err == 'timeout' or reply_err == 'unexpected reply' then
    sock:close() -- whatever comes yet must not become the answer of somebody else
  else
    sock:setkeepalive(10000, 50)
  end
  return reply, reply_err
end

-- ------------------------------------------------------------------------------------------------------- the server

local MAX_LINE = 1024

local received = {} -- fd → what was not answered yet
local is_answering = {} -- fd → true while a coroutine does it: the answers keep the order of the lines

local function answer(fd, line)
  local count, err = redis('INCR', 'lines:' .. line)
  server:send(fd, count and ('%s: %d\n'):format(line, count) or ('no answer from Redis: %s\n'):format(err))
end

server:on('start', function()
  print('redis_client on 127.0.0.1:' .. server.port)
end)

server:on('receive', function(_, fd, _, data)
  received[fd] = (received[fd] or '') .. data
  if is_answering[fd] then return end
  is_answering[fd] = true
  while received[fd] do
    local line, rest = received[fd]:match('^(.-)\r?\n(.*)$')
    if not line then break end
    received[fd] = rest
    answer(fd, line)
  end
  is_answering[fd] = nil
  if received[fd] and #received[fd] > MAX_LINE then
    server:send(fd, 'that line is too long\n')
    server:close(fd)
  end
end)

server:on('close', function(_, fd)
  received[fd] = nil
end)

assert(server:start())
