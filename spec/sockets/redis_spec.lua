local support = require 'support'
local peers = require 'support.peer'

-- 1,000 coroutines ask a redis server at the same time, again and again, while the worker serves its own clients.
local APP = [[
  local server = new_server()
  local PORT, CLIENTS, ROUNDS = tonumber(arg[2]), 1000, 10
  local function get(sock, key)
    assert(sock:send { '*2\r\n$3\r\nGET\r\n$', #key, '\r\n', key, '\r\n' })
    local length = assert(sock:receive()):match '^%$(%d+)$'
    local value = assert(sock:receive(tonumber(length)))
    assert(sock:receive(2) == '\r\n')
    return value
  end
  local function ask(i, done)
    local right = 0
    for round = 1, ROUNDS do
      local sock = srvlua.socket.tcp()
      assert(sock:connect('127.0.0.1', PORT, { pool_size = CLIENTS }))
      local key = 'key:' .. i
      if round == 1 then
        assert(sock:send { 'SET ', key, ' value of ', i, '\r\n' } and sock:receive() == '-ERR syntax error')
        assert(sock:send { 'SET ', key, ' value-', i, '\r\n' } and sock:receive() == '+OK')
      end
      if get(sock, key) == 'value-' .. i then right = right + 1 end
      assert(sock:setkeepalive())
    end
    done(right)
  end
  server:on('receive', function(s, fd, rid, data)
    if data == 'ping' then return s:send(fd, 'pong') end
    local running, right, most, begun = 0, 0, 0, srvlua.hrtime()
    for i = 1, CLIENTS do
      running = running + 1
      srvlua.go(ask, i, function(count)
        right, running = right + count, running - 1
        if running == 0 then emit('answers', right, most, (srvlua.hrtime() - begun) / 1e9) end
      end)
      most = math.max(most, running)
    end
    emit 'asked'
  end)
  run(server)
]]

describe('a thousand coroutines with a redis server', function()
  after_each(function()
    peers.cleanup()
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    it('get their answers, and other clients are served meanwhile, ' .. mode, function()
      local port = peers.redis(support.directory())
      if not port then return pending 'redis-server is not installed' end
      local app = support.boot(mode, APP, { args = { port } })
      local other = app:connect()
      app:connect():send 'go'
      app:expect 'asked'
      local pings, slowest = 0, 0
      while app:count 'answers' == 0 do
        local begun = support.now()
        assert.equal('pong', other:echo 'ping')
        slowest = math.max(slowest, support.now() - begun)
        pings = pings + 1
      end
      local right, most = app:expect 'answers'
      assert.equal(10000, right)
      assert.equal(1000, most)
      assert.is_true(pings > 3, 'only ' .. pings .. ' pings were answered meanwhile')
      assert.is_true(slowest < (support.sanitizer and 5 or 0.5), 'a ping took ' .. slowest)
      assert.equal(0, app:log_count 'ERROR')
    end)
  end)
end)
