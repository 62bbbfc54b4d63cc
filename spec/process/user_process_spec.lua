local support = require 'support'

-- The user process tells what it is, then goes on as the source says.
local function boot(mode, body, rest, options)
  return support.boot(mode, ([[
    local Process = srvlua.Process
    local server = new_server { worker_num = 1 }
    local process
    process = Process(function(process)
      emit('user', srvlua.getpid())
      %s
    end, false, 2, arg[2] == 'coroutine')
    server:addProcess(process)
    server:on('workerError', function(_, id, pid, code, signal) emit('error', id, pid, code, signal) end)
    server:on('receive', function(s, fd, _, data) process:write(data .. ' ' .. fd) end)
    %s
    run(server)
  ]]):format(body, rest or ''), options)
end

describe('a user process', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('has its title and its role in the log, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        srvlua.log(srvlua.LOG_NOTICE, 'here I am')
        stall()
      ]])
      local pid = app:expect 'user'
      assert.equal('srvlua: user 1', support.title(pid))
      assert.truthy(app:logs('here I am'):find(pid .. ' user#1 here I am', 1, true))
      assert.equal(0, app:stop())
    end)

    -- What a process sends is announced at the end of a loop turn, and the loop of this one never turns.
    it('sends at once though its loop does not turn, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        local fd = tonumber(process:read():match '%d+$')
        server:send(fd, 'first')
        server:close(fd)
        stall()
      ]])
      local client = app:connect()
      client:send 'x'
      assert.equal('first', client:receive(5))
      assert.equal('end', client:ending())
    end)

    it('has the pace of its restarts slowed down when it ends at once, in ' .. mode .. ' mode', function()
      local app = boot(mode, '', 'server:set { respawn_burst = 3, respawn_delay_max = 0.2 }')
      app:logs 'user process 1 ended right after its start 4 times in a row'
      assert.equal(0, app:count 'error')
      local pid = app:expect 'user'
      for _ = 1, 6 do
        local next_pid = app:expect 'user'
        assert.not_equal(pid, next_pid)
        pid = next_pid
      end
    end)

    it('ends with status 255 when a handler fails, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        server:after(10, function() error 'the timer blew up' end)
        server:tick(60000, function() end)
      ]])
      local pid = app:expect 'user'
      app:logs 'uncaught error in timer: '
      app:expect('error', 1, pid, 255, 0)
      app:logs(('user process 1 (pid %d) ended with status 255'):format(pid))
    end)

    it('is ended by signals as any program, in ' .. mode .. ' mode', function()
      local app = boot(mode, 'stall()')
      for _, signal in ipairs { 'TERM', 'USR1', 'USR2', 'INT', 'ALRM', 'HUP' } do
        local pid = app:expect 'user'
        support.kill(pid, signal)
        app:expect('error', 1, pid, 0, support.signals[signal])
      end
      app:expect 'user'
      assert.equal(0, app:stop())
    end)

    it('ends after the workers, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        Process.signal(srvlua.SIGTERM, function() emit('user ends') process:exit() end)
        emit 'ready'
        srvlua.sleep(60)
      ]], "server:on('workerStop', function() emit 'worker ends' end)")
      app:expect 'ready'
      assert.equal(0, app:stop())
      local order = {}
      for _, name in ipairs(app:names()) do
        if name:find 'ends' then order[#order + 1] = name end
      end
      assert.same({ 'worker ends', 'user ends' }, order)
    end)

    it('dies with the manager, in ' .. mode .. ' mode', function()
      local app = boot(mode, 'stall()', [[
        server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
      ]])
      app:expect 'user'
      support.kill(app:expect 'manager', 'KILL')
      assert.is_true(app:is_gone())
    end)

    it('runs in a coroutine with a loop of its own, if it wants, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        local socket = process:exportSocket()
        server:tick(20, function() emit 'tick' end)
        while true do
          local fd = tonumber(socket:recv():match '%d+$')
          emit('sent', server:send(fd, 'hello'))
        end
      ]], nil, { args = { 'coroutine' } })
      app:expect 'tick'
      local client = app:connect()
      client:send 'x'
      assert.equal('hello', client:receive(5))
      app:expect('sent', true)
      app:expect 'tick'
      assert.equal(0, app:stop())
    end)

    it('may start processes of its own, which are none of the server, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        local child = Process(function(child)
          emit('child', server:getWorkerId(), select(3, server:send(1, 'x')), select(3, server:shutdown()))
          child:write(tostring(child.pid == srvlua.getpid()))
          Process.kill(srvlua.getpid())
        end)
        child:start()
        emit('read', child:read())
        emit('ended', Process.wait().signal)
        stall()
      ]])
      app:expect('child', false, 509, 509)
      app:expect('read', 'true')
      app:expect('ended', 15)
      assert.equal(0, app:stop())
    end)

    -- Its copies of the clients' sockets kept them open.
    it('of a worker does not keep the worker\'s clients, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server()
        local child = srvlua.Process(function(process) process:read() end)
        server:on('receive', function(s, fd)
          child:start()
          s:close(fd)
        end)
        server:on('workerStop', function() child:write 'go' end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'x'
      assert.equal('end', client:ending())
      assert.equal(0, app:stop())
    end)
  end)

  it('with redirected streams has its output in the pipe', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local process = srvlua.Process(function()
        for line in io.lines() do
          io.stdout:write('<', line, '>')
          io.stdout:flush()
        end
      end, true)
      server:addProcess(process)
      server:on('receive', function(s, fd, _, data)
        process:write(data .. '\n')
        s:send(fd, process:read())
      end)
      run(server)
    ]])
    local client = app:connect()
    client:send 'one'
    assert.equal('<one>', client:receive(5))
    client:send 'two'
    assert.equal('<two>', client:receive(5))
  end)

  it('cannot be added twice, or when it was started', function()
    local app = support.boot('BASE', [[
      local server = new_server()
      local process = srvlua.Process(function() end)
      emit('first', server:addProcess(process))
      emit('second', server:addProcess(process))
      emit('start', process:start())
      local other = srvlua.Process(function() end)
      other:start()
      emit('other', server:addProcess(other))
      srvlua.Process.wait()
      emit('raised', pcall(server.addProcess, server, 1))
    ]], { start = false })
    app:expect('first', 0)
    app:expect('second', false, 'the process was added already', 505)
    app:expect('start', false, 'the process is the server\'s to start', 509)
    app:expect('other', false, 'the process was started by itself', 505)
    local ok, message = app:expect 'raised'
    assert.is_false(ok)
    assert.equal("bad argument #1 to 'addProcess' (srvlua.Process expected, got number)", message)
  end)
end)
