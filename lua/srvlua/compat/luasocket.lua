--- `require 'srvlua.compat.luasocket'`: LuaSocket's table `socket`, made of `srvlua.socket`, so that what is written
-- for it suspends coroutines instead of blocking the process. `install()` lets `require 'socket'` find it: LuaSocket's
-- own `socket.http`, `ltn12` and `mime` then run on it.

local core = require 'srvlua.core'
local srvlua = require 'srvlua'

local NO_LIMIT = 1e12 -- milliseconds; nil would be the default of srvlua.socket

local socket = {
  _VERSION = 'srvlua ' .. srvlua.version,
  BLOCKSIZE = 2048, -- bytes that sources read at once
  gettime = srvlua.now,
}

-- ---------------------------------------------------------------------------------------------------------- methods

-- seconds of LuaSocket, where nil and negative mean without limit and 0 to look only, as milliseconds
local function to_milliseconds(seconds)
  if seconds == nil then return NO_LIMIT end
  if type(seconds) ~= 'number' or seconds ~= seconds then
    error(("bad argument #1 to 'settimeout' (number expected, got %s)"):format(type(seconds)), 3)
  end
  if seconds < 0 then return NO_LIMIT end
  return math.min(math.max(1, math.ceil(seconds * 1000)), NO_LIMIT)
end

local function not_supported()
  return nil, 'not supported'
end

-- What both kinds of sockets have. `self.inner` is that of srvlua.
local methods = {}

--- Of each wait: LuaSocket's modes 'b' and 't' are the same here.
function methods:settimeout(seconds, mode)
  if mode ~= nil and mode ~= 'b' and mode ~= 't' and mode ~= 'r' then
    error(("bad argument #2 to 'settimeout' ('b' or 't' expected, got %s)"):format(tostring(mode)), 2)
  end
  self.inner:settimeout(to_milliseconds(seconds))
  return 1
end

function methods:close()
  self.inner:close()
  return 1
end

function methods:getfd()
  return self.inner:getfd() or -1
end

--- Whether data wait in the object itself: those of srvlua tell nobody.
function methods:dirty()
  return false
end

local stream = setmetatable({ bind = not_supported, listen = not_supported, accept = not_supported },
  { __index = methods })

function stream:connect(host, port)
  return self.inner:connect(host, tonumber(port) or port)
end

