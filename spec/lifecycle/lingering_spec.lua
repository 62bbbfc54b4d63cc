local support = require 'support'

describe('a worker that max_request replaces', function()
  after_each(support.cleanup)

  -- It once took its successor along, or left clients without anybody, until max_wait_time was over.
  it('may linger while clients are served without a pause', function()
    local app = support.boot('PROCESS', [[
      local server = new_server {
        worker_num = 1, max_request = 100, max_request_grace = 0, max_wait_time = 1.5,
      }
      server:on('workerStart', function(_, id)
        srvlua.Timer.tick(50, function() end) -- keeps it when it wants to leave
        emit('worker', id)
      end)
      server:on('workerStop', function(s) emit('stop', s:stats().worker_request_count) end)
      server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
      run(server)
    ]])
    local client = app:connect()
    local slowest, until_time = 0, support.now() + 4
    while support.now() < until_time do
      local began = support.now()
      assert.equal('hello', client:echo 'hello')
      slowest = math.max(slowest, support.now() - began)
    end
    assert.is_true(slowest < 0.7, 'the slowest answer took ' .. slowest .. ' s')
    app:expect('stop')
    app:stop()
  end)
end)
