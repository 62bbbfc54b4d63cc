-- Coroutines without a server, in this very process.
local srvlua = require 'srvlua'
local support = require 'support'

local co = srvlua.coroutine

local function codes(...)
  return select('#', ...) == 3 and (...) == false and select(3, ...) or { ... }
end

-- What a function that is run in a coroutine returns.
local function inside(fn)
  local results
  assert.is_true(srvlua.run(function() results = { fn() } end))
  return unpack(results)
end

local function script(source)
  return support.run { support.launcher, '-e', "local srvlua = require 'srvlua' " .. source }
end

describe('srvlua.run', function()
  after_each(support.cleanup)

  it('passes arguments and returns when nothing is left to do', function()
    local order = {}
    assert.is_true(srvlua.run(function(...)
      srvlua.go(function() srvlua.sleep(0.02) order[#order + 1] = 'slow' end)
      srvlua.Timer.after(5, function() order[#order + 1] = 'timer' end)
      srvlua.sleep(0)
      order[#order + 1] = select('#', ...)
    end, nil, 'x', nil))
    assert.same({ 3, 'timer', 'slow' }, order)
  end)

  it('raises again what its function failed with, at once', function()
    local value, ended = {}, false
    local function fail()
      srvlua.go(function() srvlua.sleep(5) ended = true end)
      srvlua.sleep(0.001)
      error(value)
    end
    local ok, err = pcall(srvlua.run, fail)
    assert.is_true(not ok and err == value and not ended)
    ok, err = pcall(srvlua.run, function() error('text', 0) end)
    assert.is_true(not ok and err == 'text')
    assert.is_false((pcall(srvlua.run, 'no function')))
    assert.is_true(srvlua.run(function() end))
  end)

  it('is not entered twice, and nothing is left of its loop', function()
    assert.equal(509, inside(function() return codes(srvlua.run(print)) end))
    assert.equal(509, codes(srvlua.go(print)))
    assert.equal(509, codes(srvlua.Timer.after(1, print)))
    assert.equal(-1, co.id())
  end)

  it('keeps servers from starting', function()
    local result = script [[
      local server = srvlua.Server('127.0.0.1', 0)
      server:on('receive', function() end)
      srvlua.run(function() print(server:start()) print(server:getLastError()) end)
    ]]
    assert.is_truthy(result.out:find '^false\t.*\t509\n509\n$', result.out)
  end)

  it('lets errors of other coroutines be, but tells of them', function()
    local result = script [[
      srvlua.run(function()
        srvlua.go(function() srvlua.sleep(0) error { message = 'in a table' } end)
        srvlua.go(function() error(setmetatable({}, { __tostring = function() return 'made text' end })) end)
        srvlua.sleep(0.01)
        print 'goes on'
      end)
    ]]
    assert.equal('goes on\n', result.out)
    assert.is_truthy(result.err:find 'uncaught error in coroutine: table: 0x%x+: in a table\nstack traceback:\n')
    assert.is_truthy(result.err:find 'uncaught error in coroutine: made text\nstack traceback:\n')
    assert.is_truthy(result.err:find('\n\tstarted in coroutine 1 at (command line):2\n', 1, true) or
      result.err:find '\n\tstarted in coroutine 1 at [^\n]+:2\n', result.err)
  end)

  it('warns of coroutines that nothing can resume any more, with their stacks', function()
    local result = script [[
      local channel = srvlua.Channel()
      local function wait_for_it() local value = channel:pop() return value end
      srvlua.run(function()
        srvlua.go(function() coroutine.wrap(function() wait_for_it() end)() end)
        srvlua.go(coroutine.yield)
      end)
      print(channel:push(1), channel:length()) -- whoever is gone takes nothing
    ]]
    assert.equal('true\t1\n', result.out)
    local warning = result.err
    assert.is_truthy(warning:find('srvlua.run ends while coroutines (2) are suspended', 1, true), warning)
    assert.is_truthy(warning:find("coroutine 2 waits in Channel:pop\n.-'wait_for_it'.-%(resumed by%)"), warning)
    assert.is_truthy(warning:find('coroutine 3 waits in coroutine.yield', 1, true), warning)
    result = script [[
      local server = srvlua.Server('127.0.0.1', 0)
      server:set { enable_deadlock_check = false }
      srvlua.run(function() srvlua.go(coroutine.yield) end)
    ]]
    assert.equal('', result.err)
  end)
end)

describe('srvlua.go', function()
  it('runs its function at once until it suspends, with all arguments', function()
    local seen = {}
    local id, own, parent = inside(function()
      local me = co.id()
      local given = srvlua.go(function(...)
        seen[1] = { n = select('#', ...), ... }
        seen.id, seen.parent = co.id(), co.parent()
        srvlua.sleep(0)
        seen[2] = 'resumed'
      end, nil, 2, nil)
      return given, seen.id, seen.parent == me
    end)
    assert.same({ n = 3, [2] = 2 }, seen[1])
    assert.equal('resumed', seen[2])
    assert.is_true(id == own and parent)
    assert.is_false((pcall(srvlua.go)))
    assert.is_false((pcall(srvlua.go, {})))
    assert.equal('called', inside(function()
      local result
      srvlua.go(setmetatable({}, { __call = function(_, x) result = x end }), 'called')
      return result
    end))
  end)

  it('starts later beyond a hundred inside one another, and loses none', function()
    local count, exists = 0, true
    srvlua.run(function()
      local function nest(left)
        count = count + 1
        if left > 1 then exists = exists and co.exists(srvlua.go(nest, left - 1)) ~= nil end
      end
      nest(1000)
      assert.is_true(count >= 100 and count < 1000)
    end)
    assert.is_true(count == 1000 and exists)
  end)

  it('gives each coroutine an id, a parent, a context and a stack that others can see', function()
    inside(function()
      local me, context = co.id(), co.context()
      context.mine = true
      local function waiting() srvlua.sleep(0.005) return 1 end
      local id = srvlua.go(function()
        assert.is_nil(next(co.context()))
        co.context().other = true
        return 1 + waiting()
      end)
      assert.same({ me, id }, co.list())
      assert.is_true(co.exists(id) and co.exists(me) and co.parent(id) == me and co.parent(me) == -1)
      assert.is_truthy(co.traceback(id):find "in function 'sleep'\n.+in function 'waiting'\n")
      assert.is_truthy(co.traceback(me):find 'run_spec.lua')
      local stats = co.stats()
      assert.is_true(stats.coroutine_num == 2 and stats.coroutine_peak_num >= 2 and stats.coroutine_last_id == id)
      srvlua.sleep(0.02)
      assert.is_true(co.context() == context and context.mine)
      assert.is_false(co.exists(id))
      assert.equal(10016, codes(co.parent(id)))
      assert.equal(10016, codes(co.traceback(id)))
      assert.same({ me }, co.list())
    end)
    assert.equal(10001, codes(co.context()))
  end)

  it('is sound with thousands that come and go', function()
    local sum, ids = 0, {}
    srvlua.run(function()
      for i = 1, 5000 do
        ids[srvlua.go(function() srvlua.sleep(i % 7 / 1000) sum = sum + i srvlua.sleep(0) end)] = true
      end
      local list = co.list()
      assert.equal(5001, #list)
      for i = 2, #list do assert.is_true(list[i] > list[i - 1] and (ids[list[i]] or list[i] == co.id())) end
    end)
    assert.equal(5000 * 5001 / 2, sum)
  end)
end)

describe('the order of coroutines', function()
  it('is that in which they became ready', function()
    local order = {}
    local function note(name) order[#order + 1] = name end
    inside(function()
      local channel = srvlua.Channel(1)
      srvlua.go(function() channel:pop() note 'popped' channel:pop() note 'popped again' end)
      srvlua.go(function() srvlua.sleep(0) note 'slept before' end)
      channel:push(1)
      srvlua.sleep(0)
      note 'slept'
      channel:push(2)
      srvlua.sleep(0)
      note 'slept again'
    end)
    assert.same({ 'slept before', 'popped', 'slept', 'popped again', 'slept again' }, order)
  end)
end)

describe('coroutines of the program', function()
  it('are suspended with all that resumed them, who do not notice', function()
    assert.same({ true, 11, 'suspended', true, 42, 'dead', false }, { inside(function()
      local inner = coroutine.create(function(x)
        srvlua.sleep(0.001)
        local y = coroutine.yield(x + 1)
        for _ = 1, 3 do srvlua.sleep(0.001) end
        return y * 2
      end)
      local ok, first = coroutine.resume(inner, 10)
      local status = coroutine.status(inner)
      local again, second = coroutine.resume(inner, 21)
      return ok, first, status, again, second, coroutine.status(inner), (coroutine.resume(inner))
    end) })
  end)

  it('may be any depth inside one another, and suspend again and again', function()
    local function deep(level)
      srvlua.sleep(0)
      if level == 0 then return '' end
      local text = coroutine.wrap(function()
        srvlua.sleep(0)
        local below = deep(level - 1)
        coroutine.yield(below)
        srvlua.sleep(0)
        return 'unused'
      end)
      return text() .. level
    end
    assert.equal('12345678', inside(function() return deep(8) end))
  end)

  it('work as generators, between and around what suspends', function()
    assert.equal(500500, inside(function()
      local sum = 0
      local function numbers()
        for i = 1, 1000 do
          coroutine.yield(i)
          if i % 100 == 0 then srvlua.sleep(0) end
        end
      end
      for i in coroutine.wrap(numbers) do
        sum = sum + i
        if i % 150 == 0 then srvlua.sleep(0) end
      end
      return sum
    end))
  end)

  it('give their errors to who resumed them, whether they had suspended or not', function()
    inside(function()
      for _, wait in ipairs { function() end, function() srvlua.sleep(0) end } do
        local value = {}
        local function fail(what) return function() wait() error(what) end end
        local ok, err = pcall(coroutine.wrap(fail(value)))
        assert.is_true(not ok and err == value)
        ok, err = coroutine.resume(coroutine.create(fail(value)))
        assert.is_true(not ok and err == value)
        ok, err = pcall(function()
          coroutine.wrap(fail('text'))()
        end)
        assert.is_false(ok)
        assert.is_truthy(err:find 'run_spec.lua:%d+: .*run_spec.lua:%d+: text$', err)
      end
    end)
  end)

  it('cannot be resumed while they wait, and tell for what', function()
    inside(function()
      local inner = coroutine.create(function() srvlua.sleep(0.005) return 5 end)
      local outer, results
      outer = coroutine.create(function() return coroutine.resume(inner) end)
      srvlua.go(function() results = { coroutine.resume(outer) } end)
      assert.same({ false, 'coroutine waits in sleep' }, { coroutine.resume(inner, 'arguments', 'are dropped') })
      assert.same({ false, 'cannot resume running coroutine' }, { coroutine.resume(outer) })
      assert.same({ 'suspended', 'normal' }, { coroutine.status(inner), coroutine.status(outer) })
      srvlua.sleep(0.02)
      assert.same({ true, true, 5 }, results)
      assert.same({ 'dead', 'dead' }, { coroutine.status(inner), coroutine.status(outer) })
    end)
  end)

  it('are what they were outside of all this', function()
    local thread = coroutine.create(function(...)
      assert.equal('running', coroutine.status(coroutine.running()))
      local second = coroutine.yield(select('#', ...))
      error(second, 0)
    end)
    assert.equal('suspended', coroutine.status(thread))
    assert.same({ true, 3 }, { coroutine.resume(thread, nil, nil, nil) })
    assert.same({ false, 'x' }, { coroutine.resume(thread, 'x') })
    assert.same({ false, 'cannot resume dead coroutine' }, { coroutine.resume(thread) })
    assert.is_false((pcall(coroutine.resume, 1)))
    assert.is_false((pcall(coroutine.status)))
    assert.is_false((pcall(coroutine.wrap, 1)))
    local seen
    thread = coroutine.create(function() seen = { coroutine.resume(thread) } end)
    coroutine.resume(thread)
    assert.is_false(seen[1])
  end)

  it('block in them what is in no coroutine of ours', function()
    local before = srvlua.hrtime()
    assert.is_true(coroutine.wrap(function() return srvlua.sleep(0.01) end)())
    assert.is_true(srvlua.hrtime() - before >= 9e6)
  end)
end)

describe('coroutine.yield in a coroutine of ours', function()
  it('waits for coroutine.resume, which gets what is yielded or returned next', function()
    inside(function()
      local waiting, got = nil, {}
      local id = srvlua.go(function()
        waiting = coroutine.running()
        got[1] = { coroutine.yield('nobody gets this') }
        got[2] = { coroutine.yield('first', nil) }
        srvlua.sleep(0.002)
        got[3] = 'slept'
        coroutine.yield('nobody either')
        return 'result'
      end)
      assert.equal('suspended', coroutine.status(waiting))
      assert.same({ n = 3, true, 'first' }, { n = select('#', coroutine.resume(waiting, 'in', 7)), true, 'first' })
      assert.same({ true }, { coroutine.resume(waiting, 'more') })
      assert.same({ false, 'coroutine waits in sleep' }, { coroutine.resume(waiting) })
      srvlua.sleep(0.01)
      assert.is_true(co.exists(id))
      assert.same({ true, 'result' }, { coroutine.resume(waiting) })
      assert.is_false(co.exists(id))
      assert.same({ { 'in', 7 }, { 'more' }, 'slept' }, got)
    end)
  end)

  it('gives an error to who resumed it', function()
    local result = support.run { support.launcher, '-e', [[
      local srvlua = require 'srvlua'
      srvlua.run(function()
        local waiting
        srvlua.go(function() waiting = coroutine.running() coroutine.yield() error('gone wrong', 0) end)
        print(coroutine.resume(waiting))
        print(coroutine.resume(waiting))
      end)
    ]] }
    assert.equal('false\tgone wrong\nfalse\tcannot resume dead coroutine\n', result.out)
    assert.is_truthy(result.err:find('uncaught error in coroutine: gone wrong', 1, true))
  end)
end)

describe('a suspending call', function()
  local function refusal(fn)
    return inside(function()
      local ok, err = pcall(fn)
      assert.is_false(ok)
      return err:match 'cannot suspend here.*'
    end)
  end
  local function nap() srvlua.sleep(0) end

  it('passes through pcall, xpcall, metamethods and iterators', function()
    inside(function()
      assert.is_true((pcall(nap)) and (xpcall(nap, print)))
      local ok, text = xpcall(function() nap() error 'x' end, debug.traceback)
      assert.is_true(not ok and text:find 'stack traceback' ~= nil)
      local object = setmetatable({}, { __index = function(_, key) nap() return key end,
        __add = function() nap() return 'sum' end })
      assert.equal('field', object.field)
      assert.equal('sum', object + 1)
      local sum = 0
      for i in function(_, i) nap() i = (i or 0) + 1 return i < 4 and i or nil end do sum = sum + i end
      assert.equal(6, sum)
    end)
  end)

  it('is refused inside of C functions, named, also from coroutines of the program', function()
    local prefix = 'cannot suspend here: inside '
    assert.equal(prefix .. 'table.sort', refusal(function() table.sort({ 2, 1 }, nap) end))
    assert.equal(prefix .. 'string.gsub', refusal(function() string.gsub('a', '.', nap) end))
    package.preload.a_module_that_naps = nap
    assert.equal(prefix .. 'require', refusal(function() require 'a_module_that_naps' end))
    assert.equal(prefix .. 'table.sort', refusal(function()
      table.sort({ 2, 1 }, function() coroutine.wrap(nap)() end)
    end))
    assert.equal(prefix .. 'table.sort', refusal(function()
      coroutine.wrap(function() table.sort({ 2, 1 }, nap) end)()
    end))
  end)
end)