--- Sends data from index `first` to `last`; returns the last index that was sent, or nil, error, that index.
function stream:send(data, first, last)
  data = type(data) == 'number' and tostring(data) or data
  if type(data) ~= 'string' then
    error(("bad argument #1 to 'send' (string expected, got %s)"):format(type(data)), 2)
  end
  first, last = first or 1, last or -1
  if first < 0 then first = math.max(#data + first + 1, 1) end
  if last < 0 then last = #data + last + 1 end
  first, last = math.max(first, 1), math.min(last, #data)
  local whole = first == 1 and last == #data
  local sent, message = self.inner:send(whole and data or data:sub(first, last))
  if not sent then return nil, message, first - 1 end
  return math.max(last, first - 1)
end

--- As LuaSocket's: what was read comes behind `prefix`, whose bytes count among those of a number.
function stream:receive(pattern, prefix)
  prefix = prefix or ''
  if type(pattern) == 'number' then
    if pattern <= #prefix then return prefix end
    pattern = pattern - #prefix
  end
  local data, message, partial = self.inner:receive(pattern)
  if data == '' and (pattern == '*a' or pattern == 'a') then data, message, partial = nil, 'closed', '' end
  if not data then return nil, message, prefix .. (partial or '') end
  return prefix .. data
end

function stream:shutdown(how)
  local fd = self.inner:getfd()
  if not fd then return nil, 'closed' end
  local ok, message = core.compat.shutdown(fd, how or 'both')
  if not ok then return nil, message:lower() end
  return 1
end

function stream:setoption(name, value)
  return self.inner:setoption(name, value)
end

local function name_of(address, port)
  if not address then return nil, port end
  return address, port, address:find(':', 1, true) and 'inet6' or 'inet'
end

function stream:getpeername()
  return name_of(self.inner:getpeername())
end

function stream:getsockname()
  return name_of(self.inner:getsockname())
end

local datagrams = setmetatable({ sendto = not_supported, receivefrom = not_supported, setsockname = not_supported },
  { __index = methods })

function datagrams:setpeername(host, port)
  return self.inner:setpeername(host, tonumber(port) or port)
end

function datagrams:send(data)
  return self.inner:send(data)
end

function datagrams:receive(size)
  return self.inner:receive(size)
end

local function metatable(class, name)
  return {
    __index = class,
    __tostring = function(self) return ('%s: %s'):format(name, tostring(self.inner)) end,
  }
end

local stream_metatable, datagram_metatable = metatable(stream, 'tcp{client}'), metatable(datagrams, 'udp{connected}')

local function new_object(inner, its_metatable)
  local self = setmetatable({ inner = inner }, its_metatable)
  self:settimeout(nil)
  return self
end

function socket.tcp()
  return new_object(srvlua.socket.tcp(), stream_metatable)
end

function socket.udp()
  return new_object(srvlua.socket.udp(), datagram_metatable)
end

--- A connected object, or nil and an error.
function socket.connect(host, port, local_host)
  if local_host then return nil, 'not supported' end
  local self = socket.tcp()
  local ok, message = self:connect(host, port)
  if not ok then return nil, message end
  return self
end

socket.bind = not_supported

-- ------------------------------------------------------------------------------------------------------------ names

socket.dns = {}

--- The first IPv4 address of a name, and all that is known of it; or nil and an error.
function socket.dns.toip(name)
  local addresses, _, code = srvlua.dns.resolve(name, { family = 'inet' })
  if not addresses then
    return nil, code == srvlua.ERROR_DNSLOOKUP_RESOLVE_TIMEOUT and 'timeout' or 'host not found'
  end
  return addresses[1], { name = name, alias = {}, ip = addresses }
end

-- ----------------------------------------------------------------------------------------------------- small helpers

function socket.sleep(seconds)
  srvlua.sleep(math.max(0, seconds))
end

function socket.skip(count, ...)
  return select(count + 1, ...)
end

--- A function that calls what `functions` has under the name it is given, or under 'default'.
function socket.choose(functions)
  return function(name, ...)
    if type(name) == 'string' then
      local chosen = functions[name]
      if not chosen then error('unknown key (' .. name .. ')', 2) end
      return chosen(...)
    end
    return functions.default(name, ...)
  end
end

-- ------------------------------------------------------------------------------------------------------ exceptions

-- What a failed `try` raises, and only `protect` takes.
local Failure = {
  __tostring = function(self) return tostring(self[1]) end,
}

--- A `try` that calls `finalizer` before it raises.
function socket.newtry(finalizer)
  return function(...)
    if (...) then return ... end
    if finalizer then pcall(finalizer) end
    error(setmetatable({ (select(2, ...)) }, Failure), 0)
  end
end

socket.try = socket.newtry()

local function end_of_protected(ok, first, ...)
  if ok then return first, ... end
  if getmetatable(first) == Failure then return nil, first[1] end
  error(first, 0)
end

--- `fn` as a function that returns nil and the error where a `try` in it raises.
function socket.protect(fn)
  return function(...)
    return end_of_protected(pcall(fn, ...))
  end
end

-- ------------------------------------------------------------------------------------------ sources and sinks (LTN12)

-- A source or sink that can be asked for its socket.
local function with_socket(sock, call)
  return setmetatable({
    getfd = function() return sock:getfd() end,
    dirty = function() return sock:dirty() end,
  }, { __call = call })
end

socket.sinkt = {}

socket.sinkt['close-when-done'] = function(sock)
  return with_socket(sock, function(_, chunk)
    if chunk then return sock:send(chunk) end
    return sock:close()
  end)
end

socket.sinkt['keep-open'] = function(sock)
  return with_socket(sock, function(_, chunk)
    if chunk then return sock:send(chunk) end
    return 1
  end)
end

socket.sinkt.default = socket.sinkt['keep-open']
socket.sink = socket.choose(socket.sinkt)

socket.sourcet = {}

socket.sourcet['by-length'] = function(sock, length)
  return with_socket(sock, function()
    if length <= 0 then return nil end
    local chunk, message = sock:receive(math.min(socket.BLOCKSIZE, length))
    if not chunk then return nil, message end
    length = length - #chunk
    return chunk
  end)
end

socket.sourcet['until-closed'] = function(sock)
  local has_ended = false
  return with_socket(sock, function()
    if has_ended then return nil end
    local chunk, message, partial = sock:receive(socket.BLOCKSIZE)
    if chunk then return chunk end
    if message ~= 'closed' then return nil, message end
    has_ended = true
    sock:close()
    return partial
  end)
end

socket.sourcet.default = socket.sourcet['until-closed']
socket.source = socket.choose(socket.sourcet)

--- Makes this what `require 'socket'` and `require 'socket.core'` return.
function socket.install()
  package.loaded.socket, package.loaded['socket.core'] = socket, socket
end

return socket
