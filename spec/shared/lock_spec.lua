local support = require 'support'

describe('a shared lock', function()
  after_each(support.cleanup)

  it('answers with the codes of its state', function()
    local app = support.boot('PROCESS', [[
      local function code(ok, message, number) return ok, type(message), number end
      for _, kind in ipairs { srvlua.MUTEX, srvlua.SPINLOCK, srvlua.RWLOCK } do
        local lock = srvlua.Lock(kind)
        emit('free', code(lock:unlock()))
        emit('lock', lock:lock())
        emit('own', code(lock:lock()))
        emit('try', code(lock:trylock()))
        emit('unlock', lock:unlock(), lock:lockwait(0.1), lock:unlock(), lock:trylock(), lock:unlock())
      end
      local rw = srvlua.Lock(srvlua.Lock.RWLOCK)
      emit('read', rw:lockRead(), rw:trylockRead(), rw:lock_read(1), rw:trylock_read())
      emit('write', code(rw:trylock()))
      emit('own write', code(rw:lock()))
      emit('given', rw:unlock(), rw:unlock(), rw:unlock(), rw:unlock(), (rw:unlock()))
      emit('kinds', srvlua.RWLOCK, srvlua.MUTEX, srvlua.SPINLOCK, srvlua.Lock.MUTEX, srvlua.Lock.SPINLOCK)
      local mutex = srvlua.Lock()
      emit('raised', (pcall(srvlua.Lock, 99)), (pcall(srvlua.Lock, 2)), (pcall(srvlua.Lock, 4)),
        (pcall(mutex.lockRead, mutex)), (pcall(mutex.trylockRead, mutex)),
        (pcall(mutex.lock, mutex, 'x')), (pcall(mutex.lock)), mutex:trylock())
    ]], { start = false })
    for _ = 1, 3 do
      app:expect('free', false, 'string', 1)
      app:expect('lock', true)
      app:expect('own', false, 'string', 35)
      app:expect('try', false, 'string', 16)
      app:expect('unlock', true, true, true, true, true)
    end
    app:expect('read', true, true, true, true)
    app:expect('write', false, 'string', 16)
    app:expect('own write', false, 'string', 35)
    app:expect('given', true, true, true, true, false)
    app:expect('kinds', 1, 3, 5, 3, 5)
    app:expect('raised', false, false, false, false, false, false, false, true)
  end)

  support.in_both_modes(function(mode)
    it('protects what processes read and write, ' .. mode, function()
      local app = support.boot(mode, [[
        local kinds = { srvlua.MUTEX, srvlua.SPINLOCK, srvlua.RWLOCK }
        local locks, values, ready = {}, {}, srvlua.Atomic()
        for i, kind in ipairs(kinds) do locks[i], values[i] = srvlua.Lock(kind), srvlua.Atomic() end
        local server = new_server { worker_num = 3 }
        server:on('receive', function() end)
        server:on('workerStart', function()
          for i, lock in ipairs(locks) do
            for turn = 1, 1000 do
              assert(lock:lock())
              local value = values[i]:get()
              for _ = 1, turn % 20 do end
              values[i]:set(value + 1)
              assert(lock:unlock())
            end
          end
          if ready:add() == 3 then emit('values', values[1]:get(), values[2]:get(), values[3]:get()) end
        end)
        run(server)
      ]])
      app:expect('values', 3000, 3000, 3000)
    end)

    it('goes to the next one when its holder is killed, who is told, ' .. mode, function()
      local app = support.boot(mode, [[
        local lock, life = srvlua.Lock(), srvlua.Atomic()
        local server = new_server { worker_num = 2 } -- with a manager in both modes
        server:on('receive', function() end)
        server:on('workerStart', function(_, id)
          if id == 1 then return end
          if life:add() == 1 then
            lock:lock()
            emit('held', srvlua.getpid())
            srvlua.sleep(100)
          end
          emit('got', lock:lock(10))
          emit('again', lock:unlock(), lock:trylock())
        end)
        run(server)
      ]])
      support.kill((app:expect 'held'), 'KILL')
      assert.same({ true, 'abandoned' }, { app:expect 'got' })
      assert.same({ true, true }, { app:expect 'again' })
    end)

    it('suspends only the coroutine that waits, also for one of its own process, ' .. mode, function()
      local app = support.boot(mode, [[
        local lock, rw, gate = srvlua.Lock(), srvlua.Lock(srvlua.RWLOCK), srvlua.Atomic()
        local function code(ok, message, number) return ok, number end
        local server = new_server()
        local actions = {
          hold = function() emit('have', lock:lock()); gate:wait(20); emit('unlock', lock:unlock()) end,
          take = function() emit('have', lock:lock(20)); lock:unlock() end,
          soon = function() emit('soon', code(lock:lock(0.02))) end,
          now = function() emit('now', code(lock:lock(0))) end,
          free = function() gate:wakeup() end,
          read = function() emit('reads', rw:lockRead(20)); gate:wait(20); rw:unlock() end,
          read2 = function() emit('reads too', rw:lockRead(20)); rw:unlock() end,
          write = function() emit 'wants'; emit('writes', rw:lock(20)); rw:unlock() end,
        }
        server:on('receive', function(s, fd, _, data)
          s:send(fd, 'pong\n')
          actions[data]()
        end)
        run(server)
      ]])
      local function act(name)
        local client = app:connect()
        client:send(name)
        assert.equal('pong', client:line())
      end
      act 'hold'
      app:expect('have', true)
      act 'now'
      app:expect('now', false, 110)
      act 'take'
      act 'soon'
      app:expect('soon', false, 110)
      assert.equal(0, app:count 'have')
      act 'free'
      app:expect('unlock', true)
      app:expect('have', true)

      -- a writer that waits goes before a reader that comes later
      act 'read'
      app:expect('reads', true)
      act 'write'
      app:expect 'wants'
      act 'read2'
      act 'soon'
      app:expect 'soon' -- time has passed
      assert.equal(0, app:count 'reads too')
      assert.equal(0, app:count 'writes')
      act 'free'
      app:expect('writes', true)
      app:expect('reads too', true)
      assert.equal(0, app:stop())
    end)
  end)

  it('is not kept by a waiting writer of a server that has ended', function()
    local app = support.boot('BASE', [[
      local rw = srvlua.Lock(srvlua.RWLOCK)
      local server = new_server { max_wait_time = 1 }
      server:on('receive', function() end)
      server:on('workerStart', function(s)
        rw:lockRead()
        s:after(1, function() emit 'waits'; rw:lock() end)
        s:after(20, function() s:shutdown() end)
      end)
      run(server)
      emit('after', rw:unlock(), rw:trylockRead(), rw:unlock(), rw:trylock())
    ]], { start = false })
    app:expect 'waits'
    app:expect('returned', true)
    app:expect('after', true, true, true, true)
  end)
end)
