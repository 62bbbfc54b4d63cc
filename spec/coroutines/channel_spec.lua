local srvlua = require 'srvlua'

local TIMEOUT, CLOSED = srvlua.CHANNEL_TIMEOUT, srvlua.CHANNEL_CLOSED

local function inside(fn)
  assert.is_true(srvlua.run(fn))
end

-- Code of a failure.
local function code(ok, message, number)
  assert.is_true(ok == false and type(message) == 'string')
  return number
end

describe('a channel', function()
  it('hands values over in order, and makes who is too early wait', function()
    inside(function()
      local channel, pushed, got = srvlua.Channel(2), 0, {}
      srvlua.go(function() for i = 1, 6 do channel:push { i } pushed = i end end)
      assert.equal(2, pushed)
      assert.is_true(channel:isFull() and channel:length() == 2)
      assert.same({ consumer_num = 0, producer_num = 1, queue_num = 2 }, channel:stats())
      for i = 1, 6 do got[i] = channel:pop()[1] end
      assert.same({ 1, 2, 3, 4, 5, 6 }, got)
      srvlua.go(function() got = channel:pop() end)
      assert.equal(1, channel:stats().consumer_num)
      assert.is_true(channel:push('late') and got ~= 'late' and channel:isEmpty())
      srvlua.sleep(0)
      assert.equal('late', got)
    end)
  end)

  it('serves those who wait in the order in which they came', function()
    inside(function()
      local channel, order = srvlua.Channel(), {}
      for i = 1, 3 do srvlua.go(function()
          local value = channel:pop()
          order[#order + 1] = i .. value
        end) end
      for _, value in ipairs { 'a', 'b', 'c' } do channel:push(value) end
      srvlua.sleep(0)
      assert.same({ '1a', '2b', '3c' }, order)
      for i = 1, 3 do srvlua.go(function() channel:push(i) order[#order + 1] = i end) end
      for i = 1, 3 do assert.equal(i, channel:pop()) end
      srvlua.sleep(0)
      assert.same({ '1a', '2b', '3c', 1, 2, 3 }, order)
    end)
  end)

  it('takes every value but nil', function()
    inside(function()
      local channel = srvlua.Channel(3)
      assert.is_true(channel:push(false))
      assert.equal(1, select('#', channel:pop()))
      local value = {}
      channel:push(value)
      assert.is_true(channel:pop() == value)
      assert.is_false((pcall(channel.push, channel, nil)))
    end)
  end)

  it('can be given up after a time', function()
    inside(function()
      local channel = srvlua.Channel(1)
      local before = srvlua.hrtime()
      assert.equal(TIMEOUT, code(channel:pop(0.02)))
      assert.is_true(srvlua.hrtime() - before >= 19e6)
      assert.equal(TIMEOUT, code(channel:pop(0)))
      assert.equal(TIMEOUT, channel.errCode)
      assert.is_true(channel:push(1) and channel.errCode == 0)
      assert.equal(TIMEOUT, code(channel:push(2, 0.01)))
      assert.equal(TIMEOUT, code(channel:push(2, 0)))
      assert.same({ consumer_num = 0, producer_num = 0, queue_num = 1 }, channel:stats())
      -- the one in the middle leaves
      local got = {}
      assert.equal(1, channel:pop())
      for i, timeout in ipairs { -1, 0.005, -1 } do
        srvlua.go(function() got[i] = channel:pop(timeout) end)
      end
      srvlua.sleep(0.02)
      channel:push 'x'
      channel:push 'y'
      srvlua.sleep(0)
      assert.same({ 'x', false, 'y' }, got)
    end)
  end)

  it('is closed for all who wait, but keeps its values', function()
    inside(function()
      local channel, results = srvlua.Channel(2), {}
      srvlua.go(function() results.pop = code(channel:pop()) end)
      assert.is_true(channel:close())
      srvlua.sleep(0)
      assert.equal(CLOSED, results.pop)
      assert.equal(CLOSED, code(channel:close()))
      channel = srvlua.Channel(1)
      channel:push 'kept'
      srvlua.go(function() results.push = code(channel:push 'dropped') end)
      channel:close()
      assert.equal(CLOSED, code(channel:push 'x'))
      assert.equal('kept', channel:pop())
      assert.equal(CLOSED, code(channel:pop()))
      srvlua.sleep(0)
      assert.equal(CLOSED, results.push)
    end)
  end)

  it('gives each value to one of many', function()
    local taken = 0
    inside(function()
      local channel, seen = srvlua.Channel(3), {}
      for p = 0, 19 do
        srvlua.go(function() for i = 1, 100 do channel:push(p * 100 + i) end end)
      end
      for _ = 1, 7 do
        srvlua.go(function()
          while true do
            local value = channel:pop()
            if not value then break end
            assert.is_nil(seen[value])
            seen[value], taken = true, taken + 1
            if taken == 2000 then channel:close() end
          end
        end)
      end
    end)
    assert.equal(2000, taken)
  end)

  it('works outside of coroutines as long as nobody has to wait', function()
    local channel = srvlua.Channel()
    assert.is_true(channel:push 'x')
    assert.equal(10001, code(channel:push 'y'))
    assert.equal(10001, channel.errCode)
    assert.equal('x', channel:pop())
    assert.equal(10001, code(channel:pop()))
    assert.equal(TIMEOUT, code(channel:pop(0)))
  end)

  it('refuses wrong arguments', function()
    for _, capacity in ipairs { 0, -1, 1.5, 'x', {} } do
      local ok, message = pcall(srvlua.Channel, capacity)
      assert.is_false(ok)
      assert.is_truthy(message:find("bad argument #1 to 'Channel' (integer from 1 on expected, got ", 1, true), message)
    end
    local channel = srvlua.Channel()
    assert.equal(1, channel.capacity)
    assert.is_false((pcall(channel.pop, channel, 'x')))
    assert.is_false((pcall(channel.pop, channel, false)))
    assert.is_false((pcall(channel.push, channel, 1, 0 / 0)))
  end)

  it('cannot be waited for inside of a C function', function()
    inside(function()
      local channel = srvlua.Channel()
      local ok, message = pcall(string.gsub, 'a', '.', function() channel:pop() end)
      assert.is_false(ok)
      assert.is_truthy(message:find('cannot suspend here: inside string.gsub', 1, true))
      assert.equal(0, channel:stats().consumer_num)
    end)
  end)
end)

describe('a wait group', function()
  it('waits until all is done, again and again', function()
    inside(function()
      local group, done = srvlua.WaitGroup(), 0
      assert.is_true(group:wait())
      for round = 1, 2 do
        group:add(5)
        for i = 1, 5 do
          srvlua.go(function() srvlua.sleep(i / 1000) done = done + 1 group:done() end)
        end
        assert.is_true(group:wait())
        assert.equal(5 * round, done)
      end
    end)
  end)

  it('may have several who wait, and more to do meanwhile', function()
    inside(function()
      local group, woken = srvlua.WaitGroup(2), 0
      assert.equal(110, code(group:wait(0.005)))
      assert.equal(110, code(group:wait(0)))
      for _ = 1, 3 do
        srvlua.go(function() if group:wait() then woken = woken + 1 end end)
      end
      group:done()
      group:add()
      group:done()
      srvlua.sleep(0)
      assert.is_true(woken == 0 and group:count() == 1)
      group:done()
      srvlua.sleep(0)
      assert.is_true(woken == 3 and group:count() == 0)
    end)
  end)

  it('refuses to go below zero, and wrong arguments', function()
    local group = srvlua.WaitGroup(1)
    assert.equal(10001, code(group:wait()))
    assert.is_false((pcall(group.add, group, -2)))
    assert.equal(1, group:count())
    group:done()
    assert.is_false((pcall(group.done, group)))
    assert.is_true(group:wait())
    for _, count in ipairs { -1, 0.5, 'x' } do
      assert.is_false((pcall(srvlua.WaitGroup, count)))
    end
    assert.is_false((pcall(group.add, group, 'x')))
  end)
end)
