local ffi = require 'ffi'
local support = require 'support'

if not pcall(ffi.typeof, 'struct spec_reload') then
  ffi.cdef [[
    struct spec_reload { int unused; };
    unsigned getuid(void);
  ]]
end

-- What a client sends tells a worker what to do.
local source = [[
  local server = new_server { worker_num = 2, max_wait_time = 0.5 }
  server:on('workerStart', function() emit('workerStart', srvlua.getpid()) end)
  server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
  server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
  server:on('receive', function(s, fd, _, data)
    if data == 'stall' then
      emit 'stalled'
      stall()
    end
    s:send(fd, data)
  end)
  run(server)
]]

describe('a reload', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    -- The order to leave stayed unread in the inbox of the process that had to be killed. The next process there took
    -- it for its own: in BASE mode it left at once, with its clients.
    it('after one that killed a worker gives workers that stay, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, source)
      local manager = app:expect 'manager'
      for _ = 1, 2 do
        app:expect 'workerStart'
      end
      app:connect():send 'stall'
      app:expect 'stalled'
      for _ = 1, 2 do
        support.kill(manager, 'USR1')
        app:expect('afterReload', true)
        for _ = 1, 2 do
          app:expect 'workerStart'
        end
      end
      local clients = { app:connect(), app:connect(), app:connect() }
      local last = support.now() + 1
      while support.now() < last do
        for _, client in ipairs(clients) do
          assert.equal('hello', client:echo 'hello')
        end
      end
      assert.equal(0, app:count 'workerStart')
    end)
  end)

  -- Workers that were still being set up took their successors for predecessors: either waited for the other.
  it('right after the start, of workers that come up in any order, holds nobody up', function()
    for _ = 1, 5 do
      local app = support.boot('PROCESS', [[
        local server = new_server { worker_num = 16, reload_parallel = 0, dispatch_mode = srvlua.DISPATCH_ROUND }
        server:on('managerStart', function() srvlua.Process.kill(srvlua.getpid(), srvlua.SIGUSR1) end)
        server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
        server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
        run(server)
      ]])
      app:expect('afterReload', true)
      local client = app:connect()
      for i = 1, 16 do
        assert.equal(('%02d'):format(i), client:echo(('%02d'):format(i)))
      end
      assert.equal(0, app:log_count 'max_wait_time')
      assert.equal(0, app:stop())
    end
  end)

  -- The old worker went on, but after a second another one was started on its inbox beside it, and the reload never
  -- ended.
  it('that cannot fork fails, and the next one succeeds', function()
    if ffi.C.getuid() ~= 0 then return pending 'only root can become a user whose processes are limited' end
    local app = support.boot('PROCESS', [[
      local ffi = require 'ffi'
      ffi.cdef 'int setuid(unsigned); int getrlimit(int, unsigned long *); int setrlimit(int, const unsigned long *);'
      local server = new_server { worker_num = 1 }
      local limit, is_first = ffi.new 'unsigned long[2]', true
      server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
      server:on('workerStart', function() emit('workerStart', srvlua.getpid()) end)
      server:on('beforeReload', function()
        if not is_first then return end
        is_first = false
        assert(ffi.C.getrlimit(6, limit) == 0) -- NPROC
        assert(ffi.C.setrlimit(6, ffi.new('unsigned long[2]', 1, limit[1])) == 0)
      end)
      server:on('afterReload', function(_, ok)
        assert(ffi.C.setrlimit(6, limit) == 0)
        emit('afterReload', ok)
      end)
      server:on('receive', function(s, fd) s:send(fd, ('%8d'):format(srvlua.getpid())) end)
      assert(ffi.C.setuid(61847) == 0)
      run(server)
    ]])
    local manager, worker, client = app:expect 'manager', app:expect 'workerStart', app:connect()
    support.kill(manager, 'USR1')
    app:expect('afterReload', false)
    assert.equal(worker, tonumber(client:echo 'who are?'))
    support.kill(manager, 'USR1')
    app:expect('afterReload', true)
    assert.equal((app:expect 'workerStart'), tonumber(client:echo 'who are?'))
    assert.equal(0, app:stop())
  end)

  -- A worker did not look at the time before it had worked off a batch of 64 events, and was killed over one of them.
  -- And the second reload put a third worker on the inbox that the second one was still working off: both took from it.
  it('loses nothing when there is more to do than max_wait_time allows', function()
    local app = support.boot('PROCESS', [[
      local ffi = require 'ffi'
      ffi.cdef 'int usleep(unsigned);'
      local server = new_server { worker_num = 1, max_wait_time = 0.3 }
      server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
      server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
      server:on('receive', function(s, fd, _, data)
        ffi.C.usleep(20000)
        s:send(fd, data)
        emit 'served'
      end)
      run(server)
    ]])
    local manager = app:expect 'manager'
    local clients = {}
    for i = 1, 80 do
      clients[i] = app:connect()
    end
    for i = 1, 80 do
      clients[i]:send(('%03d'):format(i))
    end
    app:expect 'served'
    for _ = 1, 3 do
      support.kill(manager, 'USR1')
      app:expect('afterReload', true)
    end
    for i = 1, 80 do
      assert.equal(('%03d'):format(i), clients[i]:receive(3))
    end
    assert.equal(79, app:count 'served')
    assert.equal(0, app:stop())
  end)

  -- A reactor that found answers of both workers took those of the slot's first inbox first, whoever came first.
  it('keeps the order of answers when a reactor finds those of both workers', function()
    local app = support.boot('PROCESS', [[
      local ffi = require 'ffi'
      ffi.cdef 'int usleep(unsigned);'
      local server = new_server { worker_num = 1, max_wait_time = 1 }
      server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
      server:on('workerStart', function()
        srvlua.Timer.tick(1000, function() end) -- keeps it when it wants to leave
        emit 'workerStart'
      end)
      server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
      server:on('receive', function(s, fd, _, data)
        ffi.C.usleep(30000)
        s:send(fd, data)
        emit('served', srvlua.getpid(), #data)
      end)
      run(server)
    ]])
    local manager, client = app:expect 'manager', app:connect()
    app:expect 'workerStart'
    local function send(first, last)
      for i = first, last do
        client:send(('%02d'):format(i))
        support.eventually(function() end, 0.005) -- most are packets of their own
      end
    end
    -- Whether the reactor went over in time to give the new worker something. The order has to be kept if not, too.
    local function round()
      send(0, 9)
      support.kill(manager, 'USR1')
      app:expect 'workerStart'
      support.eventually(function() end, 0.03)
      send(10, 14)
      support.kill(app.pid, support.signals.STOP)
      local seen, quiet_since = 0, support.now()
      support.eventually(function() -- all are served, or those are that the reactor had taken in before
        local count = app:count 'served'
        if count > seen then seen, quiet_since = count, support.now() end
        return support.now() > quiet_since + 0.5
      end)
      support.kill(app.pid, support.signals.CONT)
      local served, first, last = 0, nil, nil
      while served < 30 do
        local pid, bytes = app:expect 'served'
        first, last, served = first or pid, pid, served + bytes
      end
      for i = 0, 14 do
        assert.equal(('%02d'):format(i), client:receive(2))
      end
      app:expect('afterReload', true)
      return first ~= last
    end
    local both = 0
    for _ = 1, 20 do -- each parity is the former one once
      both = both + (round() and 1 or 0)
      if both >= 4 then break end
    end
    assert.truthy(both >= 4, 'the reactor never found answers of both workers')
    assert.equal(0, app:stop())
  end)
end)
