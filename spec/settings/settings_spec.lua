local support = require 'support'

describe('set', function()
  after_each(support.cleanup)

  it('merges over calls, and stores what was given under the given names', function()
    local app = support.boot('BASE', [[
      local server = srvlua.Server('127.0.0.1', 0, srvlua.BASE)
      emit('one', server:set { worker_num = 2, buffer_output_size = '64k', log_level = 'error' })
      emit('two', server:set { worker_num = 3 })
      emit('setting', server.setting)
    ]], { start = false })
    app:expect('one', true)
    app:expect('two', true)
    assert.same({ worker_num = 3, buffer_output_size = '64k', log_level = 'error' }, (app:expect 'setting'))
  end)

  it('raises at the caller for a bad value, naming it, and does nothing of that call', function()
    local app = support.boot('BASE', [[
      local server = srvlua.Server('127.0.0.1', 0, srvlua.BASE)
      local function try(settings)
        local ok, message = pcall(function() server:set(settings) end)
        emit('try', ok, tostring(message))
      end
      try { worker_num = 2, backlog = -1 }
      try { backlog = '512' }
      try { worker_num = 1.5 }
      try { log_level = 'loud' }
      try { open_tcp_nodelay = 'yes' }
      try { log_file = '/no/such/folder/log' }
      try { 'worker_num' }
      try { ['backlog\0'] = 5 }
      try(nil)
      try { max_conn = 5, max_connection = 6 }
      try { hook_flags = 1 }
      emit('setting', server.setting)
    ]], { start = false })
    for _, word in ipairs { 'backlog', 'backlog', 'worker_num', 'log_level', 'open_tcp_nodelay', 'log_file', 'string',
      'NUL', 'table', 'max_conn', 'hook_flags' } do
      local ok, message = app:expect 'try'
      assert.is_false(ok)
      assert.truthy(message:find(word, 1, true), message)
    end
    assert.same({}, (app:expect 'setting'))
  end)

  it('warns of an unknown name with the nearest one, and keeps it', function()
    local app = support.boot('BASE', [[
      local server = srvlua.Server('127.0.0.1', 0, srvlua.BASE)
      emit('ok', server:set { wroker_num = 2, Worker_Num = 3, completely_different = 1 })
      emit('setting', server.setting)
    ]], { start = false })
    app:expect('ok', true)
    assert.same({ wroker_num = 2, Worker_Num = 3, completely_different = 1 }, (app:expect 'setting'))
    assert.truthy(app:logs("'wroker_num'"):find "nearest is 'worker_num'")
    assert.truthy(app:logs("'Worker_Num'"):find "nearest is 'worker_num'")
    assert.falsy(app:logs("'completely_different'"):find 'nearest')
  end)

  it('refuses what is not supported yet instead of ignoring it', function()
    local app = support.boot('BASE', [[
      local server = srvlua.Server('127.0.0.1', 0, srvlua.BASE)
      for _, name in ipairs { 'open_http_protocol', 'open_http2_protocol', 'enable_static_handler',
        'enable_reuse_port' } do
        emit('try', pcall(server.set, server, { [name] = true }))
      end
      emit('setting', server.setting)
    ]], { start = false })
    for _ = 1, 4 do
      local ok, message = app:expect 'try'
      assert.is_false(ok)
      assert.truthy(message:find 'not supported yet', message)
    end
    assert.same({}, (app:expect 'setting'))
  end)

  support.in_both_modes(function(mode)
    it('changes nothing while the server runs, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        local port = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        local function code(...) return (select(3, ...)) end
        server:on('receive', function(s)
          local function callback() end
          emit('codes', code(s:set { worker_num = 9 }), code(port:set { backlog = 9 }), code(s:on('close', callback)),
            code(port:on('close', callback)), code(s:addListener('127.0.0.1', 0, 1)), s.setting.worker_num,
            s:getCallback 'close', port.setting)
        end)
        run(server)
      ]])
      app:connect():send 'x'
      assert.same({ 509, 509, 509, 509, 509, 1, nil, nil }, { app:expect 'codes' })
    end)

    it('shows effective values when the server runs, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = srvlua.Server('127.0.0.1', 0, srvlua[arg[1] ])
        server:set { buffer_output_size = '64k' }
        server:on('receive', function() end)
        server:on('workerStart', function(s) emit('setting', s.setting) end)
        run(server)
      ]])
      local setting = app:expect 'setting'
      assert.equal('64k', setting.buffer_output_size)
      assert.equal(65536, setting.output_buffer_size)
      assert.equal(0, setting.task_worker_num)
      assert.is_true(setting.worker_num >= 1 and setting.reactor_num >= 1)
      assert.is_true(setting.max_connection > 0)
      assert.equal(2, setting.dispatch_mode)
      if mode == 'BASE' then assert.equal(1, setting.worker_num) end
    end)
  end)
end)

