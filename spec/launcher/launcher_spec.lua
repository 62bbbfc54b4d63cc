local lfs = require 'lfs'
local support = require 'support'

-- Runs the launcher without any paths of the environment.
local function launch(arguments, options)
  options = options or {}
  options.env = { LUA_PATH = false, LUA_CPATH = false }
  local argv = { support.launcher }
  for _, argument in ipairs(arguments) do
    argv[#argv + 1] = argument
  end
  return support.run(argv, options)
end

describe('the launcher', function()
  after_each(support.cleanup)

  it('shows its help and its version', function()
    for _, option in ipairs { '-h', '--help' } do
      local result = launch { option }
      assert.same({ 0, '' }, { result.code, result.err })
      assert.truthy(result.out:find '^usage: srvlua %[options%] app.lua %[args')
    end
    for _, option in ipairs { '-v', '--version' } do
      local result = launch { option }
      assert.same({ 0, '' }, { result.code, result.err })
      assert.truthy(result.out:find '^srvlua %d+%.%d+%.%d+')
    end
  end)

  it('refuses a wrong command line in one line, with status 2', function()
    for _, arguments in ipairs { {}, { '--nonsense' }, { '-x', 'app.lua' }, { '-e' }, { '-e', '', '-e', '' },
      { '--watch', 'x' }, { 'serve' }, { 'ctl', 'file', 'reload' } } do
      local result = launch(arguments)
      assert.same({ 2, '' }, { result.code, result.out }, table.concat(arguments, ' '))
      assert.truthy(result.err:find '^srvlua: [^\n]+\n$', result.err)
    end
  end)

  it('runs a file with its arguments, wherever it is called', function()
    local directory = support.directory()
    support.write_file(directory .. '/app.lua', [[
      print(arg[0], #arg, arg[1], arg[2], select('#', ...), ...)
      print(require 'srvlua'.version, require 'srvlua.core' ~= nil, require 'srvlua.Timer' == require 'srvlua'.Timer)
    ]])
    local result = launch({ 'app.lua', 'one', '--two' }, { cwd = directory })
    assert.same({ 0, '' }, { result.code, result.err })
    local first, second = result.out:match '([^\n]*)\n([^\n]*)\n$'
    assert.equal('app.lua\t2\tone\t--two\t2\tone\t--two', first)
    assert.truthy(second:find '^%d+%.%d+%.%d+\ttrue\ttrue$')
  end)

  it('runs a chunk, and standard input', function()
    local result = launch { '-e', 'print(arg[1], arg[2], ...)', 'one', 'two' }
    assert.same({ 0, 'one\ttwo\tone\ttwo\n' }, { result.code, result.out })
    local path = support.write_file(support.directory() .. '/in', 'print(arg[0], arg[1])')
    result = launch({ '-', 'one' }, { stdin = path })
    assert.same({ 0, '-\tone\n' }, { result.code, result.out })
  end)

  it('takes a file behind -- whatever its name', function()
    local directory = support.directory()
    support.write_file(directory .. '/-e', 'print "the file"')
    assert.equal('the file\n', launch({ '--', '-e' }, { cwd = directory }).out)
  end)

  it('shows a Lua error with its traceback, status 1', function()
    local path = support.write_file(support.directory() .. '/app.lua', [[
      local function deeper() error 'went wrong' end
      print 'before'
      deeper()
    ]])
    local result = launch { path }
    assert.same({ 1, 'before\n' }, { result.code, result.out })
    assert.truthy(result.err:find(path .. ':1: went wrong', 1, true), result.err)
    assert.truthy(result.err:find 'stack traceback:')
    assert.truthy(result.err:find(path .. ':3:', 1, true))

    result = launch { '-e', "error(setmetatable({}, { __tostring = function() return 'an object' end }))" }
    assert.equal(1, result.code)
    assert.truthy(result.err:find 'an object')
    result = launch { '-e', "require 'srvlua'.Server('192.0.2.77', 1)" }
    assert.equal(1, result.code)
    assert.truthy(result.err:find 'stack traceback:')
    result = launch { '-e', 'error()' }
    assert.equal(1, result.code)
    result = launch { '-e', 'this is no Lua' }
    assert.equal(1, result.code)
    assert.truthy(result.err:find 'command line')
  end)

  it('says in one line that a file is missing, status 1', function()
    for _, path in ipairs { '/no/such/app.lua', support.directory() } do
      local result = launch { path }
      assert.same({ 1, '' }, { result.code, result.out })
      assert.truthy(result.err:find(path, 1, true), result.err)
    end
    local result = launch { '/no/such/app.lua' }
    assert.truthy(result.err:find '^[^\n]+\n$', result.err)
  end)

  it('ends with the status of os.exit', function()
    assert.equal(7, launch({ '-e', 'os.exit(7)' }).code)
    assert.equal(0, launch({ '-e', 'os.exit()' }).code)
    assert.equal(0, launch({ '-e', '' }).code)
  end)

  it('checks an app without starting it', function()
    local directory = support.directory()
    local function check(option, source)
      support.write_file(directory .. '/app.lua', "local srvlua = require 'srvlua' " .. source)
      return launch({ option, 'app.lua' }, { cwd = directory })
    end
    for _, option in ipairs { '-c', '--check' } do
      local result = check(option, [[
        local server = srvlua.Server('127.0.0.1', 0)
        server:set { pid_file = 'pid', daemonize = true }
        server:on('receive', function() end)
        server:on('start', function() print 'started' end)
        server:start()
        print 'after'
      ]])
      assert.same({ 0, 'app.lua: ok\n', '' }, { result.code, result.out, result.err })
      assert.is_nil(support.read_file(directory .. '/pid'))
    end
    assert.equal('app.lua: ok\n', check('-c', '').out)

    local result = check('-c', "local server = srvlua.Server('127.0.0.1', 0) server:start() print 'after'")
    assert.same({ 1, '' }, { result.code, result.out })
    assert.truthy(result.err:find '^app.lua: .*receive', result.err)
    result = check('-c', "srvlua.Server('127.0.0.1', 0):set { backlog = 0 }")
    assert.equal(1, result.code)
    assert.truthy(result.err:find 'backlog')
    result = check('-c', 'syntax error')
    assert.equal(1, result.code)
  end)

  it('leaves no socket files behind when it checks, and those of a running server alone', function()
    local directory = support.directory()
    local source = [[
      local srvlua = require 'srvlua'
      local server = srvlua.Server('first', 0, srvlua.PROCESS, srvlua.SOCK_UNIX_STREAM)
      assert(server:addListener('second', 0, srvlua.SOCK_UNIX_STREAM))
      assert(server:addListener('127.0.0.1', tonumber(arg[1]), srvlua.SOCK_TCP))
      server:on('receive', function(_, fd, _, data) server:send(fd, data) end)
      server:on('start', function() print 'started' end)
      server:start()
    ]]
    support.write_file(directory .. '/app.lua', source)
    local function check(port) return launch({ '-c', 'app.lua', port }, { cwd = directory }) end
    assert.equal('app.lua: ok\n', check(0).out)
    assert.is_nil(lfs.attributes(directory .. '/first'))
    assert.is_nil(lfs.attributes(directory .. '/second'))
    local port = support.free_ports(1)
    local app = support.launch({ support.launcher, 'app.lua', port }, { cwd = directory })
    app:expect('print', 'started')
    local result = check(port)
    assert.same({ 0, 'app.lua: ok\n', '' }, { result.code, result.out, result.err })
    assert.equal('hello', support.stream(directory .. '/second'):echo 'hello')
  end)

  it('does not mind a taken address when it checks', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      server:on('receive', function() end)
      run(server)
    ]])
    local result = launch { '-c', '-e', ([[
      local server = require 'srvlua'.Server('127.0.0.1', %d)
      server:on('receive', function() end)
      server:start()
    ]]):format(app.where[1]) }
    assert.same({ 0, '' }, { result.code, result.err })
  end)
end)
