local support = require 'support'

describe('datagrams', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      for _, family in ipairs { 'UDP', 'UDP6' } do
        it('come with their sender and are answered: ' .. family, function()
          local app = support.boot(mode, [[
            local server = new_server({ worker_num = 2 }, srvlua['SOCK_' .. arg[2] ])
            server:on('packet', function(s, data, client)
              emit('packet', data, client, s:getSocket().fd, s.port)
              s:sendto(client.address, client.port, data:upper(), client.server_socket)
            end)
            run(server)
          ]], { args = { family } })
          local host = family == 'UDP' and '127.0.0.1' or '::1'
          app.where[1] = { host, app.where[1] }
          local client = app:datagrams()
          client:send 'hello'
          assert.equal('HELLO', client:receive())
          local data, info, socket, port = app:expect 'packet'
          local _, own_port = client:name()
          assert.equal('hello', data)
          assert.is_true(math.abs(info.dispatch_time - os.time()) < 100)
          info.dispatch_time = nil
          assert.same({ address = host, port = own_port, server_socket = socket, server_port = port }, info)
        end)
      end

      it('keep their boundaries up to the largest, and may be empty', function()
        local app = support.boot(mode, [[
          local server = new_server(nil, srvlua.SOCK_UDP)
          server:on('packet', function(s, data, client)
            emit('packet', #data)
            if data ~= '' then s:sendto(client.address, client.port, data) end
          end)
          run(server)
        ]])
        local client = app:datagrams()
        for _, length in ipairs { 1, 1500, 9000, 65507 } do
          local data = ('%08d'):format(length):rep(8192):sub(1, length)
          client:send(data)
          assert.is_true(client:receive() == data, length)
          app:expect('packet', length)
        end
        client:send ''
        app:expect('packet', 0)
        client:send 'a'
        client:send 'b'
        assert.same({ 'a', 'b' }, { client:receive(), client:receive() })
      end)

      it('on unix sockets are answered by path, if there is one', function()
        local directory = support.directory()
        local app = support.boot(mode, [[
          local server = new_server(nil, srvlua.SOCK_UNIX_DGRAM, arg[2] .. '/server')
          server:on('packet', function(s, data, client)
            emit('packet', data, client)
            if client.address ~= '' then emit('sent', s:send(client.address, data .. '!', client.server_socket)) end
          end)
          run(server)
        ]], { args = { directory }, where = { directory .. '/server' } })
        local client = app:datagrams(1, directory .. '/client')
        for _, length in ipairs { 5, 60000 } do
          local data = ('x'):rep(length)
          client:send(data)
          assert.is_true(client:receive() == data .. '!')
          app:expect('sent', true)
          local _, info = app:expect('packet', data)
          assert.same({ directory .. '/client', 0, nil }, { info.address, info.server_port, info.port })
        end
        app:datagrams(1):send 'anonymous'
        local _, info = app:expect('packet', 'anonymous')
        assert.equal('', info.address)
      end)

      it('go out from every kind of process', function()
        local app = support.boot(mode, [[
          local server = new_server({ worker_num = 2 }, srvlua.SOCK_UDP)
          local function watch(s, name)
            s:tick(5, function(id)
              local file = io.open(arg[2])
              if not file then return end
              s:clearTimer(id)
              emit('sent', s:sendto('127.0.0.1', tonumber((file:read '*a')), name))
            end)
          end
          server:on('packet', function() end)
          server:on('workerStart', function(s, id) watch(s, 'worker ' .. id) end)
          server:on('managerStart', function(s) watch(s, 'manager') end)
          run(server, function(s) watch(s, 'start') end)
        ]], { args = { support.directory() .. '/port' } })
        local client = app:datagrams()
        local _, port = client:name()
        local path = support.title(app.pid):match '(%S+/port)$'
        support.write_file(path .. '.new', tostring(port))
        os.rename(path .. '.new', path)
        local seen = {}
        for _ = 1, 4 do
          seen[client:receive()] = true
          app:expect('sent', true)
        end
        assert.same({ manager = true, start = true, ['worker 0'] = true, ['worker 1'] = true }, seen)
      end)

      it('are refused with a code where they cannot go', function()
        local app = support.boot(mode, [[
          local server = new_server(nil, srvlua.SOCK_UDP)
          local tcp = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          server:addListener('::1', 0, srvlua.SOCK_UDP6)
          local function code(...) return (...) == false and (select(3, ...)) or (...) end
          emit('before', code(server:sendto('127.0.0.1', 9, 'x')))
          server:on('receive', function() end)
          server:on('packet', function(s, data, client)
            emit('codes', code(s:sendto('127.0.0.1', client.port, '')), code(s:sendto('no address', 9, 'x')),
              code(s:sendto('127.0.0.1', 0, 'x')), code(s:sendto('127.0.0.1', 65536, 'x')),
              code(s:sendto('127.0.0.1', 9, ('x'):rep(70000))), code(s:sendto('127.0.0.1', 9, 'x', tcp.sock)),
              code(s:sendto('127.0.0.1', 9, 'x', 12345)), code(s:send('/no/such/path', 'x')),
              code(s:sendto('::1', 9, 'x', client.server_socket)))
            emit('raises', (pcall(s.sendto, s, '127.0.0.1', 9)), (pcall(s.sendto, s, {}, 9, 'x')))
          end)
          run(server)
        ]])
        app:expect('before', 509)
        app:datagrams():send 'x'
        assert.same({ 550, 722, 723, 723, 90, 505, 505, 507, 505 }, { app:expect 'codes' })
        app:expect('raises', false, false)
      end)

      it('live beside streams on the same number, and are no connections', function()
        local directory = support.directory()
        local app = support.boot(mode, [[
          local server = new_server()
          local udp = server:addListener('127.0.0.1', server.port, srvlua.SOCK_UDP)
          local unix = server:addListener(arg[2] .. '/dgram', 0, srvlua.SOCK_UNIX_DGRAM)
          server:on('receive', function(s, fd, _, data) s:send(fd, 'tcp ' .. s:stats().connection_num) end)
          server:on('connect', function(_, fd) emit('connect', fd) end)
          server:on('packet', function(s, data, client) s:sendto(client.address, client.port, 'udp') end)
          unix:on('packet', function(s, data, client) s:send(client.address, 'unix') end)
          run(server)
        ]], { args = { directory } })
        app.where[3] = directory .. '/dgram'
        local udp, unix, tcp = app:datagrams(2), app:datagrams(3, directory .. '/own'), app:connect()
        udp:send 'x'
        unix:send 'x'
        tcp:send 'x'
        assert.same({ 'udp', 'unix', 'tcp 1' }, { udp:receive(), unix:receive(), tcp:receive(5) })
        app:expect('connect', 1)
        assert.same({}, app:names())
      end)

      it('survive an error in their callback', function()
        local app = support.boot(mode, [[
          local server = new_server(nil, srvlua.SOCK_UDP)
          server:on('packet', function(s, data, client)
            if data == 'bad' then error 'bad packet' end
            s:sendto(client.address, client.port, data)
          end)
          run(server)
        ]])
        local client = app:datagrams()
        client:send 'bad'
        client:send 'good'
        assert.equal('good', client:receive())
        app:logs 'bad packet'
      end)

      it('of a multicast group reach the server that joined it', function()
        local app = support.boot(mode, [[
          local server = new_server(nil, srvlua.SOCK_UDP, '0.0.0.0')
          local socket = server:getSocket()
          emit('joined', socket:setOption(srvlua.IPPROTO_IP, srvlua.MCAST_JOIN_GROUP,
            { group = '239.255.77.1', interface = 'lo' }))
          server:on('packet', function(_, data) emit('packet', data) end)
          run(server)
        ]], { start = false })
        app:expect('joined', true)
        app.where = app:expect 'start'
        local socket = require 'socket'
        local sender = assert(socket.udp4())
        assert(sender:setoption('ip-multicast-if', '127.0.0.1'))
        assert(sender:setoption('ip-multicast-loop', true))
        assert(sender:sendto('to the group', '239.255.77.1', app.where[1]))
        sender:close()
        app:expect('packet', 'to the group')
      end)
    end)
  end)
end)
