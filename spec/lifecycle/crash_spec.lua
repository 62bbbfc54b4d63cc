local support = require 'support'

-- Echoes words; says its pid to `who`, and stalls at `stop`.
local ECHO = [[
  local server = new_server(loadstring('return ' .. (arg[2] or '{}'))())
  server:on('receive', function(s, fd, _, data)
    for word in data:gmatch '%S+' do
      if word == 'who' then
        s:send(fd, srvlua.getpid() .. '\n')
      elseif word == 'stop' then
        emit('stopped', fd, srvlua.getpid())
        stall()
      else
        s:send(fd, word .. '\n')
      end
    end
  end)
  server:on('connect', function(_, fd) emit('connect', fd) end)
  server:on('close', function(_, fd) emit('close', fd) end)
  server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
  server:on('workerStop', function(_, id) emit('workerStop', id) end)
  server:on('workerError', function(_, id, pid, code, signal) emit('workerError', id, pid, code, signal) end)
  server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
  server:on('managerStop', function() emit 'managerStop' end)
  server:on('shutdown', function() emit 'shutdown' end)
  run(server)
]]

local function ask(client)
  client:send 'who\n'
  return tonumber(client:line())
end

describe('kill -9 of a worker', function()
  after_each(support.cleanup)

  it('loses no connection and no queued packet in PROCESS mode', function()
    local app = support.boot('PROCESS', ECHO)
    local clients = {}
    for i = 1, 5 do
      clients[i] = app:connect()
      app:expect('connect', i)
    end
    local pid = ask(clients[1])
    clients[1]:send 'stop\n'
    app:expect('stopped', 1, pid)
    for i = 2, 5 do
      for turn = 1, 20 do
        clients[i]:send(('%d-%d\n'):format(i, turn))
      end
    end
    local late = app:connect() -- its connect event is in the queue, too
    late:send 'late\n'
    support.kill(pid, 'KILL')

    app:expect('workerError', 0, pid, 0, 9)
    app:expect('worker', 0, pid)
    local _, successor = app:expect('worker', 0)
    for i = 2, 5 do
      for turn = 1, 20 do
        assert.equal(('%d-%d'):format(i, turn), clients[i]:line())
      end
      assert.equal(successor, ask(clients[i]))
    end
    assert.equal('late', late:line())
    app:expect('connect', 6)
    assert.equal(successor, ask(clients[1])) -- whose request was lost, and only that
    app:logs 'session 1'
    assert.equal(0, app:count 'close')
    assert.equal(0, app:count 'workerStop')
  end)

  it('serves the datagrams that were queued', function()
    local app = support.boot('PROCESS', [[
      local server = new_server(nil, srvlua.SOCK_UDP)
      server:on('packet', function(s, data, client)
        if data == 'stop' then
          emit('stopped', srvlua.getpid())
          stall()
        end
        s:sendto(client.address, client.port, data, client.server_socket)
      end)
      run(server)
    ]])
    local client, other = app:datagrams(), app:datagrams()
    client:send 'stop'
    local pid = app:expect 'stopped'
    for i = 1, 20 do
      other:send(tostring(i))
    end
    support.kill(pid, 'KILL')
    for i = 1, 20 do
      assert.equal(tostring(i), other:receive())
    end
  end)

  it('delivers what was sent before it died', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      server:on('receive', function(s, fd)
        emit('sent', s:send(fd, ('x'):rep(500000)), srvlua.getpid())
        stall()
      end)
      run(server)
    ]])
    local client = app:connect()
    client:send 'x'
    local _, pid = app:expect('sent', true)
    support.kill(pid, 'KILL')
    assert.equal(('x'):rep(500000), client:receive(500000))
  end)

  it('ends its connections in BASE mode, and those of no other', function()
    local app = support.boot('BASE', ECHO, { args = { '{ worker_num = 2, enable_reuse_port = false }' } })
    local by_pid = {}
    for i = 1, 200 do -- whoever wakes first accepts
      local client = app:connect()
      local pid = ask(client)
      by_pid[pid] = by_pid[pid] or {}
      table.insert(by_pid[pid], client)
      if next(by_pid, next(by_pid)) and i >= 4 then break end
    end
    local victim = next(by_pid)
    local survivor = next(by_pid, victim)
    support.kill(victim, 'KILL')
    local id = app:expect 'workerError'
    for _, client in ipairs(by_pid[victim]) do
      client:ending()
    end
    for _, client in ipairs(by_pid[survivor] or {}) do
      assert.equal(survivor, ask(client))
    end
    local other = app:connect()
    assert.truthy(ask(other))
    assert.is_true(id == 0 or id == 1)
    assert.equal(0, app:count 'close')
  end)

  it('frees the sessions of a BASE worker', function()
    local app = support.boot('BASE', [[
      local server = new_server { worker_num = 2, session_table_size = 1024, max_connection = 20 }
      server:on('receive', function(s, fd)
        s:send(fd, ('%d %d %d\n'):format(srvlua.getpid(), s:stats().connection_num, fd))
      end)
      server:on('workerError', function() emit 'workerError' end)
      run(server)
    ]])
    local function ask_counts(client)
      client:send '?'
      return client:line():match '(%d+) (%d+) (%d+)'
    end
    for _ = 1, 4 do -- more connections than there may be at a time
      local clients = {}
      for i = 1, 10 do
        clients[i] = app:connect()
      end
      local pids = {}
      for i = 1, 10 do
        pids[tonumber((ask_counts(clients[i])))] = true
      end
      for pid in pairs(pids) do
        support.kill(pid, 'KILL')
        app:expect 'workerError'
      end
      for _, client in ipairs(clients) do
        client:ending()
      end
    end
    local _, live, fd = ask_counts(app:connect())
    assert.equal('1', live)
    assert.equal('41', fd)
  end)

  support.in_both_modes(function(mode)
    it('is followed by a back-off when it happens at once, again and again, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2, respawn_burst = 2, respawn_delay_max = 0.3 }
        server:on('receive', function() end)
        server:on('workerStart', function(_, id)
          if id == 1 then
            emit('born', srvlua.hrtime())
            os.exit(3)
          end
        end)
        server:on('workerError', function(_, id, _, code, signal) emit('workerError', id, code, signal) end)
        server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
        run(server)
      ]])
      local births = {}
      for i = 1, 6 do
        births[i] = app:expect 'born' / 1e9
        app:expect('workerError', 1, 3, 0)
      end
      -- at once, at once, then 0.1, 0.2, 0.3 seconds later
      assert.is_true(births[3] - births[1] < 1)
      for i, least in ipairs { 0.1, 0.2, 0.3 } do
        local pause = births[i + 3] - births[i + 2]
        assert.is_true(pause >= least and pause < least + 2, ('pause %d: %.3f'):format(i, pause))
      end
      app:logs 'next try in'
      assert.equal(0, app:stop())
    end)
  end)

  support.in_both_modes(function(mode)
    it('does not stop when it happens under load, ' .. mode, function()
      local app = support.boot(mode, ECHO, { args = { '{ worker_num = 2, respawn_burst = 100 }' } })
      local pids = {}
      for _ = 1, 2 do
        local id, pid = app:expect 'worker'
        pids[id] = pid
      end
      for round = 1, 10 do
        local id = round % 2
        local clients = {}
        for i = 1, 10 do
          clients[i] = app:connect()
          clients[i]:send 'hello\n'
        end
        support.kill(pids[id], 'KILL')
        app:expect('workerError', id, pids[id], 0, 9)
        local _, pid = app:expect('worker', id)
        pids[id] = pid
        for i = 1, 10 do
          if mode == 'PROCESS' then
            -- the greeting is lost if it was being answered; the connection is not
            clients[i]:send 'still\n'
            local line = clients[i]:line()
            if line == 'hello' then line = clients[i]:line() end
            assert.equal('still', line)
          end
          clients[i]:close()
        end
      end
      assert.equal(0, app:stop())
    end)
  end)
