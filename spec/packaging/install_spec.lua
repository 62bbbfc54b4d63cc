local support = require 'support'

-- As a stock interpreter would be started: nothing of this tree in its environment but what is given.
local function bare(changes)
  local env = { LUA_PATH = false, LUA_CPATH = false, LD_LIBRARY_PATH = false }
  for name, value in pairs(changes or {}) do
    env[name] = value
  end
  return env
end

local function install(variables)
  local argv = { 'make', '-s', '-C', support.root, 'install', 'BUILD=' .. support.build }
  for _, variable in ipairs(variables) do
    argv[#argv + 1] = variable
  end
  local result = support.run(argv, { seconds = 120 })
  assert.equal(0, result.code, result.err)
end

local function exists(path)
  return support.read_file(path) ~= nil
end

-- Names of the functions that a library exports.
local function exports(path)
  local names = {}
  for name in support.run({ 'nm', '-D', '--defined-only', path }).out:gmatch ' (%S+)\n' do
    names[name] = true
  end
  return names
end

-- Serves one echo from `argv` (a program that runs an app) and ends it.
local function serves(argv, env)
  local app = support.launch(argv, { env = env, cwd = '/' })
  local port = app:expect('print'):match ':(%d+)$'
  assert.equal('hello', support.stream(tonumber(port)):echo 'hello')
  assert.equal(0, app:stop())
end

local function write_app(directory)
  return support.write_file(directory .. '/app.lua', [[
    local srvlua = require 'srvlua'
    local server = srvlua.Server('127.0.0.1', 0, srvlua[arg[1] ])
    server:on('start', function() io.stdout:write(':', server.port, '\n') io.stdout:flush() end)
    server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
    assert(server:start())
  ]])
end

describe('make install', function()
  after_each(support.cleanup)

  it('puts everything below DESTDIR and PREFIX', function()
    local directory = support.directory()
    install { 'DESTDIR=' .. directory, 'PREFIX=/opt/x' }
    local prefix = directory .. '/opt/x/'
    for _, path in ipairs { 'bin/srvlua', 'include/srvlua.h', 'lib/libsrvlua.a', 'lib/libsrvlua.so',
      'lib/pkgconfig/srvlua.pc', 'lib/lua/5.1/srvlua/core.so', 'share/lua/5.1/srvlua/init.lua',
      'share/lua/5.1/srvlua/Timer.lua', 'share/lua/5.1/srvlua/meta/Server.lua' } do
      assert.is_true(exists(prefix .. path), path)
    end
    local pc = support.read_file(prefix .. 'lib/pkgconfig/srvlua.pc')
    assert.truthy(pc:find '\nlibdir=/opt/x/lib\n')
    assert.falsy(pc:find(directory, 1, true))
    assert.falsy(pc:find '@')
  end)

  it('gives a launcher that finds its modules, and a module for a stock luajit', function()
    local directory = support.directory()
    install { 'PREFIX=' .. directory }
    local app = write_app(directory)
    for _, mode in ipairs { 'PROCESS', 'BASE' } do
      serves({ directory .. '/bin/srvlua', app, mode }, bare())
    end
    local result = support.run({ directory .. '/bin/srvlua', '-e', "require('srvlua.compat.ngx').install() " ..
      "io.write(require('srvlua').json.encode { ngx.md5 'abc', ngx.null })" }, { env = bare(), cwd = '/' })
    assert.equal('["900150983cd24fb0d6963f7d28e17f72",null]', result.out, result.err)
    if support.sanitizer then return end -- a stock interpreter cannot load a sanitised module
    local env = bare { LUA_PATH = directory .. '/share/lua/5.1/?.lua;' .. directory .. '/share/lua/5.1/?/init.lua',
                       LUA_CPATH = directory .. '/lib/lua/5.1/?.so' }
    for _, mode in ipairs { 'PROCESS', 'BASE' } do
      serves({ 'luajit', app, mode }, env)
    end
  end)

  if not support.sanitizer then
    it('lets a C host build by pkg-config, against either library', function()
      local directory = support.directory()
      install { 'PREFIX=' .. directory }
      local env = bare { PKG_CONFIG_PATH = directory .. '/lib/pkgconfig', LD_LIBRARY_PATH = directory .. '/lib' }
      local source = support.root .. '/examples/embed/echo.c'
      for kind, command in pairs {
        shared = 'cc %s $(pkg-config --cflags --libs srvlua) -o %s',
        static = 'cc %s $(pkg-config --cflags srvlua) ' .. directory .. '/lib/libsrvlua.a ' ..
          '$(pkg-config --static --libs-only-l srvlua | sed s/-lsrvlua//) -o %s',
      } do
        local program = directory .. '/' .. kind
        local result = support.run({ 'sh', '-c', command:format(source, program) }, { env = env, seconds = 60 })
        assert.equal(0, result.code, result.err)
        serves({ program, 0, 'PROCESS' }, env)
      end
    end)
  end
end)

describe('the libraries', function()
  after_each(support.cleanup)

  it('export what the header declares, and nothing else', function()
    local declared = {}
    local header = support.read_file(support.root .. '/include/srvlua.h')
    for name in header:gmatch 'SRVLUA_API[^;]-[%s%*](srvlua_[%w_]+)%(' do
      declared[name] = true
    end
    assert.is_true(declared.srvlua_new and declared.srvlua_start and declared.srvlua_strerror)
    local exported = exports(support.build .. '/libsrvlua.so')
    for name in pairs(declared) do
      assert.is_true(exported[name], name .. ' is not exported')
    end
    for name in pairs(exported) do
      local is_tools = support.sanitizer and not name:find '^srvlua_'
      assert.is_true(declared[name] or is_tools, name .. ' is not declared')
    end
  end)

  if not support.sanitizer then
    it('give the Lua module one function to export', function()
      assert.same({ luaopen_srvlua_core = true }, exports(support.build .. '/lua/srvlua/core.so'))
    end)
  end
end)

-- LuaRocks builds where the rockspec is, so it gets a copy, with what is built so that it has little to do.
if not support.sanitizer then
  describe('luarocks make', function()
    after_each(support.cleanup)

    it('gives the command and the module in an empty tree', function()
      local directory = support.directory()
      local copy = ('cd %s && cp -a Makefile src include lua rockspec srvlua.pc.in %s/ && mkdir -p %s/build && ' ..
        'cp -a %s/obj %s/build/'):format(support.root, directory, directory, support.build, directory)
      local result = support.run { 'sh', '-c', copy }
      assert.equal(0, result.code, result.err)
      local tree = directory .. '/tree'
      local argv = { 'luarocks', '--lua-version=5.1', '--tree', tree, 'make', 'rockspec/srvlua-scm-1.rockspec' }
      result = support.run(argv, { cwd = directory, env = bare(), seconds = 180 })
      assert.equal(0, result.code, result.out .. result.err)

      local app = write_app(directory)
      serves({ tree .. '/bin/srvlua', app, 'PROCESS' }, bare())
      local env = bare { LUA_PATH = tree .. '/share/lua/5.1/?.lua;' .. tree .. '/share/lua/5.1/?/init.lua',
                         LUA_CPATH = tree .. '/lib/lua/5.1/?.so' }
      serves({ 'luajit', app, 'BASE' }, env)
      assert.is_false(exists(tree .. '/lib/libsrvlua.so'))
    end)
  end)
end
