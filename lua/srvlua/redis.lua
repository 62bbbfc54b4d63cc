--- `require 'srvlua.redis'`: servers that speak the protocol of Redis (RESP 2), and `format` for their replies.
-- Commands are cut out of the stream by the reactor and taken apart in src/lua/resp.c; here their handlers run.

local core = require 'srvlua.core'
local shortest = require('srvlua.numbers').shortest
local parent = core.Server
local describe, failed = core.redis.describe, core.redis.failed
local go, log = core.go, core.log
local LOG_WARNING = core.constants.LOG_WARNING

local ERROR, NIL, STATUS, INT, STRING, SET, MAP = 0, 1, 2, 3, 4, 5, 6

local concat, floor, huge = table.concat, math.floor, math.huge
local number_format, gsub, find, lower, sub = string.format, string.gsub, string.find, string.lower, string.sub
local tostring, type, rawget, xpcall, error, next = tostring, type, rawget, xpcall, error, next

-- ------------------------------------------------------------------------------------------------------------- format

local DEPTH = 32 -- most tables inside one another
local LONGEST = 512 * 1024 * 1024

local NOTHING = '$-1\r\n'
local EXACT = 2 ^ 53

-- What `format` itself is told of in messages; 'value' of a nested table is one of its items.
local function fail(expected, got)
  error(("bad argument #2 to 'format' (%s expected, got %s)"):format(expected, got), 0)
end

local function bulk(text)
  if #text > LONGEST then fail('string of 512 MiB at most', #text .. ' bytes') end
  return '$' .. #text .. '\r\n' .. text .. '\r\n'
end

local function number_text(number)
  if number ~= number then return 'nan' end
  if number == huge then return 'inf' end
  if number == -huge then return '-inf' end
  return shortest(number)
end

-- The digits of a number that is whole; nil for any other. Those beyond 2^53 may be neighbours of what was meant.
local function digits(number)
  if number ~= floor(number) or number < -EXACT or number > EXACT then return nil end
  return number_format('%d', number)
end

-- Boxed integers of LuaJIT: '12LL' without the letters.
local function boxed_digits(value)
  return (tostring(value):match '^(%-?%d+)U?LL$')
end

-- How many items a sequence has, holes up to the field `n` counted; nil for another table.
local function sequence_length(value)
  local n = rawget(value, 'n')
  if n ~= nil then
    if type(n) ~= 'number' or n < 0 or n ~= floor(n) or n > 2 ^ 31 then return nil end
    for key in next, value do
      if key ~= 'n' and (type(key) ~= 'number' or key ~= floor(key) or key < 1 or key > n) then return nil end
    end
    return n
  end
  local count = 0
  for key in next, value do
    if type(key) ~= 'number' then return nil end
    count = count + 1
  end
  for i = 1, count do
    if rawget(value, i) == nil then return nil end
  end
  return count
end

local add_set, add_map

-- Appends an item's bytes to the parts in `out`; returns how many those are then.
local function add_item(out, count, value, depth)
  local kind = type(value)
  if kind == 'table' then
    local length = sequence_length(value)
    if length then return add_set(out, count, value, length, depth + 1) end
    return add_map(out, count, value, depth + 1)
  end
  count = count + 1
  if kind == 'string' then
    out[count] = bulk(value)
  elseif kind == 'number' then
    local whole = digits(value)
    out[count] = whole and ':' .. whole .. '\r\n' or bulk(number_text(value))
  elseif kind == 'boolean' then
    out[count] = value and ':1\r\n' or ':0\r\n'
  elseif value == nil then
    out[count] = NOTHING
  else
    local whole = kind == 'cdata' and boxed_digits(value)
    if not whole then fail('items that RESP has', kind) end
    out[count] = ':' .. whole .. '\r\n'
  end
  return count
end

local function check_depth(depth)
  if depth > DEPTH then fail(('tables nested %d deep at most'):format(DEPTH), 'deeper ones, or a cycle') end
end

function add_set(out, count, value, length, depth)
  check_depth(depth)
  count = count + 1
  out[count] = '*' .. number_format('%d', length) .. '\r\n'
  for i = 1, length do
    count = add_item(out, count, rawget(value, i), depth)
  end
  return count
end

local function key_text(key)
  local kind = type(key)
  if kind == 'string' then return key end
  if kind == 'number' then return digits(key) or number_text(key) end
  if kind == 'boolean' then return tostring(key) end
  return kind == 'cdata' and boxed_digits(key) or fail('keys that are text or numbers', kind)
end

function add_map(out, count, value, depth)
  check_depth(depth)
  count = count + 1
  local head, pairs_seen = count, 0
  for key, item in next, value do
    out[count + 1] = bulk(key_text(key))
    count = add_item(out, count + 1, item, depth)
    pairs_seen = pairs_seen + 1
  end
  out[head] = '*' .. pairs_seen * 2 .. '\r\n'
  return count
end

local writers = {}

writers[NIL] = function()
  return NOTHING
end

-- Line ends inside would begin another reply.
local function line(text)
  if find(text, '[\r\n]') then text = gsub(text, '[\r\n]', ' ') end
  return text .. '\r\n'
end

writers[ERROR] = function(value)
  if value == nil then return '-ERR\r\n' end
  if type(value) ~= 'string' then fail('string', type(value)) end
  return '-' .. line(value)
end

writers[STATUS] = function(value)
  if value == nil then return '+OK\r\n' end
  if type(value) ~= 'string' then fail('string', type(value)) end
  return '+' .. line(value)
end

writers[INT] = function(value)
  local kind = type(value)
  local whole
  if kind == 'number' then
    whole = digits(value)
  elseif kind == 'cdata' then
    whole = boxed_digits(value)
  end
  if not whole then
    fail('integer', value == nil and 'no value' or kind == 'number' and tostring(value) or kind)
  end
  return ':' .. whole .. '\r\n'
