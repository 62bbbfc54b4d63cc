local support = require 'support'

-- A server whose worker has `process`; the body of that one and what the worker does when data come are given.
local function boot(mode, body, on_receive, settings)
  return support.boot(mode, ([[
    local server = new_server %s
    local process = srvlua.Process(function(process) %s end, false, 2, true)
    server:addProcess(process)
    local number = 0
    server:on('receive', function(s, fd, _, data)
      number = number + 1
      %s
    end)
    run(server)
  ]]):format(settings or '{}', body, on_receive))
end

describe('the pipe of a process', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('serves those who wait in the order in which they came, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        local socket = process:exportSocket()
        for i = 1, 4 do socket:recv() end
        for i = 1, 4 do socket:send('answer ' .. i) end
        srvlua.sleep(60)
      ]], [[
        local mine, socket = number, process:exportSocket()
        socket:send 'x'
        s:send(fd, socket:recv())
      ]])
      local clients = {}
      for i = 1, 4 do
        clients[i] = app:connect()
        clients[i]:send(tostring(i))
        if i < 4 then app:connect():close() end
      end
      local answers = {}
      for i = 1, 4 do
        answers[i] = clients[i]:receive(8)
      end
      table.sort(answers)
      assert.same({ 'answer 1', 'answer 2', 'answer 3', 'answer 4' }, answers)
    end)

    it('has a time limit for each who waits, and tells all of its end, in ' .. mode .. ' mode', function()
      local app = boot(mode, 'srvlua.sleep(60)', [[
        local socket = process:exportSocket()
        if data == 'close' then
          emit('close', socket:close())
          emit('again', socket:close())
          emit('fd', socket.fd, socket:send 'x')
          emit('other', process:exportSocket() ~= socket, process:exportSocket() == process:exportSocket())
        else
          emit('waits', tonumber(data))
          emit('waited', tonumber(data), socket:recv(10, tonumber(data)))
        end
      ]])
      local function ask(data)
        app:connect():send(data)
      end
      ask '0.03'
      app:expect('waited', 0.03, false, 'Connection timed out', 110)
      ask '60'
      app:expect('waits', 60)
      ask '-1'
      app:expect('waits', -1)
      ask '0'
      app:expect('waited', 0, false, 'Connection timed out', 110)
      ask 'close'
      app:expect('close', true)
      app:expect('again', false, 'the socket is closed', 9)
      app:expect('fd', -1, false, 'the socket is closed', 9)
      app:expect('other', true, true)
      app:expect('waited', 60, false, 'the socket is closed', 9)
      app:expect('waited', -1, false, 'the socket is closed', 9)
      assert.equal(0, app:stop())
    end)

    it('suspends who sends more than it takes, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        local socket = process:exportSocket()
        process:write 'ready'
        srvlua.sleep(0.2)
        local count, bytes = 0, 0
        while count < 100 do
          count, bytes = count + 1, bytes + #socket:recv()
        end
        emit('all', count, bytes)
        srvlua.sleep(60)
      ]], [[
        if data == 'ping' then return s:send(fd, 'pong') end
        emit('ready', process:read())
        local socket, sent = process:exportSocket(), 0
        s:send(fd, 'sending')
        for _ = 1, 100 do sent = sent + socket:send(('x'):rep(65535)) end
        emit('sent', sent)
      ]])
      local client, other = app:connect(), app:connect()
      client:send 'go'
      app:expect('ready', 'ready')
      assert.equal('sending', client:receive(7))
      assert.equal('pong', other:echo 'ping')
      assert.equal(0, app:count 'sent')
      app:expect('sent', 6553500)
      app:expect('all', 100, 6553500)
    end)

    it('takes what is written without blocking, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        process:write 'ready'
        srvlua.sleep(0.1)
        local count = 0
        for i = 1, 100 do
          local message = process:read(65536)
          if message:sub(1, 3) ~= ('%03d'):format(i) or #message ~= 60000 then emit('wrong', i, #message) end
          count = count + 1
        end
        emit('all', count)
        stall()
      ]], [[
        process:read()
        emit('set', process:setBlocking(false))
        emit('nothing', process:read())
        local short = 0
        for i = 1, 100 do
          if process:write(('%03d'):format(i) .. ('x'):rep(59997)) ~= 60000 then short = short + 1 end
        end
        emit('written', short)
      ]])
      app:connect():send 'go'
      app:expect('set', true)
      app:expect('nothing', false, 'Resource temporarily unavailable', 11)
      app:expect('written', 0)
      app:expect('all', 100)
      assert.equal(0, app:count 'wrong')
      assert.equal(0, app:stop())
    end)
  end)

  it('cannot suspend inside of a C function', function()
    local app = boot('PROCESS', 'srvlua.sleep(60)', [[
      local socket = process:exportSocket()
      local _, message = pcall(table.sort, { 1, 2, 3 }, function() socket:recv() end)
      emit('sort', message)
    ]])
    app:connect():send 'x'
    assert.truthy(app:expect('sort'):find 'cannot suspend here: inside table.sort$')
  end)

  it('lets timers fire while a plain function waits', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local process = srvlua.Process(function(process)
        local ticks = 0
        server:tick(5, function(id)
          ticks = ticks + 1
          emit('blocks', srvlua.sleep(0.001))
          if ticks == 3 then server:clearTimer(id) end
        end)
        emit('socket', process:exportSocket():recv(100, 0.2))
        emit('ticks', ticks)
        process:setTimeout(0.01)
        emit('pipe', process:read())
        stall()
      end)
      server:addProcess(process)
      server:on('receive', function() end)
      run(server)
    ]])
    for _ = 1, 3 do
      app:expect('blocks', true)
    end
    app:expect('socket', false, 'Connection timed out', 110)
    app:expect('ticks', 3)
    app:expect('pipe', false, 'Connection timed out', 110)
  end)
end)
