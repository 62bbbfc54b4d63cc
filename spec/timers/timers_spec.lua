local support = require 'support'

describe('timers', function()
  after_each(support.cleanup)

  it('are refused before start, with wrong times, and raise for what is no function', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local function code(...) return (select(3, ...)) end
      emit('before', code(server:tick(10, print)), code(server:after(10, print)), code(server:clearTimer(1)),
        code(server:defer(print)), code(srvlua.Timer.tick(10, print)))
      server:on('receive', function() end)
      server:on('workerStart', function(s)
        emit('codes', code(s:tick(0, print)), code(s:after(-1, print)), code(s:clearTimer(77)),
          code(srvlua.Timer.clear(77)))
        emit('raises', (pcall(s.tick, s, 10)), (pcall(s.after, s, 'x', print)), (pcall(s.tick, s, 10, {})),
          (pcall(s.defer, s)))
      end)
      run(server)
    ]])
    assert.same({ 509, 509, 509, 509, 509 }, { app:expect 'before' })
    assert.same({ 505, 505, 505, 505 }, { app:expect 'codes' })
    app:expect('raises', false, false, false, false)
  end)

  support.in_both_modes(function(mode)
    it('fire in workers, in the manager and in the first process, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function() end)
        local function use(s, name)
          local count = 0
          emit(name .. ' tick', s:tick(5, function(id, ...)
            count = count + 1
            if count == 3 then emit(name .. ' ticked', id, s:clearTimer(id), (s:clearTimer(id)), ...) end
          end, 'a', nil, 'b'))
          local function fired(...) emit(name .. ' fired', select('#', ...), ...) end
          emit(name .. ' after', s:after(1.9, fired, 'c', nil))
          s:after(2, function(...) emit(name .. ' plain', select('#', ...)) end)
        end
        server:on('workerStart', function(s, id) use(s, 'worker ' .. id) end)
        server:on('managerStart', function(s) use(s, 'manager') end)
        run(server, function(s) use(s, 'first') end)
      ]])
      for _, name in ipairs { 'worker 1', 'manager', 'first' } do
        local tick, after = app:expect(name .. ' tick'), app:expect(name .. ' after')
        assert.equal(tick + 1, after)
        assert.same({ tick, true, false, 'a', nil, 'b' }, { app:expect(name .. ' ticked') })
        app:expect(name .. ' fired', 2, 'c', nil)
        app:expect(name .. ' plain', 0)
      end
      -- each process counts for itself
      assert.is_true(mode == 'BASE' or app:count('first tick') == 0)
    end)

    it('run in coroutines, so that they may sleep, and keep their phase, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function() end)
        server:on('workerStart', function(s)
          local start, beats = srvlua.hrtime(), 0
          s:tick(50, function(id)
            beats = beats + 1
            emit('beat', (srvlua.hrtime() - start) / 1e6)
            if beats == 2 then
              local till = srvlua.hrtime() + 120e6
              while srvlua.hrtime() < till do end -- misses two beats
            end
            if beats == 4 then s:clearTimer(id) end
            srvlua.sleep(0.2)
            emit('slept', (srvlua.hrtime() - start) / 1e6)
          end)
        end)
        run(server)
      ]])
      local beats = {}
      for i = 1, 4 do
        beats[i] = app:expect 'beat'
      end
      assert.is_true(beats[1] >= 50 and beats[2] >= 100)
      -- the missed ones are skipped: no two beats in the time of one
      assert.is_true(beats[3] - beats[2] >= 120 and beats[4] - beats[3] >= 5)
      assert.is_true(beats[4] >= 300 - 60)
      for i = 1, 4 do
        assert.is_true(app:expect 'slept' >= beats[i] + 190)
      end
    end)

    it('and deferred functions come in order, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function() end)
        server:on('workerStart', function(s)
          local order = {}
          local function note(what) order[#order + 1] = what end
          emit('defer', s:defer(function() note 'd1' s:defer(function() note 'd3' end) end))
          s:defer(function() note 'd2' end)
          s:after(30, note, 't3')
          s:after(10, note, 't1')
          s:after(10, note, 't2')
          s:after(60, function() emit('order', table.concat(order, ' ')) end)
          note 'now'
        end)
        run(server)
      ]])
      app:expect('defer', true)
      app:expect('order', 'now d1 d2 d3 t1 t2 t3')
    end)

    it('can be looked at through srvlua.Timer, ' .. mode, function()
      local app = support.boot(mode, [[
        local Timer = require 'srvlua.Timer'
        local server = new_server()
        server:on('receive', function() end)
        server:on('workerStart', function(s)
          emit('same', Timer == srvlua.Timer, Timer.stats(), (Timer.clearAll()))
          local one, two = Timer.tick(1000, print), Timer.after(2000, print)
          emit('ids', two - one, Timer.exists(one), Timer.exists(77), Timer.list(), Timer.info(one), Timer.info(77),
            Timer.info(two).interval)
          emit('cleared', Timer.clear(one), (Timer.clear(one)), s:clearTimer(two), Timer.exists(one), #Timer.list())
          local third = s:after(5, function() end)
          emit('all', Timer.clearAll(), Timer.exists(third))
          Timer.tick(5, function(id)
            Timer.clear(id)
            local info = Timer.info(id)
            emit('inside', info.removed, info.exec_count >= 0, Timer.stats().initialized)
          end)
        end)
        run(server)
      ]])
      local same, stats, none = app:expect 'same'
      assert.is_true(same)
      assert.same({ initialized = false, num = 0, round = 0 }, stats)
      assert.is_false(none)
      local distance, exists, no, list, info, nothing, interval = app:expect 'ids'
      assert.same({ 1, true, false }, { distance, exists, no })
      assert.same({ list[1], list[1] + 1 }, list)
      assert.same({ 1000, 0, false }, { info.interval, info.exec_count, info.removed })
      assert.is_true(info.exec_msec >= 990)
      assert.is_nil(nothing)
      assert.equal(0, interval)
      app:expect('cleared', true, false, true, false, 0)
      app:expect('all', true, false)
      app:expect('inside', true, true, true)
    end)

    it('do not survive their process, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function() end)
        server:on('workerStart', function(s, id)
          emit('worker', id, srvlua.getpid(), #srvlua.Timer.list())
          s:tick(1000, print)
        end)
        run(server)
      ]])
      local _, pid, count = app:expect('worker', 1)
      assert.equal(0, count)
      support.kill(pid, 'KILL')
      assert.same({ 1, 0 }, (function(id, _, timers) return { id, timers } end)(app:expect('worker', 1)))
    end)
  end)
