local support = require 'support'
local peers = require 'support.peer'

local function boot(mode, port, talk)
  return support.boot(mode, ([[
    local server = new_server { max_wait_time = 0.1 } -- sockets stay open
    local PORT = tonumber(arg[2])
    local socket = srvlua.socket
    %s
    server:on('receive', function(s, fd, rid, data)
      if data == 'ping' then return s:send(fd, 'pong') end
      talk(data)
    end)
    run(server)
  ]]):format(talk), { args = { port } })
end

describe('datagram client sockets', function()
  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    it('keep the boundaries of datagrams and do not block, ' .. mode, function()
      local peer, port = peers.datagrams()
      local app = boot(mode, port, [[
        function talk(data)
          local sock = socket.udp()
          emit('peer', sock:setpeername('127.0.0.1', PORT), type(sock:getfd()))
          emit('sent', sock:send 'first', sock:send { 2, { ' and ', 3 } }, sock:send '')
          emit('received', sock:receive(), sock:receive(3), sock:receive())
          emit('closed', sock:close(), sock:close())
        end
      ]])
      app:connect():send 'go'
      app:expect('peer', 1, 'number')
      app:expect('sent', 1, 1, 1)
      local data, ip, number = peer:receivefrom()
      assert.equal('first', data)
      assert.same({ '2 and 3', '' }, { (peer:receivefrom()), (peer:receivefrom()) })
      local other = app:connect()
      other:send 'ping'
      assert.equal('pong', other:receive(4))
      for _, text in ipairs { 'an\0swer', 'cut to three', '' } do
        peer:sendto(text, ip, number)
      end
      app:expect('received', 'an\0swer', 'cut', '')
      app:expect('closed', 1, nil, 'closed')
    end)

    it('tell of time limits, refusals and what is busy, ' .. mode, function()
      local _, port = peers.datagrams()
      local app = boot(mode, port, [[
        function talk(data)
          local sock = socket.udp()
          emit('none', sock:send 'x')
          emit('unknown', sock:setpeername('no-such-host.invalid', 9))
          emit('still none', sock:receive())
          assert(sock:setpeername('localhost', PORT))
          sock:settimeout(30)
          emit('timeout', sock:receive())
          sock:settimeout()
          srvlua.go(function() emit('reader', sock:receive()) end)
          emit('busy', sock:receive())
          emit('busy too', sock:setpeername('127.0.0.1', PORT))
          emit('close', sock:close())
          local refused = socket.udp()
          refused:setpeername('127.0.0.1', 9)
          refused:send 'x'
          emit('refused', refused:receive())
          refused:settimeout(20)
          emit('usable', refused:receive())
          emit('raises', (pcall(sock.setpeername, sock, 'h')), (pcall(sock.setpeername, sock, 'h', 0)),
            (pcall(sock.send, sock)), (pcall(sock.send, sock, { true })), (pcall(sock.receive, sock, 0)),
            (pcall(sock.settimeout, sock, -1)))
        end
      ]])
      app:connect():send 'go'
      assert.same({ nil, 'closed' }, { app:expect 'none' })
      assert.same({ nil, 'host not found' }, { app:expect 'unknown' })
      assert.same({ nil, 'closed' }, { app:expect 'still none' })
      assert.same({ nil, 'timeout' }, { app:expect 'timeout' })
      assert.same({ nil, 'socket busy reading' }, { app:expect 'busy' })
      assert.same({ nil, 'socket busy reading' }, { app:expect 'busy too' })
      app:expect('close', 1)
      assert.same({ nil, 'closed' }, { app:expect 'reader' })
      assert.same({ nil, 'connection refused' }, { app:expect 'refused' })
      assert.same({ nil, 'timeout' }, { app:expect 'usable' })
      app:expect('raises', false, false, false, false, false, false)
    end)
  end)

  it('talk to unix sockets, which can answer', function()
    local path = support.directory() .. '/peer'
    local unix = require 'socket.unix'
    local peer = assert(unix.dgram())
    assert(peer:bind(path))
    peer:settimeout(5)
    local app = boot('BASE', 0, ([[
      function talk(data)
        local sock = socket.udp()
        emit('peer', sock:setpeername 'unix:%s')
        emit('sent', sock:send 'over a path')
        emit('missing', sock:setpeername 'unix:/no/such/path')
        emit('closed', sock:send 'x')
      end
    ]]):format(path))
    app:connect():send 'go'
    app:expect('peer', 1)
    app:expect('sent', 1)
    assert.equal('over a path', (peer:receive()))
    assert.same({ nil, 'no such file or directory' }, { app:expect 'missing' })
    assert.same({ nil, 'closed' }, { app:expect 'closed' })
    peer:close()
  end)
end)
