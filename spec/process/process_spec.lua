local support = require 'support'

local function boot(source, args)
  return support.boot('PROCESS', 'local Process = srvlua.Process ' .. source, { start = false, args = args })
end

describe('srvlua.Process in a program', function()
  after_each(support.cleanup)

  it('shows what it is', function()
    local app = boot [[
      local fn = function() end
      local process = Process(fn)
      emit('new', process.id, process.pid, process.pipe > 2, process.callback == fn, process.msgQueueId)
      emit('nothing', process.nothing)
      emit('none', Process(fn, false, 0).id, Process(fn, false, 0).pipe)
      for _, arguments in ipairs { {}, { 1 }, { fn, 1 }, { fn, false, 3 }, { fn, false, 'x' }, { fn, false, 1, 1 } } do
        local _, message = pcall(Process, unpack(arguments))
        emit('raised', message)
      end
      emit('set', process:set { enable_coroutine = true })
      emit('unset', pcall(process.set, process, { enable = true }))
    ]]
    app:expect('new', 1, 0, true, true, -1)
    app:expect('nothing', nil)
    app:expect('none', 2, -1)
    for _, message in ipairs {
      "#1 to 'Process' (function expected, got no value)", "#1 to 'Process' (function expected, got number)",
      "#2 to 'Process' (boolean expected, got number)", "#3 to 'Process' (PIPE_TYPE_* expected, got 3)",
      "#3 to 'Process' (number expected, got string)", "#4 to 'Process' (boolean expected, got number)" } do
      assert.equal('bad argument ' .. message, app:expect 'raised')
    end
    app:expect('set', true)
    app:expect('unset', false, "bad argument #1 to 'set' (a process has only the setting enable_coroutine)")
  end)

  it('sees the end of the other side', function()
    local app = boot [[
      for _, kind in ipairs { srvlua.PIPE_TYPE_STREAM, srvlua.PIPE_TYPE_DGRAM } do
        local process = Process(function(process) process:write 'bye' end, false, kind)
        process:start()
        emit('read', process:read(), process:read())
        emit('write', process:write 'x')
        Process.wait()
        local orphan = Process(function(child) emit('orphan', child:read()) end, false, kind)
        orphan:start()
        orphan:close()
        Process.wait()
      end
    ]]
    for _ = 1, 2 do
      app:expect('read', 'bye', '')
      app:expect('write', false, 'Broken pipe', 32)
      app:expect('orphan', '')
    end
  end)

  it('can be started again when it has ended', function()
    local app = boot [[
      local process = Process(function(process) process:write(process:read():upper()) end)
      for _, word in ipairs { 'one', 'two' } do
        local pid = process:start()
        emit('again', process:start())
        process:write(word)
        emit('read', process:read())
        emit('ended', Process.wait().pid == pid)
      end
    ]]
    for _, word in ipairs { 'ONE', 'TWO' } do
      app:expect('again', false, 'the process is running already', 509)
      app:expect('read', word)
      app:expect('ended', true)
    end
  end)

  it('closes what it is told to', function()
    local app = boot [[
      local process = Process(print)
      local function ends(which)
        process = Process(function() end, false, srvlua.PIPE_TYPE_STREAM)
        emit('close', process:close(which))
        emit('after', select(3, process:write 'x'))
        return process
      end
      ends(srvlua.PIPE_MASTER)
      ends(srvlua.PIPE_WRITE)
      emit('twice', ends(0):close())
      emit('raised', pcall(process.close, process, 5))
      emit('none', Process(print, false, 0):close())
    ]]
    app:expect('close', true)
    app:expect('after', 9)
    app:expect('close', true)
    app:expect('after', 32)
    app:expect('close', true)
    app:expect('after', 9)
    app:expect('twice', false, 'the pipe is closed', 9)
    app:expect('raised', false, "bad argument #1 to 'close' (0 or PIPE_* expected, got 5)")
    app:expect('none', false, 'the process has no pipe', 507)
  end)

  it('limits writing by its time limit, and tells how much went out', function()
    local app = boot [[
      for _, kind in ipairs { srvlua.PIPE_TYPE_STREAM, srvlua.PIPE_TYPE_DGRAM } do
        local process = Process(stall, false, kind)
        process:start()
        process:setTimeout(0.05)
        local large = ('x'):rep(50000)
        local bytes, message, code, sent
        repeat
          sent, bytes, message, code = bytes, process:write(large)
        until bytes ~= #large
        emit('full', sent, bytes and bytes > 0 and bytes < #large, message, code)
        process:setBlocking(false)
        emit('nonblocking', select(3, process:write(large)))
        Process.kill(process.pid, 9)
        Process.wait()
      end
      emit('long', select(3, Process(stall):write(('x'):rep(10000000))))
    ]]
    app:expect('full', 50000)
    app:expect('nonblocking', 11)
    app:expect('full', 50000, false, 'Connection timed out', 110)
    app:expect('nonblocking', 11)
    app:expect('long', 90)
  end)

  it('has signals, timers and clients of its own in the child', function()
    local app = boot [[
      local process = Process(function(process)
        local fired = 0
        emit('signal', Process.signal(srvlua.SIGUSR1, function(signo)
          emit('caught', signo)
          srvlua.Timer.clearAll()
        end))
        srvlua.Timer.tick(10, function() fired = fired + 1 if fired == 3 then emit 'ticks' end end)
      end)
      local pid = process:start()
      emit('child', pid)
      emit('ended', Process.wait().code)
      emit('no loop', Process.signal(srvlua.SIGUSR1, print))
    ]]
    local pid = app:expect 'child'
    app:expect('signal', true)
    app:expect 'ticks'
    support.kill(pid, 'USR1')
    app:expect('caught', 10)
    app:expect('ended', 0)
    app:expect('no loop', false, 'signals are handled by a loop, and this process has none', 509)
  end)

  it('ends with status 255 after an uncaught error anywhere', function()
    local app = boot [[
      local function try(fn, uses_coroutines)
        local process = Process(fn, false, 2, uses_coroutines)
        process:start()
        emit('ended', Process.wait().code)
      end
      try(function() error 'in the function' end)
      try(function() srvlua.Timer.after(5, function() error 'in a timer' end) srvlua.Timer.tick(60000, print) end)
      try(function() srvlua.sleep(0.01) error 'in the coroutine' end, true)
    ]]
    for _ = 1, 3 do
      app:expect('ended', 255)
    end
    for _, where in ipairs { 'in the function', 'in a timer', 'in the coroutine' } do
      app:logs(where)
    end
  end)

  it('becomes another program, whose signals are not blocked', function()
    local app = boot [[
      local process = Process(function(process)
        Process.signal(srvlua.SIGTERM, print)
        process:exec('/bin/sleep', { 60 })
      end)
      emit('pid', process:start())
      emit('ended', Process.wait().signal)
      emit('parent', process:exec '/bin/true')
      emit('relative', pcall(process.exec, process, 'true'))
      emit('arguments', pcall(process.exec, process, '/bin/true', { {} }))
      emit('exit', process:exit())
    ]]
    local pid = app:expect 'pid'
    assert.is_truthy(support.eventually(function() return support.title(pid):find '^/bin/sleep' end))
    support.kill(pid, 'TERM')
    app:expect('ended', 15)
    app:expect('parent', false, 'only the process itself can become another program', 509)
    app:expect('relative', false, "bad argument #1 to 'exec' (path that begins with '/' expected)")
    app:expect('arguments', false, "bad argument #2 to 'exec' (argument 1 is a table)")
    app:expect('exit', false, 'only the process itself can end so', 509)
  end)

  it('goes into the background, with other streams and its loop', function()
    local path = support.directory() .. '/out'
    local app = boot([[
      local process = Process(function()
        local fired = 0
        srvlua.Timer.tick(5, function(id) fired = fired + 1 if fired == 5 then srvlua.Timer.clear(id) end end)
        local parent = srvlua.getpid()
        local file = io.open(arg[2], 'w')
        local ffi = require 'ffi'
        ffi.cdef 'int fileno(void *);'
        emit('daemon', Process.daemon(false, true, { nil, ffi.C.fileno(file) }))
        srvlua.sleep(0.1)
        print('out', srvlua.getpid() ~= parent, fired, io.popen('pwd'):read())
      end, false, 2, true)
      process:start()
      emit('ended', Process.wait().code)
    ]], { path })
    app:expect('ended', 0)
    local expected = '@"daemon",true\nout\ttrue\t5\t/\n'
    assert.is_truthy(support.eventually(function() return support.read_file(path) == expected end))
  end)

  it('may run a loop in its function, and goes on with its own', function()
    local app = boot [[
      local process = Process(function()
        srvlua.Timer.after(30, function() emit 'later' end)
        emit('go', select(3, srvlua.go(print)))
        emit('run', srvlua.run(function()
          srvlua.go(function() srvlua.sleep(0.01) emit 'inside' end)
          emit('again', select(3, srvlua.run(print)))
        end))
        emit('raised', pcall(srvlua.run, function() error({ message = 'caught' }) end))
        emit('go', select(3, srvlua.go(print)))
      end)
      process:start()
      emit('ended', Process.wait().code)
    ]]
    app:expect('go', 509)
    app:expect('again', 509)
    app:expect 'inside'
    app:expect('run', true)
    app:expect('raised', false)
    app:expect('go', 509)
    app:expect 'later'
    app:expect('ended', 0)
  end)

  it('of a loop has nothing of that loop', function()
    local app = boot [[
      srvlua.run(function()
        srvlua.Timer.tick(5, function(id) emit('tick', srvlua.getpid()) srvlua.Timer.clear(id) end)
        local process = Process(function(process)
          emit('child', srvlua.coroutine.id(), #srvlua.Timer.list(), srvlua.Timer.after(1, function() emit 'own' end))
          process:write 'done'
        end)
        process:start()
        emit('recv', process:exportSocket():recv())
        emit('ended', Process.wait().code)
      end)
    ]]
    app:expect('child', -1, 0, 1)
    app:expect 'own'
    app:expect('recv', 'done')
    app:expect('ended', 0)
    app:expect('tick', app.pid)
  end)

  it('tells what the system refuses', function()
    local app = boot [[
      emit('kill', Process.kill(2 ^ 22 + 1))
      emit('signal', pcall(Process.kill, 'x'))
      emit('alarm', select(3, Process.alarm(0)), select(3, Process.alarm(1, 3)))
      for _, cpus in ipairs { {}, { 'x' }, { 0.5 } } do emit('affinity', select(3, Process.setAffinity(cpus))) end
      emit('table', pcall(Process.setAffinity, 1))
      local process = Process(print)
      emit('priority', select(3, process:getPriority(77)), select(3, process:setPriority(77, 1)))
      emit('read', select(3, process:read(0)))
      emit('timeout', pcall(process.setTimeout, process))
    ]]
    app:expect('kill', false, 'No such process', 3)
    app:expect('signal', false, "bad argument #1 to 'kill' (number expected, got string)")
    app:expect('alarm', 505, 505)
    for _ = 1, 3 do
      app:expect('affinity', 505)
    end
    app:expect('table', false, "bad argument #1 to 'setAffinity' (table expected, got number)")
    app:expect('priority', 22, 22)
    app:expect('read', 505)
    app:expect('timeout', false, "bad argument #1 to 'setTimeout' (number expected, got no value)")
  end)
end)