describe('a port', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('inherits from the primary one until it has settings of its own, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { enable_coroutine = false }
        local heir = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        local own = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        emit('own', own.setting, own:set {}, own.setting)
        server:set { socket_buffer_size = 65536, kernel_socket_send_buffer_size = 65536 } -- after addListener
        server:on('receive', function(s, fd)
          local accepted = 0
          while accepted < 16 and s:send(fd, ('x'):rep(1000000)) do accepted = accepted + 1 end
          emit('accepted', accepted)
        end)
        run(server)
      ]])
      assert.same({ nil, true, {} }, { app:expect 'own' })
      local accepted = {}
      for index = 1, 3 do
        app:connect(index):send 'x'
        accepted[index] = app:expect 'accepted'
      end
      -- 64 KiB are crossed by the first or second send, 1 MiB (and the kernel's large buffer) later
      assert.is_true(accepted[1] == accepted[2] and accepted[3] > accepted[1], table.concat(accepted, ' '))
    end)
  end)

  it('says what it is, and refuses settings of the server', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local port = server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
      emit('port', { host = port.host, type = port.type, ssl = port.ssl, sock = port.sock > 2, number = port.port > 0,
        listed = server.ports[2] == port, count = #server.ports, again = server:listen('::1', 0, srvlua.TCP6).type })
      emit('server setting', pcall(port.set, port, { worker_num = 2 }))
      emit('event', port:on('start', function() end))
      emit('read only', pcall(function() port.port = 1 end))
      emit('read only', pcall(function() server.port = 1 end))
      local function code(...) return (select(3, ...)) end
      emit('failures', code(server:addListener('127.0.0.1', 65536, 1)), code(server:addListener('127.0.0.1', 0, 9)),
        code(server:addListener('127.0.0.1', server.port, 1)), code(server:addListener(('x'):rep(108), 0, 5)),
        code(server:addListener('192.0.2.77', 0, 1)))
      emit('same number', server:addListener('127.0.0.1', server.port, srvlua.UDP) ~= false)
      emit('raises', (pcall(server.addListener, server, '127.0.0.1', 0)), (pcall(server.addListener, server)))
    ]], { start = false })
    assert.same({ host = '127.0.0.1', type = 2, ssl = false, sock = true, number = true, listed = true, count = 2,
      again = 3 }, (app:expect 'port'))
    local ok, message = app:expect 'server setting'
    assert.is_false(ok)
    assert.truthy(message:find 'server setting', message)
    assert.equal(505, select(3, app:expect('event', false)))
    app:expect('read only', false)
    app:expect('read only', false)
    assert.same({ 9004, 724, 98, 504, 99 }, { app:expect 'failures' })
    app:expect('same number', true)
    app:expect('raises', false, false)
  end)

  support.in_both_modes(function(mode)
    it('gives a socket to set options on, before and after start, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server()
        local udp = server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
        server:on('receive', function(s)
          local socket = s:getSocket(s.port)
          emit('running', socket.fd == s:getSocket().fd,
            socket:getOption(srvlua.SOL_SOCKET, srvlua.SO_REUSEADDR) ~= false)
        end)
        server:on('packet', function() end)
        do
          local socket = udp:getSocket()
          emit('set', socket:setOption(srvlua.SOL_SOCKET, srvlua.SO_RCVBUF, 65536))
          emit('get', socket:getOption(srvlua.SOL_SOCKET, srvlua.SO_RCVBUF), socket.fd == udp.sock)
          local ok, message, code = socket:setOption(srvlua.SOL_SOCKET, 9999, 1)
          emit('bad', ok, type(message), code)
          emit('unknown', (select(3, server:getSocket(1))))
        end
        collectgarbage() -- the wrapper goes, the listener stays
        run(server)
      ]])
      app:expect('set', true)
      app:expect('get', 131072, true) -- the kernel doubles it
      app:expect('bad', false, 'string', 92)
      app:expect('unknown', 505)
      app:connect():send 'x'
      app:expect('running', true, true)
    end)
  end)
end)

describe('on', function()
  after_each(support.cleanup)

  it('takes names in any case, callables, and the last one', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local callable = setmetatable({}, { __call = function(_, s, fd, _, data) s:send(fd, 'callable ' .. data) end })
      local function first() end
      emit('on', server:on('RECEIVE', first), server:getCallback 'receive' == first, server:on('receive', callable),
        server:getCallback 'Receive' == callable, server:getCallback 'close', server:getCallback 'nonsense')
      emit('unknown', server:on('nonsense', first))
      emit('prefix', (server:on('onReceive', first)))
      emit('raises', (pcall(server.on, server, 'close', 5)), (pcall(server.on, server, 'close')),
        (pcall(server.on, server)))
      run(server)
    ]])
    assert.same({ true, true, true, true, nil, nil }, { app:expect 'on' })
    assert.equal(505, select(3, app:expect('unknown', false)))
    app:expect('prefix', false)
    app:expect('raises', false, false, false)
    local client = app:connect()
    client:send 'x'
    assert.equal('callable x', client:receive(10))
  end)

  it('releases what was replaced', function()
    local app = support.boot('PROCESS', [[
      local server = new_server()
      local gone = setmetatable({}, { __mode = 'v' })
      for i = 1, 100 do
        gone[i] = function() return i end
        server:on('receive', gone[i])
      end
      collectgarbage()
      local left = 0
      for _ in pairs(gone) do left = left + 1 end
      emit('left', left)
    ]], { start = false })
    app:expect('left', 1)
  end)
end)
