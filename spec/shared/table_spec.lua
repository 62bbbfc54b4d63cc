local support = require 'support'

local ROWS = [[
  local Table = srvlua.Table
  local rows = Table(arg[2] and tonumber(arg[2]) or 1024)
  rows:column('n', Table.TYPE_INT)
  rows:column('x', Table.TYPE_FLOAT)
  rows:column('s', Table.TYPE_STRING, 64)
  assert(rows:create())
  local function codes(...)
    local value, message, code = ...
    return select('#', ...), value, type(message), code
  end
]]

local function run(source)
  return support.boot('PROCESS', ROWS .. source, { start = false })
end

describe('a table', function()
  after_each(support.cleanup)

  it('has rows that are made, merged, counted and deleted', function()
    local app = run [[
      emit('set', rows:set('a', { n = 7, x = 0.5, s = 'text' }), rows:set('b', { n = -3 }), rows:set('c', {}))
      emit('row', rows:get 'a')
      emit('defaults', rows:get 'c')
      rows:set('a', { s = 'new\0' })
      emit('merged', rows:get 'a', rows:get('a', 's'), rows:get('a', nil).n)
      emit('sums', rows:incr('a', 'n'), rows:incr('a', 'n', 10), rows:decr('a', 'n', 3), rows:incr('d', 'x', 0.25))
      emit('questions', rows:exist 'a', rows:exists 'zz', rows:get 'zz', rows:count(), rows:del 'a', rows:del 'a',
        rows:count())
      emit('one value', select('#', rows:get 'zz'), select('#', rows:del 'zz'), select('#', rows:exist 'zz'))
      emit('clear', rows:clear(), rows:count(), rows:clear())
    ]]
    app:expect('set', true, true, true)
    assert.same({ n = 7, x = 0.5, s = 'text' }, (app:expect 'row'))
    assert.same({ n = 0, x = 0, s = '' }, (app:expect 'defaults'))
    assert.same({ { n = 7, x = 0.5, s = 'new\0' }, 'new\0', 7 }, { app:expect 'merged' })
    app:expect('sums', 8, 18, 15, 0.25)
    app:expect('questions', true, false, false, 4, true, false, 3)
    app:expect('one value', 1, 1, 1)
    app:expect('clear', 3, 0, 0)
  end)

  it('takes keys of 1 to 63 bytes, and integers as their text', function()
    local app = run [[
      emit('keys', rows:set(('k'):rep(63), { n = 1 }), rows:set('a\0b', { n = 2 }), rows:get 'a', rows:get('a\0b', 'n'),
        rows:set(77, { n = 3 }), rows:get('77', 'n'), rows:set(-0, { n = 4 }), rows:get('0', 'n'),
        rows:set(2 ^ 53, { n = 5 }), rows:get('9007199254740992', 'n'))
      emit('long', codes(rows:set(('k'):rep(64), {})))
      emit('empty', codes(rows:get ''))
      emit('huge', codes(rows:exist(1e300)))
      emit('raised', (pcall(rows.set, rows, 1.5, {})), (pcall(rows.get, rows)), (pcall(rows.del, rows, true)),
        (pcall(rows.get, rows, 0 / 0)), rows:count())
    ]]
    app:expect('keys', true, true, false, 2, true, 3, true, 4, true, 5)
    for _, name in ipairs { 'long', 'empty', 'huge' } do
      app:expect(name, 3, false, 'string', 504)
    end
    app:expect('raised', false, false, false, false, 5)
  end)

  it('checks values before it changes anything', function()
    local app = run [[
      rows:set('r', { n = 1, x = 2, s = 'kept' })
      emit('text', codes(rows:set('r', { n = 5, s = ('x'):rep(65) })))
      emit('fits', rows:set('r', { s = ('x'):rep(64) }))
      local function try(method, ...)
        local ok, message = pcall(rows[method], rows, 'r', ...)
        emit('raised', ok, message)
      end
      try('set', { n = 5, x = 'text' })
      try('set', { n = 1.5 })
      try('set', { n = 2 ^ 63 })
      try('set', { n = 5ULL })
      try('set', { x = 5LL })
      try('set', { s = 5 })
      try('set', { other = 1 })
      try('set', { 1 })
      try('set', 'row')
      try('incr', 's')
      try('incr', 'n', 0.5)
      try('get', 'other')
      emit('row', rows:get('r', 'n'), rows:get('r', 'x'))
    ]]
    app:expect('text', 3, false, 'string', 505)
    app:expect('fits', true)
    for _, text in ipairs { "column 'x' takes a number, got string", "'n' takes an integer of 64 bits, got 1.5",
      "'n' takes an integer of 64 bits, got 9.2", "'n' takes an integer of 64 bits, got cdata",
      "'x' takes a number, got cdata", "'s' takes a string, got 5",
      "bad argument #2 to 'set' (there is no column 'other'", 'names of columns are strings',
      'table expected, got string', "column 's' is a string", 'got 0.5',
      "bad argument #2 to 'get' (there is no column 'other'" } do
      local _, message = app:expect('raised', false)
      assert.truthy(message:find(text, 1, true), message)
    end
    app:expect('row', 1, 2)
  end)

  it('has integers of 64 bits', function()
    local app = run [[
      local wrong = {}
      for _, value in ipairs { 2LL ^ 53 + 1, -2LL ^ 53 - 1, 9223372036854775807LL, -9223372036854775807LL - 1, 2LL ^ 62,
        -4294967296LL * 4294967, 2 ^ 53, -2 ^ 53, 0, -1LL, 1e18 } do
        rows:set('v', { n = value })
        if rows:get('v', 'n') ~= value then wrong[#wrong + 1] = tostring(value) end
      end
      emit('wrong', wrong)
      rows:set('v', { n = 9223372036854775807LL })
      emit('sums', tostring(rows:incr('v', 'n')), tostring(rows:decr('v', 'n', 2LL)),
        rows:decr('v', 'n', 9223372036854775807LL), type(rows:incr('v', 'n', 2 ^ 53)))
    ]]
    assert.same({}, (app:expect 'wrong'))
    app:expect('sums', '-9223372036854775808LL', '9223372036854775806LL', -1, 'number')
  end)

  it('is defined before it is created, and created before it is used', function()
    local app = run [[
      local raw = Table(8, 0.5)
      emit('early', codes(raw:set('a', {})))
      emit('nothing', raw:count(), raw:clear(), raw:rows()(), raw.size, raw.memorySize)
      local function raises(name, ...)
        local ok, message = pcall(...)
        emit(name, ok, tostring(message))
      end
      raises('no column', raw.create, raw)
      raw:column('a', Table.TYPE_INT)
      raises('twice', raw.column, raw, 'a', Table.TYPE_INT)
      raises('empty', raw.column, raw, '', Table.TYPE_INT)
      raises('type', raw.column, raw, 'b', 9)
      raises('size', raw.column, raw, 'b', Table.TYPE_STRING)
      raises('size', raw.column, raw, 'b', Table.TYPE_STRING, 2 ^ 24 + 1)
      emit('created', raw:create(), raw.memorySize > 0, raw:set('k', { a = 1 }), raw:get 'k')
      raises('late', raw.column, raw, 'b', Table.TYPE_INT)
      raises('again', raw.create, raw)
      raises('rows', Table, 0)
      raises('rows', Table, 2 ^ 31)
      raises('rows', Table)
      raises('proportion', Table, 8, 2)
      local huge = Table(2 ^ 31 - 1)
      for i = 1, 8 do huge:column('c' .. i, Table.TYPE_STRING, 2 ^ 24) end
      emit('memory', codes(huge:create()))
    ]]
    app:expect('early', 3, false, 'string', 509)
    app:expect('nothing', 0, 0, nil, 8, nil)
    for _, name in ipairs { 'no column', 'twice', 'empty', 'type', 'size', 'size' } do
      app:expect(name, false)
    end
    assert.same({ true, true, true, { a = 1 } }, { app:expect 'created' })
    for _, name in ipairs { 'late', 'again', 'rows', 'rows', 'rows', 'proportion' } do
      app:expect(name, false)
    end
    app:expect('memory', 3, false, 'string', 501)
  end)

  it('refuses rows when it is full, and uses places again', function()
    local app = run [[
      local small = Table(100)
      small:column('n', Table.TYPE_INT)
      small:create()
      local made, refused = 0, {}
      for i = 1, 1000 do
        local ok, _, code = small:set('k' .. i, { n = i })
        if ok then made = made + 1 else refused[code] = (refused[code] or 0) + 1 end
      end
      emit('full', made >= 100, made + refused[501], small:count() == made)
      emit('new', codes(small:incr('new', 'n')))
      emit('works on', small:incr('k1', 'n', 5), small:set('k2', { n = 0 }), small:del 'k3',
        small:set('new', { n = 1 }))
    ]]
    app:expect('full', true, 1000, true)
    app:expect('new', 3, false, 'string', 501)
    app:expect('works on', 6, true, true, true)
  end)

  it('is walked through while it changes', function()
    local app = run [[
      for i = 1, 500 do rows:set('k' .. i, { n = i, s = 'v' .. i }) end
      local seen, met = 0, {}
      for key, row in rows:rows() do
        if key == 'k' .. row.n and row.s == 'v' .. row.n then seen = seen + 1 end
      end
      emit('seen', seen)
      for key, row in rows:rows() do
        met[key] = (met[key] or 0) + 1
        if row.n % 2 == 0 then
          rows:del(key)
          rows:set('new' .. row.n, { n = 1 })
        else
          rows:set(key, { x = 1 })
        end
        rows:del 'k500'
        rows:set('k500', { n = 500 })
      end
      local odd, twice = 0, 0
      for i = 1, 499, 2 do odd = odd + (met['k' .. i] or 0) end
      for _, times in pairs(met) do if times > 1 then twice = twice + 1 end end
      emit('met', odd, twice)
      local stats = rows:stats()
      emit('stats', stats.num == rows:count(), stats.size, stats.available_slice_num == 1024 - stats.num,
        stats.insert_count > 500, stats.update_count, stats.delete_count > 249, stats.conflict_count > 0,
        stats.conflict_max_level > 0)
      local walk = rows:rows()
      emit('end', rows:clear() > 0, walk(), walk())
    ]]
    app:expect('seen', 500)
    app:expect('met', 250, 0)
    app:expect('stats', true, 1024, true, true, 250, true, true, true)
    app:expect('end', true, nil, nil)
  end)

  it('outlives what the collector does, and may be one of many', function()
    local app = run [[
      local walk
      do
        local lost = Table(16)
        lost:column('n', Table.TYPE_INT)
        lost:create()
        lost:set('a', { n = 1 })
        walk = lost:rows()
      end
      for i = 1, 300 do
        local other = Table(16)
        other:column('n', Table.TYPE_INT)
        other:create()
        other:set(i, { n = i })
      end
      collectgarbage()
      collectgarbage()
      emit('walk', walk())
    ]]
    assert.same({ 'a', { n = 1 } }, { app:expect 'walk' })
  end)

  support.in_both_modes(function(mode)
    it('is shared by all processes, which add without losing any, ' .. mode, function()
      local app = support.boot(mode, ROWS .. [[
        local ready = srvlua.Atomic()
        local server = new_server { worker_num = 4 }
        server:on('receive', function() end)
        rows:set('before', { s = 'start' })
        server:on('workerStart', function(_, id)
          rows:set('worker' .. id, { n = id, s = 'hello from ' .. id })
          for _ = 1, 10000 do
            rows:incr('total', 'n')
            rows:incr('half', 'x', 0.5)
          end
          if ready:add() == 4 then
            emit('total', rows:get('total', 'n'), rows:get('half', 'x'), rows:count(), rows:get('before', 's'))
            for i = 0, 3 do emit('row', rows:get('worker' .. i)) end
          end
        end)
        run(server)
      ]])
      app:expect('total', 40000, 20000, 7, 'start')
      for i = 0, 3 do
        assert.same({ n = i, x = 0, s = 'hello from ' .. i }, (app:expect 'row'))
      end
      assert.equal(0, app:stop())
    end)

    it('keeps its rows over reloads and kills, and after the server, ' .. mode, function()
      local app = support.boot(mode, ROWS .. [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function(s, fd, _, data)
          if data == 'reload' then
            s:reload()
          else
            s:send(fd, rows:incr('requests', 'n') .. ' ' .. rows:get('starts', 'n') .. '\n')
          end
        end)
        server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid(), rows:incr('starts', 'n')) end)
        server:on('afterReload', function() emit 'reloaded' end)
        run(server)
        emit('after', rows:get('requests', 'n'), rows:get('starts', 'n'))
      ]])
      local _, first = app:expect('worker', 0)
      app:expect('worker', 1)
      local client = app:connect()
      client:send 'count'
      assert.equal('1 2', client:line())
      client:send 'reload'
      app:expect('worker', 0)
      local _, pid = app:expect('worker', 1)
      assert.truthy(first)
      app:expect 'reloaded'
      support.kill(pid, 'KILL')
      app:expect('worker', 1)
      client = app:connect()
      client:send 'count'
      assert.equal('2 5', client:line())
      assert.equal(0, app:stop())
      app:expect('after', 2, 5)
    end)

    it('is sound after writers were killed in the middle of it, ' .. mode, function()
      local app = support.boot(mode, ROWS .. [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function() end)
        local function check()
          local torn, present = 0, 0
          for i = 1, 20 do
            local row = rows:get('row' .. i)
            if row then
              present = present + 1
              if row.x ~= row.n or row.s ~= tostring(row.n):rep(8) then torn = torn + 1 end
            end
          end
          local count, walked = rows:count(), 0
          for _ in rows:rows() do walked = walked + 1 end
          for i = 1, 20 do
            local key = 'row' .. i
            rows:set(key, { n = i, x = i, s = tostring(i):rep(8) })
            if rows:incr(key, 'n') ~= i + 1 or not rows:del(key) then torn = torn + 1 end
          end
          emit('check', torn, count == present, walked == present, rows:count())
        end
        server:on('workerStart', function(s, id)
          if id == 1 then
            s:tick(2, function()
              if not rows:del 'check' then return end
              check()
              rows:set('write', {})
            end)
            return
          end
          s:tick(2, function()
            if not rows:del 'write' then return end
            emit('writing', srvlua.getpid())
            local n = 0
            while true do
              n = n % 90000 + 1
              local key = 'row' .. n % 20 + 1
              rows:set(key, { n = n, x = n, s = tostring(n):rep(8) })
              if n % 3 == 0 then rows:del('row' .. (n * 7) % 20 + 1) end
            end
          end)
        end)
        server:on('workerError', function(_, id)
          if id == 0 then rows:set('check', {}) end
        end)
        rows:set('write', {})
        run(server)
      ]])
      for _ = 1, 5 do
        support.kill((app:expect 'writing'), 'KILL')
        app:expect('check', 0, true, true, 0)
      end
    end)

    it('is refused where it could not be shared any more, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function() end)
        server:on('workerStart', function()
          local late = srvlua.Table(8)
          late:column('n', srvlua.Table.TYPE_INT)
          local ok, message, code = late:create()
          emit('late', ok, type(message), code)
          for name, make in pairs { Atomic = srvlua.Atomic, Long = srvlua.Atomic.Long, Lock = srvlua.Lock } do
            local made, problem = pcall(make)
            emit(name, made, type(problem) == 'table' and problem.code, tostring(problem))
          end
        end)
        run(server)
        local after = srvlua.Table(8)
        after:column('n', srvlua.Table.TYPE_INT)
        emit('after', after:create())
      ]])
      app:expect('late', false, 'string', 509)
      for _, name in ipairs { 'Atomic', 'Long', 'Lock' } do
        app:expect(name, false, 509)
      end
      assert.equal(0, app:stop())
      app:expect('after', true)
    end)
  end)
end)
