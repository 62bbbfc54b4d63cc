--- `require 'srvlua'`: constants, small functions, `srvlua.Server`, and one field per module, loaded at its first use.
-- The C part is `srvlua.core`: part of the launcher, or core.so beside a stock luajit.

local core = require 'srvlua.core'

-- fields that are modules of their own
local modules = {
  Atomic = 'srvlua.Atomic',
  Channel = 'srvlua.Channel',
  Event = 'srvlua.Event',
  Lock = 'srvlua.Lock',
  Process = 'srvlua.Process',
  Table = 'srvlua.Table',
  Task = 'srvlua.Task',
  Timer = 'srvlua.Timer',
  WaitGroup = 'srvlua.WaitGroup',
  coroutine = 'srvlua.coroutine',
  dns = 'srvlua.dns',
  json = 'srvlua.json',
  redis = 'srvlua.redis',
  socket = 'srvlua.socket',
}

local srvlua = {
  Server = core.Server,
  getpid = core.getpid,
  go = core.go,
  hrtime = core.hrtime,
  now = core.now,
  run = core.run,
  setProcessName = core.setProcessName,
  sleep = core.sleep,
  strerror = core.strerror,
  version = core.version,
  version_id = core.version_id,
}
for name, number in pairs(core.constants) do
  srvlua[name] = number
end

--- One line through the server's log, values joined as `print` does.
function srvlua.log(level, ...)
  local parts = { ... }
  for i = 1, select('#', ...) do
    parts[i] = tostring(parts[i])
  end
  return core.log(level, table.concat(parts, '\t'))
end

--- Names of the modules that workers inherit, and so a reload cannot refresh: those loaded when `start()` was called.
function srvlua.inheritedModules()
  local names = {}
  for name in pairs(core.loadedModules()) do
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

--- Loads them all, but for those that lack a library: called by `start()` where processes will not find them later.
function core.loadModules()
  for name in pairs(modules) do
    pcall(function() return srvlua[name] end)
  end
end

return setmetatable(srvlua, {
  __index = function(self, name)
    local module_name = modules[name]
    if module_name then
      local module = require(module_name)
      rawset(self, name, module)
      return module
    end
  end,
})
