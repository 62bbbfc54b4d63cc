-- redis_server.lua [port [BASE|PROCESS]]: a small Redis: strings and counters, with times to live.
-- Try: redis-cli -p 9501 set greeting hello EX 60 · redis-benchmark -p 9501 -t set,get,incr -P 16
--
-- The keys are in the worker's memory, so there is one worker, as in Redis itself. srvlua.Table would share them among
-- several, but has rows of a fixed size.
local srvlua = require 'srvlua'
local redis = srvlua.redis
local format, lower = redis.format, string.lower

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = redis.Server('127.0.0.1', port, srvlua[mode])
server:set { worker_num = 1, package_max_length = '64M', output_buffer_size = '64M', socket_buffer_size = '64M' }

-- ---------------------------------------------------------------------------------------------------------- the keys

local values, deadlines = {}, {} -- key → string; key → second at which it goes, if it does

local function is_over(key)
  local deadline = deadlines[key]
  return deadline ~= nil and deadline <= srvlua.now()
end

local function remove(key)
  values[key], deadlines[key] = nil, nil
end

local function read(key)
  if is_over(key) then remove(key) end
  return values[key]
end

local function count_keys()
  local count = 0
  for key in pairs(values) do
    if not is_over(key) then count = count + 1 end
  end
  return count
end

-- A pattern of Redis (* ? [a-z] \x) as one of Lua.
local function to_pattern(glob)
  local in_set = false
  local pattern = glob:gsub('\\?.', function(part)
    if part == '[' or part == ']' then
      in_set = part == '['
      return part
    end
    if in_set and (part == '^' or part == '-') then return part end
    if part == '*' and not in_set then return '.*' end
    if part == '?' and not in_set then return '.' end
    return (part:sub(-1):gsub('[^%w%z]', '%%%0'))
  end)
  return '^' .. pattern .. '$'
end

-- ------------------------------------------------------------------------------------------------------- the commands

local OK, NOTHING = format(redis.STATUS), format(redis.NIL)
local NOT_INTEGER = format(redis.ERROR, 'ERR value is not an integer or out of range')
local SYNTAX = format(redis.ERROR, 'ERR syntax error')

local function bulk(text)
  return text and format(redis.STRING, text) or NOTHING
end

local function int(number)
  return format(redis.INT, number)
end

-- Only what a double holds exactly, and in its usual form: no blanks, zeros in front, hexadecimal digits.
local function to_integer(text)
  local number = tonumber(text)
  if not number or number <= -2 ^ 53 or number >= 2 ^ 53 or ('%d'):format(number) ~= text then return nil end
  return number
end

-- Handlers get (arguments, fd); a string that they return is the reply.
local function command(name, least, most, handler)
  local wrong_number = format(redis.ERROR, ("ERR wrong number of arguments for '%s' command"):format(lower(name)))
  server:setHandler(name, function(fd, arguments)
    local count = #arguments
    if count < least or count > most then return wrong_number end
    return handler(arguments, fd)
  end)
end

local MANY = math.huge

command('PING', 0, 1, function(arguments)
  return arguments[1] and bulk(arguments[1]) or '+PONG\r\n'
end)

command('ECHO', 1, 1, function(arguments)
  return bulk(arguments[1])
end)

command('QUIT', 0, MANY, function(_, fd)
  server:send(fd, OK)
  server:close(fd)
end)

command('GET', 1, 1, function(arguments)
  return bulk(read(arguments[1]))
end)

-- The options of SET: { nx =, xx =, deadline = }, or nil and what is wrong.
local function set_options(arguments)
  local options, i = {}, 3
  while arguments[i] do
    local option = lower(arguments[i])
    if option == 'nx' or option == 'xx' then
      options[option] = true
      i = i + 1
    elseif option == 'ex' or option == 'px' then
      local time = to_integer(arguments[i + 1] or '')
      if not time or time <= 0 then return nil, NOT_INTEGER end
      options.deadline = srvlua.now() + (option == 'ex' and time or time / 1000)
      i = i + 2
    else
      return nil, SYNTAX
    end
  end
  if options.nx and options.xx then return nil, SYNTAX end
  return options
