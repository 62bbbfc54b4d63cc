local support = require 'support'
local peers = require 'support.peer'

local function boot(mode, port, talk, settings)
  return support.boot(mode, ([[
    local server = new_server { max_wait_time = 0.1, %s } -- sockets stay open
    local PORT, CERT = tonumber(arg[2]), arg[3]
    local socket = srvlua.socket
    local function shake(...)
      local sock = assert(socket.connect('127.0.0.1', PORT))
      local session, err = sock:sslhandshake(...)
      return sock, session, err
    end
    %s
    server:on('receive', function(s, fd, rid, data) talk(data) end)
    run(server)
  ]]):format(settings or '', talk), { args = { port, support.cert } })
end

describe('TLS of client sockets', function()
  local cert, key, other, directory

  setup(function()
    directory = support.directory()
    cert, key = peers.certificate(directory, 'localhost')
    other = peers.certificate(directory, 'other.example')
    support.cert = cert
    directory = directory .. '/'
  end)

  local function files() -- support.cleanup() removes directories
    if support.read_file(cert) then return end
    directory = support.directory() .. '/'
    cert, key = peers.certificate(directory, 'localhost')
    other = peers.certificate(directory, 'other.example')
    support.cert = cert
  end

  before_each(files)

  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    it('carries the same calls, ' .. mode, function()
      local peer = peers.tls(cert, key)
      local app = boot(mode, peer.port, [[
        function talk(data)
          local sock, session = shake(nil, 'localhost')
          emit('session', type(session))
          emit('line', sock:send { 'a line\r\n', 'more' }, sock:receive(), sock:receiveany(1), sock:receive(3))
          local big = ('0123456789abcdef'):rep(2^16)
          srvlua.go(function() emit('sent', sock:send(big)) end)
          emit('big', sock:receive(#big) == big)
          emit('keep', sock:setkeepalive())
          local again = assert(socket.connect('127.0.0.1', PORT))
          emit('again', again:getreusedtimes(), again:sslhandshake(false), again:send 'x\n', again:receive())
          sock:settimeout(20)
          emit('closed', sock:receive())
        end
      ]])
      app:connect():send 'go'
      app:expect('session', 'userdata')
      assert.same({ 'localhost', 'new' }, { peer:handshake(), (select(2, 'localhost', 'new')) })
      app:expect('line', 12, 'a line', 'm', 'ore')
      app:expect('sent', 2 ^ 20)
      app:expect('big', true)
      app:expect('keep', 1)
      app:expect('again', 1, true, 2, 'x')
      assert.same({ nil, 'closed' }, { app:expect 'closed' })
    end)
  end)

  it('verifies chain and name, of hosts and addresses', function()
    local peer = peers.tls(cert, key)
    local app = boot('PROCESS', peer.port, [[
      function talk(data)
        emit('system', select(2, shake(nil, 'localhost', true)))
        socket.ca_file = data
        emit('unknown', select(2, shake(nil, 'localhost', true)))
        socket.ca_file = '/no/such/file'
        emit('no file', select(2, shake(nil, 'localhost', true)))
        socket.ca_file = arg[0]
        socket.ca_file = CERT
        emit('good', select(2, shake(false, 'localhost', true)))
        emit('address', select(2, shake(false, '127.0.0.1', true)))
        emit('chain only', select(2, shake(false, nil, true)))
        emit('wrong name', select(2, shake(false, 'other.example', true)))
        emit('wrong address', select(2, shake(false, '127.0.0.2', true)))
        emit('careless', select(2, shake(false, 'other.example', false)))
        local sock = shake(nil, 'other.example', true)
        emit('then', sock:send 'x')
        socket.ca_file = 1
        emit('raises', pcall(shake, nil, 'localhost', true))
      end
    ]])
    app:connect():send(other)
    for _, name in ipairs { 'system', 'unknown', 'no file', 'wrong name', 'wrong address' } do
      local session, message = app:expect(name)
      assert.is_nil(session, name)
      assert.matches('^certificate verify failed: .', message)
    end
    app:expect('good', true)
    app:expect('address', true)
    app:expect('chain only', true)
    app:expect('careless', true)
    assert.same({ nil, 'closed' }, { app:expect 'then' })
    local ok, message = app:expect 'raises'
    assert.is_false(ok)
    assert.matches('ca_file: a path expected, got number', message)
  end)

  it('resumes sessions, but none that was not verified where that is asked for', function()
    local peer = peers.tls(cert, key)
    local app = boot('BASE', peer.port, [[
      function talk(data)
        socket.ca_file = CERT
        local function try(...)
          local sock, session, err = shake(...)
          emit('talk', session ~= nil, sock:send 'hi\n', sock:receive())
          sock:close()
          return session
        end
        local careless = try(nil, 'localhost')
        try(careless, 'localhost')
        local careful = try(careless, 'localhost', true)
        try(careful, 'localhost', true)
        try(careful, '127.0.0.1', true)
      end
    ]])
    app:connect():send 'go'
    for _, kind in ipairs { 'new', 'resumed', 'new', 'resumed', 'new' } do
      app:expect('talk', true, 3, 'hi')
      local _, was = peer:handshake()
      assert.equal(kind, was)
    end
  end)

  it('tells why a handshake failed and closes', function()
    local plain, listener = peers.listen(), peers.listen()
    local app = boot('BASE', plain.port, [[
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', tonumber(data)))
        sock:settimeouts(150, 150, 150)
        emit('result', sock:sslhandshake(nil, 'localhost'))
        emit('then', sock:send 'x')
        emit('again', sock:sslhandshake())
      end
    ]])
    local client = app:connect()
    local function expect_failure(port, pattern)
      client:send(port)
      local session, message = app:expect 'result'
      assert.is_nil(session)
      assert.matches(pattern, message)
      assert.same({ nil, 'closed' }, { app:expect 'then' })
      assert.same({ nil, 'closed' }, { app:expect 'again' })
    end
    expect_failure(peers.tls(cert, key, 'silent').port, '^timeout$')
    expect_failure(peers.tls(cert, key, 'hang_up').port, '^handshake failed: .')
    expect_failure(peers.tls(cert, key, 'old').port, '^handshake failed: .')
    client:send(listener.port)
    local peer = listener:accept()
    peer:receive(5)
    peer:send 'this is not TLS\n'
    local _, message = app:expect 'result'
    assert.matches('^handshake failed: .', message)
    client:send(plain.port)
    peer = plain:accept()
    peer:receive(5)
    peer:reset()
    _, message = app:expect('result', nil)
    assert.matches('^handshake failed: .', message)
  end)

  it('is refused where plain input has come already', function()
    local listener = peers.listen()
    local app = boot('BASE', listener.port, [[
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', PORT))
        emit('line', sock:receive())
        emit('result', sock:sslhandshake())
        emit('then', sock:send 'x')
      end
    ]])
    app:connect():send 'go'
    local peer = listener:accept()
    peer:send 'S\ninjected'
    app:expect('line', 'S')
    assert.same({ nil, 'connection in dubious state' }, { app:expect 'result' })
    assert.same({ nil, 'closed' }, { app:expect 'then' })
  end)

  it('takes bytes in records of their own, and an end without a goodbye', function()
    local drip, cut = peers.tls(cert, key, 'drip'), peers.tls(cert, key, 'cut')
    local app = boot('BASE', drip.port, [[
      function talk(data)
        local sock = assert(socket.connect('127.0.0.1', tonumber(data)))
        assert(sock:sslhandshake(nil, 'localhost'))
        sock:send 'one\ntwo\nthr##ee\n'
        emit('got', sock:receive(), sock:receive(2), sock:receive(2), sock:receiveuntil '##'(), sock:receive(3))
        emit('rest', sock:send 'x', sock:receive())
      end
    ]])
    local client = app:connect()
    client:send(drip.port)
    app:expect('got', 'one', 'tw', 'o\n', 'thr', 'ee\n')
    client:send(cut.port)
    app:expect('got', 'one', 'tw', 'o\n', 'thr', 'ee\n')
    local _, result, err, partial = app:expect('rest', 1, nil)
    assert.same({ nil, '' }, { result, partial })
    assert.is_true(err == 'closed' or err == 'connection reset by peer', err) -- by whether it has read the x
  end)
end)
