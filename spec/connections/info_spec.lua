local support = require 'support'

describe('getClientInfo', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('knows where a connection comes from and what it did, ' .. mode, function()
      local directory = support.directory()
      local app = support.boot(mode, [[
        local server = new_server()
        server:addListener('::1', 0, srvlua.SOCK_TCP6)
        server:addListener(arg[2], 0, srvlua.SOCK_UNIX_STREAM)
        server:on('connect', function(s, fd) emit('early', s:getClientInfo(fd)) end)
        server:on('receive', function(s, fd)
          s:send(fd, 'x')
          emit('info', s:getClientInfo(fd), s.ports[fd].port, s.ports[fd].sock, s:connection_info(fd).socket_fd)
        end)
        run(server)
      ]], { args = { directory .. '/socket' } })
      app.where[2] = { '::1', app.where[2] }
      app.where[3] = directory .. '/socket'
      for index, kind in ipairs { 1, 3, 5 } do
        local client = app:connect(index)
        local early = app:expect 'early'
        assert.equal(0, early.last_send_time)
        client:echo 'x'
        local info, port, sock, descriptor = app:expect 'info'
        local _, own_port = client:name()
        assert.same({ port, sock, kind }, { info.server_port, info.server_fd, info.socket_type })
        assert.same(({ '127.0.0.1', '::1', '' })[index], info.remote_ip)
        assert.same(index == 3 and 0 or own_port, info.remote_port)
        assert.same({ descriptor, 0, 0, 0 },
          { info.socket_fd, info.reactor_id, info.close_errno, info.recv_queued_bytes })
        assert.is_true(descriptor > 2)
        assert.is_true(math.abs(info.connect_time - os.time()) < 100 and info.connect_time % 1 == 0)
        assert.equal(math.floor(info.last_recv_time), info.last_time)
        assert.is_true(info.last_dispatch_time >= info.connect_time - 1)
        assert.is_true(info.last_dispatch_time >= info.last_recv_time - 1)
        assert.is_nil(info.uid)
        assert.is_nil(info.websocket_status)
      end
    end)

    it('shows a uid that was bound, once, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function(s, fd)
          emit('bound', s:bind(fd, -10))
          emit('uid', s:getClientInfo(fd).uid, (select(3, s:bind(fd, -10))), (select(3, s:bind(fd, 0))),
            (select(3, s:bind(77, 1))), (select(3, s:bind(fd, 4294967296))))
        end)
        run(server)
      ]])
      app:connect():send 'x'
      app:expect('bound', true)
      app:expect('uid', 4294967286, 509, 505, 1005, 505)
    end)
  end)
end)

