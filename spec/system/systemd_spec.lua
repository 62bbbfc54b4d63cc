local ffi = require 'ffi'
local unix = require 'socket.unix'
local support = require 'support'

if not pcall(ffi.typeof, 'struct spec_sockaddr_un') then
  ffi.cdef [[
    struct spec_sockaddr_un { unsigned short family; char path[108]; };
    int bind(int fd, const struct spec_sockaddr_un *address, unsigned length);
  ]]
end

-- A service manager's socket; names that begin with @ are in no file system, and LuaSocket does not know those.
local function manager_socket(name)
  local sock = assert(unix.dgram())
  if name:find '^@' then
    local address = ffi.new('struct spec_sockaddr_un', 1, '\0' .. name:sub(2))
    assert(ffi.C.bind(sock:getfd(), address, 2 + #name) == 0)
  else
    assert(sock:bind(name))
  end
  sock:settimeout(10)
  return sock
end

-- The next message, as a table of its lines.
local function message(sock)
  local text = assert(sock:receive())
  local lines = {}
  for name, value in text:gmatch '([%w_]+)=([^\n]*)' do
    lines[name] = value
  end
  return lines, text
end

local function pass(line)
  return function(sock)
    local _, text = message(sock)
    assert.equal(line, text)
  end
end
local ready, stopping = pass 'READY=1', pass 'STOPPING=1'

local SOURCE = [[
  local names = { 'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'LISTEN_FDS', 'LISTEN_PID' }
  local function variables()
    local found = {}
    for i, name in ipairs(names) do found[i] = os.getenv(name) or '-' end
    local pipe = io.popen 'env'
    found[#found + 1] = pipe:read('*a'):match 'NOTIFY_SOCKET' or '-'
    pipe:close()
    return table.concat(found, ' ')
  end
  local server = new_server { worker_num = tonumber(arg[2]) or 1, max_request = arg[2] and 1000 or 0 }
  server:on('receive', function(s, fd, _, data)
    if data:find '^reload' then s:reload() end
    if data:find '^variables' then s:send(fd, variables() .. '\n') end
  end)
  server:on('afterReload', function() emit 'reloaded' end)
]]

describe('the service manager', function()
  local path, sock

  before_each(function()
    path = support.directory() .. '/notify'
    sock = manager_socket(path)
  end)
  after_each(function()
    sock:close()
    support.cleanup()
  end)

  -- two workers with a manager, and in BASE mode also one process alone
  local function in_all_shapes(declare)
    support.in_both_modes(function(mode)
      declare(mode, '2', mode .. ' mode')
    end)
    declare('BASE', nil, 'BASE mode with one process')
  end

  in_all_shapes(function(mode, workers, shape)
    describe('of a server in ' .. shape, function()
      local function boot(env, on_start)
        env.NOTIFY_SOCKET = env.NOTIFY_SOCKET or path
        local source = SOURCE .. 'run(server, ' .. (on_start or 'nil') .. ')'
        return support.boot(mode, source, { env = env, args = { workers }, start = not on_start })
      end

      it('is told when it is up and when it ends', function()
        local app = boot {}
        ready(sock)
        app:kill 'TERM'
        stopping(sock)
        assert.equal(0, app:wait())
        sock:settimeout(0)
        assert.is_nil((sock:receive()))
      end)

      it('is told that it is up after the start callback, not before', function()
        local app = boot({}, [[function()
          emit 'starting'
          local last = srvlua.now() + 0.3
          while srvlua.now() < last do end
        end]])
        app:expect 'starting'
        sock:settimeout(0.1)
        assert.is_nil((sock:receive()))
        sock:settimeout(10)
        ready(sock)
        assert.equal(0, app:stop())
      end)

      it('is fed at half the time of the watchdog', function()
        local app = boot { WATCHDOG_USEC = '200000' }
        ready(sock)
        local first = support.now()
        for _ = 1, 5 do
          local _, text = message(sock)
          assert.equal('WATCHDOG=1', text)
        end
        local took = support.now() - first
        assert.is_true(took > 0.3 and took < 2, took .. ' s for 5 messages')
        app:kill 'TERM'
        assert.equal(0, app:wait())
      end)

      it('is not fed by a process whose watchdog is another one', function()
        local app = boot { WATCHDOG_USEC = '20000', WATCHDOG_PID = '1' }
        ready(sock)
        sock:settimeout(0.3)
        assert.is_nil((sock:receive()))
        app:kill 'TERM'
        sock:settimeout(10)
        stopping(sock)
        assert.equal(0, app:wait())
      end)

      it('may have a socket in no file system', function()
        local name = '@srvlua-spec-' .. path
        local other = manager_socket(name)
        local app = boot { NOTIFY_SOCKET = name }
        ready(other)
        assert.equal(0, app:stop())
        stopping(other)
        other:close()
      end)

      it('is nobody else\'s business: children do not find its variables', function()
        local app = boot { WATCHDOG_USEC = '60000000' }
        local client = app:connect()
        client:send 'variables\n'
        assert.equal('- - - - - -', client:line())
        assert.equal(0, app:stop())
      end)

      if workers then
        it('is told of reloads', function()
          local app = boot {}
          ready(sock)
          app:kill 'USR1'
          local reloading = message(sock)
          assert.equal('1', reloading.RELOADING)
          local now_usec = support.now() * 1e6
          local told = tonumber(reloading.MONOTONIC_USEC)
          assert.is_true(told > now_usec - 5e6 and told <= now_usec, reloading.MONOTONIC_USEC)
          ready(sock)
          app:expect 'reloaded'
          assert.equal(0, app:stop())
          stopping(sock)
        end)
      end

      it('learns the main process from a server that goes to the background', function()
        local app = support.boot(mode, SOURCE .. [[
          server:set { daemonize = true }
          server:start()
        ]], { env = { NOTIFY_SOCKET = path }, args = { workers }, start = false })
        local lines = message(sock)
        assert.equal('1', lines.READY)
        local pid = tonumber(lines.MAINPID)
        assert.not_equal(app.pid, pid)
        assert.equal(0, app:wait())
        assert.is_true(support.is_alive(pid))
        support.kill(pid, 'TERM')
        stopping(sock)
        assert.is_true(app:is_gone())
      end)

      it('is done without where its socket is not there, with one warning', function()
        local app = boot { NOTIFY_SOCKET = path .. '-none', WATCHDOG_USEC = '20000' }
        app:logs 'NOTIFY_SOCKET'
        assert.equal(0, app:stop())
        assert.equal(1, app:log_count 'NOTIFY_SOCKET')
      end)
    end)
  end)
end)

describe('inherited sockets', function()
  after_each(support.cleanup)

  local prelude = "local srvlua, emit, new_server, run = require 'support.prelude'() "
  local source = prelude .. [==[
    local ok, server = pcall(srvlua.Server, 'SYSTEMD', 0, srvlua[arg[1]])
    if not ok then emit('refused', server.code, tostring(server)) return end
    server:set { worker_num = 2 }
    server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
    server:on('packet', function(s, data, from)
      if from.port then
        s:sendto(from.address, from.port, data, from.server_socket)
      else
        s:send(from.address, data, from.server_socket)
      end
    end)
    local ports = {}
    for i, port in ipairs(server.ports) do ports[i] = { host = port.host, port = port.port, type = port.type } end
    emit('ports', ports, { host = server.host, port = server.port, type = server.type })
    server:on('start', function() emit('up', os.getenv 'LISTEN_FDS') end)
    emit('returned', server:start())
  ]==]

  local function launch(mode, kinds, text)
    local argv = { '/usr/bin/python3', support.root .. '/spec/support/activate.py' }
    for _, kind in ipairs(kinds) do
      argv[#argv + 1] = kind
    end
    for _, word in ipairs { '--', support.launcher, '-e', text or source, mode } do
      argv[#argv + 1] = word
    end
    local app = support.launch(argv)
    app.where = app:expect 'sockets'
    return app, app:expect 'program'
  end

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('become ports in their order, each of its type', function()
        local directory = support.directory()
        local unix_kinds = { stream = 'unix:' .. directory .. '/stream', dgram = 'dgram:' .. directory .. '/dgram' }
        local app, pid = launch(mode, { 'tcp', 'udp', 'tcp6', unix_kinds.stream, unix_kinds.dgram })
        app.where[3] = { '::1', app.where[3] }
        app.where[4], app.where[5] = directory .. '/stream', directory .. '/dgram'
        local ports, server = app:expect 'ports'
        assert.same({
          { host = '127.0.0.1', port = app.where[1], type = 1 },
          { host = '127.0.0.1', port = app.where[2], type = 2 },
          { host = '::1', port = app.where[3][2], type = 3 },
          { host = directory .. '/stream', port = 0, type = 5 },
          { host = directory .. '/dgram', port = 0, type = 6 },
        }, ports)
        assert.same(ports[1], server)
        assert.is_nil((app:expect 'up'))
        for _, i in ipairs { 1, 3, 4 } do
          assert.equal('hello', app:connect(i):echo 'hello')
        end
        for _, i in ipairs { 2, 5 } do
          local client = app:datagrams(i, i == 5 and directory .. '/client' or nil)
          client:send 'hello'
          assert.equal('hello', client:receive())
        end
        support.kill(pid, 'TERM')
        assert.equal(0, (app:expect 'ended'))
      end)

      it('outlive the server: they still listen, and unix files stay', function()
        local directory = support.directory()
        local app, pid = launch(mode, { 'tcp', 'unix:' .. directory .. '/stream' })
        app.where[2] = directory .. '/stream'
        app:expect 'up'
        assert.equal('x', app:connect(1):echo 'x')
        support.kill(pid, 'TERM')
        assert.equal(0, (app:expect 'ended'))
        assert.same({ true }, { app:expect 'returned' })
        app:connect(1) -- raises if nobody listens
        app:connect(2)
        assert.equal(0, app:stop())
      end)

      it('may begin elsewhere (LISTEN_FDS_START), and may be in no file system', function()
        local name = ('srvlua-spec-%d'):format(support.now() * 1e6)
        local app, pid = launch(mode, { '--start', '20', 'tcp', 'abstract:' .. name })
        local ports = app:expect 'ports'
        assert.equal('@' .. name, ports[2].host)
        app:expect 'up'
        assert.equal('x', app:connect(1):echo 'x')
        local client = ([[import socket
s = socket.socket(socket.AF_UNIX)
s.connect(b'\0%s')
s.send(b'hello')
print(s.recv(99))]]):format(name)
        assert.equal("b'hello'\n", support.run({ '/usr/bin/python3', '-c', client }).out)
        support.kill(pid, 'TERM')
        assert.equal(0, (app:expect 'ended'))
      end)

      it('are left out where they cannot be ports, with a warning each', function()
        local app, pid = launch(mode, { 'file', 'tcp', 'client' })
        local ports = app:expect 'ports'
        assert.equal(1, #ports)
        assert.equal(app.where[2], ports[1].port)
        app:expect 'up'
        assert.equal(2, app:log_count 'LISTEN_FDS cannot be a port')
        support.kill(pid, 'TERM')
        assert.equal(0, (app:expect 'ended'))
      end)
    end)
  end)

  it('are refused where none is usable, none was passed, or they are for another process', function()
    for _, kinds in ipairs { { 'file', 'client' }, {}, { '--pid', 'other', 'tcp' } } do
      local app = launch('BASE', kinds)
      local code, text = app:expect 'refused'
      assert.equal(505, code)
      assert.truthy(text:find('LISTEN_FDS', 1, true))
      app:expect 'ended'
    end
  end)

  it('serve a second server of the same process as well', function()
    local app, pid = launch('BASE', { 'tcp' }, prelude .. [==[
      for round = 1, 2 do
        local server = srvlua.Server('SYSTEMD', 0, srvlua[arg[1]])
        server:on('receive', function(s, fd, _, data) s:send(fd, data) s:shutdown() end)
        server:on('start', function() emit('up', round) end)
        server:start()
      end
    ]==])
    for round = 1, 2 do
      app:expect('up', round)
      assert.equal('x', app:connect(1):echo 'x')
    end
    assert.is_true(pid > 0)
    assert.equal(0, (app:expect 'ended'))
  end)
end)
