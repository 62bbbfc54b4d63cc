local support = require 'support'
local peers = require 'support.peer'

-- An app whose function `talk(data)` runs for each piece that a client sends.
local function boot(mode, ports, talk, settings)
  return support.boot(mode, ([[
    local server = new_server { max_wait_time = 0.1, %s } -- sockets stay open
    local PORT, OTHER = tonumber(arg[2]), tonumber(arg[3])
    local socket = srvlua.socket
    local function connect(...)
      local sock = socket.tcp()
      assert(sock:connect('127.0.0.1', ...))
      return sock
    end
    %s
    server:on('receive', function(s, fd, rid, data) talk(data) end)
    run(server)
  ]]):format(settings or '', talk), { args = ports })
end

describe('the pool of client sockets', function()
  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    it('gives connections to the next user, by address or name, ' .. mode, function()
      local one, two = peers.listen(), peers.listen()
      local app = boot(mode, { one.port, two.port }, [[
        function talk(data)
          local first, second = connect(PORT), connect(PORT)
          local fd = first:getfd()
          emit('new', first:getreusedtimes(), second:getreusedtimes())
          emit('kept', second:setkeepalive(), first:setkeepalive(), first:getfd())
          local again = connect(PORT)
          emit('again', again:getreusedtimes(), again:getfd() == fd, connect(OTHER):getreusedtimes(),
            connect(PORT, { pool = 'named' }):getreusedtimes())
          emit('sent', again:send 'x')
          again:setkeepalive()
          emit('thrice', connect(PORT):getreusedtimes())
        end
      ]])
      app:connect():send 'go'
      app:expect('new', 0, 0)
      assert.same({ 1, 1, nil, 'closed' }, { app:expect 'kept' })
      app:expect('again', 1, true, 0, 0)
      app:expect('sent', 1)
      app:expect('thrice', 2)
      one:accept()
      one:accept()
      two:accept()
      one:accept()
      assert.is_false(one:has_client())
    end)

    it('drops connections that end, are reset, send, or are idle too long, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, { listener.port }, [[
        function talk(data)
          local sock = connect(PORT)
          emit('reused', sock:getreusedtimes())
          emit('kept', sock:setkeepalive(tonumber(data)))
        end
      ]])
      local client = app:connect()
      for _, way in ipairs { 'close', 'reset', 'send', 'idle' } do
        client:send(way == 'idle' and '30' or '60000')
        local peer = listener:accept()
        app:expect('reused', 0)
        app:expect('kept', 1)
        if way == 'close' or way == 'reset' then
          peer[way](peer)
        else
          if way == 'send' then peer:send 'nobody asked for this' end
          assert.equal('closed', (peer:ending()))
        end
      end
      client:send '0' -- as long as it stays
      listener:accept()
      app:expect('reused', 0)
      app:expect('kept', 1)
      client:send '0'
      app:expect('reused', 1)
    end)

    it('lets connects wait for a place in turn, ' .. mode, function()
      local listener = peers.listen()
      local app = boot(mode, { listener.port }, [[
        local options = { pool = 'limited', pool_size = 1, backlog = 2 }
        local function wait(name, sock)
          srvlua.go(function()
            sock:settimeouts(name == 'late' and 40 or 5000)
            local ok, err = sock:connect('127.0.0.1', PORT, options)
            emit(name, ok, err, ok and sock:getreusedtimes())
            if not ok then return end
            if name == 'second' then sock:close() else emit('kept', sock:setkeepalive()) end
          end)
        end
        function talk(data)
          local first = connect(PORT, options)
          local late, second, third, fourth = socket.tcp(), socket.tcp(), socket.tcp(), socket.tcp()
          wait('late', late)
          wait('second', second)
          wait('third', third)
          while select(2, late:send 'x') == 'socket busy connecting' do srvlua.sleep(0.01) end
          wait('third', third)
          wait('fourth', fourth)
          emit('cut', third:close())
          wait('fifth', socket.tcp())
          emit('keep', first:setkeepalive())
        end
      ]])
      app:connect():send 'go'
      assert.same({ nil, 'too many waiting connect operations', nil }, { app:expect 'third' })
      assert.same({ nil, 'timeout', nil }, { app:expect 'late' })
      assert.same({ nil, 'too many waiting connect operations', nil }, { app:expect 'fourth' })
      app:expect('cut', 1)
      assert.same({ nil, 'closed', nil }, { app:expect 'third' })
      app:expect('keep', 1)
      assert.same({ 1, nil, 1 }, { app:expect 'second' })
      assert.same({ 1, nil, 0 }, { app:expect 'fifth' }) -- the second one closed, so this has made another connection
      app:expect('kept', 1)
      listener:accept()
      listener:accept()
      assert.is_false(listener:has_client())
    end)
  end)

  it('keeps no more than its size, and the latest ones', function()
    local listener = peers.listen()
    local app = boot('BASE', { listener.port }, [[
      function talk(data)
        local socks = {}
        for i = 1, 4 do socks[i] = connect(PORT) end
        for i = 1, 4 do socks[i]:setkeepalive(60000, i == 1 and 2 or 100) end
        emit 'kept'
        socks = {}
        for i = 1, 3 do socks[i] = connect(PORT) end
        emit('reused', socks[1]:getreusedtimes(), socks[2]:getreusedtimes(), socks[3]:getreusedtimes())
      end
    ]])
    app:connect():send 'go'
    app:expect 'kept'
    local connections = {}
    for i = 1, 4 do
      connections[i] = listener:accept()
    end
    assert.equal('closed', connections[1]:ending())
    assert.equal('closed', connections[2]:ending())
    app:expect('reused', 1, 1, 0)
    assert.is_true(connections[3]:is_quiet() and connections[4]:is_quiet())
  end)

  it('takes no connection with unread input, none that has ended, none in use', function()
    local listener = peers.listen()
    local app = boot('BASE', { listener.port }, [[
      local sock
      function talk(data)
        if data == 'connect' then
          sock = connect(PORT)
          return emit('line', sock:receive())
        end
        emit('keep', sock:setkeepalive())
        emit('fd', type(sock:getfd()))
        if data == 'read' then
          emit('rest', sock:receive(4))
          emit('keep again', sock:setkeepalive())
        end
      end
    ]])
    local client = app:connect()
    client:send 'connect'
    local peer = listener:accept()
    peer:send 'line\nrest' -- in the buffer
    app:expect('line', 'line')
    client:send 'keep'
    assert.same({ nil, 'connection in dubious state' }, { app:expect 'keep' })
    app:expect('fd', 'number')
    client:send 'read'
    assert.same({ nil, 'connection in dubious state' }, { app:expect 'keep' })
    app:expect('rest', 'rest')
    app:expect('keep again', 1)
  end)

  it('ends with its process and does not keep it from leaving; open sockets do', function()
    local listener = peers.listen()
    local app = boot('BASE', { listener.port }, [[
      server:on('workerExit', function() emit 'exit' end)
      function talk(data)
        kept = connect(PORT)
        if data == 'pooled' then kept:setkeepalive(0) end
        emit 'ready'
      end
    ]], 'max_wait_time = 3')
    local client = app:connect()
    client:send 'pooled'
    local pooled = listener:accept()
    app:expect 'ready'
    assert.equal(0, (app:stop()))
    assert.equal(0, app:count 'exit') -- it fires while something keeps the worker
    assert.equal('closed', pooled:ending())
    app = boot('BASE', { listener.port }, [[
      server:on('workerExit', function() emit 'exit' kept:close() end)
      function talk(data)
        kept = connect(PORT)
        emit 'ready'
      end
    ]], 'max_wait_time = 3')
    app:connect():send 'open'
    app:expect 'ready'
    app:kill 'TERM'
    app:expect 'exit'
    assert.equal('closed', listener:accept():ending())
    assert.equal(0, (app:wait()))
  end)
end)
