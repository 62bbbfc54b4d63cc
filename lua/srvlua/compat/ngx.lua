--- `require('srvlua.compat.ngx').install()`: the global `ngx`, with what client libraries for OpenResty use of it; its
-- sockets are those of `srvlua.socket`. What is not here raises when it is read, so that nothing is missed in silence.

local core = require 'srvlua.core'
local srvlua = require 'srvlua'

local compat = core.compat
local byte, char, format = string.byte, string.char, string.format

-- ----------------------------------------------------------------------------------------------------- texts, digests

-- The functions on texts take what tostring makes of anything, and nothing as ''.
local function to_text(value)
  if value == nil then return '' end
  return type(value) == 'string' and value or tostring(value)
end

local function argument_error(number, name, expected, value, level)
  error(format("bad argument #%d to '%s' (%s expected, got %s)", number, name, expected, type(value)), (level or 1) + 2)
end

local texts = {}

function texts.md5(text)
  return compat.hex(compat.md5(to_text(text)))
end

function texts.md5_bin(text)
  return compat.md5(to_text(text))
end

function texts.sha1_bin(text)
  return compat.sha1(to_text(text))
end

function texts.hmac_sha1(key, text)
  return compat.hmacSha1(to_text(key), to_text(text))
end

function texts.crc32_short(text)
  return compat.crc32(to_text(text))
end

function texts.encode_base64(text, no_padding)
  local encoded = compat.encodeBase64(to_text(text))
  return no_padding and encoded:gsub('=+$', '') or encoded
end

