local support = require 'support'

describe('mail for a process that ends', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    local function boot(source)
      return support.boot(mode, source, { cwd = support.directory() })
    end

    it('goes to its successor, whole and once, in ' .. mode .. ' mode', function()
      local app = boot [[
        local server = new_server { message_ring_size = '16k', task_ring_size = '64k' }
        local got = srvlua.Atomic(0)
        server:addProcess(srvlua.Process(function()
          for i = 1, 100 do
            if server:sendMessage(('%03d'):format(i) .. ('x'):rep(200000), 0) ~= true then emit('refused', i) end
          end
          emit 'sent'
          stall()
        end))
        server:on('receive', function() end)
        server:on('pipeMessage', function(s, _, message)
          local n = got:add(1)
          if #message ~= 200003 or tonumber(message:sub(1, 3)) ~= n then emit('wrong', n, message:sub(1, 3)) end
          if n % 10 == 5 then s:reload() end
          if n == 100 then emit 'all' end
        end)
        server:on('afterReload', function(_, ok) emit('reloaded', ok) end)
        run(server)
      ]]
      app:expect 'sent'
      app:expect 'all'
      app:expect('reloaded', true)
      assert.equal(0, app:count 'wrong')
      assert.equal(0, app:stop())
      assert.equal(0, app:count 'refused')
    end)

    it('waits for its successor while that is on the way, in ' .. mode .. ' mode', function()
      local app = boot [[
        local ffi = require 'ffi'
        local server = new_server { task_worker_num = 1, task_ring_size = '64k' }
        server:on('receive', function(s)
          s:task 'big'
          stall()
        end)
        server:on('workerStart', function(_, id) if id == 0 then emit('worker', srvlua.getpid()) end end)
        server:on('workerError', function() ffi.C.usleep(100000) end)
        server:on('task', function(s)
          emit 'running'
          emit('finished', s:finish(('x'):rep(300000)))
        end)
        server:on('finish', function(_, id, data) emit('finish', id, #data) end)
        run(server)
      ]]
      local pid = app:expect 'worker'
      app:connect():send 'x'
      app:expect 'running'
      support.kill(pid, 'KILL')
      app:expect('finished', true)
      app:expect('finish', 0, 300000)
      assert.equal(0, app:stop())
    end)

    it('is refused at once when the server shuts down and nobody is there, in ' .. mode .. ' mode', function()
      local app = boot [[
        local server = new_server {
          task_worker_num = 1, message_ring_size = '16k', task_ring_size = '64k', max_wait_time = 20,
        }
        server:on('receive', function(s) s:task 'x' end)
        server:on('pipeMessage', function() end)
        server:on('task', function(s)
          local message, answer, _, code = ('x'):rep(300000)
          emit 'running'
          repeat answer, _, code = s:sendMessage(message, 0) until answer ~= true
          emit('refused', code)
        end)
        server:on('workerStop', function(_, id) emit('stopped', id) end)
        run(server)
      ]]
      app:connect():send 'x'
      app:expect 'running'
      app:kill 'TERM'
      app:expect('refused', 9006)
      app:expect('stopped', 1)
    end)

    it('was lost with what ran when the program leaves by os.exit(0), in ' .. mode .. ' mode', function()
      local app = boot [[
        local server = new_server { task_worker_num = 1 }
        server:on('receive', function(s, _, _, data)
          if data == 'count' then emit('lost', s:stats().lost_count) else s:task(data) end
        end)
        server:on('task', function() os.exit(0) end)
        server:on('workerStart', function(_, id) emit('start of', id) end)
        server:on('workerError', function() emit 'error' end)
        run(server)
      ]]
      app:expect('start of', 1)
      local client = app:connect()
      client:send 'leave'
      app:expect('start of', 1)
      app:logs 'died while it ran task 0 of process 0: that task is lost'
      client:send 'count'
      app:expect('lost', 1)
      assert.equal(0, app:count 'error')
    end)
  end)
end)
