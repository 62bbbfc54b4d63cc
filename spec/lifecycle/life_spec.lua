local support = require 'support'

-- Position of the first entry that equals `name`.
local function position(names, name)
  for i, found in ipairs(names) do
    if found == name then return i end
  end
  error(name .. ' is missing in ' .. table.concat(names, ' '), 2)
end

local function count(names, name)
  local number = 0
  for _, found in ipairs(names) do
    if found == name then number = number + 1 end
  end
  return number
end

describe('the life of a server', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('is told by its events in order', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function() end)
          for _, name in ipairs { 'workerStart', 'workerStop', 'managerStart', 'managerStop', 'beforeShutdown' } do
            server:on(name, function(s, id) emit(name, s == server, id) end)
          end
          server:on('shutdown', function(s) emit('shutdown', s == server, s:stats()) end)
          run(server)
          emit('after')
        ]])
        app:expect('workerStart', true, 0)
        app:expect('workerStart', true, 1)
        app:expect('managerStart', true)
        assert.equal(0, app:stop())
        local names = app:names()
        assert.equal(2, count(names, 'workerStop'))
        for _, name in ipairs { 'managerStop', 'beforeShutdown', 'shutdown' } do
          assert.equal(1, count(names, name), name)
        end
        local order = { 'beforeShutdown', 'managerStop', 'shutdown', 'returned', 'after' }
        for i = 2, #order do
          assert.is_true(position(names, order[i - 1]) < position(names, order[i]), order[i])
        end
        assert.is_true(position(names, 'workerStop') < position(names, 'managerStop'))
        local is_server, stats, _, code = app:expect 'shutdown' -- nothing is left to ask then
        assert.same({ true, false, 509 }, { is_server, stats, code })
        assert.same({ true }, { app:expect 'returned' })
      end)

      it('tells each process what it is', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          local function me(s)
            return { worker_id = s.worker_id, worker_pid = s.worker_pid, taskworker = s.taskworker,
                     master_pid = s.master_pid, manager_pid = s.manager_pid, pid = srvlua.getpid(),
                     id = s:getWorkerId(), own = s:getWorkerPid(), status = s:getWorkerStatus(),
                     master = s:getMasterPid(), manager = s:getManagerPid(), error = s:getLastError() }
          end
          emit('before', me(server))
          server:on('receive', function() end)
          server:on('workerStart', function(s, id) emit('worker', id, me(s)) end)
          server:on('managerStart', function(s) emit('manager', me(s)) end)
          run(server, function(s) emit('starter', me(s)) end)
          emit('after', me(server))
        ]])

        local workers = {}
        for id = 0, 1 do
          local _, worker = app:expect('worker', id)
          workers[id] = worker
          assert.same({ id, worker.pid, false }, { worker.worker_id, worker.worker_pid, worker.taskworker })
          assert.same({ id, worker.pid, 2 }, { worker.id, worker.own, worker.status }) -- IDLE
          assert.equal(0, worker.error)
        end
        local manager, starter = app:expect 'manager', app:expect 'starter'
        assert.same({ -1, 0, false }, { manager.worker_id, manager.worker_pid, manager.id })
        local master_pid = mode == 'PROCESS' and app.pid or workers[0].pid
        for _, process in ipairs { workers[0], workers[1], manager, starter } do
          assert.same({ manager.pid, manager.pid }, { process.manager_pid, process.manager })
          assert.same({ master_pid, master_pid }, { process.master_pid, process.master })
        end
        assert.equal(mode == 'BASE' and app.pid or manager.pid, manager.pid)
        assert.equal(mode == 'PROCESS' and app.pid or workers[0].pid, starter.pid)

        assert.equal('srvlua: worker 0', support.title(workers[0].pid))
        assert.equal('srvlua: worker 1', support.title(workers[1].pid))
        if mode == 'PROCESS' then assert.equal('srvlua: manager', support.title(manager.pid)) end
        assert.truthy(support.title(app.pid):find(support.launcher, 1, true))

        app:stop()
        for _, name in ipairs { 'before', 'after' } do -- the latter crashed: it looked into memory that was gone
          local me = app:expect(name)
          assert.same({ -1, 0, false }, { me.worker_id, me.worker_pid, me.taskworker })
          assert.same({ 0, 0 }, { me.master_pid, me.manager_pid })
          assert.same({ false, false, false, 0, 0 }, { me.id, me.own, me.status, me.master, me.manager })
        end
      end)

      it('answers questions about other processes', function()
        local app = support.boot(mode, [[
          local server = new_server { worker_num = 2 }
          server:on('receive', function(s, fd)
            local other = 1 - s.worker_id
            emit('asked', { s:getWorkerPid(s.worker_id), s:getWorkerStatus(s.worker_id) },
              { s:getWorkerPid(other), s:getWorkerStatus(other) }, { s:getWorkerPid(2) }, { s:getWorkerStatus(2) })
            s:send(fd, 'done')
          end)
          server:on('workerStart', function(_, id) emit('pid', id, srvlua.getpid()) end)
          run(server)
        ]])
        local pids = {}
        for id = 0, 1 do
          pids[id] = select(2, app:expect('pid', id))
        end
        app:connect():send '?'
        local own, other, no_pid, no_status = app:expect 'asked'
        assert.same({ [pids[0]] = true, [pids[1]] = true }, { [own[1]] = true, [other[1]] = true })
        assert.equal(1, own[2]) -- BUSY
        assert.equal(2, other[2])
        assert.same({ false, 505 }, { no_pid[1], no_pid[3] })
        assert.same({ false, 505 }, { no_status[1], no_status[3] })
      end)

      it('gives each worker a copy of what was there before, and numbers of its own luck', function()
        local app = support.boot(mode, [[
          shared = { 'before' }
          local server = new_server { worker_num = 2 }
          server.note = 'mine'
          server:on('receive', function() end)
          server:on('workerStart', function(s, id)
            shared[#shared + 1] = id
            s.note = s.note .. id
            emit('worker', id, shared, s.note, math.random(2 ^ 31))
          end)
          run(server)
          emit('mine', server.note, #shared)
        ]])
        local _, first, first_note, first_number = app:expect('worker', 0)
        local _, second, second_note, second_number = app:expect('worker', 1)
        assert.same({ 'before', 0 }, first)
        assert.same({ 'before', 1 }, second)
        assert.same({ 'mine0', 'mine1' }, { first_note, second_note })
        assert.not_equal(first_number, second_number)
        app:stop()
        assert.same({ 'mine', 1 }, { app:expect 'mine' })
      end)

      it('may be followed by another, but not be begun twice or within', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function(s) emit('inside', s:start()) s:shutdown() end)
          run(server)
          emit('again', server:start())
          local other = new_server()
          emit('other', other.port ~= 0)
          other:on('receive', function(s) s:shutdown() end)
          run(other)
        ]])
        app:connect():send 'x'
        local ok, message, code = app:expect 'inside'
        assert.same({ false, 'string', 509 }, { ok, type(message), code })
        app:expect('returned', true)
        ok, message, code = app:expect 'again'
        assert.same({ false, 'string', 509 }, { ok, type(message), code })
        app:expect('other', true)
        app.where = app:expect 'start'
        app:connect():send 'x'
        app:expect('returned', true)
        assert.equal(0, app:wait())
      end)

      it('does not begin on a taken port, and tells why', function()
        local app = support.boot(mode, [[
          local server = new_server()
          server:on('receive', function() end)
          run(server)
        ]])
        local other = support.boot(mode, [[
          local server = srvlua.Server('127.0.0.1', tonumber(arg[2]), srvlua[arg[1] ])
          server:on('receive', function() end)
          emit('returned', server:start())
          emit('last', server:getLastError())
        ]], { start = false, args = { app.where[1] } })
        local ok, message, code = other:expect 'returned'
        assert.same({ false, 'string', 98 }, { ok, type(message), code })
        other:expect('last', 98)
        assert.equal(0, other:wait())
      end)

      it('does not begin without the callbacks that its ports need', function()
        local app = support.boot(mode, [[
          local types = { 'TCP', 'TCP6', 'UDP', 'UDP6', 'UNIX_STREAM', 'UNIX_DGRAM' }
          for i, name in ipairs(types) do
            local is_stream = not name:find '^U.*D'
            local sock_type = srvlua['SOCK_' .. name]
            local server = new_server(nil, sock_type, name:find 'UNIX' and arg[2] .. '/' .. name)
            server:on(name:find 'D' and 'receive' or 'packet', function() end)
            emit(name, select(3, server:start()))
            server = nil
            collectgarbage()
          end
          local server = new_server()
          server:on('receive', function() end)
          server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
          emit('added', select(3, server:start()))
        ]], { start = false, args = { support.directory() } })
        for _, name in ipairs { 'TCP', 'TCP6', 'UDP', 'UDP6', 'UNIX_STREAM', 'UNIX_DGRAM', 'added' } do
          app:expect(name, 9015)
        end
        assert.equal(0, app:wait())
      end)

      it('leaves its pid in the file until its end', function()
        local path = support.directory() .. '/pid'
        support.write_file(path, 'old')
        local app = support.boot(mode, [[
          local server = new_server { pid_file = arg[2] }
          server:on('receive', function() end)
          run(server)
        ]], { args = { path } })
        assert.equal(tostring(app.pid), support.read_file(path))
        app:stop()
        assert.is_nil(support.read_file(path))
      end)

      it('runs in the background as daemon', function()
        local directory = support.directory()
        local app = support.boot(mode, [[
          local server = new_server { daemonize = true, pid_file = arg[2] .. '/pid', log_file = arg[2] .. '/log' }
          local listening = server.port
          server:on('receive', function(s, fd) s:send(fd, srvlua.getpid() .. '\n') end)
          server:on('start', function(s)
            local file = io.open(arg[2] .. '/port.new', 'w')
            file:write(listening)
            file:close()
            os.rename(arg[2] .. '/port.new', arg[2] .. '/port')
            print('to the log')
          end)
          server:start()
        ]], { start = false, args = { directory } })
        assert.equal(0, app:wait())
        local port = support.eventually(function() return support.read_file(directory .. '/port') end)
        local client = support.stream(tonumber(port))
        client:send 'x'
        local pid = tonumber(client:line())
        local starter = tonumber(support.read_file(directory .. '/pid'))
        assert.not_equal(app.pid, starter)
        assert.not_equal(app.pid, support.info(pid).session)
        support.eventually(function() return support.read_file(directory .. '/log'):find 'to the log' end)
        assert.truthy(support.read_file(directory .. '/log'):find 'to the log')
        support.kill(starter, 'TERM')
        assert.is_true(app:is_gone())
        assert.is_nil(support.read_file(directory .. '/pid'))
      end)
    end)
  end)

  it('needs no manager with one worker in BASE mode', function()
    local app = support.boot('BASE', [[
      local server = new_server()
      server:on('receive', function() end)
      server:on('managerStart', function() emit 'manager' end)
      server:on('workerStart', function(s) emit('worker', srvlua.getpid(), s:getManagerPid(), s:getMasterPid()) end)
      run(server)
    ]])
    assert.same({ app.pid, 0, app.pid }, { app:expect 'worker' })
    assert.same({ app.pid }, app:members())
    app:stop()
    assert.equal(0, app:count 'manager')
  end)

  it('has a master, a manager and the workers in PROCESS mode', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 3 }
      server:on('receive', function() end)
      server:on('workerStart', function(_, id) emit('worker', id) end)
      run(server)
    ]])
    for id = 0, 2 do
      app:expect('worker', id)
    end
    assert.equal(5, #app:members())
  end)

  it('waits with clients for the start callback', function()
    local gate = support.directory() .. '/gate'
    assert(os.execute('mkfifo ' .. gate) == 0)
    local app = support.boot('PROCESS', [[
      local server = new_server()
      server:on('receive', function(s, fd) s:send(fd, 'served') end)
      server:on('start', function(s)
        emit('start', { s.port })
        local file = io.open(arg[2])   -- a pipe: blocks until the spec writes
        file:read '*a'
        emit 'go'
      end)
      server:on('connect', function() emit 'connect' end)
      server:start()
    ]], { args = { gate } })
    local client = app:connect()
    client:send 'x'
    assert.equal(0, app:count 'connect')
    support.write_file(gate, 'go')
    assert.equal('served', client:receive(6))
    assert.same({ 'go', 'connect' }, app:names())
  end)