end

writers[STRING] = function(value)
  local kind = type(value)
  if kind == 'number' then return bulk(digits(value) or number_text(value)) end
  if kind ~= 'string' then fail('string or number', value == nil and 'no value' or kind) end
  return bulk(value)
end

writers[SET] = function(value)
  if type(value) ~= 'table' then fail('sequence', value == nil and 'no value' or type(value)) end
  local length = sequence_length(value)
  if not length then fail('sequence', 'a table with other keys') end
  local out = {}
  return concat(out, '', 1, add_set(out, 0, value, length, 1))
end

writers[MAP] = function(value)
  if type(value) ~= 'table' then fail('table', value == nil and 'no value' or type(value)) end
  local out = {}
  return concat(out, '', 1, add_map(out, 0, value, 1))
end

--- The bytes of a reply. Raises for what RESP does not have.
local function format(kind, value)
  if kind == STRING then -- these two first: most replies are such
    if type(value) == 'string' and #value <= LONGEST then return '$' .. #value .. '\r\n' .. value .. '\r\n' end
  elseif kind == INT and type(value) == 'number' and value == floor(value) and value > -1e14 and value < 1e14 then
    return ':' .. (value ~= 0 and value or 0) .. '\r\n' -- there is a -0
  end
  local write = writers[kind]
  if not write then
    local got = kind == nil and 'no value' or tostring(kind)
    error(("bad argument #1 to 'format' (srvlua.redis.ERROR ... MAP expected, got %s)"):format(got), 2)
  end
  local ok, reply = pcall(write, value)
  if not ok then error(reply, 2) end
  return reply
end

-- ------------------------------------------------------------------------------------------------------------- server

-- Behind a suspended handler so many commands of a connection, or bytes of them, wait before it is read no further.
local MOST_WAITING, MOST_BYTES = 64, 256 * 1024
local SHOWN = 128 -- bytes of the name of an unknown command

local UNBALANCED = '-ERR Protocol error: unbalanced quotes in request\r\n'
local INTERNAL = '-ERR internal error\r\n'

local function unknown(name)
  return "-ERR unknown command '" .. gsub(sub(name, 1, SHOWN), '[^\32-\126]', '?') .. "'\r\n"
end

-- Makes the function that gets the commands of a server's connections: run(fd, name, arguments, size in bytes).
local function make_runner(server, handlers)
  local send = server.send
  -- fd -> true: a command of that connection runs; a table: and others wait until it has ended
  local busy = {}

  -- What cannot be sent would leave the client waiting, or taking the next reply for this one.
  local function answer(fd, reply)
    local ok, message = send(server, fd, reply)
    if ok or not server:exist(fd) then return end
    log(LOG_WARNING, ('session %d is closed: a reply of %d bytes cannot be sent: %s'):format(fd, #reply, message))
    server:close(fd, true)
  end

  local function execute(fd, name, arguments)
    local handler = handlers[name]
    if not handler then
      if not name then
        answer(fd, UNBALANCED)
        server:close(fd)
        return
      end
      handler = handlers[lower(name)]
      if not handler then
        answer(fd, unknown(name))
        return
      end
    end
    local ok, reply = xpcall(handler, describe, fd, arguments)
    if not ok then
      answer(fd, INTERNAL)
      failed(reply)
    elseif type(reply) == 'string' and reply ~= '' then
      answer(fd, reply)
    end
  end

  local work_off

  local function execute_waiting(fd, queue, command)
    execute(fd, command.name, command.arguments)
    queue.is_held = false
    if queue.is_left then
      queue.is_left = false
      work_off(fd, queue)
    end
  end

  -- Runs what waits, one after another, each in a coroutine of its own; one that suspends goes on with the rest later.
  function work_off(fd, queue)
    while queue.first <= queue.last do
      local first = queue.first
      local command = queue[first]
      queue[first] = nil
      queue.first = first + 1
      queue.size = queue.size - command.size
      if server:exist(fd) then
        queue.is_held = true
        if not go(execute_waiting, fd, queue, command) then
          execute_waiting(fd, queue, command) -- no room for one more coroutine: in this one
        end
        if queue.is_held then
          queue.is_left = true
          return
        end
      end
    end
    busy[fd] = nil
    if queue.is_paused then server:resume(fd) end
  end

  local function wait(fd, queue, command)
    if queue == true then
      queue = { first = 1, last = 0, size = 0, is_held = false, is_left = false, is_paused = false }
      busy[fd] = queue
    end
    local last = queue.last + 1
    queue.last = last
    queue[last] = command
    queue.size = queue.size + command.size
    if queue.is_paused or last - queue.first < MOST_WAITING and queue.size <= MOST_BYTES then return end
    queue.is_paused = true
    server:pause(fd)
  end

  return function(fd, name, arguments, size)
    local queue = busy[fd]
    if queue ~= nil then return wait(fd, queue, { name = name, arguments = arguments, size = size }) end
    busy[fd] = true
    execute(fd, name, arguments)
    queue = busy[fd]
    if queue == true then
      busy[fd] = nil
    else
      work_off(fd, queue)
    end
  end
end

local statics = {
  ERROR = ERROR, NIL = NIL, STATUS = STATUS, INT = INT, STRING = STRING, SET = SET, MAP = MAP,
  format = format,
}

local function with_statics(target)
  for name, value in pairs(statics) do
    target[name] = value
  end
  return target
end

local Server = setmetatable(with_statics {}, {
  __call = function(_, ...)
    local server = with_statics(parent(...))
    local handlers = {}
    core.redis.serve(server, handlers, make_runner(server, handlers))
    return server
  end,
})

return with_statics { Server = Server }
