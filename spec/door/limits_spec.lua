-- Limits per address: who is let in is greeted with a byte, who is refused sees the end of the stream before any event.
local support = require 'support'

-- Settings of the port; what the program says of itself comes as events.
local APP = [[
  local function serve(settings, ...)
    local server = new_server(settings, ...)
    server:on('connect', function(s, fd)
      emit('connect', fd, s:getClientInfo(fd).remote_ip)
      s:send(fd, '!')
    end)
    server:on('receive', function(s, fd, _, data)
      if data == 'close' then s:close(fd)
      elseif data == 'pid' then s:send(fd, s.worker_pid .. '\n')
      elseif data == 'aborted' then s:send(fd, s:stats().abort_count .. '\n')
      else s:send(fd, data) end
    end)
    server:on('close', function(_, fd) emit('close', fd) end)
    return server
  end
]]

describe('limits per address', function()
  after_each(support.cleanup)

  -- A client that was let in, or nil.
  local function enter(app, from, index)
    local client = app:connect(index, from)
    local greeting, message = client.sock:receive(1)
    if greeting then return client end
    assert.not_equal('timeout', message)
    client:close()
    return nil
  end

  local function enter_again(app, from, index)
    return assert(support.eventually(function() return enter(app, from, index) end), 'never let in again')
  end

  local function aborted(client)
    client:send 'aborted'
    return tonumber(client:line())
  end

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('refuse more connections than max_connection_per_ip, of that address only', function()
        local app = support.boot(mode, APP .. 'run(serve { max_connection_per_ip = 2 })')
        local first = assert(enter(app, '127.0.0.2'))
        assert.truthy(enter(app, '127.0.0.2'))
        assert.is_nil(enter(app, '127.0.0.2'))
        assert.is_nil(enter(app, '127.0.0.2'))
        assert.truthy(enter(app, '127.0.0.3'))
        assert.truthy(enter(app, '127.0.0.3'))
        assert.is_nil(enter(app, '127.0.0.3'))
        assert.equal(3, aborted(first))
        assert.equal(4, app:count 'connect')
        assert.equal(0, app:count 'close')
        local line = app:logs 'max_connection_per_ip of 2'
        assert.truthy(line:find('127.0.0.2', 1, true), line)
      end)

      it('give the place back whoever closes', function()
        local app = support.boot(mode, APP .. 'run(serve { max_connection_per_ip = 1 })')
        for _, way in ipairs { 'client', 'reset', 'half', 'server' } do
          local client = enter_again(app, '127.0.0.2')
          assert.is_nil(enter(app, '127.0.0.2'), way)
          if way == 'client' then client:close()
          elseif way == 'reset' then client:reset()
          elseif way == 'half' then client:half_close()
          else client:send 'close' end
          app:expect 'close'
        end
        enter_again(app, '127.0.0.2')
      end)

      it('do not bind who is exempt', function()
        local app = support.boot(mode, APP .. [[
          run(serve { max_connection_per_ip = 1, connection_rate_per_ip = 1,
            connection_limit_exempt = { '127.0.0.2', '127.0.1.0/24', '::1' } })
        ]])
        for _ = 1, 5 do
          assert.truthy(enter(app, '127.0.0.2'))
          assert.truthy(enter(app, '127.0.1.77'))
        end
        assert.truthy(enter(app, '127.0.0.3'))
        assert.is_nil(enter(app, '127.0.0.3'))
      end)

      it('let a burst in, refuse what comes faster than connection_rate_per_ip, and let in again', function()
        -- slow enough that no token comes back while the burst is on its way
        local app = support.boot(mode, APP .. 'run(serve { connection_rate_per_ip = 2.5 })')
        local began, let_in, refused = support.now(), 0, 0
        for _ = 1, 8 do
          if enter(app, '127.0.0.2') then let_in = let_in + 1 else refused = refused + 1 end
        end
        local most = 3 + math.floor((support.now() - began) * 2.5)
        assert.is_true(let_in >= 3 and let_in <= most, ('%d let in, %d at most'):format(let_in, most))
        assert.truthy(enter(app, '127.0.0.3'))
        app:logs 'over connection_rate_per_ip of 2.5'
        local client = enter_again(app, '127.0.0.2')
        assert.is_true(aborted(client) >= refused)
      end)

      it('bind both at once, and each port for itself', function()
        local app = support.boot(mode, APP .. [[
          local server = serve { max_connection_per_ip = 1, connection_rate_per_ip = 1000 }
          server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP) -- inherits
          server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set { max_connection_per_ip = 0 }
          run(server)
        ]])
        assert.truthy(enter(app, '127.0.0.2', 1))
        assert.is_nil(enter(app, '127.0.0.2', 1))
        assert.truthy(enter(app, '127.0.0.2', 2))
        assert.is_nil(enter(app, '127.0.0.2', 2))
        for _ = 1, 3 do
          assert.truthy(enter(app, '127.0.0.2', 3))
        end
      end)

      it('bind IPv6 clients', function()
        local app = support.boot(mode, APP .. 'run(serve({ max_connection_per_ip = 1 }, srvlua.SOCK_TCP6))')
        app.where[1] = { '::1', app.where[1] }
        local client = assert(enter(app))
        assert.is_nil(enter(app))
        app:logs '::1 has max_connection_per_ip of 1'
        client:close()
        enter_again(app)
      end)

      it('count IPv4 clients of an IPv6 port by their IPv4 address', function()
        local app = support.boot(mode, APP .. [[
          run(serve({ max_connection_per_ip = 1, connection_limit_exempt = { '127.0.0.4' } }, srvlua.SOCK_TCP6, '::'))
        ]])
        assert.truthy(enter(app, '127.0.0.2'))
        assert.equal('::ffff:127.0.0.2', select(2, app:expect 'connect'))
        assert.is_nil(enter(app, '127.0.0.2'))
        assert.truthy(enter(app, '127.0.0.3'))
        assert.truthy(enter(app, '127.0.0.4'))
        assert.truthy(enter(app, '127.0.0.4'))
      end)

      it('do not bind clients of unix sockets', function()
        local path = support.directory() .. '/socket'
        local app = support.boot(mode, APP .. ([[
          local server = serve { max_connection_per_ip = 1, connection_rate_per_ip = 0.1 }
          server:addListener(%q, 0, srvlua.SOCK_UNIX_STREAM)
          run(server)
        ]]):format(path), { where = { [2] = path } })
        for _ = 1, 4 do
          assert.truthy(enter(app, nil, 2))
        end
      end)

      it('are of all reactors and workers together', function()
        local app = support.boot(mode, APP .. [[
          run(serve { max_connection_per_ip = 6, worker_num = 3, reactor_num = 2 })
        ]])
        local clients = {}
        for i = 1, 6 do
          clients[i] = assert(enter(app, '127.0.0.2'))
        end
        for _ = 1, 6 do
          assert.is_nil(enter(app, '127.0.0.2'))
        end
        for _ = 1, 5 do
          assert.truthy(enter(app, '127.0.0.3'))
        end
        for _, client in ipairs(clients) do
          client:close()
        end
        for _ = 1, 6 do
          enter_again(app, '127.0.0.2')
        end
        assert.is_nil(enter(app, '127.0.0.2'))
      end)

      it('are told at most once a second for each reason', function()
        local app = support.boot(mode, APP .. [[
          run(serve { max_connection_per_ip = 1, connection_rate_per_ip = 0.001, worker_num = 2 })
        ]])
        local client = assert(enter(app, '127.0.0.2')) -- its only token
        assert.truthy(enter(app, '127.0.0.3')):close()
        local began, refused = support.now(), 0
        repeat
          assert.is_nil(enter(app, '127.0.0.2'))
          assert.is_nil(enter(app, '127.0.0.3'))
          refused = refused + 2
        until support.now() - began > 1.2 or refused >= 400
        local most = 1 + math.ceil(support.now() - began)
        assert.is_true(aborted(client) >= refused)
        local too_many = app:log_count 'has max_connection_per_ip'
        local too_fast = app:log_count 'over connection_rate_per_ip'
        assert.is_true(too_many >= 1 and too_many <= most, too_many .. ' lines')
        assert.is_true(too_fast >= 1 and too_fast <= most, too_fast .. ' lines')
      end)
    end)
  end)

  it('give the places of a killed worker back, BASE', function()
    local app = support.boot('BASE', APP .. 'run(serve { max_connection_per_ip = 4, worker_num = 2 })')
    local by_pid = {}
    for _ = 1, 4 do
      local client = assert(enter(app, '127.0.0.2'))
      client:send 'pid'
      local pid = tonumber(client:line())
      by_pid[pid] = by_pid[pid] or {}
      table.insert(by_pid[pid], client)
    end
    assert.is_nil(enter(app, '127.0.0.2'))
    local pid, victims = next(by_pid)
    support.kill(pid, 'KILL')
    for _, client in ipairs(victims) do
      client:ending()
    end
    for _ = 1, #victims do
      enter_again(app, '127.0.0.2')
    end
    assert.is_nil(enter(app, '127.0.0.2'))
  end)

  it('survive a reload in PROCESS mode with the connections', function()
    local app = support.boot('PROCESS', APP .. 'run(serve { max_connection_per_ip = 1 })')
    local client = assert(enter(app, '127.0.0.2'))
    client:send 'pid'
    local pid = client:line()
    app:kill 'USR1'
    assert(support.eventually(function()
      client:send 'pid'
      return client:line() ~= pid
    end))
    assert.is_nil(enter(app, '127.0.0.2'))
    client:close()
    enter_again(app, '127.0.0.2')
  end)

  it('are checked as settings', function()
    local app = support.boot('BASE', [[
      local server = new_server()
      local function try(settings) emit('try', select(2, pcall(server.set, server, settings))) end
      try { max_connection_per_ip = -1 }
      try { connection_rate_per_ip = 100001 }
      try { connection_limit_exempt = { '127.0.0.1/33' } }
      try { connection_limit_exempt = { 'localhost' } }
      try { proxy_protocol_trusted = { '10.0.0.0/8', 'x' } }
      try { open_proxy_protocol = 'x' }
    ]], { start = false })
    for _, name in ipairs { 'max_connection_per_ip', 'connection_rate_per_ip', 'connection_limit_exempt',
      'connection_limit_exempt', 'proxy_protocol_trusted', 'open_proxy_protocol' } do
      local message = app:expect 'try'
      assert.truthy(message:find("bad setting '" .. name .. "'", 1, true), message)
    end
  end)
end)
