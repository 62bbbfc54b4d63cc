local support = require 'support'

describe('reload_jitter', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('lets a worker that is due go on serving for a while in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { max_request = 5, max_request_grace = 0, reload_jitter = 30 }
        server:on('workerStart', function() emit('worker', srvlua.getpid()) end)
        server:on('receive', function(s, fd, _, data) s:send(fd, srvlua.getpid() .. '\n') end)
        run(server)
      ]])
      local first = app:expect 'worker'
      local client = app:connect()
      for _ = 1, 20 do -- four times what it may serve; that it draws less than this takes is unlikely
        client:send 'x'
        assert.equal(tostring(first), client:line())
      end
      assert.equal(0, app:count 'worker')
      assert.equal(0, app:stop()) -- which does not wait for the jitter
    end)

    it('ends: the worker is replaced within it in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { max_request = 5, max_request_grace = 0, reload_jitter = 0.2 }
        server:on('workerStart', function() emit('worker', srvlua.getpid()) end)
        server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
        run(server)
      ]])
      local first = app:expect 'worker'
      local client = app:connect()
      for _ = 1, 5 do
        client:echo 'x'
      end
      assert.not_equal(first, (app:expect 'worker'))
      assert.equal(0, app:stop())
    end)
  end)
end)
