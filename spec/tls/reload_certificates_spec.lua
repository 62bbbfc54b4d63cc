-- Certificates change while the server runs: reloadCertificates from any process, SIGHUP, workers forked later.
local ffi = require 'ffi'
local support = require 'support'
local peers = require 'support.peer'

ffi.cdef 'unsigned int geteuid(void);'

local CLIENTS = 'spec/support/tls_clients.py'
local SWAPS = tonumber(os.getenv 'SRVLUA_SWAPS') or 40 -- 1000 and more: a soak

-- Orders come to a plain primary port; ports 2 and 3 speak TLS.
local APP = [[
  local DIRECTORY = arg[2]
  local function pair(name)
    return { ssl_cert_file = DIRECTORY .. '/' .. name .. '.crt', ssl_key_file = DIRECTORY .. '/' .. name .. '.key' }
  end
  local server, tls = new_server(SETTINGS), {}
  for i, name in ipairs { 'a', 'b' } do
    tls[i] = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP + srvlua.SSL)
    tls[i]:set(pair(name))
  end
  local function reload(who, ...)
    local ok, message, code = server:reloadCertificates(...)
    emit('reloaded', who, ok, code, message)
  end
  -- Timers of processes that no client can talk to: a file is their order.
  local function obey(who)
    local path = DIRECTORY .. '/' .. who
    server:tick(5, function()
      local file = io.open(path)
      if not file then return end
      file:close()
      os.remove(path)
      reload(who)
    end)
  end
  server:on('receive', function(s, fd, rid, data)
    if s:getClientInfo(fd).ssl then s:send(fd, data)
    elseif data == 'worker' then reload 'worker'
    elseif data == 'task' then s:task 'go'
    elseif data == 'object' then reload('object', tls[2])
    elseif data == 'number' then reload('number', 3)
    elseif data == 'plain' then reload('plain', server.ports[1])
    elseif data == 'none' then reload('none', 9)
    elseif data == 'zero' then reload('zero', 0)
    elseif data == 'pid' then emit('pid', s.worker_id, s.worker_pid)
    elseif data == 'reload' then s:reload()
    elseif data == 'wrong' then emit('wrong', pcall(s.reloadCertificates, s, 'a')) end
  end)
  server:on('workerStart', function(s, id)
    emit('worker', id, s.worker_pid)
    if id == 1 then obey 'other' end
  end)
]]

local EVERYWHERE = [[
  server:on('task', function() reload 'task' end)
  server:on('managerStart', function() obey 'manager' end)
  server:addProcess(srvlua.Process(function()
    while true do
      hold(DIRECTORY .. '/user')
      os.remove(DIRECTORY .. '/user')
      reload 'user'
    end
  end))
  run(server, function() obey 'start' end)
]]

