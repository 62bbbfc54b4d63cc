-- task_ipc_mode 2 and 3: tasks in System V message queues (settings.md 3.6).
local ffi = require 'ffi'
local lfs = require 'lfs'
local support = require 'support'

ffi.cdef [[
  int msgget(int key, int flags);
  int msgctl(int id, int command, void *state);
  int msgsnd(int id, const void *message, size_t length, int flags);
]]

local IPC_RMID = 0
local keys = {}

-- A key of the spec's own; its queue goes at the end.
local function new_key()
  local key = math.random(0x10000000, 0x4fffffff)
  keys[#keys + 1] = key
  return key
end

local function put(key, kind, text)
  local message = ffi.new('struct { long kind; char text[?]; }', #text, kind)
  ffi.copy(message.text, text, #text)
  assert.equal(0, ffi.C.msgsnd(ffi.C.msgget(key, 0), message, #text, 0))
end

-- The number of the queue that a process of the application sent to last; others may use queues at the same time.
local function queue_of(app)
  local members = {}
  for _, pid in ipairs(app:members()) do
    members[pid] = true
  end
  for line in io.lines '/proc/sysvipc/msg' do
    local words = {}
    for word in line:gmatch '%S+' do words[#words + 1] = tonumber(word) end
    if members[words[6]] then return words[2] end -- key msqid perms cbytes qnum lspid
  end
end

local function is_there(queue)
  for line in io.lines '/proc/sysvipc/msg' do
    if tonumber(line:match '^%s*%-?%d+%s+(%d+)') == queue then return true end
  end
  return false
end

local function files_in(directory)
  local names = {}
  for name in lfs.dir(directory) do
    if name:find '^srvlua%.task%.' then names[#names + 1] = name end
  end
  return names
end

local HOLD = [[
  local ffi = require 'ffi'
  ffi.cdef 'int usleep(unsigned int);'
  local gate = srvlua.Atomic()
  local function hold() while gate:get() == 0 do ffi.C.usleep(2000) end end
]]

describe('tasks in a message queue', function()
  after_each(function()
    for _, key in ipairs(keys) do
      local id = ffi.C.msgget(key, 0)
      if id >= 0 then ffi.C.msgctl(id, IPC_RMID, nil) end
    end
    keys = {}
    support.cleanup()
  end)

  support.in_both_modes(function(mode)
    for _, way in ipairs { 2, 3 } do
      local name = (', %s, task_ipc_mode %d'):format(mode, way)

      it('are all run, or lost by name, whatever is killed' .. name, function()
        local app = support.boot(mode, HOLD .. [[
          local server = new_server { task_worker_num = 2, task_ipc_mode = ]] .. way .. [[, respawn_burst = 100,
            task_tmpdir = arg[2] }
          local left, big = 400, ('b'):rep(20000)
          server:on('workerStart', function(self, id) if id > 0 then emit('up', id, srvlua.getpid()) end end)
          server:on('task', function(_, _, _, data)
            local number = type(data) == 'table' and data[1] or tonumber(data)
            if number % 50 == 0 then emit('running', number, srvlua.getpid()); hold() end
            return number
          end)
          local seen = {}
          server:on('finish', function(_, _, number)
            if seen[number] then emit('twice', number) end
            seen[number] = true
            left = left - 1
            emit('done', number)
          end)
          server:on('receive', function(self)
            for i = 1, 400 do
              if not self:task(i % 7 == 0 and { i, big } or tostring(i)) then emit('refused', i) end
            end
          end)
          run(server)
        ]], { args = { support.directory() } })
        app:connect():send 'go'
        local lost = {}
        for _ = 1, 8 do
          local number, pid = app:expect 'running'
          assert.is_nil(lost[number], 'a lost task ran again')
          lost[number] = true
          support.kill(pid, 'KILL')
        end
        for _ = 1, 392 do assert.is_nil(lost[app:expect 'done']) end
        assert.equal(0, app:count 'twice')
        assert.equal(0, app:count 'refused')
        app:stop()
        assert.equal(8, app:log_count 'that task is lost')
      end)

      it('wait for room, in a coroutine and out of it' .. name, function()
        for _, coroutines in ipairs { 'true', 'false' } do
          local app = support.boot(mode, HOLD .. [[
            local server = new_server { task_worker_num = 1, task_ipc_mode = ]] .. way .. [[,
              enable_coroutine = ]] .. coroutines .. [[ }
            local text, sum, count = ('t'):rep(1000), 0, 0
            server:on('receive', function(self)
              self:task 'hold'
              for i = 1, 100 do
                self:task(i .. text)
                if i == 5 then emit 'five'; gate:set(1) end
              end
              emit 'given'
            end)
            server:on('task', function(_, _, _, data)
              if data == 'hold' then hold() return 0 end
              return tonumber(data:match '^%d+')
            end)
            server:on('finish', function(_, _, number)
              sum, count = sum + number, count + 1
              if count == 101 then emit('sum', sum) end
            end)
            run(server)
          ]])
          app:connect():send 'go'
          app:expect 'given'
          app:expect('sum', 5050)
          app:stop()
        end
      end)
    end

    it('leave nothing behind when the server ends, ' .. mode, function()
      local directory = support.directory()
      local app = support.boot(mode, HOLD .. [[
        local server = new_server { task_worker_num = 1, task_ipc_mode = 2, max_wait_time = 0.2,
          task_tmpdir = arg[2] .. '/made/here' }
        server:on('receive', function(self)
          self:task(('x'):rep(10000))
          for _ = 1, 3 do self:task(('x'):rep(10000)) end
          emit 'given'
        end)
        server:on('task', function() emit 'running'; hold() end)
        server:on('finish', function() end)
        run(server)
      ]], { args = { directory } })
      app:connect():send 'go'
      app:expect 'running'
      app:expect 'given'
      assert.equal(3, #files_in(directory .. '/made/here'))
      local queue = assert(queue_of(app), 'no queue')
      app:kill 'TERM'
      app:wait()
      assert.is_true(app:is_gone())
      app:logs '3 tasks that were not run: they are lost'
      assert.is_false(is_there(queue))
      assert.equal(0, #files_in(directory .. '/made/here'))
    end)

    it('outlive the server with a key, files and all, ' .. mode, function()
      local key, directory = new_key(), support.directory()
      local source = HOLD .. [[
        local server = new_server { worker_num = tonumber(arg[4]), task_worker_num = tonumber(arg[5]),
          task_ipc_mode = 2, message_queue_key = ]] .. key .. [[, task_tmpdir = arg[2] }
        local running = srvlua.Atomic()
        server:on('receive', function() end)
        server:on('workerStart', function(self, id)
          if id > 1 or arg[3] == 'open' then return gate:set(arg[3] == 'open' and 1 or 0) end
          self:task('first', id)
          if id == 0 then return end
          while running:get() < 2 do srvlua.sleep(0.002) end
          self:task(('x'):rep(9000)); self:task({ 'table' }); self:task('pinned', 1)
          emit 'given'
        end)
        server:on('task', function(self, _, source, data)
          if type(data) == 'table' then data = data[1] end
          emit('task', data:sub(1, 6), source)
          running:add()
          hold()
          return data:sub(1, 6)
        end)
        server:on('finish', function(_, _, data) emit('finish', data) end)
        run(server)
      ]]
      local app = support.boot(mode, source, { args = { directory, 'closed', 2, 2 } })
      app:expect 'given'
      app:expect('task', 'first')
      app:expect('task', 'first')
      for _, pid in ipairs(app:members()) do support.kill(pid, 'KILL') end
      app:wait()
      assert.is_true(app:is_gone())
      assert.equal(1, #files_in(directory))

      app = support.boot(mode, source, { args = { directory, 'open', 1, 1 } })
      local seen = {}
      for _ = 1, 3 do
        seen[#seen + 1] = app:expect 'task'
      end
      table.sort(seen)
      assert.same({ 'pinned', 'table', 'xxxxxx' }, seen)
      app:logs 'was given by worker 1 of an earlier server: its result is dropped'
      assert.same({ 0, nil }, { app:stop() })
      assert.equal(0, #files_in(directory))
      assert.is_true(ffi.C.msgget(key, 0) >= 0)
    end)

    it('run once more with on_lost_request = "redeliver", ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { task_worker_num = 1, task_ipc_mode = 3, on_lost_request = 'redeliver',
          task_tmpdir = arg[2] }
        server:on('receive', function(self)
          self:task(('x'):rep(10000))
          self:task 'next'
          emit 'given'
        end)
        server:on('task', function(_, _, _, data)
          emit('task', #data, srvlua.getpid())
          if #data > 4 then stall() end
        end)
        server:on('finish', function() end)
        run(server)
      ]], { args = { support.directory() } })
      app:connect():send 'go'
      app:expect 'given'
      local length, pid = app:expect 'task'
      assert.equal(10000, length)
      support.kill(pid, 'KILL')
      app:logs 'it is given once more'
      app:expect('task', 4)
      local _, again = app:expect('task', 10000)
      support.kill(again, 'KILL')
      app:logs 'that task is lost'
      assert.equal(0, app:count 'task')
    end)
  end)

  it('whose file cannot be written, or whose queue is gone, are refused with the reason', function()
    local key, directory = new_key(), support.directory()
    local app = support.boot('PROCESS', [[
      local server = new_server { task_worker_num = 1, task_ipc_mode = 3, message_queue_key = ]] .. key .. [[,
        task_tmpdir = arg[2] .. '/gone' }
      server:on('task', function() end)
      server:on('finish', function() end)
      server:on('receive', function(self, _, _, data)
        local ok, message, code = self:task(data == 'file' and ('x'):rep(10000) or 'x')
        emit('given', ok, type(message), code)
      end)
      run(server)
    ]], { args = { directory } })
    local client = app:connect()
    lfs.rmdir(directory .. '/gone')
    client:send 'file'
    app:expect('given', false, 'string', 2)
    ffi.C.msgctl(ffi.C.msgget(key, 0), IPC_RMID, nil)
    client:send 'queue'
    local ok, _, code = app:expect 'given'
    assert.is_false(ok)
    assert.is_true(code == 22 or code == 43, code) -- EINVAL, EIDRM
    app:logs 'no tasks can be taken from the message queue'
  end)

  it('with a key that belongs to somebody else fail the start', function()
    local key = new_key()
    local app = support.boot('PROCESS', [[
      require 'ffi'.cdef 'int msgget(int key, int flags); int setuid(unsigned);'
      local C = require 'ffi'.C
      C.msgget(]] .. key .. [[, 512 + 384) -- IPC_CREAT, 0600
      C.setuid(65534)
      local server = new_server { task_worker_num = 1, task_ipc_mode = 2, message_queue_key = ]] .. key .. [[ }
      server:on('receive', function() end)
      server:on('task', function() end)
      local ok, message, code = server:start()
      emit('start', ok, type(message), code)
    ]], { start = false })
    app:expect('start', false, 'string', 13)
  end)

  it('need a directory that can be made', function()
    local app = support.boot('PROCESS', [[
      emit('set', pcall(new_server, { task_tmpdir = '/proc/none/such' }))
      emit('long', pcall(new_server, { task_tmpdir = '/tmp/' .. ('x'):rep(250) }))
    ]], { start = false })
    local ok, message = app:expect 'set'
    assert.is_false(ok)
    assert.truthy(message:find "bad setting 'task_tmpdir': expected path of a directory", message)
    assert.is_false((app:expect 'long'))
  end)

  it('are put in from outside, and what is none is dropped', function()
    local key = new_key()
    local app = support.boot('PROCESS', [[
      local server = new_server { task_worker_num = 2, task_ipc_mode = 2, message_queue_key = ]] .. key .. [[ }
      emit('packed', srvlua.Task.pack { word = 'outside' })
      server:on('receive', function() end)
      server:on('task', function(self, id, source, data)
        emit('task', self.worker_id, id, source, data.word, (select(3, self:finish(1))))
        return 1
      end)
      server:on('finish', function() emit 'finish' end)
      run(server)
    ]])
    local packed = app:expect 'packed'
    put(key, 2, packed:sub(1, -2))
    put(key, 2, 'junk')
    put(key, 2, packed)
    app:expect('task', 2, 0, -1, 'outside', 507)
    app:logs 'is no task, or a damaged one: it is dropped'
    assert.equal(0, app:count 'finish')
  end)

  it('are counted where they wait', function()
    local app = support.boot('PROCESS', HOLD .. [[
      local server = new_server { task_worker_num = 1, task_ipc_mode = 2 }
      server:on('receive', function(self)
        for _ = 1, 5 do self:task 'x' end
      end)
      server:on('task', function(self)
        if gate:get() > 0 then return end
        repeat ffi.C.usleep(1000) until self:stats().task_queue_num == 4
        local stats = self:stats()
        emit('stats', stats.task_queue_num, stats.task_queue_bytes > 4, stats.tasking_num)
        gate:set(1)
      end)
      server:on('finish', function() end)
      run(server)
    ]])
    app:connect():send 'go'
    app:expect('stats', 4, true, 1)
  end)

  it('go with the server when the master is killed', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { task_worker_num = 1, task_ipc_mode = 3 }
      server:on('receive', function(self) self:task 'x' end)
      server:on('task', function() emit 'task' end)
      server:on('finish', function() end)
      run(server)
    ]])
    app:connect():send 'go'
    app:expect 'task'
    local queue = assert(queue_of(app), 'no queue')
    app:kill 'KILL'
    app:wait()
    assert.is_true(app:is_gone())
    assert.is_false(is_there(queue))
  end)
end)
