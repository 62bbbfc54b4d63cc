local support = require 'support'

-- An app whose only worker recycles itself all the time.
local recycling = [[
  local settings = { max_request = 20, max_request_grace = 0 }
  for name, value in pairs(%s) do settings[name] = value end
  local server = new_server(settings)
  server:on('workerStart', function() emit('workerStart', srvlua.getpid()) end)
  server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
  run(server)
]]

-- Echoes small messages; returns the longest wait.
local function echo(client, count)
  local longest = 0
  for i = 1, count do
    local began = support.now()
    local text = ('%08d'):format(i)
    client:send(text)
    assert.equal(text, client:receive(8))
    longest = math.max(longest, support.now() - began)
  end
  return longest
end

describe('replacing a worker', function()
  after_each(support.cleanup)

  -- What a reactor wrote to the former inbox before it switched was found by the sweep only, up to a second later.
  it('does not keep clients waiting', function()
    for _ = 1, 6 do
      local app = support.boot('PROCESS', recycling:format '{}')
      local longest = echo(app:connect(), 100)
      assert.is_true(longest < (support.sanitizer and 2 or 0.5), longest .. ' s')
      assert.equal(0, app:stop())
    end
  end)

  -- Lives that end because they have served their share were taken for crashes: the next ones were delayed by up to
  -- 5 s.
  it('is not slowed down because it happens often', function()
    local app = support.boot('PROCESS', recycling:format '{ enable_coroutine = false, reload_async = false }')
    local longest = echo(app:connect(), 400)
    assert.is_true(longest < (support.sanitizer and 2 or 0.5), longest .. ' s')
    assert.equal(0, app:stop())
    assert.equal(0, app:log_count 'right after its start')
  end)

  -- A shutdown that came between the start of a successor and the reactors' switch to it lasted for max_wait_time: the

  -- successor waited for an inbox to be ended that nobody wrote to any more.
  it('does not hold a shutdown up', function()
    for _ = 1, 6 do
      local app = support.boot('PROCESS', recycling:format '{}')
      echo(app:connect(), 100)
      local began = support.now()
      assert.equal(0, app:stop())
      assert.is_true(support.now() - began < (support.sanitizer and 2.5 or 1))
    end
  end)
end)
