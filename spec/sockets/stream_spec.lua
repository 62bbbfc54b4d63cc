local support = require 'support'
local peers = require 'support.peer'

-- An app whose function `talk(data, port)` runs for each line that a client sends, in a coroutine.
local function boot(mode, port, talk, settings)
  return support.boot(mode, ([[
    local server = new_server { max_wait_time = 0.1, %s } -- sockets stay open
    local PORT = tonumber(arg[2]) or arg[2]
    local socket = srvlua.socket
    %s
    server:on('receive', function(s, fd, rid, data)
      if data == 'ping' then return s:send(fd, 'pong') end
      talk(data)
    end)
    run(server)
  ]]):format(settings or '', talk), { args = { port } })
end

describe('client sockets', function()
  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    it('talk without holding up other clients, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, listener.port, [[
        function talk(data)
          local sock = socket.tcp()
          emit('connect', sock:connect('127.0.0.1', PORT))
          emit('sent', sock:send { data, { ' ', 1, { '!' } }, '\n' })
          emit('line', sock:receive())
          emit('close', sock:close())
        end
      ]])
      app:connect():send 'hello'
      local peer = listener:accept()
      app:expect('connect', 1)
      assert.equal(9, app:expect 'sent')
      assert.equal('hello 1!', peer:receive())
      local other = app:connect()
      other:send 'ping'
      assert.equal('pong', other:receive(4))
      peer:send 'an answer\r\n'
      assert.equal('an answer', app:expect 'line')
      app:expect('close', 1)
      assert.equal('closed', peer:ending())
    end)

    it('receive lines, numbers of bytes and all, from pieces of any size, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, listener.port, [[
        function talk(data)
          local sock = assert(socket.connect('127.0.0.1', PORT))
          emit('got', sock:receive(), sock:receive '*l', sock:receive 'l', sock:receive(0), sock:receive(5))
          emit('any', sock:receiveany(2), sock:receiveany(1))
          emit('all', sock:receive '*a')
          emit('again', sock:receive '*a')
          emit('then', sock:receive(1))
          emit('closed', sock:receive())
        end
      ]])
      for _, way in ipairs { 'send', 'drip' } do
        app:connect():send(way)
        local peer = listener:accept()
        peer[way](peer, 'one\r\nt\rw\ro\n\n\0\1\2\r\nxyz')
        assert.same({ 'one', 'two', '', '', '\0\1\2\r\n' }, { app:expect 'got' })
        local first, second = app:expect 'any'
        peer[way](peer, ('rest\n'):rep(3000))
        peer:close()
        assert.equal(('xyz' .. ('rest\n'):rep(3000)), first .. second .. app:expect 'all')
        assert.equal('', app:expect 'again')
        assert.same({ nil, 'closed', '' }, { app:expect 'then' })
        assert.same({ nil, 'closed' }, { app:expect 'closed' })
      end
    end)

    it('give the partial data with timeout, and go on, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, listener.port, [[
        function talk(data)
          local sock = assert(socket.connect('127.0.0.1', PORT))
          sock:settimeouts(1000, 1000, 50)
          local begun = srvlua.hrtime()
          emit('timeout', sock:receive(10))
          local took = (srvlua.hrtime() - begun) / 1e6
          emit('in time', took >= 49 and took < 2000)
          emit('line', sock:receive())
          emit('any', sock:receiveany(5))
          emit('until', sock:receiveuntil('##')())
          sock:settimeout(nil)
          emit('rest', sock:receive(3))
          emit('fd', type(sock:getfd()))
        end
      ]])
      app:connect():send 'go'
      local peer = listener:accept()
      peer:send 'abc'
      assert.same({ nil, 'timeout', 'abc' }, { app:expect 'timeout' })
      app:expect('in time', true)
      assert.same({ nil, 'timeout', '' }, { app:expect 'line' })
      assert.same({ nil, 'timeout' }, { app:expect 'any' })
      assert.same({ nil, 'timeout', '' }, { app:expect 'until' })
      peer:send 'def'
      app:expect('rest', 'def')
      app:expect('fd', 'number')
    end)

    it('have one reader and one writer, and end what waits when they close, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, listener.port, [[
        function talk(data)
          local sock = assert(socket.connect('127.0.0.1', PORT))
          srvlua.go(function() emit('reader', sock:receive(4)) end)
          srvlua.go(function() emit('writer', sock:send(('x'):rep(2^24))) end)
          emit('read', sock:receive())
          emit('any', sock:receiveany(1))
          emit('until', sock:receiveuntil('x')())
          emit('write', sock:send 'y')
          emit('keep', sock:setkeepalive())
          emit('connect', sock:connect('127.0.0.1', PORT))
          emit('shake', sock:sslhandshake())
          emit('close', sock:close())
          emit('closed', sock:send 'z')
        end
      ]])
      app:connect():send 'go'
      local peer = listener:accept()
      peer:send 'ab'
      for _, name in ipairs { 'read', 'any', 'until', 'keep', 'connect', 'shake' } do
        assert.same({ nil, 'socket busy reading' }, { app:expect(name) }, name)
      end
      assert.same({ nil, 'socket busy writing' }, { app:expect 'write' })
      app:expect('close', 1)
      local _, message, partial = app:expect 'reader'
      assert.equal('closed', message)
      assert.equal(partial, ('ab'):sub(1, #partial))
      assert.same({ nil, 'closed' }, { app:expect 'writer' })
      assert.same({ nil, 'closed' }, { app:expect 'closed' })
    end)

    it('can be closed while they connect, and say so to others, ' .. mode, function()
      local app = boot(mode, 1, [[
        function talk(data)
          local sock = socket.tcp()
          srvlua.go(function() emit('connect', sock:connect('192.0.2.1', 9)) end)
          for _, name in ipairs { 'receive', 'send', 'setkeepalive', 'sslhandshake' } do
            emit(name, sock[name](sock, name == 'send' and 'x' or nil))
          end
          emit('again', sock:connect('127.0.0.1', 9))
          emit('close', sock:close())
          emit('twice', sock:close())
        end
      ]])
      app:connect():send 'go'
      local first = { app:expect 'connect' }
      if first[2] == 'closed' then
        for _, name in ipairs { 'receive', 'send', 'setkeepalive', 'sslhandshake', 'again' } do
          assert.same({ nil, 'socket busy connecting' }, { app:expect(name) }, name)
        end
        app:expect('close', 1)
      end -- else there is no route to that network, and the answer came at once
      assert.same({ nil, 'closed' }, { app:expect 'twice' })
    end)

    it('time out when nobody takes what they send, which closes them, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, listener.port, [[
        function talk(data)
          local sock = assert(socket.connect('127.0.0.1', PORT))
          sock:settimeouts(1000, 60, 1000)
          emit('send', sock:send { ('x'):rep(2^23), ('y'):rep(2^23) })
          emit('then', sock:send 'z')
        end
      ]])
      app:connect():send 'go'
      listener:accept()
      assert.same({ nil, 'timeout' }, { app:expect 'send' })
      assert.same({ nil, 'closed' }, { app:expect 'then' })
    end)

    it('move large data in both directions at once, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, listener.port, [[
        function talk(data)
          local sock = assert(socket.connect('127.0.0.1', PORT))
          local big = ('0123456789abcdef'):rep(2^19)
          srvlua.go(function() emit('sent', sock:send { 'a', { big, 'b' } }) end)
          emit('received', sock:receive(#big + 2) == 'a' .. big .. 'b')
        end
      ]])
      app:connect():send 'go'
      local peer = listener:accept()
      local size = 2 ^ 23 + 2
      for _ = 1, 64 do
        peer:send(peer:receive(2 ^ 17))
      end
      peer:send(peer:receive(2))
      assert.equal(size, app:expect 'sent')
      app:expect('received', true)
    end)
  end)

  it('receive parts between patterns, in pieces too', function()
    local listener = peers.listen()
    local app = boot('BASE', listener.port, [[
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', PORT))
        local part = sock:receiveuntil '--aab--'
        emit('parts', part(), part(), part(), part())
        local piece = sock:receiveuntil '##'
        emit('piece', piece(4)) emit('piece', piece(4)) emit('piece', piece(4)) emit('piece', piece(4))
        emit('next', piece(4)) emit('next', piece())
        emit('mixed', piece(2), sock:receive(1), piece())
        local line = sock:receiveuntil('\r\n', { inclusive = true })
        emit('inclusive', line(), line(3), line(3), line(3))
        emit('end', line(300))
        emit('last', part())
        emit('closed', part())
      end
    ]])
    for _, way in ipairs { 'send', 'drip' } do
      app:connect():send(way)
      local peer = listener:accept()
      peer[way](peer, 'alpha--aab----aab------aab--aaab--aab--0123456789####xyz##abXcd##one\r\ntwo\r\n' .. 'tail--aab-')
      peer:close()
      assert.same({ 'alpha', '', '--', 'aaab' }, { app:expect 'parts' })
      assert.same({ '0123' }, { app:expect 'piece' })
      assert.same({ '4567' }, { app:expect 'piece' })
      assert.same({ '89' }, { app:expect 'piece' })
      assert.same({ n = 3 }, { n = select('#', app:expect 'piece') })
      assert.same({ n = 3 }, { n = select('#', app:expect 'next') })
      app:expect('next', 'xyz')
      assert.same({ 'ab', 'X', 'cd' }, { app:expect 'mixed' })
      assert.same({ 'one\r\n', 'two', '\r\n', nil }, { app:expect 'inclusive' })
      assert.same({ nil, 'closed', 'tail--aab-' }, { app:expect 'end' })
      assert.same({ nil, 'closed' }, { app:expect 'last' })
      assert.same({ nil, 'closed' }, { app:expect 'closed' })
    end
  end)

  it('tell why they cannot connect', function()
    local directory = support.directory()
    local listener = peers.listen()
    listener:close()
    local app = boot('PROCESS', listener.port, ([[
      function talk(data)
        emit('refused', socket.tcp():connect('127.0.0.1', PORT))
        emit('by name', socket.tcp():connect('localhost', PORT))
        emit('brackets', socket.tcp():connect('[127.0.0.1]', PORT))
        emit('unknown', socket.tcp():connect('no-such-host.invalid', PORT))
        emit('no path', socket.tcp():connect 'unix:%s/none')
        emit('long', socket.unix():connect(('/x'):rep(60)))
        emit('object', socket.connect('127.0.0.1', PORT))
        emit('unconnected', socket.tcp():send 'x')
        emit('numbers', socket.tcp():getfd())
        emit('reused', socket.tcp():getreusedtimes())
        emit('keep', socket.tcp():setkeepalive())
        emit('shake', socket.tcp():sslhandshake())
        emit('peer', socket.tcp():getpeername())
        emit('option', socket.tcp():setoption('keepalive', true))
      end
    ]]):format(directory))
    app:connect():send 'go'
    assert.same({ nil, 'connection refused' }, { app:expect 'refused' })
    assert.same({ nil, 'connection refused' }, { app:expect 'by name' })
    assert.same({ nil, 'host not found' }, { app:expect 'brackets' })
    assert.same({ nil, 'host not found' }, { app:expect 'unknown' })
    assert.same({ nil, 'no such file or directory' }, { app:expect 'no path' })
    assert.same({ nil, 'file name too long' }, { app:expect 'long' })
    assert.same({ nil, 'connection refused' }, { app:expect 'object' })
    for _, name in ipairs { 'unconnected', 'numbers', 'reused', 'keep', 'shake', 'peer', 'option' } do
      assert.same({ nil, 'closed' }, { app:expect(name) }, name)
    end
  end)

  it('raise for wrong arguments and name them', function()
    local listener = peers.listen()
    local app = boot('BASE', listener.port, [[
      local function message(f, ...) return (select(2, pcall(f, ...))) end
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', PORT))
        local nested = {}
        nested[1] = nested
        for name, list in pairs {
          connect = { {}, { 'h' }, { 'h', 0 }, { 'h', 65536 }, { 'h', 1.5 }, { 'h', 1, 2 }, { 'h\0', 1 },
            { 'h', 1, { pool = 1 } }, { 'h', 1, { pool_size = 0 } }, { 'h', 1, { backlog = -1 } } },
          send = { {}, { print }, { { 1, true } }, { { { print } } }, { nested } },
          receive = { { '*x' }, { -1 }, { 1.5 }, { {} } },
          receiveany = { {}, { 0 }, { 'x' } },
          receiveuntil = { {}, { '' }, { 'x', 1 }, { 'x', { inclusive = 1 } } },
          settimeout = { { -1 }, { 'x' }, { 0/0 } },
          settimeouts = { { 1, 2, -3 }, { {} } },
          setoption = { { 'no-such', 1 }, { 'keepalive' }, { 'sndbuf', true } },
          setkeepalive = { { -1 }, { 1, 0 } },
          sslhandshake = { { 1 }, { nil, 1 }, { nil, nil, 1 } },
        } do
          for i, arguments in ipairs(list) do
            emit(name, i, message(sock[name], sock, unpack(arguments, 1, 3)))
          end
        end
        emit('still', sock:send 'x')
        emit('self', message(sock.receive, 1))
        emit('size', message(sock:receiveuntil 'x', 0))
      end
    ]])
    app:connect():send 'go'
    local peer = listener:accept()
    assert.equal('x', peer:receive(1)) -- nothing else came, and the connection is open
    app:expect('still', 1)
    local counts = { connect = 10, send = 5, receive = 4, receiveany = 3, receiveuntil = 4, settimeout = 3,
      settimeouts = 2, setoption = 3, setkeepalive = 2, sslhandshake = 3 }
    for name, count in pairs(counts) do
      for i = 1, count do
        local _, text = app:expect(name, i)
        assert.matches("bad argument #%d to '" .. name .. "' %(.+%)", text)
      end
    end
    assert.matches("bad self %(srvlua.socket.tcp expected, got number%)", app:expect 'self')
    assert.matches('bytes from 1 on expected', app:expect 'size')
  end)

  it('tell their addresses and take options', function()
    local directory = support.directory()
    local listener, at_path = peers.listen(), peers.listen(directory .. '/peer')
    local app = boot('BASE', listener.port, ([[
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', PORT))
        local ip, port = sock:getpeername()
        emit('peer', ip, port == PORT)
        emit('name', sock:getsockname())
        emit('options', sock:setoption('keepalive', true), sock:setoption('tcp-nodelay', false),
          sock:setoption('reuseaddr', 1), sock:setoption('sndbuf', 65536), sock:setoption('rcvbuf', 65536))
        local path = assert(socket.connect 'unix:%s/peer')
        emit('path', path:getpeername())
        emit('no delay', path:setoption('tcp-nodelay', true))
        emit('unix', socket.unix():connect('%s/peer'))
        collectgarbage()
        emit('open', path:getfd() >= 0)
      end
    ]]):format(directory, directory))
    app:connect():send 'go'
    local peer = listener:accept()
    assert.same({ '127.0.0.1', true }, { app:expect 'peer' })
    assert.same({ '127.0.0.1', select(2, peer.sock:getpeername()) + 0 }, { app:expect 'name' })
    assert.same({ 1, 1, 1, 1, 1 }, { app:expect 'options' })
    app:expect('path', directory .. '/peer')
    assert.same({ nil, 'operation not supported' }, { app:expect 'no delay' })
    app:expect('unix', 1)
    app:expect('open', true)
    at_path:accept()
    assert.equal('closed', at_path:accept():ending()) -- that nobody referred to
  end)

  it('close when they are collected, not before', function()
    local listener = peers.listen()
    local app = boot('BASE', listener.port, [[
      function talk(data)
        if data == 'collect' then collectgarbage() collectgarbage() return emit 'collected' end
        local sock = assert(socket.connect('127.0.0.1', PORT))
        local part = data == 'iterator' and sock:receiveuntil 'x' or nil
        if part then sock = nil collectgarbage() emit('part', part()) end
        emit 'done'
      end
    ]])
    local client = app:connect()
    client:send 'forget'
    local forgotten = listener:accept()
    app:expect 'done'
    assert.is_true(forgotten:is_quiet())
    client:send 'collect'
    app:expect 'collected'
    assert.equal('closed', forgotten:ending())
    client:send 'iterator'
    local held = listener:accept()
    held:send '12x'
    app:expect('part', '12')
  end)

  it('are not kept open by compiled code that has called their iterators', function()
    local listener = peers.listen()
    local app = boot('BASE', listener.port, [[
      function talk(data)
        if data == 'collect' then collectgarbage() collectgarbage() return emit 'collected' end
        for i = 1, 200 do
          local sock = assert(socket.connect('127.0.0.1', PORT))
          sock:settimeout(1)
          local part = sock:receiveuntil 'x'
          for j = 1, 3 do part() end
        end
        emit 'done'
      end
    ]])
    local client = app:connect()
    client:send 'go'
    for _ = 1, 200 do
      listener:accept():send 'x'
    end
    app:expect 'done'
    client:send 'collect'
    app:expect 'collected'
    local descriptors = support.descriptors(app.pid)
    assert.is_true(descriptors < 80, descriptors .. ' descriptors are open')
  end)

  it('take their time limits from the settings', function()
    local listener = peers.listen()
    local app = boot('BASE', listener.port, [[
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', PORT))
        local begun = srvlua.hrtime()
        emit('receive', sock:receive())
        emit('took', (srvlua.hrtime() - begun) / 1e6)
        emit('send', sock:send(('x'):rep(2^24)))
      end
    ]], 'socket_timeout = 0.08, socket_write_timeout = 0.05, socket_connect_timeout = 2')
    app:connect():send 'go'
    listener:accept()
    assert.same({ nil, 'timeout', '' }, { app:expect 'receive' })
    local took = app:expect 'took'
    assert.is_true(took >= 79 and took < 3000, took)
    assert.same({ nil, 'timeout' }, { app:expect 'send' })
  end)
end)
