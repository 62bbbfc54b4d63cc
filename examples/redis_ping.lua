-- redis_ping.lua [port [BASE|PROCESS]]: answers PING, ECHO, SET, GET and DEL of Redis clients, pipelined or not.
-- Try: redis-benchmark -p 9501 -c 50 -P 16 -t ping,set,get -n 100000
--
-- The keys are in the worker's memory, so there is one worker.
local srvlua = require 'srvlua'

local MAX_INLINE, MAX_ARGUMENTS, MAX_BULK = 64 * 1024, 1024, 1024 * 1024
local FLUSH_AT = 256 * 1024

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])
-- A client that sends without reading is dropped when this much waits for it.
server:set { worker_num = 1, send_yield = false, socket_buffer_size = '64M' }

-- ------------------------------------------------------------------------------------------------ requests: RESP 2

-- Each parser returns the request as a list of strings and the position after it; nothing while the request is
-- incomplete; or nil and what is wrong.

local function parse_inline(text, first)
  local line_end = text:find('\n', first, true)
  if (line_end or #text) - first > MAX_INLINE then return nil, 'too big inline request' end
  if not line_end then return end
  local request = {}
  for word in text:sub(first, line_end - 1):gmatch('%S+') do
    request[#request + 1] = word
  end
  return request, line_end + 1
end

-- Reads `*3\r\n` or `$5\r\n` at `first`: the number and the position after the line.
local function parse_count(text, first, limit, what)
  local line_end = text:find('\r\n', first, true)
  if not line_end then
    if #text - first > 32 then return nil, 'invalid ' .. what end
    return
  end
  local digits = text:match('^%-?%d+()', first + 1)
  local count = digits == line_end and tonumber(text:sub(first + 1, line_end - 1))
  if not count or count > limit then return nil, 'invalid ' .. what end
  return count, line_end + 2
end

local function parse_array(text, first)
  local count, position = parse_count(text, first, MAX_ARGUMENTS, 'multibulk length')
  if not count then return nil, position end
  local request = {}
  for i = 1, count do
    if position > #text then return end
    if text:byte(position) ~= 36 then return nil, "expected '$'" end
    local length, data = parse_count(text, position, MAX_BULK, 'bulk length')
    if not length then return nil, data end
    if length < 0 then return nil, 'invalid bulk length' end
    position = data + length + 2
    if position > #text + 1 then return end
    request[i] = text:sub(data, data + length - 1)
  end
  return request, position
end

local function parse_request(text, first)
  if text:byte(first) == 42 then return parse_array(text, first) end -- '*'
  return parse_inline(text, first)
end

-- ---------------------------------------------------------------------------------------------------------- replies

local OK, NULL = '+OK\r\n', '$-1\r\n'

local function bulk(text)
  return '$' .. #text .. '\r\n' .. text .. '\r\n'
end

local store = {}
local commands = {} -- name → { least number of arguments, most, function }

commands.PING = { 0, 1, function(text)
  return text and bulk(text) or '+PONG\r\n'
end }

commands.ECHO = { 1, 1, bulk }

commands.SET = { 2, 2, function(key, value)
  store[key] = value
  return OK
end }

commands.GET = { 1, 1, function(key)
  local value = store[key]
  return value and bulk(value) or NULL
end }

commands.DEL = { 1, MAX_ARGUMENTS, function(...)
  local removed = 0
  for _, key in ipairs { ... } do
    if store[key] then removed = removed + 1 end
    store[key] = nil
  end
  return ':' .. removed .. '\r\n'
end }

-- redis-benchmark asks CONFIG GET save, redis-cli asks COMMAND DOCS: nothing is configured, nothing is documented.
commands.CONFIG = { 1, MAX_ARGUMENTS, function(_, name)
  return name and '*2\r\n' .. bulk(name) .. bulk('') or '*0\r\n'
end }

commands.COMMAND = { 0, MAX_ARGUMENTS, function()
  return '*0\r\n'
end }

local function answer(request)
  local name = request[1]
  local command = commands[name] or commands[name:upper()]
  if not command then
    return ("-ERR unknown command '%s'\r\n"):format(name:sub(1, 64):gsub('[%c]', ' '))
  end
  local least, most, run = command[1], command[2], command[3]
  local count = #request - 1
  if count < least or count > most then
    return ("-ERR wrong number of arguments for '%s' command\r\n"):format(name:lower())
  end
  return run(unpack(request, 2))
end

-- ------------------------------------------------------------------------------------------------------ connections

local unfinished = {} -- fd → the beginning of a request

-- Hands over the replies; false when the client is not to be served any longer.
local function flush(fd, replies)
  if #replies == 0 or server:send(fd, table.concat(replies)) then return true end
  server:close(fd, true)
  return false
end

-- Answers all complete requests in `text`, many in one send. Returns the rest, or nil if the connection was closed.
local function serve(fd, text)
  local position, replies, size = 1, {}, 0
  while position <= #text do
    local request, next_position = parse_request(text, position)
    if not request and not next_position then break end
    if not request or (request[1] and request[1]:upper() == 'QUIT') then
      replies[#replies + 1] = request and OK or '-ERR Protocol error: ' .. next_position .. '\r\n'
      if flush(fd, replies) then server:close(fd) end
      return nil
    end
    position = next_position
    if request[1] then -- an empty line asks nothing
      local reply = answer(request)
      replies[#replies + 1] = reply
      size = size + #reply
    end
    if size > FLUSH_AT then
      if not flush(fd, replies) then return nil end
      replies, size = {}, 0
    end
  end
  if not flush(fd, replies) then return nil end
  return text:sub(position)
end

server:on('start', function()
  print('redis_ping on 127.0.0.1:' .. server.port)
end)

server:on('receive', function(_, fd, _, data)
  local before = unfinished[fd]
  local rest = serve(fd, before and before .. data or data)
  unfinished[fd] = rest ~= '' and rest or nil
end)

server:on('close', function(_, fd)
  unfinished[fd] = nil
end)

assert(server:start())
