--- Processes that a spec starts: each in a session of its own, with its output in pipes and a deadline on all waiting.
-- A process is known with everything that descends from it, also what went to the background, by its session and by a
-- variable in its environment.

local ffi = require 'ffi'
local lfs = require 'lfs'

-- busted loads this file anew for each spec file, while C declarations stay.
if not pcall(ffi.typeof, 'struct spec_pollfd') then
  ffi.cdef [[
    struct spec_pollfd { int fd; short events, revents; };
    struct spec_time { long seconds, nanoseconds; };
    extern char **environ;
    int poll(struct spec_pollfd *fds, unsigned long count, int timeout);
    int pipe2(int ends[2], int flags);
    int close(int fd);
    long read(int fd, void *buffer, size_t size);
    int kill(int pid, int signal);
    int waitpid(int pid, int *status, int options);
    int clock_gettime(int clock, struct spec_time *time);
    char *strerror(int number);
    int posix_spawnp(int *pid, const char *file, const void *actions, const void *attributes, const char *const *argv,
                     const char *const *environment);
    int posix_spawn_file_actions_init(void *actions);
    int posix_spawn_file_actions_destroy(void *actions);
    int posix_spawn_file_actions_addopen(void *actions, int fd, const char *path, int flags, unsigned mode);
    int posix_spawn_file_actions_adddup2(void *actions, int from, int to);
    int posix_spawn_file_actions_addchdir_np(void *actions, const char *path);
    int posix_spawnattr_init(void *attributes);
    int posix_spawnattr_destroy(void *attributes);
    int posix_spawnattr_setflags(void *attributes, short flags);
    int posix_spawnattr_setsigdefault(void *attributes, const unsigned long *signals);
  ]]
end
local C = ffi.C

local POLLIN, O_CLOEXEC, WNOHANG = 1, 0x80000, 1
local POSIX_SPAWN_SETSIGDEF, POSIX_SPAWN_SETSID = 0x04, 0x80
local TOKEN = 'SRVLUA_SPEC_PROCESS'

local M = {}

M.signals = {
  HUP = 1, INT = 2, ABRT = 6, KILL = 9, USR1 = 10, SEGV = 11, USR2 = 12, PIPE = 13, ALRM = 14, TERM = 15,
  CONT = 18, STOP = 19,
}

-- Seconds to wait for what should come at once. Sanitised programs take their time.
M.deadline = os.getenv 'SRVLUA_SANITIZER' and 40 or 10

local function check(result, what)
  if result < 0 then error(what .. ': ' .. ffi.string(C.strerror(ffi.errno())), 3) end
  return result
end

