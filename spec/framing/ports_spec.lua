-- What framing has to do with the rest: violations, pausing, limits, dispatching, reload and shutdown
-- (protocols.md 0.2, 0.3, 1.1, 1.2, 1.8).
local support = require 'support'
local framed = require 'support.framed'

local EOF = "{ worker_num = 2, open_eof_split = true, package_eof = '\\n', package_max_length = '4m' %s}"

-- An app whose primary port has packets that end with '\n'.
local function boot(mode, source, more, options)
  local first = ('local server = new_server(%s)\n'):format(EOF:format(more or ''))
  return support.boot(mode, framed.prelude .. first .. source, options)
end

support.in_both_modes(function(mode)
  describe('a port with framing, ' .. mode .. ',', function()
    after_each(support.cleanup)

    it('beside one without: that gives what a read gave, at most 64 KiB', function()
      local app = boot(mode, [[
        server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set {}
        echo(server)
        run(server)
      ]])
      local client, raw = app:connect(1), app:connect(2)
      client:send_at_once 'half'
      raw:send_at_once 'half'
      assert.equal('half', framed.packet(raw))
      client:send_at_once ' and half\n'
      assert.equal('half and half\n', framed.packet(client))
      local data, got = ('0123456789abcdef'):rep(20000), {}
      raw:send(data:sub(1, 160000))
      local length = 0
      while length < 160000 do
        local piece = framed.packet(raw)
        assert.is_true(#piece >= 1 and #piece <= 65536)
        got[#got + 1] = piece
        length = length + #piece
      end
      assert.equal(data:sub(1, 160000), table.concat(got))
    end)

    it('counts the bytes of the stream, and packets', function()
      local app = boot(mode, [[
        server:on('receive', function(self, fd, reactor, data)
          if data ~= 'ask\n' then return end
          local stats = self:stats()
          self:send(fd, framed(stats.total_recv_bytes .. ' ' .. stats.dispatch_count))
        end)
        run(server)
      ]], ', worker_num = 1')
      local client = app:connect()
      client:send_at_once 'one\ntwo\nthree\npar'
      client:send_at_once 'tial\nask\n'
      assert.equal('26 5', framed.packet(client))
    end)

    it('closes for a violation: what was whole is delivered and answered before', function()
      local app = boot(mode, [[
        server:on('receive', function(self, fd, reactor, data)
          srvlua.Timer.after(1, function() end)
          self:send(fd, framed(data))
        end)
        server:on('close', function(self, fd, reactor)
          emit('close', fd, reactor)
          srvlua.Timer.after(10, function()
            local ok, _, code = self:send(fd, 'late')
            emit('late', ok, code)
          end)
        end)
        run(server)
      ]], ", package_max_length = '64k'")
      local other, client = app:connect(), app:connect()
      other:send_at_once 'ha'
      client:send('one\ntwo\n' .. ('x'):rep(65530) .. '\n' .. ('y'):rep(70000))
      assert.same({ 'one\n', 'two\n', ('x'):rep(65530) .. '\n' }, framed.packets(client, 3))
      assert.is_true(client:ending() ~= nil)
      local _, reactor = app:expect 'close'
      assert.is_true(reactor >= 0)
      app:expect('late', false, 1004)
      other:send_at_once 'lf\n'
      assert.equal('half\n', framed.packet(other))
      assert.equal(0, app:count 'close')
      assert.equal(1, app:log_count 'error 1201')
    end)

    it('writes at most ten lines per second about violations, then their number', function()
      local app = support.boot(mode, framed.prelude .. [[
        local server = new_server { worker_num = 1, open_length_check = true, package_length_type = 'c',
          package_body_offset = 1 }
        echo(server)
        run(server)
      ]])
      for _ = 1, 60 do
        local client = app:connect()
        client:send '\xff'
        assert.is_true(client:ending() ~= nil)
        client:close()
      end
      app:logs 'more connections'
      assert(support.eventually(function()
        local sum = app:log_count 'error 1204'
        for number in app.process.err:gmatch '(%d+) more connections' do sum = sum + tonumber(number) end
        return sum == 60
      end), app.process.err)
      local per_second = {}
      for second in app.process.err:gmatch '(%d%d:%d%d:%d%d)[^\n]*error 1204' do
        per_second[second] = (per_second[second] or 0) + 1
        assert.is_true(per_second[second] <= 20) -- the log's seconds are not those that are counted
      end
    end)

    it('that is paused hands on only what was whole already', function()
      local app = boot(mode, [[
        local count = 0
        server:on('receive', function(self, fd, reactor, data)
          count = count + 1
          self:send(fd, framed(data))
          if data ~= 'pause\n' then return end
          self:pause(fd)
          srvlua.Timer.after(100, function()
            local before = count
            srvlua.Timer.after(100, function()
              emit('between', count - before)
              self:resume(fd)
            end)
          end)
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send_at_once 'a\npause\nb\nc'
      assert.same({ 'a\n', 'pause\n' }, framed.packets(client, 2))
      client:send_at_once '\nd\ne'
      app:expect('between', 0)
      client:send_at_once '\n'
      assert.same({ 'b\n', 'c\n', 'd\n', 'e\n' }, framed.packets(client, 4))
    end)

    it('whose connections wait for confirm reads nothing before', function()
      local app = boot(mode, [[
        local confirmed
        server:on('connect', function(self, fd)
          emit('connect', fd)
          srvlua.Timer.after(50, function()
            confirmed = true
            self:confirm(fd)
          end)
        end)
        server:on('receive', function(self, fd, reactor, data)
          self:send(fd, framed(tostring(confirmed) .. data))
        end)
        run(server)
      ]], ', enable_delay_receive = true')
      local client = app:connect()
      client:send_at_once 'one\ntwo\nth'
      app:expect 'connect'
      assert.same({ 'trueone\n', 'truetwo\n' }, framed.packets(client, 2))
      client:send_at_once 'ree\n'
      assert.equal('truethree\n', framed.packet(client))
    end)

    it('drops packets of a connection that its own callback closes', function()
      local app = boot(mode, [[
        server:on('receive', function(self, fd, reactor, data)
          emit('receive', data)
          self:send(fd, framed(data))
          if data == 'close\n' then self:close(fd) end
        end)
        server:on('close', function(self, fd, reactor) emit('close', reactor) end)
        run(server)
      ]])
      local client = app:connect()
      client:send_at_once('a\nclose\n' .. ('b\n'):rep(1000))
      assert.equal('00000002a\n00000006close\n', (client.sock:receive '*a'))
      app:expect('close', -1)
      app:expect('receive', 'a\n')
      app:expect('receive', 'close\n')
      assert.equal(0, app:count 'receive')
    end)

    it('ends a packet that takes too long, and nothing else', function()
      local app = boot(mode, [[
        server:on('receive', function(self, fd, reactor, data) self:send(fd, framed(data)) end)
        server:on('close', function(self, fd, reactor)
          emit('close', reactor >= 0, self:getClientInfo(fd, reactor, true).close_errno)
        end)
        run(server)
      ]], ', package_timeout = 0.3')
      local idle, busy, slow = app:connect(), app:connect(), app:connect()
      idle:send_at_once 'idle\n'
      framed.packet(idle)
      slow:send_at_once 'x'
      local last = support.now() + 5
      repeat
        pcall(slow.send_at_once, slow, 'x') -- it is not idle
        busy:send_at_once 'bu'
        busy:send_at_once 'sy\n'
        assert.equal('busy\n', framed.packet(busy))
      until app:count 'close' > 0 or support.now() > last
      app:expect('close', true, 110)
      assert.is_true(slow:ending() ~= nil)
      idle:send_at_once 'idle\n'
      assert.equal('idle\n', framed.packet(idle))
      assert.equal(0, app:count 'close')
    end)

    it('works on unix sockets', function()
      local path = support.directory() .. '/socket'
      local app = support.boot(mode, framed.prelude .. [[
        local server = srvlua.Server(arg[2], 0, srvlua[arg[1] ], srvlua.SOCK_UNIX_STREAM)
        server:set { worker_num = 1, open_length_check = true, package_length_type = 'n', package_body_offset = 2 }
        echo(server)
        run(server)
      ]], { args = { path }, where = { path } })
      local client = app:connect()
      client:send '\0\1a\0\2b'
      assert.equal('\0\1a', framed.packet(client))
      client:send('c\x9c\x40' .. ('d'):rep(40000))
      assert.same({ '\0\2bc', '\x9c\x40' .. ('d'):rep(40000) }, framed.packets(client, 2))
    end)

    it('keeps the order of a pipeline over reloads', function()
      local app = boot(mode, [[
        server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
        server:on('afterReload', function(_, ok) emit('afterReload', ok) end)
        server:on('receive', function(self, fd, reactor, data) self:send(fd, framed(data)) end)
        run(server)
      ]])
      local client, sent, seen = app:connect(), 0, 0
      for _ = 1, mode == 'PROCESS' and 3 or 1 do
        if mode == 'PROCESS' then app:kill 'USR1' end
        local is_done
        local last = support.now() + 10
        repeat
          is_done = app:count('afterReload', true) > 0 or mode == 'BASE' or support.now() > last
          local lines = {}
          for _ = 1, 200 do
            sent = sent + 1
            lines[#lines + 1] = 'packet ' .. sent .. (' '):rep(sent % 300) .. '\n'
          end
          local data = table.concat(lines)
          client:send_at_once(data:sub(1, #data - 3))
          client:send_at_once(data:sub(#data - 2))
          for _ = 1, 200 do
            seen = seen + 1
            assert.equal('packet ' .. seen .. (' '):rep(seen % 300) .. '\n', framed.packet(client))
          end
        until is_done
        if mode == 'PROCESS' then app:expect('afterReload', true) end
      end
    end)
  end)
end)

describe('a port with framing and workers of its own,', function()
  after_each(support.cleanup)

  -- Packets of all sizes, cut anywhere; each answer says who had it.
  local source = [[
    server:on('receive', function(self, fd, reactor, data)
      local number, size = data:match '^(%d+) (%d+) x*\n$'
      self:send(fd, ('%d %d %s\n'):format(self.worker_id, number or -1, tostring(#data == tonumber(size))))
    end)
    run(server)
  ]]

  local function packets()
    local list = {}
    for i = 1, 300 do
      local size = i % 37 == 0 and 100000 + i or 20 + i
      local head = i .. ' ' .. size .. ' '
      list[i] = head .. ('x'):rep(size - #head - 1) .. '\n'
    end
    return table.concat(list)
  end

  for _, dispatch in ipairs { 'round', 'fd', 'idle', 'stream', 'co_conn', 'co_req', 'concurrent', 'least_latency' } do
    it('dispatches packets, never fragments, in mode ' .. dispatch, function()
      local app = boot('PROCESS', source, (", worker_num = 3, dispatch_mode = '%s'"):format(dispatch))
      local client, seen, workers = app:connect(), {}, {}
      client:send(packets())
      for _ = 1, 300 do
        local worker, number, ok = client:line():match '(%d+) (%d+) (%a+)'
        assert.equal('true', ok)
        assert.is_nil(seen[number])
        seen[number], workers[worker] = true, true
      end
      if dispatch == 'round' then assert.same({ ['0'] = true, ['1'] = true, ['2'] = true }, workers) end
    end)
  end

  it('shows dispatch_func whole packets', function()
    local app = boot('PROCESS', [[
      server:on('receive', function(self, fd, reactor, data)
        self:send(fd, self.worker_id .. ' ' .. #data .. '\n')
      end)
      run(server)
    ]], [[, worker_num = 3, dispatch_func = assert(loadstring [=[ return function(_, _, type, data)
      if type ~= srvlua.DISPATCH_DATA then return 0 end
      return #data == 8180 and 2 or #data % 2
    end ]=])()]])
    local client = app:connect()
    for _, size in ipairs { 10, 11, 8179, 8180, 9000, 70000 } do
      local data = ('x'):rep(size - 1) .. '\n'
      client:send_at_once(data:sub(1, 7))
      client:send(data:sub(8))
      assert.equal((size >= 8180 and 2 or size % 2) .. ' ' .. size, client:line())
    end
  end)

  it('stops reading above max_queued_bytes, and never cuts a packet by it', function()
    local directory = support.directory()
    local app = boot('PROCESS', [[
      server:on('receive', function(self, fd, reactor, data)
        if data == 'hold\n' then hold(arg[2]) end
        self:send(fd, framed(#data .. data:sub(-2)))
      end)
      run(server)
    ]], ', worker_num = 1, max_queued_bytes = 10000', { args = { directory .. '/go' } })
    local client = app:connect()
    client:send_at_once 'hold\n'
    for i = 1, 40 do
      client:send(('x'):rep(i % 5 == 0 and 150000 or 5000) .. '\n')
      if i == 20 then support.write_file(directory .. '/go', '') end
    end
    assert.equal('5d\n', framed.packet(client))
    for i = 1, 40 do
      assert.equal((i % 5 == 0 and '150001' or '5001') .. 'x\n', framed.packet(client))
    end
  end)

  it('delivers in a shutdown the packets that were read', function()
    local directory = support.directory()
    local app = boot('PROCESS', [[
      server:on('receive', function(self, fd, reactor, data)
        if data == 'hold\n' then
          emit 'held'
          hold(arg[2])
        end
        emit('receive', data)
        self:send(fd, framed(data))
      end)
      server:on('workerStart', function(self, id)
        if id ~= 1 then return end
        local bytes = 0
        srvlua.Timer.tick(5, function()
          local now = self:stats().total_recv_bytes
          if now ~= bytes then emit('bytes', now) end
          bytes = now
        end)
      end)
      run(server)
    ]], ', dispatch_func = function() return 0 end', { args = { directory .. '/go' } })
    local client = app:connect()
    client:send_at_once 'hold\n'
    app:expect 'held'
    local data = {}
    for i = 1, 50 do data[i] = 'packet ' .. i .. '\n' end
    data = table.concat(data) .. 'the rest'
    client:send_at_once(data)
    app:expect('bytes', 5 + #data)
    app:kill 'TERM'
    support.write_file(directory .. '/go', '')
    assert.equal('hold\n', framed.packet(client))
    for i = 1, 50 do
      assert.equal('packet ' .. i .. '\n', framed.packet(client))
    end
    assert.equal('end', client:ending())
    assert.equal(0, (app:wait()))
  end)
end)
