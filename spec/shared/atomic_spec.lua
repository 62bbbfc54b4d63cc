local support = require 'support'

describe('a shared number', function()
  after_each(support.cleanup)

  it('has the operations and the widths of its kind', function()
    local app = support.boot('PROCESS', [[
      local a, l = srvlua.Atomic(5), srvlua.Atomic.Long(-5)
      emit('ops', a:get(), a:add(3), a:add(), a:sub(4), a:sub(), a:set(40), a:cmpset(41, 1), a:cmpset(40, 42), a:get())
      a:set(2 ^ 32 - 1)
      emit('wraps', a:add(1), a:sub(1), srvlua.Atomic():get(), srvlua.Atomic(2 ^ 32 - 1):get())
      emit('long', l:get(), l:add(15), l:add(-20), l:sub(-3), l:cmpset(-7, 2 ^ 53), l:get() == 2 ^ 53)
      l:set(9223372036854775807LL)
      emit('wide', tostring(l:get()), tostring(l:add()), l:cmpset(-9223372036854775807LL - 1, 1), l:get())
      emit('no waiting', l.wait, l.wakeup)
      local messages = {}
      for _, try in ipairs {
        function() srvlua.Atomic(-1) end, function() srvlua.Atomic(2 ^ 32) end, function() srvlua.Atomic(1.5) end,
        function() srvlua.Atomic 'x' end, function() a:set(-1) end, function() a:set() end, function() a:add(-1) end,
        function() a:add 'x' end, function() a:cmpset(1) end, function() l:add(0.5) end, function() l:set(2 ^ 63) end,
        function() a:wait(0 / 0) end, function() a:wait 'x' end, function() a:wakeup(0) end, function() a.get() end,
        function() a.get(l.get) end,
      } do
        local ok, message = pcall(try)
        messages[#messages + 1] = not ok and message or 'did not raise'
      end
      emit('raised', messages, a:get())
    ]], { start = false })
    app:expect('ops', 5, 8, 9, 5, 4, true, false, true, 42)
    app:expect('wraps', 0, 4294967295, 0, 4294967295)
    app:expect('long', -5, 10, -10, -7, true, true)
    app:expect('wide', '9223372036854775807LL', '-9223372036854775808LL', true, 1)
    app:expect('no waiting', nil, nil)
    local messages, value = app:expect 'raised'
    assert.equal(16, #messages)
    for _, message in ipairs(messages) do
      assert.truthy(message:find 'bad argument' or message:find 'bad self', message)
    end
    assert.equal(4294967295, value)
  end)

  it('is waited for by processes', function()
    local app = support.boot('PROCESS', [[
      local gate = srvlua.Atomic(1)
      local function timed(timeout)
        local began = srvlua.hrtime()
        local ok, message, code = gate:wait(timeout)
        return ok, type(message), code, (srvlua.hrtime() - began) / 1e9
      end
      emit('taken', gate:wait(), gate:get())
      emit('in vain', timed(0.05))
      emit('looks', timed(0))
      emit('wakes', gate:wakeup(), gate:get(), gate:wakeup(5), gate:get())
      gate:set(7)
      emit('other', gate:wakeup(), gate:get(), timed(0.01))
    ]], { start = false })
    app:expect('taken', true, 0)
    local _, _, _, seconds = app:expect('in vain', false, 'string', 110)
    assert.is_true(seconds >= 0.05)
    app:expect('looks', false, 'string', 110)
    app:expect('wakes', true, 1, true, 1)
    app:expect('other', true, 7, false)
  end)

  support.in_both_modes(function(mode)
    it('is one for all workers, over kills, too, ' .. mode, function()
      local app = support.boot(mode, [[
        local total, lives = srvlua.Atomic(), srvlua.Atomic()
        local server = new_server { worker_num = 4 }
        server:on('receive', function() end)
        server:on('workerStart', function(_, id)
          for _ = 1, 20000 do total:add(1) end
          emit('worker', id, srvlua.getpid(), lives:add())
          if lives:get() == 5 then emit('total', total:get()) end
        end)
        run(server)
      ]])
      for id = 1, 3 do
        app:expect('worker', id)
      end
      local _, pid = app:expect('worker', 0)
      support.kill(pid, 'KILL')
      app:expect('total', 100000)
    end)

    it('suspends only the coroutine that waits, ' .. mode, function()
      local app = support.boot(mode, [[
        local gate = srvlua.Atomic()
        local server = new_server()
        server:on('receive', function(s, fd, _, data)
          if data == 'ping' then
            s:send(fd, 'pong\n')
          elseif data == 'wake' then
            emit('wakes', gate:wakeup())
          elseif data == 'sort' then
            emit('sort', pcall(table.sort, { 1, 2, 3 }, function() return gate:wait(5) end))
          else
            emit 'waits'
            emit('waited', data, gate:wait(tonumber(data)))
          end
        end)
        run(server)
      ]])
      local clients = { app:connect(), app:connect(), app:connect() }
      clients[1]:send '20'
      app:expect 'waits'
      clients[2]:send '0.02'
      local name, ok, _, code = app:expect 'waited'
      assert.same({ '0.02', false, 110 }, { name, ok, code })
      clients[3]:send 'ping'
      assert.equal('pong', clients[3]:line())
      clients[3]:send 'sort'
      local sorted, message = app:expect 'sort'
      assert.is_false(sorted)
      assert.truthy(message:find('cannot suspend here: inside table.sort', 1, true), message)
      clients[3]:send 'wake'
      app:expect('waited', '20', true)
      assert.equal(0, app:stop())
    end)

    it('blocks the worker without coroutines, until another one wakes it, ' .. mode, function()
      local app = support.boot(mode, [[
        local gate, other = srvlua.Atomic(), srvlua.Atomic()
        local server = new_server { worker_num = 2, enable_coroutine = false }
        server:on('receive', function() end)
        server:on('workerStart', function(_, id)
          if id == 0 then
            other:wakeup()
            emit('woken', gate:wait(20))
          else
            other:wait(20)
            srvlua.sleep(0.05)
            gate:wakeup()
          end
        end)
        run(server)
      ]])
      app:expect('woken', true)
    end)
  end)
end)