--- Seconds on a clock that only goes forward.
function M.now()
  local time = ffi.new 'struct spec_time'
  C.clock_gettime(1, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

--- Calls `attempt` until it returns something true, which is returned; nil after the deadline. `pause` seconds lie
-- between two tries: only for what cannot be waited for in any other way.
function M.eventually(attempt, seconds, pause)
  local last = M.now() + (seconds or M.deadline)
  while true do
    local result = attempt()
    if result then return result end
    if M.now() > last then return nil end
    C.poll(nil, 0, (pause or 0.005) * 1000)
  end
end

-- ------------------------------------------------------------------------------------------------------- /proc

local function read_file(path)
  local file = io.open(path, 'rb')
  if not file then return nil end
  local text = file:read '*a'
  file:close()
  return text
end

--- What /proc says of a process: { pid, parent, session, state, name }, or nil if there is none.
function M.info(pid)
  local text = read_file('/proc/' .. pid .. '/stat')
  if not text then return nil end
  local name, state, parent, session = text:match '%((.*)%) (%a) (%d+) %d+ (%d+)'
  if not name then return nil end
  return { pid = pid, name = name, state = state, parent = tonumber(parent), session = tonumber(session) }
end

--- Whether a process is there; one that nobody has waited for yet is not.
function M.is_alive(pid)
  local info = M.info(pid)
  return info ~= nil and info.state ~= 'Z' and info.state ~= 'X'
end

--- The title of a process, as ps shows it.
function M.title(pid)
  return ((read_file('/proc/' .. pid .. '/cmdline') or ''):gsub('%z+$', ''):gsub('%z', ' '))
end

--- Number of open descriptors of a process.
function M.descriptors(pid)
  local count = 0
  for name in lfs.dir('/proc/' .. pid .. '/fd') do
    if name:find '^%d' then count = count + 1 end
  end
  return count
end

--- Sends a signal, by name or number, to a process id.
function M.kill(pid, signal)
  assert(pid > 1)
  return C.kill(pid, M.signals[signal] or signal) == 0
end

-- --------------------------------------------------------------------------------------------------- a process

local Process = {}
Process.__index = Process

local started = {}
local count = 0

-- A vector for exec; the strings must be held by the caller.
local function vector(strings)
  local array = ffi.new('const char *[?]', #strings + 1)
  for i, text in ipairs(strings) do
    array[i - 1] = text
  end
  return array
end

local function environment(changes)
  local list, index = {}, 0
  while C.environ[index] ~= nil do
    local entry = ffi.string(C.environ[index])
    if changes[entry:match '^[^=]*'] == nil then list[#list + 1] = entry end
    index = index + 1
  end
  for name, value in pairs(changes) do
    if value then list[#list + 1] = name .. '=' .. value end
  end
  return list
end

local function pipe()
  local ends = ffi.new 'int[2]'
  check(C.pipe2(ends, O_CLOEXEC), 'pipe')
  return ends[0], ends[1]
end

--- Starts a program. options: env (name → text, or false to take it away), cwd, stdin (a path; /dev/null).
function M.start(argv, options)
  options = options or {}
  count = count + 1
  local self = setmetatable({ out = '', err = '', token = ('%d.%d.%f'):format(count, os.time(), M.now()) }, Process)
  local env = { [TOKEN] = self.token }
  for name, value in pairs(options.env or {}) do
    env[name] = value
  end

  local actions, attributes, pid = ffi.new 'char[512]', ffi.new 'char[512]', ffi.new 'int[1]'
  local out, out_write = pipe()
  local err, err_write = pipe()
  C.posix_spawn_file_actions_init(actions)
  C.posix_spawnattr_init(attributes)
  C.posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSID + POSIX_SPAWN_SETSIGDEF)
  -- LuaSocket has this process ignore SIGPIPE, which programs would inherit.
  C.posix_spawnattr_setsigdefault(attributes, ffi.new('unsigned long[16]', bit.lshift(1, M.signals.PIPE - 1)))
  C.posix_spawn_file_actions_addopen(actions, 0, options.stdin or '/dev/null', 0, 0)
  C.posix_spawn_file_actions_adddup2(actions, out_write, 1)
  C.posix_spawn_file_actions_adddup2(actions, err_write, 2)
  if options.cwd then C.posix_spawn_file_actions_addchdir_np(actions, options.cwd) end
  local arguments, variables = {}, environment(env)
  for i, argument in ipairs(argv) do
    arguments[i] = tostring(argument)
  end
  local result = C.posix_spawnp(pid, argv[1], actions, attributes, vector(arguments), vector(variables))
  C.posix_spawnattr_destroy(attributes)
  C.posix_spawn_file_actions_destroy(actions)
  C.close(out_write)
  C.close(err_write)
  self.pipes = { out = out, err = err }
  self.pid = pid[0]
  if result ~= 0 then
    self:close_pipes()
    error(argv[1] .. ': ' .. ffi.string(C.strerror(result)), 2)
  end
  started[#started + 1] = self
  return self
end

function Process:close_pipes()
  for name, fd in pairs(self.pipes) do
    C.close(fd)
    self.pipes[name] = nil
  end
end

local chunk = ffi.new 'char[65536]'

--- Takes in what was written, waiting up to `seconds` for something. False if nothing came; a pipe that all writers
-- have closed is taken out of `pipes`.
function Process:pump(seconds)
  local names = {}
  local polled = ffi.new('struct spec_pollfd[2]')
  for name, fd in pairs(self.pipes) do
    polled[#names].fd, polled[#names].events = fd, POLLIN
    names[#names + 1] = name
  end
  if C.poll(polled, #names, math.max(0, seconds) * 1000) <= 0 then return false end
  for i, name in ipairs(names) do
    if polled[i - 1].revents ~= 0 then
      local length = tonumber(C.read(self.pipes[name], chunk, 65536))
      if length <= 0 then
        C.close(self.pipes[name])
        self.pipes[name] = nil
      else
        self[name] = self[name] .. ffi.string(chunk, length)
      end
    end
  end
  return true
end

--- Takes in everything that was written up to now; gives up after the deadline on a process that writes without end.
function Process:drain()
  local last
  while self:pump(0) do
    last = last or M.now() + M.deadline
    if M.now() > last then return end
  end
end

--- Takes in what all of them have written: who waits for something else calls it now and then, because a process that
-- writes much would stop at a full pipe (which may hold as little as one page).
function M.pump_all()
  for _, process in ipairs(started) do
    process:drain()
  end
end

--- Looks at the process's end without waiting: exit code, or nil and the signal; nothing while it runs.
function Process:ended()
  if not self.status then
    local status = ffi.new 'int[1]'
    if C.waitpid(self.pid, status, WNOHANG) ~= self.pid then return false end
    self.status = status[0]
  end
  local signal = bit.band(self.status, 127)
  if signal ~= 0 then return true, nil, signal end
  return true, bit.rshift(self.status, 8)
end

--- Waits for its end: exit code, or nil and the signal that ended it. What it wrote is in `out` and `err`.
function Process:wait(seconds)
  local is_over = M.eventually(function()
    self:drain()
    return (self:ended())
  end, seconds)
  if not is_over then
    error(('process %d did not end\nout: %s\nerr: %s'):format(self.pid, self.out:sub(-2000), self.err:sub(-4000)), 2)
  end
  self:drain()
  return select(2, self:ended())
end

--- Pids of what is left of it and its descendants, ascending.
function Process:members()
  local pids = {}
  for name in lfs.dir '/proc' do
    local pid = tonumber(name)
    local info = pid and M.info(pid)
    if info and info.state ~= 'Z' and info.state ~= 'X' then
      local is_ours = info.session == self.pid
      if not is_ours then
        local env = read_file('/proc/' .. name .. '/environ')
        is_ours = env ~= nil and env:find(TOKEN .. '=' .. self.token, 1, true) ~= nil
      end
      if is_ours then pids[#pids + 1] = pid end
    end
  end
  table.sort(pids)
  return pids
end

--- Waits until nothing is left of it; false after the deadline.
function Process:is_gone(seconds)
  return M.eventually(function()
    self:drain()
    self:ended()
    return #self:members() == 0
  end, seconds, 0.01) or false
end

--- Sends a signal to the process that was started.
function Process:kill(signal)
  return M.kill(self.pid, signal)
end

--- Ends everything that was started since the last call; raises if something did not end by itself when asked to, or if
-- a program crashed.
function M.cleanup()
  local complaints = {}
  for _, process in ipairs(started) do
    if not process:ended() then process:kill 'TERM' end
    if not process:is_gone() then
      for _, pid in ipairs(process:members()) do
        complaints[#complaints + 1] = ('process %d (%s) had to be killed'):format(pid, M.title(pid))
        M.kill(pid, 'KILL')
      end
      process:is_gone()
    end
    local _, _, signal = process:ended()
    if signal == M.signals.SEGV or signal == M.signals.ABRT then
      complaints[#complaints + 1] = ('process %d crashed: signal %d'):format(process.pid, signal)
    end
    if #complaints > 0 then complaints[#complaints + 1] = process.err:sub(-4000) end
    process:close_pipes()
  end
  started = {}
  if #complaints > 0 then error(table.concat(complaints, '\n'), 2) end
end

--- Runs a program to its end: { code, signal, out, err }.
function M.run(argv, options)
  local process = M.start(argv, options)
  local code, signal = process:wait(options and options.seconds)
  return { code = code, signal = signal, out = process.out, err = process.err }
end

return M