end)

describe('kill -9 of the manager', function()
  after_each(support.cleanup)

  it('ends the server in PROCESS mode, without a shutdown event', function()
    local app = support.boot('PROCESS', ECHO, { args = { '{ worker_num = 2 }' } })
    local client = app:connect()
    ask(client)
    support.kill(app:expect 'manager', 'KILL')
    local ok, message, code = app:expect 'returned'
    assert.same({ false, 'string', 9003 }, { ok, type(message), code })
    client:ending()
    assert.equal(0, app:wait())
    assert.is_true(app:is_gone())
    for _, name in ipairs { 'shutdown', 'managerStop', 'workerStop' } do
      assert.equal(0, app:count(name))
    end
    app:logs 'ERROR'
  end)

  it('takes all workers with it in BASE mode', function()
    local app = support.boot('BASE', ECHO, { args = { '{ worker_num = 3 }' } })
    local client = app:connect()
    ask(client)
    app:kill 'KILL'
    client:ending()
    assert.is_true(app:is_gone())
    assert.equal(0, app:count 'workerStop')
  end)
end)

describe('kill -9 of the master', function()
  after_each(support.cleanup)

  it('stops everything in an orderly way and leaves no process', function()
    local path = support.directory() .. '/pid'
    local app = support.boot('PROCESS', ECHO, { args = { ('{ worker_num = 2, pid_file = %q }'):format(path) } })
    local client = app:connect()
    ask(client)
    app:expect 'worker'
    app:expect 'worker'
    app:kill 'KILL'
    client:ending()
    assert.is_true(app:is_gone())
    app:expect 'workerStop'
    app:expect 'workerStop'
    app:expect 'managerStop'
    assert.equal(0, app:count 'shutdown')
    assert.equal(tostring(app.pid), support.read_file(path))
  end)

  it('leaves no process when a worker does not listen', function()
    local app = support.boot('PROCESS', ECHO, { args = { '{ max_wait_time = 0.3 }' } })
    local client = app:connect()
    client:send 'stop\n'
    app:expect 'stopped'
    app:kill 'KILL'
    assert.is_true(app:is_gone())
  end)
end)
