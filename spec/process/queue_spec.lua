local support = require 'support'

describe('the message queue of a process', function()
  after_each(support.cleanup)

  local function boot(mode, source)
    return support.boot(mode, 'local Process = srvlua.Process ' .. source, { start = mode ~= 'alone' })
  end

  support.in_both_modes(function(mode)
    it('takes what workers have for a user process, in ' .. mode .. ' mode', function()
      local app = boot(mode, [[
        local server = new_server { worker_num = 1 }
        local process = Process(function(process)
          while true do
            local data = process:pop()
            emit('popped', process.id, data)
            if data == 'die' then Process.kill(srvlua.getpid(), 9) end
          end
        end)
        local other = Process(function(process)
          emit('other', process:pop())
          stall()
        end)
        emit('use', process:useQueue(0, srvlua.MSGQUEUE_ORIENT), process.msgQueueKey)
        other:useQueue(0, srvlua.MSGQUEUE_ORIENT)
        server:addProcess(process)
        server:addProcess(other)
        server:on('receive', function(s, fd)
          emit('push', process:push 'one', process:push 'die', process:push 'two', other:push 'mine')
        end)
        server:on('shutdown', function()
          emit('freed', process:freeQueue(), (process:push 'x'))
          other:freeQueue()
        end)
        run(server)
      ]])
      app:expect('use', true, 0)
      app:connect():send 'x'
      app:expect('push', true, true, true, true)
      app:expect('popped', 1, 'one')
      app:expect('popped', 1, 'die')
      app:expect('popped', 1, 'two')
      app:expect('other', 'mine')
      assert.equal(0, app:stop())
      app:expect('freed', true, false)
    end)
  end)

  it('refuses what it cannot take or give', function()
    local app = boot('alone', [[
      local process = Process(print)
      emit('bare', process:pop())
      emit('mode', pcall(process.useQueue, process, 0, 3))
      emit('key', process:useQueue(2 ^ 33))
      process:useQueue(0, srvlua.MSGQUEUE_BALANCE + srvlua.IPC_NOWAIT, 1000)
      emit('empty', process:pop())
      emit('size', select(3, process:pop(0)))
      emit('push', select(3, process:push ''), select(3, process:push(('x'):rep(65536))))
      process:push(('x'):rep(600))
      emit('full', select(3, process:push(('x'):rep(600))))
      emit('short', select(3, process:pop(599)))
      emit('whole', #process:pop(600))
      emit('freed', process:freeQueue(), (process:freeQueue()))
    ]])
    app:expect('bare', false, 'useQueue was not called', 509)
    app:expect('mode', false,
      "bad argument #2 to 'useQueue' (MSGQUEUE_ORIENT or MSGQUEUE_BALANCE, also + IPC_NOWAIT, expected, got 3)")
    app:expect('key', false, 'a key has 32 bits', 505)
    app:expect('empty', false, 'Resource temporarily unavailable', 11)
    app:expect('size', 505)
    app:expect('push', 550, 1202)
    app:expect('full', 11)
    app:expect('short', 7)
    app:expect('whole', 600)
    app:expect('freed', true, false)
  end)

  it('of a script has the same key in every run', function()
    local path = support.write_file(support.directory() .. '/app.lua', [[
      local srvlua = require 'srvlua'
      local process = srvlua.Process(print)
      process:useQueue(0, 258)
      print(process:pop())
      if arg[1] == 'push' then process:push 'kept' else process:freeQueue() end
    ]])
    assert.equal('false\tResource temporarily unavailable\t11\n', support.run({ support.launcher, path, 'push' }).out)
    assert.equal('kept\n', support.run({ support.launcher, path }).out)
  end)
end)
