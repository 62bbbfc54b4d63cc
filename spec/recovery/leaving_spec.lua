local support = require 'support'

describe('a worker that leaves in BASE mode', function()
  after_each(support.cleanup)

  -- It waited for its timers until max_wait_time was over, then as long again for clients that do not read, and was
  -- killed for that before it had run workerStop.
  it('is not killed over a client that does not read, when it was late already', function()
    local app = support.boot('BASE', [[
      local settings = { worker_num = 2, max_wait_time = 1, send_yield = false, socket_buffer_size = 2^25 }
      local server = new_server(settings)
      -- the timer keeps it when it wants to leave
      server:on('workerStart', function() srvlua.Timer.tick(1000, function() end) end)
      server:on('workerStop', function(_, id) emit('workerStop', id) end)
      server:on('receive', function(s, fd)
        local is_taken
        repeat is_taken = s:send(fd, ('x'):rep(100000)) until not is_taken
        emit 'full'
      end)
      run(server)
    ]])
    app:connect():send 'fill'
    app:expect 'full'
    assert.equal(0, app:stop())
    assert.equal(2, app:count 'workerStop')
    assert.equal(0, app:log_count 'it is killed')
  end)
end)