end)

describe('sleep', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('suspends a callback and lets others run, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function(s, fd, _, data)
          local start = srvlua.hrtime()
          local result = { pcall(srvlua.sleep, tonumber(data)) } -- across pcall
          s:send(fd, ('%s %s %d\n'):format(tostring(result[1]), tostring(result[2]), (srvlua.hrtime() - start) / 1e6))
        end)
        run(server)
      ]])
      local clients = {}
      for i = 1, 5 do
        clients[i] = app:connect()
        clients[i]:send '0.3'
      end
      local quick = app:connect()
      quick:send '0'
      local begun = support.now()
      assert.truthy(quick:line():find '^true true')
      for i = 1, 5 do
        assert.is_true(tonumber(clients[i]:line():match '^true true (%d+)$') >= 299)
      end
      assert.is_true(support.now() - begun < 1.2) -- and not 5 × 0.3
      for _, bad in ipairs { '-1', 'nan', 'inf', 'x' } do
        quick:send(bad)
        assert.truthy(quick:line():find '^false .*bad argument', bad)
      end
    end)
  end)

  it('blocks where there is no coroutine', function()
    local app = support.boot('PROCESS', [[
      local start = srvlua.hrtime()
      emit('slept', srvlua.sleep(0.05), srvlua.hrtime() - start >= 0.05e9)
    ]], { start = false })
    app:expect('slept', true, true)
  end)

  it('cannot suspend across a C function, and says so', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      server:on('receive', function(s, fd)
        emit('sort', pcall(table.sort, { 2, 1 }, function(a, b) srvlua.sleep(0.001) return a < b end))
      end)
      run(server)
    ]])
    app:connect():send 'x'
    local ok, message = app:expect 'sort'
    assert.is_false(ok)
    assert.truthy(message:find 'cannot suspend here', message)
  end)
end)
