local support = require 'support'

-- Answers `stats` to the events stream, echoes all else.
local SOURCE = [[
  local server = new_server(loadstring('return ' .. (arg[2] or '{}'))())
  server:on('connect', function(_, fd) emit('connect', fd) end)
  server:on('receive', function(s, fd, _, data)
    if data == 'stats' then return emit('stats', s:stats()) end
    if data == 'slow' then
      emit 'slow'
      srvlua.sleep(60)
    end
    s:send(fd, data)
  end)
  server:on('packet', function() emit 'packet' end)
  server:on('close', function(_, fd) emit('close', fd) end)
  if arg[3] == 'udp' then server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP) end
  run(server)
]]

describe('stats', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('has every key, ' .. mode, function()
      local app = support.boot(mode, SOURCE, { args = { '{ worker_num = 2 }' } })
      app:connect():send 'stats'
      local stats = app:expect 'stats'
      for _, key in ipairs { 'start_time', 'connection_num', 'abort_count', 'accept_count', 'close_count', 'worker_num',
        'task_worker_num', 'user_worker_num', 'idle_worker_num', 'dispatch_count', 'request_count', 'response_count',
        'total_recv_bytes', 'total_send_bytes', 'pipe_packet_msg_id', 'session_round', 'min_fd', 'max_fd',
        'worker_request_count', 'worker_response_count', 'coroutine_num', 'coroutine_peek_num', 'concurrency',
        'error_count', 'reload_failed', 'lost_count', 'tasking_num' } do
        assert.equal('number', type(stats[key]), key)
        assert.equal(0, stats[key] % 1, key)
        stats[key] = nil
      end
      if mode == 'PROCESS' then
        assert.equal('number', type(stats.worker_dispatch_count))
      end
      stats.worker_dispatch_count, stats.worker_concurrency = nil, nil
      assert.same({}, stats)
    end)

    it('counts connections, requests and bytes, ' .. mode, function()
      local app = support.boot(mode, SOURCE)
      local first, second = app:connect(), app:connect()
      app:expect('connect', 1)
      app:expect('connect', 2)
      for _ = 1, 3 do
        first:echo(('x'):rep(100))
      end
      second:close()
      app:expect('close', 2)
      local stats
      assert.is_truthy(support.eventually(function()
        first:send 'stats'
        stats = app:expect 'stats'
        return stats.close_count == 1
      end))
      assert.same({ 1, 2, 0 }, { stats.connection_num, stats.accept_count, stats.abort_count })
      local asked = stats.request_count - 3
      assert.is_true(asked == stats.worker_request_count - 3 and asked >= 0)
      assert.same({ 3, 3, 300 }, { stats.response_count, stats.worker_response_count, stats.total_send_bytes })
      local questions = (stats.total_recv_bytes - 300) / #'stats'
      assert.is_true(questions >= 1 and questions % 1 == 0)
      assert.same({ 2, 1 }, { stats.session_round, stats.worker_num })
      assert.is_true(math.abs(stats.start_time - os.time()) < 100)
      assert.is_true(stats.min_fd > 2 and stats.max_fd >= stats.min_fd)
      if mode == 'PROCESS' then assert.is_true(stats.dispatch_count >= 4) end
    end)

    it('numbers the messages that travel in more than one part, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function(s)
          local other = 1 - s.worker_id
          local function id() return s:stats().pipe_packet_msg_id end
          local first = id()
          s:sendMessage('short', other)
          local second = id()
          s:sendMessage(('x'):rep(300000), other)
          emit('ids', first, second, id())
        end)
        server:on('pipeMessage', function(_, _, message) emit('message', #message) end)
        run(server)
      ]])
      app:connect():send 'x'
      app:expect('ids', 1, 1, 2)
      app:expect('message', 300000)
    end)

    it('does not count what failed, and errors apart, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function(s, fd)
          s:send(99, 'x')
          s:send(fd, '')
          s:sendto('127.0.0.1', 9, 'x')
          emit('stats', s:stats())
          error 'counted'
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'x'
      local stats = app:expect 'stats'
      assert.same({ 0, 0, 0 }, { stats.response_count, stats.total_send_bytes, stats.error_count })
      client:send 'x'
      assert.equal(1, (app:expect 'stats').error_count)
    end)

    it('tells idle workers and live coroutines, ' .. mode, function()
      local app = support.boot(mode, SOURCE, { args = { '{ max_wait_time = 0.1 }' } })
      for _ = 1, 3 do
        app:connect():send 'slow'
        app:expect 'slow'
      end
      app:connect():send 'stats'
      local stats = app:expect 'stats'
      assert.equal(4, stats.coroutine_num)
      assert.is_true(stats.coroutine_peek_num >= 4)
      assert.equal(0, stats.idle_worker_num) -- the one that asks
    end)

    it('counts datagrams as requests, not as connections, ' .. mode, function()
      local app = support.boot(mode, SOURCE, { args = { '{}', 'udp' } })
      local client = app:datagrams(2)
      for _ = 1, 3 do
        client:send 'x'
        app:expect 'packet'
      end
      app:connect():send 'stats'
      local stats = app:expect 'stats'
      assert.same({ 3, 1 }, { stats.request_count, stats.accept_count })
    end)

    it('keeps its sums over a worker that died, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function(s, fd, _, data)
          if data == 'stats' then
            emit('stats', s:stats())
          else
            s:send(fd, srvlua.getpid() .. '\n')
          end
        end)
        server:on('workerError', function() emit 'workerError' end)
        run(server)
      ]])
      local client = app:connect()
      local pid
      for _ = 1, 5 do
        client:send 'x'
        pid = tonumber(client:line())
      end
      client:send 'stats' -- so that the last one is counted, too
      app:expect 'stats'
      support.kill(pid, 'KILL')
      app:expect 'workerError'
      app:connect():send 'stats'
      local stats = app:expect 'stats'
      assert.equal(5, stats.response_count)
      assert.is_true(stats.request_count >= 5)
      assert.equal(2, stats.accept_count)
    end)
  end)

  it('may be asked in master and manager, without figures of a worker', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2 }
      server:on('receive', function() end)
      server:on('managerStart', function(s) emit('manager', s:stats()) end)
      run(server, function(s) emit('master', s:stats()) end)
    ]])
    for _, name in ipairs { 'manager', 'master' } do
      local stats = app:expect(name)
      assert.equal(2, stats.worker_num)
      assert.is_nil(stats.worker_request_count)
    end
  end)

  for suffix, check in pairs {
    ['.json'] = function(text) return require 'cjson'.decode(text).worker_num end,
    ['.lua'] = function(text) return assert(loadstring(text))().worker_num end,
    ['.txt'] = function(text) return tonumber(text:match '\nworker_num: (%d+)\n') end,
  } do
    it('is written to a file by worker 0: ' .. suffix, function()
      local path = support.directory() .. '/stats' .. suffix
      local app = support.boot('PROCESS', [[
        local server = new_server { worker_num = 2, stats_file = arg[2], stats_timer_interval = 20 }
        server:on('receive', function() end)
        server:on('workerStart', function(s, id) s:defer(function() emit('timer', id, s.stats_timer) end) end)
        run(server)
      ]], { args = { path } })
      assert.is_true(select(2, app:expect('timer', 0)) >= 1)
      assert.is_nil(select(2, app:expect('timer', 1)))
      local text = support.eventually(function() return support.read_file(path) end)
      assert.equal(2, check('\n' .. text))
      os.remove(path)
      assert.is_truthy(support.eventually(function() return support.read_file(path) end))
    end)
  end
end)