--- nil for what is no base64; its padding may be missing.
function texts.decode_base64(text)
  if type(text) ~= 'string' then argument_error(1, 'decode_base64', 'string', text) end
  local digits = text:gsub('=+$', '')
  if digits:find '[^%w+/]' or #digits % 4 == 1 then return nil end
  return compat.decodeBase64(digits .. ('='):rep(-#digits % 4))
end

local function escape(character)
  return format('%%%02X', byte(character))
end

-- What is escaped: 0 in a whole URI, 2 in a part of one.
local escaped = { [0] = '[%z\1-\32#%%?\127-\255]', [2] = "[^%w%-._~!*'()]" }

function texts.escape_uri(text, kind)
  local pattern = escaped[kind or 2]
  if not pattern then error(format("bad argument #2 to 'escape_uri' (0 or 2 expected, got %s)", tostring(kind)), 2) end
  return (to_text(text):gsub(pattern, escape))
end

function texts.unescape_uri(text)
  return (to_text(text):gsub('+', ' '):gsub('%%(%x%x)', function(digits)
    return char(tonumber(digits, 16))
  end))
end

-- ---------------------------------------------------------------------------------------------------------- log, time

local levels = { EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8 }
local level_here = { [5] = srvlua.LOG_WARNING, [6] = srvlua.LOG_NOTICE, [7] = srvlua.LOG_INFO, [8] = srvlua.LOG_DEBUG }

local basics = {}

--- One line of the log: the values next to each other.
function basics.log(level, ...)
  if type(level) ~= 'number' then argument_error(1, 'log', 'number', level) end
  if level ~= math.floor(level) or level < 1 or level > 8 then
    error(format("bad argument #1 to 'log' (a level from 1 to 8 expected, got %s)", tostring(level)), 2)
  end
  local parts = { ... }
  for i = 1, select('#', ...) do
    parts[i] = tostring(parts[i])
  end
  srvlua.log(level_here[level] or srvlua.LOG_ERROR, table.concat(parts))
end

function basics.sleep(seconds)
  srvlua.sleep(seconds)
end

function basics.now()
  return math.floor(srvlua.now() * 1000) / 1000
end

function basics.time()
  return math.floor(srvlua.now())
end

function basics.update_time() end -- the time is never cached

function basics.get_phase()
  return 'timer'
end

-- ------------------------------------------------------------------------------------------------------------ workers

local worker = { pid = srvlua.getpid }

--- Number of this event or task worker, nil in other processes.
function worker.id()
  local id = compat.worker()
  return id >= 0 and id or nil
end

--- How many event workers there are.
function worker.count()
  return select(2, compat.worker())
end

--- Whether this worker was told to leave.
function worker.exiting()
  return select(3, compat.worker())
end

-- ------------------------------------------------------------------------------------------------------------- timers

-- Timers of this process that have not fired, by their id. While there are any, a look at each tenth of a second tells
-- whether the worker is to leave: then they run at once and are told so, as OpenResty does it, and keep it no longer.
local timers = { pid = 0 }

local function run_early()
  if not worker.exiting() then return end
  local jobs = timers.jobs
  srvlua.Timer.clear(timers.watch)
  timers.jobs, timers.watch = {}, nil
  local ids = {}
  for id in pairs(jobs) do
    ids[#ids + 1] = id
  end
  table.sort(ids)
  for _, id in ipairs(ids) do
    srvlua.Timer.clear(id)
    srvlua.go(jobs[id].callback, true, unpack(jobs[id].arguments, 1, jobs[id].arguments.n))
  end
end

local function forget(id)
  timers.jobs[id] = nil
  if next(timers.jobs) == nil and timers.watch then
    srvlua.Timer.clear(timers.watch)
    timers.watch = nil
  end
end

local function add_timer(name, is_repeating, seconds, callback, ...)
  if type(seconds) ~= 'number' then argument_error(1, name, 'number', seconds, 2) end
  if not (seconds >= 0 and seconds < math.huge) or is_repeating and seconds == 0 then
    error(format("bad argument #1 to '%s' (seconds %s expected)", name, is_repeating and 'above 0' or 'from 0 on'), 3)
  end
  if type(callback) ~= 'function' then argument_error(2, name, 'function', callback, 2) end
  if worker.exiting() and seconds > 0 then return nil, 'process exiting' end
  if timers.pid ~= srvlua.getpid() then timers = { pid = srvlua.getpid(), jobs = {} } end

  local arguments = { n = select('#', ...), ... }
  local make = is_repeating and srvlua.Timer.tick or srvlua.Timer.after
  local id, message
  id, message = make(math.max(1, math.ceil(seconds * 1000)), function()
    if not is_repeating then forget(id) end
    callback(false, unpack(arguments, 1, arguments.n))
  end)
  if not id then return nil, message end
  timers.jobs[id] = { callback = callback, arguments = arguments }
  timers.watch = timers.watch or srvlua.Timer.tick(100, run_early)
  return 1
end

local timer = {}

--- Runs callback(premature, ...) once, in a coroutine of its own. 1, or nil and a message.
function timer.at(seconds, callback, ...)
  return add_timer('at', false, seconds, callback, ...)
end

--- The same again and again.
function timer.every(seconds, callback, ...)
  return add_timer('every', true, seconds, callback, ...)
end

-- ------------------------------------------------------------------------------------------------------------ threads

local Thread = {}
Thread.__index = Thread

-- Its function has ended, or it was killed: whoever waits for it or for one of several goes on.
local function finish(thread, ...)
  thread.results = { n = select('#', ...), ... }
  local waiting = thread.waiting
  if not waiting then return end
  for _, other in ipairs(waiting.threads) do
    other.waiting = nil
  end
  waiting.channel:push(thread)
end

local function log_error(message)
  srvlua.log(srvlua.LOG_ERROR, 'uncaught error in ngx.thread: ' .. debug.traceback(tostring(message), 2))
  return message
end

local thread = {}

--- Runs fn(...) in a coroutine of its own, at once until it waits first.
function thread.spawn(fn, ...)
  if type(fn) ~= 'function' then argument_error(1, 'spawn', 'function', fn) end
  local self = setmetatable({}, Thread)
  local id, message = srvlua.go(function(...)
    finish(self, xpcall(fn, log_error, ...))
  end, ...)
  if not id then error(message, 2) end
  self.id = id
  return self
end

local function take(ended)
  local results = ended.results
  ended.is_taken = true
  return unpack(results, 1, results.n)
end

--- Waits for the first of the threads that ends: true and what it returned, or false and its error. Each can be waited
-- for once.
function thread.wait(...)
  local threads = { ... }
  if #threads == 0 then argument_error(1, 'wait', 'thread', nil) end
  for i, one in ipairs(threads) do
    if getmetatable(one) ~= Thread then argument_error(i, 'wait', 'thread', one) end
    if one.is_taken then return nil, 'already waited or killed' end
    if one.waiting then return nil, 'already waited for' end
  end
  for _, one in ipairs(threads) do
    if one.results then return take(one) end
  end
  local waiting = { threads = threads, channel = srvlua.Channel(1) }
  for _, one in ipairs(threads) do
    one.waiting = waiting
  end
  local ended, message = waiting.channel:pop()
  if ended then return take(ended) end
  for _, one in ipairs(threads) do
    one.waiting = nil
  end
  error(message, 2) -- no coroutine: nothing else could run
end

--- Ends a thread that waits: what it waits for will not make it go on. 1, or nil and why not.
function thread.kill(one)
  if getmetatable(one) ~= Thread then argument_error(1, 'kill', 'thread', one) end
  if one.is_taken then return nil, 'already waited or killed' end
  if one.results then return nil, 'already terminated' end
  if not core.coroutine.kill(one.id) then return nil, 'not suspended' end
  finish(one, nil, 'killed')
  one.is_taken = true
  return 1
end

-- ---------------------------------------------------------------------------------------------------------- the table

local function refuse(prefix)
  return function(_, name)
    error(format('%s.%s is not available in srvlua', prefix, tostring(name)), 2)
  end
end

local function part(name, fields)
  return setmetatable(fields, { __index = refuse('ngx.' .. name) })
end

local function new_ngx()
  local ngx = {
    null = compat.null, -- srvlua.json.null
    socket = part('socket', { tcp = srvlua.socket.tcp, udp = srvlua.socket.udp, connect = srvlua.socket.connect }),
    config = part('config', { ngx_lua_version = 10026 }),
    worker = part('worker', worker),
    timer = part('timer', timer),
    thread = part('thread', thread),
  }
  for _, fields in ipairs { texts, basics, levels } do
    for name, value in pairs(fields) do
      ngx[name] = value
    end
  end
  local missing = refuse 'ngx'
  return setmetatable(ngx, {
    __index = function(self, name)
      if name ~= 'ctx' then missing(self, name) end
      local context, message = srvlua.coroutine.context()
      return context or error('ngx.ctx: ' .. message, 2)
    end,
    __newindex = function(self, name, value)
      if name == 'ctx' then error('ngx.ctx cannot be replaced, only its fields', 2) end
      rawset(self, name, value)
    end,
  })
end

local M = {}
local installed

--- Sets the global `ngx`. A second time nothing; raises if something else has that name.
function M.install()
  local there = rawget(_G, 'ngx')
  if there ~= nil and there ~= installed then error('there is a global ngx already, and it is not of srvlua', 2) end
  installed = installed or new_ngx()
  rawset(_G, 'ngx', installed)
end

return M
