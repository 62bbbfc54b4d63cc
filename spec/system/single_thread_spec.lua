local lfs = require 'lfs'
local support = require 'support'

local function threads(pid)
  local count = 0
  for name in lfs.dir('/proc/' .. pid .. '/task') do
    if name:find '^%d' then count = count + 1 end
  end
  return count
end

describe('single_thread', function()
  after_each(support.cleanup)

  local SOURCE = [[
    local server = new_server { worker_num = 2, single_thread = true }
    server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
    server:on('connect', function(s, fd, reactor) emit('connect', fd, reactor) end)
    server:on('close', function(s, fd, reactor) emit('close', fd, reactor) end)
    server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
    server:on('packet', function(s, data, from) s:sendto(from.address, from.port, data, from.server_socket) end)
    server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
    server:on('workerError', function(_, id) emit('error', id) end)
    server:on('afterReload', function(_, ok) emit('reloaded', ok) end)
    server:on('beforeShutdown', function() emit 'beforeShutdown' end)
  ]]

  it('serves streams and datagrams from a master without other threads', function()
    local app = support.boot('PROCESS', SOURCE .. 'run(server) emit(server.setting.reactor_num)')
    assert.equal(1, threads(app.pid))
    local client = app:connect()
    assert.equal('hello', client:echo 'hello')
    local large = ('x'):rep(1024 * 1024) -- more than a ring takes at once
    assert.equal(large, client:echo(large))
    local datagrams = app:datagrams(2)
    datagrams:send 'hello'
    assert.equal('hello', datagrams:receive())
    assert.same({ 1, 0 }, { app:expect('connect', 1) })
    client:close()
    assert.same({ 1, 0 }, { app:expect('close', 1) })
    assert.equal(0, app:stop())
    app:expect 'beforeShutdown'
    app:expect(1)
  end)

  it('keeps connections over a reload and over the death of a worker', function()
    local app = support.boot('PROCESS', SOURCE .. 'run(server)')
    local clients, pids = {}, {}
    for i = 1, 4 do
      clients[i] = app:connect()
      assert.equal('x', clients[i]:echo 'x')
    end
    for id = 0, 1 do
      app:expect('worker', id)
    end
    app:kill 'USR1'
    app:expect('reloaded', true)
    for id = 0, 1 do
      pids[id] = select(2, app:expect('worker', id))
    end
    for i = 1, 4 do
      assert.equal('y', clients[i]:echo 'y')
    end
    support.kill(pids[1], 'KILL')
    app:expect('error', 1)
    for i = 1, 4 do
      assert.equal('z', clients[i]:echo 'z')
    end
    assert.equal(0, app:stop())
  end)

  it('lets callbacks of the master send and close on the same loop', function()
    local app = support.boot('PROCESS', SOURCE .. [[
      server:set { max_wait_time = 0.2 } -- the timer is left running
      run(server, function(s)
        s:tick(20, function()
          for fd in s.connections() do
            s:send(fd, 'bye')
            s:close(fd)
          end
        end)
      end)
    ]])
    local client = app:connect()
    assert.equal('bye', client:rest())
    assert.same({ 1, -1 }, { app:expect('close', 1) })
    app:kill 'TERM'
    assert.equal(0, app:wait())
  end)

  it('still delivers what workers sent before a shutdown', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { single_thread = true }
      server:on('receive', function(s, fd)
        for _ = 1, 64 do s:send(fd, ('x'):rep(8192)) end
        s:shutdown()
      end)
      run(server)
    ]])
    local client = app:connect()
    client:send 'go'
    assert.equal(64 * 8192, #client:rest())
    assert.equal(0, app:wait())
  end)

  it('has no effect in BASE mode', function()
    local app = support.boot('BASE', SOURCE .. 'run(server)')
    assert.equal('hello', app:connect():echo 'hello')
    assert.equal(0, app:stop())
  end)
end)
