--- What the applications of specs begin with: srvlua, emit, new_server, run, stall, hold = require 'support.prelude'().
-- arg[1] is the mode. Each event that an app emits is a line on stdout, written at once, of `@` and Lua values.

local ffi = require 'ffi'
local srvlua = require 'srvlua'

ffi.cdef 'int pause(void); int usleep(unsigned int usec);'

local function show(value)
  if type(value) == 'string' then
    return (('%q'):format(value):gsub('\\\n', '\\n'))
  elseif type(value) == 'table' then
    local parts = {}
    for key, item in pairs(value) do
      parts[#parts + 1] = ('[%s]=%s'):format(show(key), show(item))
    end
    return '{' .. table.concat(parts, ',') .. '}'
  elseif type(value) == 'number' then
    if value ~= value or value == math.huge or value == -math.huge then return '0/0' end
    return ('%.17g'):format(value)
  elseif type(value) == 'boolean' or value == nil then
    return tostring(value)
  end
  return show(tostring(value))
end

--- Tells the spec of an event.
local function emit(name, ...)
  local parts = { show(name) }
  for i = 1, select('#', ...) do
    parts[i + 1] = show((select(i, ...)))
  end
  io.stdout:write('@' .. table.concat(parts, ',') .. '\n')
  io.stdout:flush()
end

--- A server in the mode of the spec, on loopback and a port that the kernel picks, with one worker unless told.
local function new_server(settings, sock_type, host)
  sock_type = sock_type or srvlua.SOCK_TCP
  if not host then
    local is_v6 = sock_type == srvlua.SOCK_TCP6 or sock_type == srvlua.SOCK_UDP6
    host = is_v6 and '::1' or '127.0.0.1'
  end
  local server = srvlua.Server(host, 0, srvlua[arg[1]], sock_type)
  server:set { worker_num = 1 }
  if settings then server:set(settings) end
  return server
end

--- Starts the server; emits `start` with the ports' numbers, and `returned` with what start() returned.
local function run(server, on_start)
  server:on('start', function(self)
    local numbers = {}
    for i, port in ipairs(server.ports) do
      numbers[i] = port.port
    end
    if on_start then on_start(self) end
    emit('start', numbers)
  end)
  emit('returned', server:start())
end

--- Blocks the process for ever, its loop included.
local function stall()
  while true do
    ffi.C.pause()
  end
end

--- Blocks the process, its loop included, until a file is there.
local function hold(path)
  local file
  repeat
    ffi.C.usleep(1000)
    file = io.open(path)
  until file
  file:close()
end

return function()
  return srvlua, emit, new_server, run, stall, hold
end
