local bit = require 'bit'
local support = require 'support'

-- An application with a dispatch_func, given as text so that it has no upvalues; the rest of the program follows.
local function boot(func, settings, rest, sock_type)
  return support.boot('PROCESS', ([[
    local server = new_server({ %s, dispatch_func = assert(loadstring %q)() }, %s)
    %s
    run(server)
  ]]):format(settings, 'return ' .. func, sock_type or 'nil', rest))
end

-- A worker answers with its id and what it got.
local echo = [[ server:on('receive', function(s, fd, _, data) s:send(fd, s.worker_id .. ' ' .. data .. '\n') end) ]]

-- `data` goes to the worker whose number it begins with, everything else to worker 0.
local by_digit = [[ function(_, _, _, data) return data and tonumber(data:match '^%d') or 0 end ]]

local function ask(client, data)
  client:send(data)
  return client:line()
end

local function crc32(text)
  local crc = -1
  for i = 1, #text do
    crc = bit.bxor(crc, text:byte(i))
    for _ = 1, 8 do
      crc = bit.bxor(bit.rshift(crc, 1), bit.band(crc, 1) ~= 0 and 0xEDB88320 or 0)
    end
  end
  return bit.bnot(crc) % 2 ^ 32
end

describe('dispatch_func', function()
  after_each(support.cleanup)

  describe('picks the worker', function()
    it('of each packet', function()
      local app = boot(by_digit, 'worker_num = 3', echo)
      local client, other = app:connect(), app:connect()
      for _, number in ipairs { 2, 0, 1, 1, 2 } do
        assert.equal(number .. ' ' .. number, ask(client, number))
        assert.equal(2 - number .. ' ' .. 2 - number, ask(other, 2 - number))
      end
    end)

    it('of connect, close, bufferFull and bufferEmpty', function()
      local app = boot([[ function(_, _, type)
        local workers = { [srvlua.DISPATCH_CONNECT] = 1, [srvlua.DISPATCH_CLOSE] = 2, [srvlua.DISPATCH_BUFFER_FULL] = 3,
          [srvlua.DISPATCH_BUFFER_EMPTY] = 4 }
        return workers[type] or 0
      end ]], 'worker_num = 5, kernel_socket_send_buffer_size = 8192, buffer_high_watermark = 65536', [[
        for _, event in ipairs { 'connect', 'close', 'bufferFull', 'bufferEmpty' } do
          server:on(event, function(s, fd, reactor) emit(event, s.worker_id, fd, reactor) end)
        end
        server:on('receive', function(s, fd) emit('receive', s.worker_id) s:send(fd, ('x'):rep(1000000)) end)
      ]])
      local client = app:connect()
      app:expect('connect', 1, 1, 0)
      client:send 'x'
      app:expect('receive', 0)
      app:expect('bufferFull', 3, 1)
      client:receive(1000000)
      app:expect('bufferEmpty', 4, 1)
      client:close()
      app:expect('close', 2, 1, 0)
    end)

    it('of datagrams, for an IPv4 number or the CRC-32 of the address', function()
      local func = [[ function(_, fd, type)
        print('fd ' .. ('%.0f'):format(fd))
        return type == srvlua.DISPATCH_PACKET and 1 or 0
      end ]]
      local answer = [[ server:on('packet', function(s, data, from)
        s:sendto(from.address, from.port, s.worker_id .. ' ' .. data)
      end) ]]
      local app = boot(func, 'worker_num = 2', answer, 'srvlua.SOCK_UDP')
      local client = app:datagrams()
      client:send 'hello'
      assert.equal('1 hello', client:receive())
      app:logs('fd ' .. ('%.0f'):format(127 + 2 ^ 24))
      assert.equal(0, app:stop())

      app = boot(func, 'worker_num = 2', answer, 'srvlua.SOCK_UDP6')
      app.where[1] = { '::1', app.where[1] }
      client = app:datagrams()
      client:send 'hello'
      assert.equal('1 hello', client:receive())
      app:logs('fd ' .. ('%.0f'):format(crc32 '::1'))
    end)

    it('where the close event of close() goes, whoever calls it', function()
      local app = boot(by_digit, 'worker_num = 3', [[
        server:on('receive', function(s, fd, _, data)
          emit('closed', s:close(fd), s:exist(fd), select(3, s:send(fd, 'x')), select(3, s:close(fd)))
        end)
        server:on('close', function(s, fd, reactor)
          emit('close', s.worker_id, fd, reactor, s:exist(fd), s:getClientInfo(fd) ~= false)
        end)
      ]])
      for fd = 1, 3 do
        local client = app:connect()
        client:send(tostring(fd - 1))
        app:expect('closed', true, false, 1001, 1004)
        app:expect('close', 0, fd, -1, false, true)
        assert.equal('end', client:ending())
      end
    end)

    it('for as long as the process lives, in both generations of a worker', function()
      local app = boot(by_digit, 'worker_num = 2', [[
        server:on('receive', function(s, fd, _, data)
          if data == '1 die' then os.exit(3) end
          if data == '1 reload' then s:reload() return end
          s:send(fd, s.worker_id .. ' ' .. srvlua.getpid() .. '\n')
        end)
        server:on('afterReload', function() emit 'afterReload' end)
        server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
      ]])
      local client = app:connect()
      local first = ask(client, '1')
      client:send '1 die'
      app:expect('worker', 0)
      app:expect('worker', 1)
      local _, pid = app:expect('worker', 1)
      assert.equal('1 ' .. pid, ask(client, '1'))
      assert.not_equal(first, '1 ' .. pid)
      client:send '1 reload'
      app:expect 'afterReload'
      _, pid = app:expect('worker', 1)
      assert.equal('1 ' .. pid, ask(client, '1'))
    end)
  end)

  describe('may answer', function()
    it('DISCARD_PACKET: the packet is lost and nothing else', function()
      local app = boot([[ function(_, _, _, data) return data == 'lose me' and srvlua.DISCARD_PACKET or 1 end ]],
        'worker_num = 2', echo .. [[ server:on('close', function(_, fd, reactor) emit('close', fd, reactor) end) ]])
      local client = app:connect()
      assert.equal('1 a', ask(client, 'a'))
      client:send 'lose me'
      app.process:pump(0.05) -- so that it stays a packet of its own
      assert.equal('1 b', ask(client, 'b'))
      client:close()
      app:expect('close', 1, 0)
      assert.equal(0, app:log_count 'WARNING')
    end)

    it('DISCARD_PACKET for connect and close: the callbacks do not run, the connection lives and ends', function()
      local app = boot([[ function(_, fd, type)
        if fd == 1 and type ~= srvlua.DISPATCH_DATA then return srvlua.DISCARD_PACKET end
        return 1
      end ]], 'worker_num = 2', [[
        server:on('connect', function(_, fd) emit('connect', fd) end)
        server:on('close', function(_, fd) emit('close', fd) end)
        server:on('receive', function(s, fd, _, data)
          if data == 'count' then s:send(fd, s:stats().connection_num .. '\n') return end
          s:send(fd, 'bye\n')
          s:close(fd)
        end)
      ]])
      local client, other = app:connect(), app:connect()
      app:expect('connect', 2)
      client:send 'x'
      assert.equal('bye\n', client:rest())
      assert.truthy(support.eventually(function() return ask(other, 'count') == '1' end))
      other:close()
      app:expect('close', 2)
      assert.equal(0, app:count('connect', 1))
      assert.equal(0, app:count('close', 1))
    end)

    it('CLOSE_CONNECTION: what was sent before goes out, then the end, and close tells of the reactor', function()
      local app = boot([[ function(_, _, _, data) return data == 'enough' and srvlua.CLOSE_CONNECTION or 1 end ]],
        'worker_num = 2', [[
        server:on('receive', function(s, fd, _, data) emit('receive', data) s:send(fd, ('y'):rep(2000000)) end)
        server:on('close', function(_, fd, reactor) emit('close', fd, reactor) end)
      ]])
      local client = app:connect()
      client:send 'more'
      app:expect('receive', 'more')
      client:receive(1)
      client:send 'enough'
      assert.equal(1999999, #client:rest())
      app:expect('close', 1, 0)
      assert.equal(0, app:count 'receive')
    end)

    it('CLOSE_CONNECTION to everything: the close event finds a worker all the same', function()
      local app = boot([[ function() return srvlua.CLOSE_CONNECTION end ]], 'worker_num = 2', echo .. [[
        server:on('connect', function(_, fd) emit('connect', fd) end)
        server:on('close', function(_, fd, reactor) emit('close', fd, reactor) end)
      ]])
      assert.equal('end', app:connect():ending())
      app:expect('close', 1, 0)
      assert.equal(0, app:count 'connect')
    end)

    it('USERFUNC_FALLBACK: dispatch_mode decides', function()
      local func = 'function() return srvlua.USERFUNC_FALLBACK end'
      local app = boot(func, "worker_num = 2, dispatch_mode = 'round'", echo)
      local client, seen = app:connect(), {}
      for _ = 1, 4 do
        seen[#seen + 1] = ask(client, 'x')
      end
      assert.same({ seen[1], seen[2], seen[1], seen[2] }, seen)
      assert.not_equal(seen[1], seen[2])
    end)

    it('something that is no worker: the event is dropped, with a warning at most once a second', function()
      local app = boot([[ function(_, _, _, data)
        local answers = { fraction = 0.5, text = '1', beyond = 2, minus = -4, huge = 2 ^ 40, table = {}, yes = true }
        if data == 'nothing' then return end
        return answers[data] or 0
      end ]], 'worker_num = 2', echo)
      local client = app:connect()
      client:send 'nothing'
      local line = app:logs 'is no worker'
      assert.truthy(line:find('WARNING', 1, true) and line:find('returned nil', 1, true), line)
      for _, word in ipairs { 'fraction', 'text', 'beyond', 'minus', 'huge', 'table', 'yes' } do
        client:send(word)
        app.process:pump(0.02) -- so that each stays a packet of its own
        assert.equal('0 ok', ask(client, 'ok'))
      end
      assert.equal(1, app:log_count 'is no worker')
    end)
  end)

  it('that raises leaves the choice to dispatch_mode, is logged at most once a second, and counted', function()
    local app = boot([[ function(_, _, type, data)
      if data == 'bad' then error 'out of order' end
      if data == 'worse' then error {} end
      if data == 'deep' then local function f() return 1 + f() end return f() end
      return 1
    end ]], 'worker_num = 2', [[
      server:on('receive', function(s, fd, _, data)
        local mode = s:getClientInfo(fd).socket_fd % 2
        if data == 'count' then s:send(fd, s:stats().error_count .. '\n') return end
        s:send(fd, s.worker_id == mode and 'mode\n' or 'function\n')
      end)
    ]])
    local client = app:connect()
    if ask(client, 'good') == 'mode' then client = app:connect() end
    assert.equal('function', ask(client, 'good'))
    for _, data in ipairs { 'bad', 'worse', 'deep' } do
      assert.equal('mode', ask(client, data))
      assert.equal('function', ask(client, 'good'))
    end
    local line = app:logs 'out of order'
    assert.truthy(line:find 'ERROR %d+ reactor#[01] ', line)
    assert.equal(1, app:log_count 'dispatch_func failed')
    assert.equal('3', ask(client, 'count'))
  end)

  it('that is slow is warned of, once a minute', function()
    local app = boot([[ function(_, _, _, data)
      if data == 'slow' then for i = 1, 1e8 do if i == 0 then print(i) end end end
      return 1
    end ]], 'worker_num = 2', echo)
    local client = app:connect()
    assert.equal('1 quick', ask(client, 'quick'))
    assert.equal('1 slow', ask(client, 'slow'))
    assert.truthy(app:logs('dispatch_func took'):find('WARNING', 1, true))
    assert.equal('1 slow', ask(client, 'slow'))
    assert.equal(1, app:log_count 'dispatch_func took')
  end)

  describe('is given', function()
    -- prints what it sees
    local function told(func, settings)
      local app = boot(func, 'worker_num = 2' .. (settings or ''), echo)
      local client = app:connect()
      return function(data)
        assert.equal('0 ' .. data, ask(client, data))
        return app
      end
    end

    it('the first 8180 bytes, if it takes four parameters or any number', function()
      local packet = ('a'):rep(8179) .. 'bc' .. ('d'):rep(1000)
      for _, func in ipairs {
        [[ function(_, _, _, data) print('got', #data, data) return 0 end ]],
        [[ function(...) print('got', #select(4, ...), (select(4, ...))) return 0 end ]],
      } do
        local app = boot(func, 'worker_num = 2', [[
          server:on('receive', function(s, fd, _, data) s:send(fd, #data .. '\n') end)
        ]])
        local client = app:connect()
        client:send_at_once(packet)
        assert.equal(#packet, tonumber(client:line()))
        app:logs('got\t8180\t' .. packet:sub(1, 8180))
        assert.equal(0, app:log_count(packet:sub(1, 8181)))
      end
      local send = told [[ function(server, fd, type) print('fd', fd, 'type', type) return 0 end ]]
      send('x'):logs 'fd\t1\ttype\t0'
    end)

    it('nothing for data it does not ask for, and nil with other types', function()
      local send = told [[ function(_, _, type, ...)
        print('type', type, select('#', ...), (...))
        return 0
      end ]]
      send('abc'):logs 'type\t0\t1\tabc'
    end)

    it('a stand-in of the server with settings, exist and getClientInfo, and nothing else', function()
      local send = told([[ function(server, fd, _, data)
        local names = {}
        for name in pairs(server) do names[#names + 1] = name end
        table.sort(names)
        print('has ' .. table.concat(names, ' '))
        local setting = server.setting
        print('settings', setting.worker_num, setting.max_request, setting.unheard_of.list[2], setting.dispatch_func,
          setting.dispatch_mode)
        print('fd', server:exist(fd), server:exist(99), server:exist(-1))
        local info = server:getClientInfo(fd)
        print('info', info.remote_ip, info.reactor_id, info.remote_port > 0, info.server_port > 0)
        print('unknown', server:getClientInfo(99))
        print('wrong', pcall(server.exist, server, 'x'))
        return 0
      end ]], ", max_request = 77, unheard_of = { list = { 'a', 'b' } }")
      local app = send 'x'
      app:logs 'has exist getClientInfo setting'
      app:logs 'settings\t2\t77\tb\tnil\t2'
      app:logs 'fd\ttrue\tfalse\tfalse'
      app:logs 'info\t127.0.0.1\t0\ttrue\ttrue'
      app:logs 'unknown\tfalse\tsession 99 does not exist\t1005'
      app:logs "wrong\tfalse\tbad argument #1 to 'exist' (number expected, got string)"
    end)

    it('getClientInfo of a connection that ends', function()
      local app = boot([[ function(server, fd, type)
        if type == srvlua.DISPATCH_CLOSE then
          print('close', server:exist(fd), (server:getClientInfo(fd) or {}).remote_ip)
        end
        return 0
      end ]], 'worker_num = 2', [[ server:on('receive', function(s, fd) s:close(fd) end) ]])
      local client = app:connect()
      client:send 'x'
      client:ending()
      app:logs 'close\tfalse\t127.0.0.1'
    end)

    it('few libraries, and the constants of srvlua', function()
      local send = told [[ function()
        local found = {}
        for _, value in ipairs {
          { '_G', _G }, { 'bit', bit }, { 'coroutine', coroutine }, { 'debug', debug }, { 'io', io }, { 'jit', jit },
          { 'load', load }, { 'loadstring', loadstring }, { 'math', math }, { 'next', next }, { 'os', os },
          { 'package', package }, { 'rawset', rawset }, { 'require', require }, { 'setfenv', setfenv },
          { 'setmetatable', setmetatable }, { 'string', string }, { 'table', table }, { 'xpcall', xpcall },
        } do
          if value[2] then found[#found + 1] = value[1] end
        end
        print('libraries ' .. table.concat(found, ' '))
        print('base', type(tonumber), type(tostring), type(type), type(pairs), type(ipairs), type(select), type(error),
          type(pcall), type(print), type(assert))
        print('numbers', srvlua.BASE, srvlua.ERROR_SESSION_NOT_EXIST, srvlua.Server)
        return 0
      end ]]
      local app = send 'x'
      app:logs 'libraries bit math string table'
      app:logs('base' .. ('\tfunction'):rep(10))
      app:logs 'numbers\t1\t1005\tnil'
    end)

    it('globals of its own, in each reactor', function()
      local app = boot([[ function(server, _, type)
        if type ~= srvlua.DISPATCH_DATA then return 0 end
        calls = (calls or 0) + 1
        print('calls', calls)
        return calls % 2
      end ]], 'worker_num = 2, reactor_num = 2', [[
        calls = 1000
        server:on('receive', function(s, fd, reactor)
          s:send(fd, table.concat({ reactor, s.worker_id, calls }, ' ') .. '\n')
        end)
      ]])
      local one, other = app:connect(), app:connect()
      assert.same({ '0 1 1000', '0 0 1000', '0 1 1000' }, { ask(one, 'x'), ask(one, 'x'), ask(one, 'x') })
      assert.same({ '1 1 1000', '1 0 1000' }, { ask(other, 'x'), ask(other, 'x') })
      local line = app:logs 'calls\t3'
      assert.truthy(line:find('INFO', 1, true) and line:find('reactor#0', 1, true), line)
    end)
  end)

  describe('with a worker that takes nothing', function()
    it('loses nothing and keeps the order, while others are served', function()
      local app = boot(by_digit, "worker_num = 2, worker_ring_size = '64K'", [[
        local digest, count = 0, 0
        server:on('receive', function(s, fd, _, data)
          if data == '0 sleep' then emit 'asleep' io.popen('sleep 1'):read '*a' return end
          if s.worker_id == 1 then s:send(fd, 'one\n') return end
          for i = 1, #data do
            count = count + 1
            digest = (digest * 31 + data:byte(i)) % 1000003
          end
          if data:sub(-1) == '.' then s:send(fd, count .. ' ' .. digest .. '\n') end
        end)
      ]])
      local digest = 0
      local text = ('0123456'):rep(100000):gsub('[1-6]', string.char) .. '.'
      for i = 1, #text do
        digest = (digest * 31 + text:byte(i)) % 1000003
      end
      local slow, quick = app:connect(), app:connect()
      slow:send '0 sleep'
      app:expect 'asleep'
      slow:send(text)
      for _ = 1, 20 do
        assert.equal('one', ask(quick, '1'))
      end
      assert.equal(#text .. ' ' .. digest, slow:line())
    end)

    it('is held back by max_queued_bytes, and goes on', function()
      local app = boot(by_digit, 'worker_num = 2, max_queued_bytes = 10000', [[
        local count = 0
        server:on('receive', function(s, fd, _, data)
          count = count + #data
          srvlua.sleep(0.001)
          if data:sub(-1) == '.' then s:send(fd, count .. '\n') end
        end)
      ]])
      local client = app:connect()
      client:send(('0'):rep(2000000) .. '.')
      assert.equal('2000001', client:line())
    end)
  end)

  it('is asked by all reactors at the same time', function()
    local app = boot([[ function(server, fd, type, data)
      local info = server:getClientInfo(fd)
      if not info or not server:exist(fd) then return 0 end
      seen = (seen or 0) + #server.setting.log_date_format
      if data == 'error' then error 'now and then' end
      if data == 'nothing' then return nil end
      return fd % 2
    end ]], "worker_num = 2, reactor_num = 2, log_date_format = '%H:%M:%S'", echo .. [[
      server:on('connect', function() end)
      server:on('close', function(_, fd) emit('close', fd) end)
    ]])
    local clients = {}
    for fd = 1, 8 do
      clients[fd] = app:connect()
    end
    for i = 1, 50 do
      for fd = 1, 8 do
        clients[fd]:send(i % 10 == 0 and fd < 3 and 'error' or 'x')
      end
      for fd = 1, 8 do
        local line = clients[fd]:line()
        if line:find 'x' then assert.equal(fd % 2 .. ' x', line) end
      end
    end
    for fd = 1, 8 do
      clients[fd]:close()
      app:expect('close', fd)
    end
    assert.equal(0, app:stop())
  end)

  it('switches send_yield off, with a warning if that was asked for', function()
    local app = boot(by_digit, 'worker_num = 2, send_yield = true', echo)
    assert.truthy(app:logs("'send_yield' adjusted from true to false"):find('WARNING', 1, true))
  end)

  support.in_both_modes(function(mode)
    it('that cannot live in another Lua state is refused in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2 }
        local first, second = 1, 2
        local function try(name, value)
          local ok, message = pcall(server.set, server, { dispatch_func = value })
          emit(name, ok, message)
        end
        try('upvalue', function() return second + first end)
        try('function', print)
        try('table', setmetatable({}, { __call = print }))
        try('number', 5)
        try('bytecode', loadstring(string.dump(function() return first end, true)))
        try('nested', function(_, fd) local function inner() return fd end return inner() end)
        server:on('receive', function() end)
        run(server)
      ]])
      local expected = "bad setting 'dispatch_func': expected function without upvalues, got "
      local function message_of(name)
        local ok, message = app:expect(name)
        assert.is_false(ok)
        return message
      end
      assert.equal(expected .. "function with upvalue 'second'", message_of 'upvalue')
      assert.equal(expected .. 'C function', message_of 'function')
      assert.equal(expected .. 'table', message_of 'table')
      assert.equal(expected .. '5', message_of 'number')
      assert.equal(expected .. "function with upvalue '?'", message_of 'bytecode')
      app:expect('nested', true)
    end)
  end)

  it('has no effect in BASE mode', function()
    local app = support.boot('BASE', [[
      local server = new_server { worker_num = 2, dispatch_func = function() error 'never called' end }
      server:on('workerStart', function(_, id) emit('worker', id) end)
      server:on('connect', function(s, fd) emit('connect', s.worker_id) end)
      server:on('receive', function(s, fd, _, data) s:send(fd, s.worker_id .. '\n') end)
      server:on('close', function(s, fd) emit('close', s.worker_id) end)
      run(server)
    ]])
    local client = app:connect()
    local id = tonumber(ask(client, 'x'))
    app:expect('connect', id)
    assert.equal(tostring(id), ask(client, 'y'))
    client:close()
    app:expect('close', id)
    assert.equal(0, app:log_count 'never called')
  end)

  it('passes the check of srvlua -c', function()
    local path = support.write_file(support.directory() .. '/app.lua', [[
      local srvlua = require 'srvlua'
      local server = srvlua.Server('127.0.0.1', 0)
      server:set { dispatch_func = function() return 0 end }
      server:on('receive', function() end)
      server:start()
    ]])
    local result = support.run { support.launcher, '-c', path }
    assert.equal(0, result.code, result.err)
  end)
end)
