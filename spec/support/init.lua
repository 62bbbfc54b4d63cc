--- For specs: boots applications, gives clients and the events of the applications, and cleans up.
--
--     local support = require 'support'
--     describe('close', function()
--       after_each(support.cleanup)
--       support.in_both_modes(function(mode)
--         it('…', function()
--           local app = support.boot(mode, [[ local server = new_server() … run(server) ]])
--           local client = app:connect()
--           …
--           app:expect('close', 1)

local ffi = require 'ffi'
local lfs = require 'lfs'
local socket = require 'socket'
local client = require 'support.client'
local process = require 'support.process'

if not pcall(ffi.typeof, 'struct spec_tmp') then
  ffi.cdef [[
    struct spec_tmp { int unused; };
    char *mkdtemp(char *template);
  ]]
end

local M = {
  stream = client.stream,
  datagrams = client.datagrams,
  start = process.start,
  run = process.run,
  now = process.now,
  eventually = process.eventually,
  kill = process.kill,
  is_alive = process.is_alive,
  info = process.info,
  title = process.title,
  descriptors = process.descriptors,
  signals = process.signals,
  root = lfs.currentdir(),
  build = os.getenv 'SRVLUA_BUILD' or lfs.currentdir() .. '/build',
  sanitizer = os.getenv 'SRVLUA_SANITIZER',
}
M.launcher = os.getenv 'SRVLUA' or M.build .. '/srvlua'

--- Declares the same specs for both modes.
function M.in_both_modes(declare)
  for _, mode in ipairs { 'PROCESS', 'BASE' } do
    declare(mode)
  end
end

--- The first of `count` numbers in a row that are free for TCP on loopback, below those that the kernel hands out.
function M.free_ports(count)
  math.randomseed(os.time() + process.now() * 1e6)
  return assert(process.eventually(function()
    local first, sockets = math.random(15000, 32000 - count), {}
    for number = first, first + count - 1 do
      sockets[#sockets + 1] = socket.bind('127.0.0.1', number)
    end
    for _, sock in ipairs(sockets) do
      sock:close()
    end
    return #sockets == count and first
  end), 'no free ports')
end

-- ------------------------------------------------------------------------------------------------- directories

local directories = {}

local function remove(path)
  if lfs.symlinkattributes(path, 'mode') == 'directory' then
    for name in lfs.dir(path) do
      if name ~= '.' and name ~= '..' then remove(path .. '/' .. name) end
    end
    lfs.rmdir(path)
  else
    os.remove(path)
  end
end

--- A directory of the spec's own, which goes at its end.
function M.directory()
  local template = ffi.new('char[64]', '/tmp/srvlua-spec-XXXXXX')
  assert(ffi.C.mkdtemp(template) ~= nil, 'mkdtemp')
  directories[#directories + 1] = ffi.string(template)
  return directories[#directories]
end

function M.write_file(path, text)
  local file = assert(io.open(path, 'wb'))
  file:write(text)
  file:close()
  return path
end

--- The text of a file, nil if it cannot be read.
function M.read_file(path)
  local file = io.open(path, 'rb')
  if not file then return nil end
  local text = file:read '*a'
  file:close()
  return text
end

-- ------------------------------------------------------------------------------------------------ applications

local App = {}
App.__index = App

local function pack(...)
  return { n = select('#', ...), ... }
end

-- Takes new whole lines of stdout as events: those that were emitted, and others as `print`.
local function take_events(app)
  local last = 0
  for line, after in app.process.out:gmatch '([^\n]*)\n()' do
    last = after - 1
    if line:sub(1, 1) == '@' then
      app.events[#app.events + 1] = setfenv(assert(loadstring('return pack(' .. line:sub(2) .. ')')), { pack = pack })()
    else
      app.events[#app.events + 1] = pack('print', line)
    end
  end
  app.process.out = app.process.out:sub(last + 1)
end

local function trouble(app)
  local seen = {}
  for _, event in ipairs(app.events) do
    seen[#seen + 1] = tostring(event[1])
  end
  return ('unread events: %s\nlog: %s'):format(table.concat(seen, ' '), app.process.err:sub(-4000))
end

-- Takes in output until `look` finds what it wants.
local function await(app, what, look, seconds)
  local last = process.now() + (seconds or process.deadline)
  while true do
    take_events(app)
    local result = look()
    if result then return result end
    local left = last - process.now()
    if next(app.process.pipes) == nil then error(('no %s before the end\n%s'):format(what, trouble(app)), 3) end
    if left <= 0 then error(('no %s within the deadline\n%s'):format(what, trouble(app)), 3) end
    app.process:pump(left)
  end
end

local function matches(event, name, wanted, count)
  if event[1] ~= name then return false end
  for i = 1, count do
    if event[i + 1] ~= wanted[i] then return false end
  end
  return true
end

--- Waits for an event by its name and its first values; each event is given once. Returns all its values.
function App:expect(name, ...)
  local wanted, count = { ... }, select('#', ...)
  local event = await(self, ("event '%s'"):format(name), function()
    for i, event in ipairs(self.events) do
      if matches(event, name, wanted, count) then return table.remove(self.events, i) end
    end
  end)
  return unpack(event, 2, event.n)
end

--- How many unread events of a name (and first values) have come; does not wait.
function App:count(name, ...)
  self.process:drain()
  take_events(self)
  local number = 0
  for _, event in ipairs(self.events) do
    if matches(event, name, { ... }, select('#', ...)) then number = number + 1 end
  end
  return number
end

--- Names of the unread events, in the order they came; does not wait.
function App:names()
  self.process:drain()
  take_events(self)
  local names = {}
  for _, event in ipairs(self.events) do
    names[#names + 1] = event[1]
  end
  return names
end

--- Waits for a line in the log (stderr) that has `text` in it, and returns that line.
function App:logs(text)
  return await(self, ("log line with '%s'"):format(text), function()
    for line in self.process.err:gmatch '[^\n]+' do
      if line:find(text, 1, true) then return line end
    end
  end)
end

--- How often a text stands in the log by now.
function App:log_count(text)
  self.process:drain()
  local count, first = 0, 1
  while true do
    local _, last = self.process.err:find(text, first, true)
    if not last then return count end
    count, first = count + 1, last + 1
  end
end

--- A client of the port with this index (1), from this address (the kernel's choice).
function App:connect(index, from)
  return client.stream(self.where[index or 1], from)
end

--- A client for datagrams of the port with this index (1).
function App:datagrams(index, own_path)
  return client.datagrams(self.where[index or 1], own_path)
end

--- Signals the process that was started: PROCESS the master, BASE the manager or the only process.
function App:kill(signal)
  return self.process:kill(signal)
end

--- Waits for the end of the process that was started: exit code, or nil and the signal.
function App:wait(seconds)
  return self.process:wait(seconds)
end

--- Orderly shutdown; returns as `wait`, when no process is left.
function App:stop()
  self:kill 'TERM'
  local code, signal = self:wait()
  assert(self.process:is_gone(), 'processes are left')
  take_events(self)
  return code, signal
end

function App:members()
  return self.process:members()
end

function App:is_gone(seconds)
  return self.process:is_gone(seconds)
end

local function new_app(started)
  return setmetatable({ process = started, pid = started.pid, events = {}, where = {} }, App)
end

--- Runs an application (Lua text, see prelude.lua) and waits until its server is up.
-- options: start = false: does not wait; env, cwd; args: more arguments; where: addresses for connect().
function M.boot(mode, source, options)
  options = options or {}
  local prelude = "local srvlua, emit, new_server, run, stall, hold = require 'support.prelude'() "
  local argv = { M.launcher, '-e', prelude .. source, mode }
  for _, argument in ipairs(options.args or {}) do
    argv[#argv + 1] = argument
  end
  local app = new_app(process.start(argv, options))
  if options.start ~= false then
    app.where = app:expect 'start'
    for i, where in pairs(options.where or {}) do
      app.where[i] = where
    end
  end
  return app
end

--- Runs a program of its own: a file with its arguments, or a command that begins with a path.
function M.launch(argv, options)
  return new_app(process.start(argv, options))
end

--- To be given to after_each: nothing that a spec started or made is left, or the spec fails.
function M.cleanup()
  client.cleanup()
  local ok, message = pcall(process.cleanup)
  for _, path in ipairs(directories) do
    remove(path)
  end
  directories = {}
  if not ok then error(message, 0) end
end

return M