describe('reloadCertificates', function()
  local directory, serial = nil, 0

  local function rename(name, place)
    for _, ending in ipairs { '.crt', '.key' } do
      assert(os.rename(directory .. '/' .. name .. ending, directory .. '/' .. place .. ending))
    end
  end

  -- Puts a new certificate in the place of `place`; returns the name in it.
  local function renew(place)
    serial = serial + 1
    local name = ('%s%d.example'):format(place, serial)
    peers.certificate(directory, name)
    rename(name, place)
    return name
  end

  before_each(function() -- support.cleanup() removes directories
    directory = support.directory()
    peers.certificate(directory, 'a')
    peers.certificate(directory, 'b')
  end)

  after_each(support.cleanup)

  local function boot(mode, settings, source)
    local app = support.boot(mode, ('local SETTINGS = %s '):format(settings) .. APP .. (source or 'run(server)'), {
      args = { directory } })
    return app, app:connect()
  end

  local function names(port, count, server_name)
    local result = support.run { 'python3', '-I', '-S', CLIENTS, 'names', port, count, server_name }
    assert(result.code == 0, result.err)
    local list = {}
    for name in result.out:gmatch '[^\n]+' do
      list[#list + 1] = name
    end
    return list
  end

  -- Waits until `count` connections in a row get the certificate of that name.
  local function serves(port, name, count)
    local seen
    local ok = support.eventually(function()
      seen = names(port, count or 4)
      for _, other in ipairs(seen) do
        if other ~= name then return false end
      end
      return true
    end)
    assert(ok, ('%s is not served, but %s'):format(name, table.concat(seen, ' ')))
  end

  local function load(port, threads)
    local clients = support.start { 'python3', '-I', '-S', CLIENTS, 'load', port, threads }
    assert(support.eventually(function()
      clients:pump(0.05)
      return clients.out:find 'running'
    end), clients.err)
    return clients
  end

  -- Ends them: nothing failed and nothing was lost. Returns how many handshakes there were.
  local function unharmed(clients)
    clients:kill 'TERM'
    assert.equal(0, clients:wait(), clients.err)
    local handshakes, failed, held, lost, _, err = clients.out:match 'running\n(%d+) (%d+) (%d+) (%d+) (%S+) ([^\n]*)'
    assert.same({ '0', '2', '0' }, { failed, held, lost }, err)
    return tonumber(handshakes)
  end

  support.in_both_modes(function(mode)
    it('serves the new files from whatever process it is called in, and connections stay, ' .. mode, function()
      local app, client = boot(mode, '{ worker_num = 2, task_worker_num = 1 }', EVERYWHERE)
      local a, b = app.where[2], app.where[3]
      local clients = load(a, 1)
      serves(a, 'a')
      local name
      local other = renew 'b' -- all ports change at the first time
      for _, who in ipairs { 'worker', 'task', 'start', 'manager', 'user', 'other' } do
        name = renew 'a'
        if who == 'worker' or who == 'task' then
          client:send(who)
        else
          support.write_file(directory .. '/' .. who, '')
        end
        assert.is_true((select(2, app:expect('reloaded', who))))
        serves(a, name)
      end
      serves(b, other)
      unharmed(clients)
    end)

    it('changes nothing when anything is wrong, and says what, ' .. mode, function()
      local app, client = boot(mode, '{ worker_num = 2 }')
      local a = app.where[2]
      local function fails(code, word)
        client:send 'worker'
        local _, ok, failure, message = app:expect('reloaded', 'worker')
        assert.same({ false, code }, { ok, failure }, message)
        assert.truthy(message:find(word, 1, true), message)
        assert.same({ 'a', 'a' }, names(a, 2))
      end
      renew 'a' -- good, but the other port's are not
      support.write_file(directory .. '/b.crt.good', support.read_file(directory .. '/b.crt'))
      support.write_file(directory .. '/b.crt', support.read_file(directory .. '/a.crt'))
      fails(505, 'b.')
      support.write_file(directory .. '/b.crt', 'no certificate')
      fails(505, 'b.crt')
      support.write_file(directory .. '/b.crt', '')
      fails(505, 'b.crt')
      os.remove(directory .. '/b.crt')
      fails(2, 'b.crt')
      support.write_file(directory .. '/b.crt', support.read_file(directory .. '/b.crt.good'))
      client:send 'worker'
      app:expect('reloaded', 'worker', true)
    end)

    it('takes one port, as object or number, ' .. mode, function()
      local app, client = boot(mode, '{ worker_num = 2 }')
      local a, b = app.where[2], app.where[3]
      renew 'a'
      for _, how in ipairs { 'object', 'number' } do
        local name = renew 'b'
        client:send(how)
        app:expect('reloaded', how, true)
        serves(b, name)
        assert.same({ 'a', 'a', 'a', 'a' }, names(a, 4))
      end
      for _, how in ipairs { 'plain', 'none', 'zero' } do
        client:send(how)
        app:expect('reloaded', how, false, 505)
      end
      client:send 'wrong'
      local ok, message = app:expect 'wrong'
      assert.is_false(ok)
      assert.truthy(message:find 'port or number', message)
    end)

    it('is for running servers with a TLS port, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        emit('before', server:reloadCertificates())
        server:on('receive', function(s, fd) s:send(fd, tostring((select(3, s:reloadCertificates())))) end)
        run(server)
      ]])
      local ok, _, code = app:expect 'before'
      assert.same({ false, 509 }, { ok, code })
      assert.equal('507', app:connect():echo 'abc')
    end)

    it('is what SIGHUP does, and the log tells, ' .. mode, function()
      local app = boot(mode, '{ worker_num = 2 }')
      local clients = load(app.where[2], 1)
      local name = renew 'a'
      app:kill 'HUP'
      app:logs 'the certificates were reloaded'
      serves(app.where[2], name)
      os.remove(directory .. '/a.key')
      app:kill 'HUP'
      assert.truthy(app:logs('the certificates were not reloaded'):find('a.key', 1, true))
      serves(app.where[2], name)
      unharmed(clients)
    end)

    it('leaves SIGHUP what it is without TLS, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function(s, fd, rid, data) s:send(fd, data) end)
        run(server)
      ]])
      app:kill 'HUP'
      app:logs 'has no handler and is ignored'
      assert.equal('hello', app:connect():echo 'hello')
    end)

    it('holds for workers that are forked later, ' .. mode, function()
      local app, client = boot(mode, '{ worker_num = 2, max_wait_time = 1 }')
      local a, pids = app.where[2], {}
      for id = 0, 1 do
        pids[id + 1] = select(2, app:expect('worker', id))
      end
      local name = renew 'a'
      client:send 'worker'
      app:expect('reloaded', 'worker', true)
      serves(a, name)
      os.remove(directory .. '/a.crt') -- nobody reads it again
      client:close()
      for id = 0, 1 do
        support.kill(pids[id + 1], 'KILL')
        pids[id + 1] = select(2, app:expect('worker', id))
      end
      serves(a, name, 8)
      app:connect():send 'reload'
      for id = 0, 1 do
        app:expect('worker', id)
      end
      assert(support.eventually(function() return not support.is_alive(pids[1]) and not support.is_alive(pids[2]) end))
      serves(a, name, 8)
    end)

    it('fails no handshake while certificates change again and again, ' .. mode, function()
      local app, client = boot(mode, '{ worker_num = 2, reactor_num = 2 }')
      local a = app.where[2]
      local other = 'other.example'
      peers.certificate(directory, other)
      local certificates = {}
      for i, name in ipairs { 'a', other } do
        certificates[i] = { crt = support.read_file(directory .. '/' .. name .. '.crt'),
          key = support.read_file(directory .. '/' .. name .. '.key') }
      end
      local clients = load(a, 2)
      for i = 1, SWAPS do
        for ending, text in pairs(certificates[i % 2 + 1]) do
          support.write_file(directory .. '/new', text)
          os.rename(directory .. '/new', directory .. '/a.' .. ending)
        end
        client:send 'worker'
        app:expect('reloaded', 'worker', true)
        clients:pump(0)
      end
      client:send 'worker'
      app:expect('reloaded', 'worker', true)
      serves(a, SWAPS % 2 == 0 and 'a' or other)
      assert.is_true(unharmed(clients) > 0)
    end)

    -- They are longer than the rings by which they, new clients and orders go: clients were refused then, and an order
    -- to end that found no room was lost, so that the server never ended.
    it('leaves room for clients and for the end of the server while large files are on their way, ' .. mode, function()
      local text = support.read_file(directory .. '/b.crt')
      support.write_file(directory .. '/authorities', text:rep(math.ceil(300000 / #text)))
      local app, client = boot(mode, '{ worker_num = 2, reactor_num = 2 }', [[
        tls[1]:set { ssl_client_cert_file = DIRECTORY .. '/authorities' }
        tls[2]:set { ssl_client_cert_file = DIRECTORY .. '/authorities' }
        run(server)
      ]])
      local clients = load(app.where[2], 2)
      local function reload_often()
        for _ = 1, 5 do
          client:send 'worker'
          app:expect('reloaded', 'worker', true)
        end
      end
      reload_often()
      local name = renew 'a'
      reload_often()
      serves(app.where[2], name)
      assert.is_true(unharmed(clients) > 0)
      reload_often()
      app:stop()
    end)
  end)

  for mode, settings in pairs { BASE = '{}', PROCESS = '{ single_thread = true }' } do
    it('works with a reactor that has no thread or process of its own, ' .. mode, function()
      local app, client = boot(mode, settings)
      local first = renew 'a'
      client:send 'worker'
      app:expect('reloaded', 'worker', true)
      serves(app.where[2], first)
      local second = renew 'a'
      app:kill 'HUP'
      app:logs 'the certificates were reloaded'
      serves(app.where[2], second)
    end)
  end

  it('reads the certificates of server names too', function()
    peers.certificate(directory, 'sni')
    local app, client = boot('PROCESS', '{ worker_num = 1 }', [[
      tls[1]:set { ssl_sni_certs = { ['c.example'] = pair 'sni' } }
      run(server)
    ]])
    assert.same({ 'sni' }, names(app.where[2], 1, 'c.example'))
    local name = renew 'sni'
    client:send 'worker'
    app:expect('reloaded', 'worker', true)
    assert(support.eventually(function() return names(app.where[2], 1, 'c.example')[1] == name end))
    assert.same({ 'a' }, names(app.where[2], 1))
  end)

  if ffi.C.geteuid() == 0 then
    it('reads with the rights that the process has', function()
      local app, client = boot('PROCESS', "{ worker_num = 1, user = 'nobody' }")
      support.run { 'chmod', '700', directory }
      local name = renew 'a'
      client:send 'worker'
      app:expect('reloaded', 'worker', false, 13)
      app:kill 'HUP' -- to the master, which is still root
      app:logs 'the certificates were reloaded'
      serves(app.where[2], name)
    end)
  end
end)
