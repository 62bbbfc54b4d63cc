--- Clients with a deadline on every operation: streams over TCP and unix sockets, and datagrams.

local ffi = require 'ffi'
local socket = require 'socket'
local unix = require 'socket.unix'
local process = require 'support.process'

if not pcall(ffi.typeof, 'struct spec_linger') then
  ffi.cdef [[
    struct spec_linger { int is_on, seconds; };
    long recv(int fd, void *buffer, size_t size, int flags);
    long send(int fd, const void *buffer, size_t size, int flags);
    int ioctl(int fd, unsigned long request, ...);
  ]]
end

local M = {}
local open = {}

local Stream = {}
Stream.__index = Stream

local function new_stream(sock)
  sock:settimeout(process.deadline)
  open[#open + 1] = sock
  return setmetatable({ sock = sock }, Stream)
end

--- Connects to a number (TCP on loopback), { host, port }, or a path; TCP: from an address of this machine, if given.
function M.stream(where, from)
  local sock
  if type(where) == 'string' then
    sock = assert(unix.stream())
    sock:settimeout(process.deadline)
    assert(sock:connect(where))
  else
    local host, port = '127.0.0.1', where
    if type(where) == 'table' then host, port = where[1], where[2] end
    sock = assert((host:find ':' and socket.tcp6 or socket.tcp4)())
    sock:settimeout(process.deadline)
    if from then assert(sock:bind(from, 0)) end
    local ok, message = sock:connect(host, port)
    if not ok then
      sock:close()
      error('connect: ' .. message, 2)
    end
    sock:setoption('tcp-nodelay', true)
  end
  return new_stream(sock)
end

--- The same in one system call: LuaSocket sends 8 KiB at a time, and the server may read in between.
function Stream:send_at_once(data)
  assert(ffi.C.send(self.sock:getfd(), data, #data, 0) == #data)
end

-- As sock:receive(), taking in meanwhile what the processes under test write.
local function receive(self, pattern)
  local last, partial = process.now() + process.deadline, nil
  while true do
    self.sock:settimeout(0.05)
    local data, message, rest = self.sock:receive(pattern, partial)
    self.sock:settimeout(process.deadline)
    if data or message ~= 'timeout' or process.now() >= last then return data, message, rest end
    partial = rest
    process.pump_all()
  end
end

function Stream:send(data)
  local ok, message = self.sock:send(data)
  if not ok then error('send: ' .. message, 2) end
end

--- Exactly `length` bytes.
function Stream:receive(length)
  local data, message, partial = receive(self, length)
  if not data then
    local got = #partial > 200 and #partial .. ' bytes' or ('%q'):format(partial)
    error(('receive: %s after %s'):format(message, got), 2)
  end
  return data
end

--- A line, without its end.
function Stream:line()
  local line, message, partial = receive(self, '*l')
  if not line then error(('line: %s after %q'):format(message, partial), 2) end
  return line
end

--- Sends and returns as many bytes as were sent.
function Stream:echo(data)
  self:send(data)
  return self:receive(#data)
end

--- Everything up to the end of the stream.
function Stream:rest()
  local data, message, partial = receive(self, '*a')
  if not data and message == 'closed' and partial ~= '' then return partial end -- its end came later
  if not data then error('rest: ' .. message, 2) end
  return data
end

--- Waits for the end of the stream, dropping what comes before: 'end', or 'reset'.
function Stream:ending()
  local buffer = ffi.new 'char[4096]'
  local last = process.now() + process.deadline
  while true do
    while #socket.select({ self.sock }, nil, 0.05) == 0 do
      if process.now() >= last then error('the stream did not end', 2) end
      process.pump_all()
    end
    local length = ffi.C.recv(self.sock:getfd(), buffer, 4096, 0)
    if length == 0 then return 'end' end
    if length < 0 then return 'reset' end
  end
end

--- This side's address.
function Stream:name()
  local ip, port = self.sock:getsockname()
  return ip, tonumber(port)
end

function Stream:half_close()
  self.sock:shutdown 'send'
end

function Stream:close()
  self.sock:close()
end

--- Waits until the other side's kernel has all that was sent.
function Stream:arrived()
  local left = ffi.new 'int[1]'
  assert(process.eventually(function()
    return ffi.C.ioctl(self.sock:getfd(), 0x5411, left) == 0 and left[0] == 0 -- SIOCOUTQ
  end), 'what was sent has not arrived')
end

--- Closes with RST.
function Stream:reset()
  self.sock:setoption('linger', { on = true, timeout = 0 })
  self.sock:close()
end

-- --------------------------------------------------------------------------------------------------- datagrams

local Datagrams = {}
Datagrams.__index = Datagrams

--- A UDP socket that talks to one port, or (paths) a unix datagram socket bound to `own_path` that talks to `where`.
function M.datagrams(where, own_path)
  local sock
  if type(where) == 'string' then
    sock = assert(unix.dgram())
    if own_path then assert(sock:bind(own_path)) end
    sock:settimeout(process.deadline)
    assert(sock:connect(where))
  else
    local host, port = '127.0.0.1', where
    if type(where) == 'table' then host, port = where[1], where[2] end
    sock = assert((host:find ':' and socket.udp6 or socket.udp4)())
    sock:settimeout(process.deadline)
    assert(sock:setpeername(host, port))
  end
  open[#open + 1] = sock
  return setmetatable({ sock = sock }, Datagrams)
end

function Datagrams:send(data)
  local ok, message = self.sock:send(data)
  if not ok then error('send: ' .. message, 2) end
end

function Datagrams:receive()
  local data, message = self.sock:receive(65536)
  if not data then error('receive: ' .. message, 2) end
  return data
end

function Datagrams:name()
  local ip, port = self.sock:getsockname()
  return ip, tonumber(port)
end

function Datagrams:close()
  self.sock:close()
end

--- Closes what specs left open.
function M.cleanup()
  for _, sock in ipairs(open) do
    sock:close()
  end
  open = {}
end

return M
