local support = require 'support'
local peers = require 'support.peer'

-- Uses every kind of call; emits what came of each.
local TALK = [[
  local socket = srvlua.socket
  local function talk(who, port)
    local sock = socket.tcp()
    sock:settimeouts(5000, 5000, 5000)
    emit(who, sock:connect('localhost', port), sock:send { who, '\n' }, sock:receive(), sock:receive(3),
      sock:receiveuntil '--'())
    sock:settimeouts(5000, 5000, 60)
    emit(who .. ' timeout', sock:receive(5))
    emit(who .. ' kept', sock:setkeepalive(), sock:connect('localhost', port), sock:getreusedtimes())
    emit(who .. ' refused', sock:connect('127.0.0.1', 1))
    emit(who .. ' closed', sock:send 'x')
  end
]]

-- Answers the next connection; returns it and who it is.
local function answer(listener)
  local peer = listener:accept()
  local who = peer:receive '*l'
  peer:send 'line\r\nabcuntil--xy'
  return peer, who
end

local function check(app, peer, who)
  app:expect(who, 1, #who + 1, 'line', 'abc', 'until')
  assert.same({ nil, 'timeout', 'xy' }, { app:expect(who .. ' timeout') })
  app:expect(who .. ' kept', 1, 1, 1)
  assert.same({ nil, 'connection refused' }, { app:expect(who .. ' refused') })
  assert.same({ nil, 'closed' }, { app:expect(who .. ' closed') })
  assert.equal('closed', peer:ending())
end

local function serve(app, listener, who)
  local peer, name = answer(listener)
  assert.equal(who, name)
  check(app, peer, who)
end

describe('client sockets in other places', function()
  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    it('block where there is no coroutine, with the same results, ' .. mode, function()
      local listener = peers.listen()
      local app = support.boot(mode, TALK .. [[
        local PORT = tonumber(arg[2])
        local server = new_server { enable_coroutine = false, worker_num = 2 }
        talk('before', PORT)
        server:on('workerStart', function(s, id) if id == 0 then talk('worker', PORT) end end)
        server:on('managerStart', function() talk('manager', PORT) end)
        server:on('receive', function() end)
        server:on('workerStop', function(s, id) if id == 0 then talk('stop', PORT) end end)
        run(server)
      ]], { args = { listener.port }, start = false })
      serve(app, listener, 'before')
      local first, one = answer(listener)
      local second, other = answer(listener)
      assert.is_true(one == 'worker' and other == 'manager' or one == 'manager' and other == 'worker')
      check(app, first, one)
      check(app, second, other)
      app:expect 'start'
      app:kill 'TERM'
      serve(app, listener, 'stop')
      assert.equal(0, (app:wait()))
    end)

    it('suspend in every callback that is a coroutine, ' .. mode, function()
      local listener = peers.listen()
      local app = support.boot(mode, TALK .. [[
        local PORT = tonumber(arg[2])
        local server = new_server()
        server:on('workerStart', function(s)
          talk('workerStart', PORT)
          s:after(1, talk, 'timer', PORT)
        end)
        server:on('connect', function() talk('connect', PORT) end)
        server:on('receive', function(s, fd) s:close(fd) end)
        server:on('close', function() talk('close', PORT) end)
        run(server)
      ]], { args = { listener.port } })
      serve(app, listener, 'workerStart')
      serve(app, listener, 'timer')
      local client = app:connect()
      serve(app, listener, 'connect')
      client:send 'bye'
      serve(app, listener, 'close')
    end)

    it('do not survive fork, and those of the parent go on, ' .. mode, function()
      local listener = peers.listen()
      local app = support.boot(mode, [[
        local PORT = tonumber(arg[2])
        local socket = srvlua.socket
        local sock, pooled, udp = assert(socket.connect('127.0.0.1', PORT)), socket.tcp(), socket.udp()
        assert(pooled:connect('127.0.0.1', PORT))
        pooled:setkeepalive()
        udp:setpeername('127.0.0.1', PORT)
        local server = new_server { worker_num = 2 }
        server:on('workerStart', function(s, id)
          emit('worker', sock:send 'from a worker')
          emit('udp', udp:send 'from a worker')
          local new = assert(socket.connect('127.0.0.1', PORT))
          emit('new', new:getreusedtimes())
          new:close()
        end)
        server:on('receive', function() end)
        server:on('managerStart', function() end)
        server:on('shutdown', function()
          emit('parent', sock:send 'from the parent')
          emit('closed', sock:close())
          emit 'over'
          stall()
        end)
        run(server)
      ]], { args = { listener.port } })
      local first, second = listener:accept(), listener:accept()
      for _ = 1, 2 do
        assert.same({ nil, 'closed' }, { app:expect 'worker' })
        assert.same({ nil, 'closed' }, { app:expect 'udp' })
        app:expect('new', 0)
        assert.equal('closed', listener:accept():ending())
      end
      assert.is_true(first:is_quiet() and second:is_quiet())
      app:kill 'TERM'
      app:expect('parent', 15)
      assert.equal('from the parent', first:receive(15))
      app:expect('closed', 1)
      assert.equal('closed', first:ending()) -- no child holds a copy
      app:expect 'over'
      app:kill 'KILL'
    end)
  end)

  it('work in scripts, and inside of srvlua.run', function()
    local listener = peers.listen()
    local app = support.launch {
      support.launcher, '-e', "local srvlua, emit = require 'support.prelude'() " .. TALK .. [[
        talk('script', tonumber(arg[1]))
        local kept = srvlua.socket.tcp()
        srvlua.run(talk, 'run', tonumber(arg[1]))
        srvlua.run(function()
          assert(kept:connect('127.0.0.1', tonumber(arg[1])))
          srvlua.go(talk, 'second', tonumber(arg[1]))
        end)
        kept:settimeout(50)
        emit('outside', kept:send 'x', kept:receive())
        srvlua.run(function()
          emit('inside', kept:receive())
          kept:settimeout(5000)
          srvlua.go(function() kept:receive() end)
          error 'the end of this run'
        end)
      ]], listener.port,
    }
    serve(app, listener, 'script')
    serve(app, listener, 'run')
    local kept = listener:accept()
    serve(app, listener, 'second')
    assert.same({ 1, nil, 'timeout', '' }, { app:expect 'outside' })
    kept:send 'here\n'
    app:expect('inside', 'here')
    assert.equal(1, (app:wait()))
  end)

  it('can be used again when who waited for them will not go on', function()
    local listener = peers.listen()
    local app = support.launch {
      support.launcher, '-e', "local srvlua, emit = require 'support.prelude'() " .. [[
        local PORT = tonumber(arg[1])
        local socket = srvlua.socket
        local sock, connecting, udp = assert(socket.connect('127.0.0.1', PORT)), socket.tcp(), socket.udp()
        local options = { pool = 'one', pool_size = 1, backlog = 1 }
        udp:setpeername('127.0.0.1', PORT)
        emit('ended', pcall(srvlua.run, function()
          local first = socket.tcp()
          first:connect('127.0.0.1', PORT, options)
          srvlua.go(function() sock:receive() end)
          srvlua.go(function() udp:receive() end)
          srvlua.go(function() connecting:connect('127.0.0.1', PORT, options) end)
          emit('busy', sock:receive())
          error 'over'
        end))
        sock:settimeout(30)
        udp:settimeout(30)
        emit('sock', sock:receive())
        emit('udp', udp:receive())
        emit('connecting', connecting:send 'x')
        emit('closed', sock:close())
      ]], listener.port,
    }
    listener:accept()
    local ended, message = app:expect 'ended'
    assert.is_false(ended)
    assert.matches('over', message)
    assert.same({ nil, 'socket busy reading' }, { app:expect 'busy' })
    assert.same({ nil, 'timeout', '' }, { app:expect 'sock' })
    local _, refused = app:expect 'udp'
    assert.is_true(refused == 'timeout' or refused == 'connection refused')
    assert.same({ nil, 'closed' }, { app:expect 'connecting' })
    app:expect('closed', 1)
    assert.equal(0, (app:wait()))
  end)
end)