end

command('SET', 2, 6, function(arguments)
  local key, deadline = arguments[1], nil
  if arguments[3] then
    local options, problem = set_options(arguments)
    if not options then return problem end
    local exists = read(key) ~= nil
    if options.nx and exists or options.xx and not exists then return NOTHING end
    deadline = options.deadline
  end
  values[key], deadlines[key] = arguments[2], deadline
  return OK
end)

command('DEL', 1, MANY, function(arguments)
  local removed = 0
  for _, key in ipairs(arguments) do
    if read(key) then removed = removed + 1 end
    remove(key)
  end
  return int(removed)
end)

command('EXISTS', 1, MANY, function(arguments)
  local found = 0
  for _, key in ipairs(arguments) do
    if read(key) then found = found + 1 end
  end
  return int(found)
end)

local function add(key, amount)
  local number = to_integer(read(key) or '0')
  if not number or not amount then return NOT_INTEGER end
  number = number + amount
  local text = ('%d'):format(number)
  if not to_integer(text) then return NOT_INTEGER end
  values[key] = text
  return int(number)
end

command('INCR', 1, 1, function(arguments)
  return add(arguments[1], 1)
end)

command('DECR', 1, 1, function(arguments)
  return add(arguments[1], -1)
end)

command('INCRBY', 2, 2, function(arguments)
  return add(arguments[1], to_integer(arguments[2]))
end)

local function expire(unit)
  return function(arguments)
    local time = to_integer(arguments[2])
    if not time then return NOT_INTEGER end
    if not read(arguments[1]) then return int(0) end
    deadlines[arguments[1]] = srvlua.now() + time * unit
    return int(1)
  end
end

command('EXPIRE', 2, 2, expire(1))
command('PEXPIRE', 2, 2, expire(1 / 1000))

command('TTL', 1, 1, function(arguments)
  local key = arguments[1]
  if not read(key) then return int(-2) end
  return int(deadlines[key] and math.floor(deadlines[key] - srvlua.now() + 0.5) or -1)
end)

command('PERSIST', 1, 1, function(arguments)
  local key = arguments[1]
  local has_deadline = read(key) and deadlines[key]
  deadlines[key] = nil
  return int(has_deadline and 1 or 0)
end)

command('KEYS', 1, 1, function(arguments)
  local pattern, found = to_pattern(arguments[1]), {}
  local is_pattern = pcall(string.find, '', pattern)
  for key in pairs(values) do
    if is_pattern and not is_over(key) and key:find(pattern) then found[#found + 1] = key end
  end
  return format(redis.SET, found)
end)

command('DBSIZE', 0, 0, function()
  return int(count_keys())
end)

command('FLUSHALL', 0, 1, function()
  values, deadlines = {}, {}
  return OK
end)

-- redis-benchmark asks for `save` and `appendonly`: nothing is written to a disk.
local configuration = { save = '', appendonly = 'no' }

command('CONFIG', 1, MANY, function(arguments)
  if lower(arguments[1]) ~= 'get' then return format(redis.ERROR, 'ERR only CONFIG GET is known') end
  local found = {}
  for i = 2, #arguments do
    local name = lower(arguments[i])
    found[name] = configuration[name]
  end
  return format(redis.MAP, found)
end)

-- redis-cli asks COMMAND DOCS for its hints.
command('COMMAND', 0, MANY, function()
  return format(redis.SET, {})
end)

-- ---------------------------------------------------------------------------------------------------------- the server

-- What nobody asks for would stay otherwise.
server:on('workerStart', function()
  server:tick(1000, function()
    for key in pairs(deadlines) do
      if is_over(key) then remove(key) end
    end
  end)
end)

server:on('workerExit', function()
  srvlua.Timer.clearAll() -- a worker with timers has work left
end)

server:on('start', function()
  print('redis on 127.0.0.1:' .. server.port)
end)

assert(server:start())
