local support = require 'support'

local has_http = package.searchpath and package.searchpath('socket.http', package.path)

describe('srvlua.compat.luasocket', function()
  after_each(support.cleanup)

  it('has helpers that need no server', function()
    local app = support.boot('PROCESS', [[
      local socket = require 'srvlua.compat.luasocket'
      emit('skip', socket.skip(2, 'a', 'b', 'c', 'd'))
      local function named(name) return function(...) return name, ... end end
      local choose = socket.choose { default = named 'default', x = named 'x' }
      emit('choose', choose('x', 1, 2))
      emit('default', choose(1, 2))
      emit('unknown', (pcall(choose, 'y')))
      emit('try', socket.try(1, 2))
      local finalized
      local f = socket.protect(function(...) return socket.newtry(function() finalized = true error 'x' end)(...) end)
      emit('protect', f(nil, 'failed'))
      emit('through', f('a', nil, 'c'))
      emit('finalized', finalized)
      emit('others', pcall(socket.protect(function() error('an error', 0) end)))
      emit('bind', socket.bind('127.0.0.1', 0))
      emit('time', math.abs(socket.gettime() - os.time()) < 5, socket.sleep(-1), socket.sleep(0.001))
      emit('toip', socket.dns.toip '127.0.0.7')
      emit('block', type(socket.BLOCKSIZE), type(socket._VERSION))
      socket.install()
      emit('installed', require 'socket' == socket, require 'socket.core' == socket)
    ]], { start = false })
    app:expect('skip', 'c', 'd')
    app:expect('choose', 'x', 1, 2)
    app:expect('default', 'default', 1, 2)
    app:expect('unknown', false)
    app:expect('try', 1, 2)
    app:expect('protect', nil, 'failed')
    app:expect('through', 'a', nil, 'c')
    app:expect('finalized', true)
    app:expect('others', false, 'an error')
    app:expect('bind', nil, 'not supported')
    app:expect('time', true, nil, nil)
    local address, found = app:expect('toip', '127.0.0.7')
    assert.same({ name = '127.0.0.7', alias = {}, ip = { address } }, found)
    app:expect('block', 'number', 'string')
    app:expect('installed', true, true)
  end)

  -- A peer that answers each line with itself, and closes for `end`.
  local PEER = [[
    local server = new_server()
    server:on('receive', function(_, fd, _, data)
      server:send(fd, data)
      if data:find 'end\n' then server:close(fd) end
    end)
    run(server)
  ]]

  support.in_both_modes(function(mode)
    for _, coroutines in ipairs { true, false } do
      it(('has LuaSocket\'s objects, %s, %s'):format(mode, coroutines and 'suspending' or 'blocking'), function()
        local peer = support.boot('BASE', PEER)
        local app = support.boot(mode, ([[
          local socket = require 'srvlua.compat.luasocket'
          local server = new_server { enable_coroutine = %s }
          server:on('receive', function()
            local port = tonumber(arg[2])
            local c = socket.tcp()
            emit('settimeout', c:settimeout(5), c:settimeout(5, 't'), (pcall(c.settimeout, c, 'x')))
            emit('connect', c:connect('127.0.0.1', arg[2]))
            emit('send', c:send 'hello\r\n', c:send('--part--\n', 3, 6), c:send('--\n', -1), c:send(''),
              c:send('xx', 3))
            emit('receive', c:receive(), c:receive('*l', 'pre-'))
            c:send '12345678901234567890'
            emit('numbers', c:receive(4), c:receive(6, 'ab'), c:receive(2, 'abc'), c:receive(0))
            c:settimeout(0.05)
            emit('timeout', c:receive(20))
            c:settimeout(0)
            emit('now', c:receive '*l')
            c:settimeout(nil)
            emit('names', c:getpeername())
            emit('own', select(3, c:getsockname()), c:getfd() >= 0, c:setoption('tcp-nodelay', true))
            emit('shutdown', c:shutdown 'send', (pcall(c.shutdown, c, 'x')))
            emit('rest', c:receive '*a')
            emit('closed', c:receive '*a')
            emit('close', c:close(), c:close(), c:getfd())
            emit('unconnected', c:send 'x')
            local d = assert(socket.connect('127.0.0.1', port))
            d:send 'a line\nend\n'
            emit('all', d:receive '*a')
            d:close()
            emit('refused', socket.connect('127.0.0.1', 1))
            emit('unsupported', d:bind('127.0.0.1', 0))
            local chunks = {}
            local e = assert(socket.connect('127.0.0.1', port))
            socket.sink('keep-open', e)('some text for the source, end\n')
            for chunk in socket.source('until-closed', e) do chunks[#chunks + 1] = chunk end
            emit('source', table.concat(chunks))
            local f = assert(socket.connect('127.0.0.1', port))
            f:send '123456'
            local source = socket.source('by-length', f, 5)
            emit('by length', source(), source())
            emit('sink', socket.sink('close-when-done', f)())
          end)
          run(server)
        ]]):format(tostring(coroutines)), { args = { tostring(peer.where[1]) } })
        app:connect():send 'go'
        app:expect('settimeout', 1, 1, false)
        app:expect('connect', 1)
        app:expect('send', 7, 6, 3, 0, 2)
        app:expect('receive', 'hello', 'pre-part')
        app:expect('numbers', '1234', 'ab5678', 'abc', '')
        app:expect('timeout', nil, 'timeout', '901234567890')
        app:expect('now', nil, 'timeout', '')
        app:expect('names', '127.0.0.1', peer.where[1], 'inet')
        app:expect('own', 'inet', true, 1)
        app:expect('shutdown', 1, false)
        app:expect('rest', nil, 'closed', '')
        app:expect('closed', nil, 'closed', '')
        app:expect('close', 1, 1, -1)
        app:expect('unconnected', nil, 'closed', 0)
        app:expect('all', 'a line\nend\n')
        app:expect('refused', nil, 'connection refused')
        app:expect('unsupported', nil, 'not supported')
        app:expect('source', 'some text for the source, end\n')
        app:expect('by length', '12345', nil)
        app:expect('sink', 1)
      end)
    end
  end)

  it('has connected datagrams', function()
    local peer = support.boot('BASE', [[
      local server = new_server(nil, srvlua.SOCK_UDP)
      server:on('packet', function(_, data, client) server:sendto(client.address, client.port, data .. '!') end)
      run(server)
    ]])
    local app = support.boot('PROCESS', [[
      local socket = require 'srvlua.compat.luasocket'
      srvlua.run(function()
        local u = socket.udp()
        emit('peer', u:setpeername('127.0.0.1', arg[2]), u:settimeout(5))
        emit('send', u:send 'hello')
        emit('receive', u:receive())
        u:send 'hello'
        emit('cut', u:receive(3))
        u:settimeout(0.05)
        emit('timeout', u:receive())
        emit('unsupported', u:sendto('x', '127.0.0.1', 1), u:receivefrom())
        emit('close', u:close(), u:getfd())
      end)
    ]], { start = false, args = { tostring(peer.where[1]) } })
    app:expect('peer', 1, 1)
    app:expect('send', 1)
    app:expect('receive', 'hello!')
    app:expect('cut', 'hel')
    app:expect('timeout', nil, 'timeout')
    app:expect('unsupported', nil, nil, 'not supported')
    app:expect('close', 1, -1)
  end)

  -- Answers after a moment, with the body chunked, or counted, or until the connection closes.
  local HTTP = [[
    local server = new_server()
    local requests = {}
    server:on('receive', function(_, fd, _, data)
      requests[fd] = (requests[fd] or '') .. data
      local path, headers, body = requests[fd]:match '^%u+ (%S+)(.-)\r\n\r\n(.*)$'
      if not path or #body < tonumber(headers:match 'ength: (%d+)' or 0) then return end
      srvlua.sleep(0.2)
      if path == '/chunked' then
        server:send(fd, 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n')
      elseif path == '/moved' then
        server:send(fd, 'HTTP/1.1 302 Found\r\nLocation: /counted\r\nContent-Length: 0\r\n\r\n')
      elseif path == '/counted' then
        server:send(fd, ('HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s'):format(300000, ('x'):rep(300000)))
      else
        server:send(fd, 'HTTP/1.0 200 OK\r\n\r\n' .. path .. ' ' .. body)
      end
      server:close(fd)
    end)
    run(server)
  ]]

  local declare = has_http and it or pending
  support.in_both_modes(function(mode)
    declare('runs LuaSocket\'s own socket.http, which then suspends only its coroutine, ' .. mode, function()
      local http = support.boot('BASE', HTTP)
      local app = support.boot(mode, [[
        require('srvlua.compat.luasocket').install()
        local request = require('socket.http').request
        local ltn12 = require 'ltn12'
        local server = new_server()
        server:on('receive', function(_, fd, _, data)
          if data == 'ping' then return server:send(fd, 'pong') end
          local url = 'http://127.0.0.1:' .. arg[2]
          emit('begun', data)
          local body, code = request(url .. data)
          emit('response', data, #body < 100 and body or #body, code)
          if data == '/post' then
            local parts = {}
            emit('post', request { url = url .. '/echo', method = 'POST', headers = { ['content-length'] = 3 },
              source = ltn12.source.string 'abc', sink = ltn12.sink.table(parts) }, table.concat(parts))
          end
        end)
        run(server)
      ]], { args = { tostring(http.where[1]) } })
      local paths = { '/chunked', '/counted', '/moved', '/post' }
      for _, path in ipairs(paths) do
        app:connect():send(path)
        app:expect('begun', path)
      end
      local client = app:connect()
      client:send 'ping'
      assert.equal('pong', client:receive(4))
      assert.equal(0, app:count 'response')
      app:expect('response', '/chunked', 'hello world', 200)
      app:expect('response', '/counted', 300000, 200)
      app:expect('response', '/moved', 300000, 200)
      app:expect('response', '/post', '/post ', 200)
      app:expect('post', 1, '/echo abc')
    end)
  end)
end)