end)

describe('a constructor', function()
  after_each(support.cleanup)

  it('fills in what is known and has defaults', function()
    local app = support.boot('PROCESS', [[
      local server = srvlua.Server('127.0.0.1')
      emit('server', { host = server.host, port = server.port, type = server.type, ssl = server.ssl, mode = server.mode,
        ports = #server.ports, same = server.ports[1].port == server.port, setting = next(server.setting),
        text = tostring(server) })
    ]], { start = false })
    local server = app:expect 'server'
    assert.is_true(server.port > 0)
    assert.equal('srvlua.Server: 127.0.0.1:' .. server.port, server.text)
    server.port, server.text = nil, nil
    assert.same({ host = '127.0.0.1', type = 1, ssl = false, mode = 2, ports = 1, same = true }, server)
  end)

  it('raises what it refuses, with a code, and does not poison later ones', function()
    local app = support.boot('PROCESS', [[
      local function try(name, ...)
        local ok, failure = pcall(srvlua.Server, ...)
        emit(name, ok, type(failure), type(failure) == 'table' and failure.code, tostring(failure))
      end
      try('no address', '192.0.2.77', 0)
      try('no host', 'no such host.invalid', 0)
      try('long', ('x'):rep(108), 0, srvlua.BASE, srvlua.SOCK_UNIX_STREAM)
      try('port', '127.0.0.1', 65536)
      try('mode', '127.0.0.1', 0, 3)
      try('type', '127.0.0.1', 0, srvlua.BASE, 7)
      try('argument', {})
      try('fraction', '127.0.0.1', 1.5)
      local server = srvlua.Server('127.0.0.1', 0)
      try('second', '127.0.0.1', 0)
      server = nil
      local other = srvlua.Server('127.0.0.1', 0)
      emit('collected', other.port > 0)
    ]], { start = false })
    local codes = { ['no address'] = 99, long = 504, port = 9004, mode = 505, second = 507 }
    for name, code in pairs(codes) do
      local ok, kind, found, text = app:expect(name)
      assert.same({ false, 'table', code }, { ok, kind, found }, name)
      assert.is_true(#text > 5 and not text:find '^table:', text)
    end
    for _, name in ipairs { 'no host', 'type' } do
      local ok, kind, code = app:expect(name)
      assert.same({ false, 'table', true }, { ok, kind, code > 0 }, name)
    end
    for _, name in ipairs { 'argument', 'fraction' } do
      local ok, kind, _, text = app:expect(name)
      assert.same({ false, 'string' }, { ok, kind })
      assert.truthy(text:find 'bad argument #%d')
    end
    app:expect('collected', true)
  end)

  it('leaves no descriptor behind when its server is collected', function()
    local app = support.boot('PROCESS', [[
      local function open()
        local server = srvlua.Server('127.0.0.1', 0)
        server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
        server = nil
        collectgarbage()
        pcall(srvlua.Server, '192.0.2.77', 0)
        return require('support.process').descriptors(srvlua.getpid())
      end
      local first = open()
      for _ = 1, 5 do open() end
      emit('grown', open() - first)
    ]], { start = false })
    app:expect('grown', 0)
  end)

  it('replaces a stale unix socket and refuses a live one', function()
    local directory = support.directory()
    local source = [[
      local server = new_server(nil, srvlua.SOCK_UNIX_STREAM, arg[2])
      server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
      run(server)
    ]]
    local path = directory .. '/socket'
    local first = support.boot('BASE', source, { args = { path }, where = { path } })
    local second = support.boot('BASE', source, { args = { path }, start = false })
    assert.same({ false, 98 }, (function(ok, _, code) return { ok, code } end)(second:expect 'returned'))
    first:kill 'KILL'
    first:wait()
    local third = support.boot('BASE', source, { args = { path }, where = { path } })
    assert.equal('x', third:connect():echo 'x')
    third:stop()
    assert.is_nil(require('lfs').attributes(path))
  end)
end)
