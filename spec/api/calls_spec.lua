local support = require 'support'

-- What each method says in a process in which it makes no sense, and with arguments that are none.
local PROBE = [[
  local calls = {
    shutdown = {}, reload = {}, stop = {}, stats = {}, tick = { 10, print }, after = { 10, print }, clearTimer = { 1 },
    send = { 1, 'x' }, close = { 1 }, sendfile = { 1, '/etc/hostname' }, sendto = { '127.0.0.1', 9, 'x' },
    getClientInfo = { 1 }, getClientList = {}, bind = { 1, 1 }, protect = { 1 }, pause = { 1 }, resume = { 1 },
    confirm = { 1 }, heartbeat = {}, sendwait = { 1, 'x' }, defer = { print },
  }
  local function probe(server, names)
    local codes = {}
    for name in names:gmatch '%a+' do
      local ok, message, code = server[name](server, unpack(calls[name]))
      codes[name] = ok == false and type(message) == 'string' and code or tostring(ok)
    end
    return codes
  end
]]

describe('a call', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('at the wrong time is refused with 509, ' .. mode, function()
      local running = 'shutdown reload stop stats tick after clearTimer send close sendfile sendto getClientInfo ' ..
        'getClientList bind protect pause resume confirm heartbeat sendwait defer'
      local app = support.boot(mode, PROBE .. [[
        local server = new_server()
        server:on('receive', function() end)
        server:on('managerStart', function(s) emit('manager', probe(s, 'stop defer')) end)
        emit('early', probe(server, arg[2]))
        run(server, function(s) s:shutdown() end)
        emit('late', probe(server, arg[2]))
        local arguments = { set = { {} }, on = { 'close', print }, addListener = { '127.0.0.1', 0, 1 }, start = {} }
        for name, values in pairs(arguments) do
          local ok, _, code = server[name](server, unpack(values))
          emit('over', name, ok, code)
        end
      ]], { args = { running } })
      app:expect('returned', true)
      for _, time in ipairs { 'early', 'late' } do
        local codes = app:expect(time)
        for name in running:gmatch '%a+' do
          assert.equal(509, codes[name], time .. ' ' .. name)
        end
      end
      for _, name in ipairs { 'set', 'on', 'addListener', 'start' } do
        app:expect('over', name, false, 509)
      end
      if mode == 'PROCESS' then assert.same({ stop = 509, defer = 509 }, (app:expect 'manager')) end
    end)

    it('with wrong arguments raises what is usual, and changes nothing, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function(s, fd)
          local messages = {}
          local function try(name, ...)
            messages[#messages + 1] = name .. ': ' .. tostring(select(2, pcall(s[name], s, ...)))
          end
          try('close', 'x')
          try('close', fd, 'x')
          try('exist')
          try('getClientInfo', {})
          try('getClientList', '1')
          try('bind', fd)
          try('bind', fd, 0.5)
          try('protect', fd, 1)
          try('send', fd)
          try('sendfile', fd)
          try('sendto', '127.0.0.1', '9', 'x')
          try('stop', 'x')
          try('tick', 10, 5)
          try('defer', nil)
          try('getWorkerPid', 'x')
          try('getCallback')
          emit('messages', messages)
          emit('self', (pcall(s.send, {}, fd, 'x')), (pcall(s.send)))
          s:send(fd, 'still here')
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'x'
      for _, message in ipairs((app:expect 'messages')) do
        assert.truthy(message:find '^%a+: bad argument #%d to \'%a+\' %(.+%)', message)
      end
      app:expect('self', false, false)
      assert.equal('still here', client:receive(10))
    end)

    it('that failed is remembered by its process alone, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('receive', function(s, fd)
          s:send(99, 'x')
          emit('codes', s:getLastError(), s:exist(99), s:send(fd, 'x'), s:getLastError())
        end)
        server:on('workerStart', function(s, id)
          emit('fresh', id, s:getLastError())
        end)
        server:send(1, 'x')
        emit('before', server:getLastError())
        run(server)
      ]])
      app:expect('before', 509)
      app:expect('fresh', 0, 0)
      app:expect('fresh', 1, 0)
      app:connect():send 'x'
      app:expect('codes', 1005, false, true, 1005)
    end)

    it('to stop leaves a successor, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
        server:on('workerStop', function(_, id) emit('stop', id, srvlua.getpid()) end)
        server:on('workerError', function() emit 'workerError' end)
        server:on('receive', function(s, _, _, data)
          local other = 1 - s.worker_id
          emit('unknown', (select(3, s:stop(9))))
          emit('stopping', data == 'other' and other or s.worker_id, s:stop(data == 'other' and other or -1))
        end)
        run(server)
      ]])
      local pids = {}
      for _ = 1, 2 do
        local id, pid = app:expect 'worker'
        pids[id] = pid
      end
      for _, whom in ipairs { 'self', 'other' } do
        app:connect():send(whom)
        app:expect('unknown', 505)
        local id, ok = app:expect 'stopping'
        assert.is_true(ok)
        app:expect('stop', id, pids[id])
        local _, pid = app:expect('worker', id)
        assert.not_equal(pids[id], pid)
        pids[id] = pid
      end
      assert.equal(0, app:count 'workerError')
    end)
  end)
end)

describe('small functions', function()
  after_each(support.cleanup)

  it('do what they say', function()
    local app = support.boot('PROCESS', [[
      emit('pid', srvlua.getpid())
      emit('time', srvlua.now(), srvlua.hrtime() > 0)
      emit('strerror', srvlua.strerror(2), srvlua.strerror(1005), #srvlua.strerror(1005) > 5)
      emit('name', srvlua.setProcessName 'a new name')
      emit('unknown', srvlua.no_such_thing, rawget(srvlua, 'Timer') == nil, srvlua.Timer == require 'srvlua.Timer')
      emit('modules', srvlua.inheritedModules())
      local server = new_server()
      server:on('receive', function() end)
      server:on('workerStart', function()
        package.loaded.later = {}
        emit('inherited', srvlua.inheritedModules())
      end)
      run(server)
    ]])
    app:expect('pid', app.pid)
    assert.is_true(math.abs(app:expect 'time' - os.time()) < 100)
    app:expect('strerror', 'No such file or directory')
    app:expect('name', true)
    assert.truthy(support.title(app.pid):find '^a new name')
    app:expect('unknown', nil, true, true)
    for _, event in ipairs { 'modules', 'inherited' } do
      local names, found = app:expect(event), {}
      for i, name in ipairs(names) do
        found[name] = true
        assert.is_true(i == 1 or names[i - 1] < name)
      end
      assert.is_true(found.srvlua and found['srvlua.core'] and found.string)
      assert.is_nil(found.later)
    end
  end)
end)
