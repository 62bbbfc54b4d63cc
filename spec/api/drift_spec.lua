-- The header, the live objects, the LuaLS definitions and the reference's list of methods say the same. The reference
-- is no part of this tree: where it does not lie next to it, its part is left out.
local support = require 'support'

local REFERENCE = support.root .. '/../shared/reference/methods.md'
local PROTOCOLS = support.root .. '/../shared/reference/protocols.md'

-- What the header calls it where the name does not follow from the method's.
local HEADER_NAMES = {
  listen = 'srvlua_add_listener', exists = 'srvlua_exist', connection_info = 'srvlua_get_client_info',
  connection_list = 'srvlua_get_client_list', tick = 'srvlua_timer_add', after = 'srvlua_timer_add',
  clearTimer = 'srvlua_timer_clear', getLastError = 'srvlua_last_error', getSocket = 'srvlua_port_get_info',
  taskwait = 'srvlua_wait_until', taskWaitMulti = 'srvlua_wait_until', taskCo = 'srvlua_wait_for_task_room',
  finish = 'srvlua_task_finish',
  getCallback = false, -- the binding keeps the values
}

local APP = [[
  local function methods(object)
    local metatable, names = debug.getmetatable(object), {}
    for name, value in pairs(metatable.methods or metatable.__index) do
      if type(value) == 'function' then names[#names + 1] = name end
    end
    return names
  end
  local server = new_server()
  server:on('receive', function() end)
  emit('Server', methods(server))
  emit('Port', methods(server.ports[1]))
  emit('ListenSocket', methods(server:getSocket()))
  emit('Connections', methods(server.connections))
  local fields = {}
  for name, value in pairs(srvlua) do fields[name] = type(value) == 'number' and value or type(value) end
  emit('srvlua', fields)
  local timer = {}
  for name in pairs(srvlua.Timer) do timer[#timer + 1] = name end
  emit('Timer', timer)
  emit('Table', methods(srvlua.Table(1)))
  emit('Atomic', methods(srvlua.Atomic()))
  emit('Long', methods(srvlua.Atomic.Long()))
  emit('Lock', methods(srvlua.Lock()))
  emit('tcp', methods(srvlua.socket.tcp()))
  emit('udp', methods(srvlua.socket.udp()))
  local process = srvlua.Process(print)
  emit('Process', methods(process))
  emit('ProcessSocket', methods(process:exportSocket()))
  local functions = {}
  for name in pairs(srvlua.Process) do functions[#functions + 1] = name end
  emit('ProcessClass', functions)
  emit('Channel', methods(srvlua.Channel()))
  emit('WaitGroup', methods(srvlua.WaitGroup()))
  for _, name in ipairs { 'dns', 'json', 'redis', 'socket', 'coroutine', 'Event' } do
    local functions = {}
    for key, value in pairs(srvlua[name]) do
      if type(value) == 'function' then functions[#functions + 1] = key end
    end
    emit(name, functions)
  end
]]

local function set_of(list)
  local set = {}
  for _, name in ipairs(list) do
    set[name] = true
  end
  return set
end

local function sorted(set)
  local list = {}
  for name in pairs(set) do
    list[#list + 1] = name
  end
  table.sort(list)
  return list
end

-- Functions that a definition file gives to `class`, and aliases of them.
local function defined(file, class)
  local names = {}
  local text = support.read_file(support.root .. '/lua/srvlua/meta/' .. file)
  for name in text:gmatch('\nfunction ' .. class .. '[.:]([%w_]+)%(') do
    names[name] = true
  end
  for name in text:gmatch('\n' .. class .. '%.([%w_]+) = ' .. class) do
    names[name] = true
  end
  return names
end

local function header()
  return support.read_file(support.root .. '/include/srvlua.h')
end

local function declared()
  local names = {}
  for name in header():gmatch 'SRVLUA_API[^;]-[%s%*](srvlua_[%w_]+)%(' do
    names[name] = true
  end
  return names
end

describe('the API', function()
  after_each(support.cleanup)

  local function boot()
    return support.boot('PROCESS', APP, { start = false })
  end

  it('is live as the definitions for editors have it', function()
    local app = boot()
    for class, file in pairs { Server = 'Server.lua', Port = 'Port.lua', ListenSocket = 'Port.lua',
      Connections = 'Port.lua', Timer = 'Timer.lua', Table = 'Table.lua', Atomic = 'Atomic.lua', Long = 'Atomic.lua',
      Lock = 'Lock.lua', dns = 'dns.lua', json = 'json.lua', Process = 'Process.lua', ProcessSocket = 'Process.lua',
      ProcessClass = 'Process.lua', Channel = 'Channel.lua', WaitGroup = 'WaitGroup.lua',
      coroutine = 'coroutine.lua', Event = 'Event.lua', redis = 'redis.lua',
      socket = 'socket.lua', tcp = 'socket.lua', udp = 'socket.lua' } do
      assert.same(sorted(defined(file, class)), sorted(set_of(app:expect(class))), class)
    end
  end)

  it('has the constants and functions that the definitions have', function()
    local fields = boot():expect 'srvlua'
    local text = support.read_file(support.root .. '/lua/srvlua/meta/srvlua.lua')
    local expected = defined('srvlua.lua', 'srvlua')
    for name in text:gmatch '\n%-%-%-@field ([%w_]+)' do
      expected[name] = true
    end
    for _, name in ipairs { 'Timer', 'Table', 'Task', 'Atomic', 'Lock', 'Process', 'dns', 'json', 'socket', 'Channel',
      'WaitGroup', 'coroutine', 'Event', 'redis' } do
      fields[name] = true -- loaded at its first use
    end
    assert.same(sorted(expected), sorted(fields))
  end)

  it('is in the header for hosts in C', function()
    local functions = declared()
    for name in pairs(set_of(boot():expect 'Server')) do
      local c_name = HEADER_NAMES[name]
      if c_name == nil then
        c_name = 'srvlua_' .. name:gsub('%u', function(letter) return '_' .. letter:lower() end)
      end
      if c_name then assert.is_true(functions[c_name], name .. ': the header lacks ' .. c_name) end
    end
  end)

  it('has the codes of the header, each with a text', function()
    local fields = boot():expect 'srvlua'
    local codes, count = {}, 0
    for name, code in header():gmatch 'SRVLUA_(ERROR_[%w_]+) = (%d+)' do
      codes[name] = tonumber(code)
      count = count + 1
    end
    assert.is_true(count > 50)
    for name, code in pairs(codes) do
      assert.equal(code, fields[name], name)
    end
    for name, value in pairs(fields) do
      if name:find '^ERROR_' then assert.equal(codes[name], value, name) end
    end
  end)

  it('has the numbers of the enums of the header', function()
    local fields = boot():expect 'srvlua'
    for name, number in header():gmatch 'SRVLUA_([%w_]+) = (%d+)' do
      if name == 'BASE' or name == 'PROCESS' or name == 'SSL' or name:find '^SOCK_' or name:find '^WORKER_' or
        name:find '^LOG_' then
        assert.equal(tonumber(number), fields[name], name)
      end
    end
  end)

  it('has the events of the header', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local events = {}
      for name in arg[2]:gmatch '%a+' do events[name] = server:on(name, function() end) end
      emit('events', events)
      emit('port', server.ports[1]:on('receive', print), (server.ports[1]:on('workerStart', print)))
    ]], { start = false, args = { (function()
      local names = {}
      for name in header():match('enum srvlua_event {(.-)}'):gmatch 'SRVLUA_ON_([%u_]+)' do
        names[#names + 1] = (name:gsub('_', ''))
      end
      assert.is_true(#names > 25)
      return table.concat(names, ' ')
    end)() } })
    for name, ok in pairs(app:expect 'events') do
      assert.is_true(ok, name)
    end
    app:expect('port', true, false)
  end)

  it('has one version', function()
    local app = support.boot('PROCESS', "emit('version', srvlua.version, srvlua.version_id)", { start = false })
    local version, id = app:expect 'version'
    assert.equal(header():match 'SRVLUA_VERSION "([%d.]+)"', version)
    assert.equal(tonumber(header():match 'SRVLUA_VERSION_ID (%d+)'), id)
    local major, minor, patch = version:match '(%d+)%.(%d+)%.(%d+)'
    assert.equal(major * 10000 + minor * 100 + patch, id)
  end)

  local reference = support.read_file(REFERENCE)
  if reference then
    it('is that of the reference', function()
      local named = {}
      for line in reference:gmatch '[^\n]+' do
        if line:find '^### server:' or line:find '^| `server:' then
          for name in line:gmatch 'server:([%w_]+)%(' do
            named[name] = true
          end
          local alias = line:match 'alias `([%w_:]+)`'
          if alias then named[alias:match '[%w_]+$'] = true end
        end
      end
      for name in support.read_file(PROTOCOLS):gmatch '\n### [%d.]+ `server:([%w_]+)%(' do
        named[name] = true
      end
      assert.is_true(named.start and named.send and named.defer and named.listen)
      assert.same(sorted(named), sorted(set_of(boot():expect 'Server')))
    end)

    it('has the codes of the reference', function()
      local section = reference:match '\n## 2%. Error codes(.-)\n## 3'
      local fields, count = boot():expect 'srvlua', 0
      for code, name in section:gmatch '\n| (%d+) | ([%u_]+) |' do
        assert.equal(tonumber(code), fields['ERROR_' .. name], name)
        count = count + 1
      end
      assert.is_true(count > 20)
    end)
  end
end)
