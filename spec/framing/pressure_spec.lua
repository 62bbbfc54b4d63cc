-- Framing when workers are slower than clients: nothing that was read is lost, nobody starves, nothing grows
-- (protocols.md 0.2, 0.3, 1.8).
local support = require 'support'
local framed = require 'support.framed'

local LINES = "open_eof_split = true, package_eof = '\\n', package_max_length = '4m', worker_num = 1"

-- An app whose packets end with '\n'; spend(seconds) keeps its worker busy.
local function boot(mode, settings, source)
  return support.boot(mode, framed.prelude .. ([[
    local function spend(seconds)
      local last = os.clock() + seconds
      repeat until os.clock() >= last
    end
    local server = new_server { %s%s }
  ]]):format(LINES, settings) .. source)
end

-- Kilobytes of memory that a process has.
local function memory_of(pid)
  return tonumber(support.read_file('/proc/' .. pid .. '/status'):match 'VmRSS:%s*(%d+)')
end

support.in_both_modes(function(mode)
  describe('a port with framing and slow workers, ' .. mode .. ',', function()
    after_each(support.cleanup)

    -- The end of the stream was once seen before the packets that waited for room were passed on.
    it('answers all packets of a client that has ended its side', function()
      local app = boot(mode, ", worker_ring_size = '64k'", [[
        local count = 0
        server:on('receive', function(self, fd, reactor, data)
          count = count + 1
          spend(0.0003)
          self:send(fd, count .. '\n')
        end)
        run(server)
      ]])
      local client = app:connect()
      for _ = 1, 30 do
        client:send((('x'):rep(999) .. '\n'):rep(100))
      end
      client:half_close()
      for i = 1, 3000 do
        assert.equal(tostring(i), client:line())
      end
      assert.equal('end', client:ending())
    end)

    -- Who had more to read took all the room before the others' packets, which had been read already.
    it('serves others while one sends more than it can do', function()
      local app = boot(mode, ", worker_ring_size = '64k', package_timeout = 60", [[
        local count = 0
        server:on('receive', function(self, fd, reactor, data)
          if data == 'ask\n' then
            self:send(fd, count .. '\n')
          else
            count = count + 1
            spend(0.0005)
          end
        end)
        run(server)
      ]])
      local busy, client = app:connect(), app:connect()
      for _ = 1, 40 do
        busy:send((('x'):rep(999) .. '\n'):rep(100))
      end
      client:send 'ask\n'
      local count = tonumber(client:line())
      assert.is_true(count < 4000, count .. ' came before')
      repeat
        client:send 'ask\n'
      until tonumber(client:line()) == 4000
    end)

    -- A read of many small packets was worked off before anything else had its turn.
    it('goes on with timers and other clients between the packets of a read', function()
      local app = boot(mode, '', [[
        local count, ticks = 0, 0
        server:on('workerStart', function()
          srvlua.Timer.tick(20, function() ticks = ticks + 1 end)
        end)
        server:on('receive', function(self, fd, reactor, data)
          if data == 'ask\n' then
            self:send(fd, count .. ' ' .. ticks .. '\n')
          else
            count = count + 1
            spend(0.005)
            if count == 100 then self:send(fd, ticks .. '\n') end
          end
        end)
        run(server)
      ]])
      local busy, client = app:connect(), app:connect()
      busy:send_at_once(('a\n'):rep(100))
      client:send 'ask\n'
      if mode == 'BASE' then -- else what came first is in the worker's ring first
        local count = tonumber(client:line():match '%d+')
        assert.is_true(count < 75, count .. ' came before')
      end
      assert.is_true(tonumber(busy:line()) > 5)
    end)

    it('lets the time of a packet pass only while its connection is read', function()
      local app = boot(mode, ', package_timeout = 0.2', [[
        server:on('receive', function(self, fd, reactor, data)
          self:send(fd, framed(data))
          if data ~= 'pause\n' then return end
          self:pause(fd)
          srvlua.Timer.after(600, function() self:resume(fd) end)
        end)
        server:on('close', function(self, fd) emit('close', fd) end)
        run(server)
      ]])
      local client = app:connect()
      client:send_at_once 'pause\npart'
      client:send_at_once 'ial\nx\n'
      assert.same({ 'pause\n', 'partial\n', 'x\n' }, framed.packets(client, 3))
      assert.equal(0, app:count 'close')
    end)

    -- The time limit of a packet that nobody waits for any more cut off what was accepted before the close.
    it('sends all that was accepted before a close, with half a packet there', function()
      local app = boot(mode, ", package_timeout = 1, socket_buffer_size = '64m', output_buffer_size = '64m'", [[
        server:on('receive', function(self, fd, reactor, data)
          self:send(fd, ('x'):rep(1.2e7))
          self:close(fd)
          srvlua.Timer.after(1500, function() emit 'later' end)
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send_at_once 'go\npart'
      app:expect 'later'
      assert.equal(1.2e7, #client:rest())
    end)

    -- The memory of a large packet stayed with the beginning of the next one.
    it('holds about as much as has come of packets that are incomplete', function()
      local app = boot(mode, '', [[
        server:on('receive', function(self, fd, reactor, data) self:send(fd, #data .. '\n') end)
        run(server, function(self) emit('pid', self.master_pid) end)
      ]])
      local pid = mode == 'PROCESS' and app:expect 'pid' or nil
      local clients, before = {}, nil
      for i = 1, 60 do
        clients[i] = app:connect()
        clients[i]:send(('x'):rep(1e6) .. '\n' .. 'y')
        assert.equal('1000001', clients[i]:line())
        if pid and i == 10 then before = memory_of(pid) end
      end
      -- (sanitizers keep what was freed)
      if pid and not os.getenv 'SRVLUA_SANITIZER' then assert.is_true(memory_of(pid) - before < 20000) end
      for i = 1, 60 do
        clients[i]:send 'z\n'
        assert.equal('3', clients[i]:line())
      end
    end)
  end)
end)

describe('a port with framing in BASE', function()
  after_each(support.cleanup)

  -- The rest of a read lay where the unread input of connections is thrown away.
  it('keeps the rest of a read while a callback waits for a task', function()
    local app = boot('BASE', ', task_worker_num = 1, enable_coroutine = false', [[
      local paused
      server:on('task', function() return 'done' end)
      server:on('receive', function(self, fd, reactor, data)
        if data == 'pause\n' then
          paused = fd
          self:pause(fd)
        elseif data == 'wait\n' then
          self:close(paused)
          self:taskwait('work', 5)
        end
        self:send(fd, framed(data))
      end)
      run(server)
    ]])
    local other, client = app:connect(), app:connect()
    other:send 'pause\n'
    assert.equal('pause\n', framed.packet(other))
    other:send_at_once(('z'):rep(20000))
    client:send_at_once('wait\n' .. ('a\n'):rep(1000))
    assert.equal('wait\n', framed.packet(client))
    for _ = 1, 1000 do
      assert.equal('a\n', framed.packet(client))
    end
  end)
end)