describe('the list of connections', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('comes in pages, ascending, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('connect', function(_, fd) emit('connect', fd) end)
        server:on('receive', function(s, fd)
          local function code(...) return (select(3, ...)) end
          local pages, last = {}, 0
          repeat
            local page = s:getClientList(last, 4)
            pages[#pages + 1] = page
            last = page[#page]
          until #page == 0
          emit('pages', pages, #s:connection_list(), #s:getClientList(0, 100))
          emit('codes', code(s:getClientList(0, 101)), code(s:getClientList(0, 0)), code(s:getClientList(2, 5)),
            code(s:getClientList(99, 5)))
        end)
        server:on('close', function(_, fd) emit('close', fd) end)
        run(server)
      ]])
      local clients = {}
      for i = 1, 11 do
        clients[i] = app:connect()
        app:expect('connect', i)
      end
      clients[2]:close()
      app:expect('close', 2)
      clients[1]:send 'x'
      local pages, default, all = app:expect 'pages'
      assert.same({ { 1, 3, 4, 5 }, { 6, 7, 8, 9 }, { 10, 11 }, {} }, pages)
      assert.same({ 10, 10 }, { default, all })
      app:expect('codes', 505, 505, 1005, 1005)
    end)

    it('is walked by server.connections, and by those of a port, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        local port = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        server:on('connect', function(_, fd) emit('connect', fd) end)
        server:on('receive', function(s, fd)
          local function list(connections)
            local fds = {}
            for other in connections() do fds[#fds + 1] = other end
            return fds
          end
          local all, walked = s.connections, {}
          for other in all() do
            walked[#walked + 1] = other
            if other == 2 then s:close(3) end
          end
          emit('all', list(all), all:count(), all:has(1), all:has(3), all:info(1).server_port == s.port, all:has(99))
          emit('walked', walked)
          emit('port', list(port.connections), list(s.ports[1].connections))
        end)
        run(server)
      ]])
      local clients = {}
      for i = 1, 5 do
        clients[i] = app:connect(i % 2 == 0 and 2 or 1)
        app:expect('connect', i)
      end
      clients[5]:send 'x'
      local all, count, has_1, has_3, is_info, has_99 = app:expect 'all'
      assert.same({ 1, 2, 4, 5 }, all)
      assert.is_true(count == 4 or count == 5) -- the closed one counts until its socket is
      assert.same({ true, false, true, false }, { has_1, has_3, is_info, has_99 })
      assert.same({ 1, 2, 4, 5 }, (app:expect 'walked'))
      assert.same({ { 2, 4 }, { 1, 5 } }, { app:expect 'port' })
    end)
  end)

  it('is that of the whole server in PROCESS mode, of the worker in BASE mode', function()
    for _, mode in ipairs { 'PROCESS', 'BASE' } do
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function(s, fd, _, data)
          local own = 0
          for _ in s.connections() do own = own + 1 end
          s:send(fd, ('%d %d %s\n'):format(s.worker_id, own, tostring(s:exist(1))))
        end)
        run(server, function(s) emit('none', #s:getClientList()) end)
      ]])
      app:expect('none', 0)
      local clients, counts = {}, { [0] = 0, 0 }
      for i = 1, 12 do
        clients[i] = app:connect()
        clients[i]:send 'x'
        local worker = tonumber(clients[i]:line():match '%d')
        counts[worker] = counts[worker] + 1
      end
      for i = 1, 12 do
        clients[i]:send 'x'
        local worker, own, exists = clients[i]:line():match '(%d) (%d+) (%a+)'
        assert.equal(mode == 'PROCESS' and 12 or counts[tonumber(worker)], tonumber(own))
        if mode == 'PROCESS' then assert.equal('true', exists) end
      end
    end
  end)
end)

describe('reading', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('stops at pause and goes on at resume, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('connect', function(s, fd)
          emit('paused', s:pause(fd), s:pause(fd), (select(3, s:pause(99))), (select(3, s:resume(99))))
          s:send(fd, 'paused') -- reaches the reactor behind the pause
          s:after(100, function()
            is_resumed = true
            emit('resumed', s:resume(fd), s:resume(fd))
          end)
        end)
        server:on('receive', function(s, fd, _, data) emit('receive', is_resumed) s:send(fd, data) end)
        run(server)
      ]])
      local client = app:connect()
      app:expect('paused', true, true, 1005, 1005)
      client:receive(#'paused')
      client:send 'waits'
      assert.equal('waits', client:receive(5))
      app:expect('receive', true)
      app:expect('resumed', true, true)
    end)

    it('begins with confirm under enable_delay_receive, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { enable_delay_receive = true }
        server:on('connect', function(s, fd)
          if fd == 2 then return s:close(fd) end
          s:after(50, function()
            emit('confirmed', s:confirm(fd))
            emit('again', (select(3, s:confirm(fd))), (select(3, s:confirm(99))))
          end)
        end)
        server:on('receive', function(s, fd, _, data) emit('receive', fd) s:send(fd, data) end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'early'
      assert.equal('early', client:receive(5))
      app:expect('confirmed', true)
      app:expect('again', 509, 1005)
      assert.equal('end', app:connect():ending())
    end)
  end)

  it('under enable_delay_receive needs a connect callback', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { enable_delay_receive = true }
      server:on('receive', function() end)
      emit('code', (select(3, server:start())))
    ]], { start = false })
    app:expect('code', 505)
  end)
end)
