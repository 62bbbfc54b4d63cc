-- srvlua.redis.Server on the wire (protocols.md 3).
local support = require 'support'

local PRELUDE = [[
  local redis = srvlua.redis
  local function new_redis(settings)
    local server = redis.Server('127.0.0.1', 0, srvlua[arg[1] ])
    server:set { worker_num = 1 }
    if settings then server:set(settings) end
    -- answers with what it got
    server:setHandler('echo', function(fd, arguments)
      return redis.format(redis.SET, arguments)
    end)
    return server
  end
]]

local function boot(mode, source, options)
  return support.boot(mode, PRELUDE .. source, options)
end

local function command(...)
  local parts = { '*' .. select('#', ...) .. '\r\n' }
  for _, argument in ipairs { ... } do
    parts[#parts + 1] = '$' .. #argument .. '\r\n' .. argument .. '\r\n'
  end
  return table.concat(parts)
end

local function ask(client, request, reply)
  client:send(request)
  assert.equal(reply, client:receive(#reply))
end

local PLAIN = 'local server = new_redis() run(server)'

support.in_both_modes(function(mode)
  describe('a redis server in ' .. mode .. ' mode', function()
    after_each(support.cleanup)

    it('gives a handler the arguments behind the name, and sends the string that it returns', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('Look', function(fd, arguments)
          emit('look', fd, #arguments, arguments[1], arguments[2], srvlua.coroutine.id() > 0)
          return '+yes\r\n'
        end)
        server:setHandler('later', function(fd, arguments)
          server:send(fd, '+self\r\n')
        end)
        run(server)
      ]])
      local client = app:connect()
      ask(client, command('LOOK', 'a\0b', ''), '+yes\r\n')
      app:expect('look', 1, 2, 'a\0b', '', true)
      ask(client, 'look\r\n', '+yes\r\n')
      app:expect('look', 1, 0, nil, nil, true)
      ask(client, '*2\r\n$4\r\nloOk\r\n:-12\r\n', '+yes\r\n')
      app:expect('look', 1, 1, -12, nil, true)
      ask(client, command 'later', '+self\r\n')
      assert.equal(0, app:stop())
    end)

    it('has commands whose names are those of methods', function()
      local app = boot(mode, [[
        local server = new_redis()
        for _, name in ipairs { 'set', 'send', 'close', 'start', 'setHandler', 'format' } do
          emit('handler', name, server:setHandler(name, function() return '+' .. name .. '\r\n' end))
        end
        emit('set', server:set { max_request = 0 })
        run(server)
      ]])
      local client = app:connect()
      for _, name in ipairs { 'set', 'send', 'close', 'start', 'setHandler', 'format' } do
        app:expect('handler', name, true)
        ask(client, command(name:upper()), '+' .. name .. '\r\n')
      end
      app:expect('set', true)
    end)

    it('answers pipelined commands in their order, however they are cut', function()
      local client = boot(mode, PLAIN):connect()
      local requests, replies = {}, {}
      for i = 1, 1000 do
        requests[i] = i % 3 == 0 and 'echo ' .. i .. '\r\n' or command('ECHO', tostring(i))
        replies[i] = command(tostring(i))
      end
      ask(client, table.concat(requests), table.concat(replies))
      local few = table.concat(requests, '', 1, 9)
      for i = 1, #few do
        client:send(few:sub(i, i))
      end
      local expected = table.concat(replies, '', 1, 9)
      assert.equal(expected, client:receive(#expected))
    end)

    it('takes a command of many arguments, and one larger than every buffer', function()
      local app = boot(mode, [[
        local server = new_redis { package_max_length = '16M', output_buffer_size = '16M', socket_buffer_size = '32M' }
        server:setHandler('count', function(_, arguments)
          return redis.format(redis.INT, #arguments)
        end)
        run(server)
      ]])
      local client = app:connect()
      local many = { 'count' }
      for i = 1, 5000 do
        many[i + 1] = tostring(i)
      end
      ask(client, command(unpack(many)), ':5000\r\n')
      local large = ('0123456789abcdef'):rep(5 * 65536)
      ask(client, command('echo', large), command(large))
    end)

    it('lets a suspended handler hold back its own connection only', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('wait', function(fd, arguments)
          emit('waits', fd, srvlua.coroutine.id())
          srvlua.sleep(arguments[1] / 1000)
          return '+' .. arguments[2] .. '\r\n'
        end)
        run(server)
      ]])
      local slow, quick = app:connect(), app:connect()
      slow:send(command('wait', '400', 'one') .. command('echo', 'two') .. command('wait', '50', 'three')
        .. command('wait', '1', 'four') .. command('echo', 'five'))
      local slow_fd = app:expect 'waits'
      ask(quick, command('echo', 'x'), command 'x')
      assert.equal(0, app:count('waits', slow_fd))
      local expected = '+one\r\n' .. command 'two' .. '+three\r\n+four\r\n' .. command 'five'
      assert.equal(expected, slow:receive(#expected))
      ask(slow, command('echo', 'six'), command 'six')
    end)

    it('runs each command in a coroutine of its own, those that waited, too', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('id', function(fd, arguments)
          local context = srvlua.coroutine.context()
          local is_new = not context.seen
          context.seen = true
          if arguments[1] then srvlua.sleep(0.05) end
          return is_new and '+new\r\n' or '+old\r\n'
        end)
        run(server)
      ]])
      ask(app:connect(), command('id', 'wait') .. command 'id' .. command('id', 'wait') .. command 'id' .. command 'id',
        ('+new\r\n'):rep(5))
    end)

    it('reads no further while commands wait behind a suspended handler', function()
      local app = boot(mode, [[
        local server = new_redis()
        local gate
        server:setHandler('wait', function()
          gate = srvlua.Channel()
          emit 'waits'
          gate:pop()
          return '+done\r\n'
        end)
        server:setHandler('open', function() gate:push(true) return '+OK\r\n' end)
        server:setHandler('memory', function()
          collectgarbage()
          return redis.format(redis.INT, math.floor(collectgarbage 'count'))
        end)
        run(server)
      ]])
      local waiting, other = app:connect(), app:connect()
      waiting:send(command 'wait')
      app:expect 'waits'
      local bulk = command('echo', ('x'):rep(1000))
      local sent, block = 0, bulk:rep(100)
      waiting.sock:settimeout(0.5)
      repeat
        local ok, _, part = waiting.sock:send(block)
        sent = sent + (ok or part or 0)
      until not ok or sent > 2 ^ 27
      assert.is_true(sent < 2 ^ 26, sent) -- the rest stays in the sockets
      other:send(command 'memory')
      assert.is_true(tonumber(other:line():match '^:(%d+)') < 2 ^ 15)
      ask(other, command 'open', '+OK\r\n')
      local replies = math.floor(sent / #bulk)
      assert.equal('+done', waiting:line():gsub('\r', ''))
      local reply = command(('x'):rep(1000))
      for i = 1, replies do
        if waiting:receive(#reply) ~= reply then error('reply ' .. i) end
      end
    end)

    it('drops what waits when its connection is gone', function()
      local app = boot(mode, [[
        local server = new_redis()
        local gate = srvlua.Channel()
        server:on('close', function(_, fd) emit('close', fd) end)
        server:setHandler('wait', function(fd)
          emit('waits', fd)
          gate:pop()
          emit('woken', fd)
          return '+done\r\n'
        end)
        server:setHandler('note', function(fd) emit('note', fd) end)
        server:setHandler('open', function() gate:push(true) return '+OK\r\n' end)
        run(server)
      ]])
      local gone, other = app:connect(), app:connect()
      gone:send(command 'wait' .. command 'note' .. command 'note')
      local fd = app:expect 'waits'
      gone:close()
      app:expect('close', fd)
      ask(other, command 'open', '+OK\r\n')
      app:expect('woken', fd)
      ask(other, command('echo', 'x'), command 'x')
      assert.equal(0, app:count 'note')
    end)

    it('drops what a client sent behind a command that closes', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('quit', function(fd)
          srvlua.sleep(0.1)
          server:send(fd, '+OK\r\n')
          server:close(fd)
        end)
        server:setHandler('note', function(fd) emit('note', fd) end)
        run(server)
      ]])
      local client = app:connect()
      client:send(command 'quit' .. command 'note')
      assert.equal('+OK\r\n', client:rest())
      assert.equal(0, app:count 'note')
    end)

    it('tells the client of a command that it does not know', function()
      local client = boot(mode, PLAIN):connect()
      ask(client, command('NoSuch', 'x'), "-ERR unknown command 'NoSuch'\r\n")
      ask(client, command 'a\r\n\0\127\255b', "-ERR unknown command 'a?????b'\r\n")
      ask(client, command(('n'):rep(3000)), "-ERR unknown command '" .. ('n'):rep(128) .. "'\r\n")
      ask(client, command '', "-ERR unknown command ''\r\n")
      ask(client, command('echo', 'x'), command 'x')
    end)

    it('answers for a handler that fails, logs where, and goes on', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('fail', function() error 'no good' end)
        server:setHandler('fail_later', function() srvlua.sleep(0.01) local x = nil + 1 end)
        server:setHandler('stats', function() return redis.format(redis.INT, server:stats().error_count or -1) end)
        run(server)
      ]])
      local client = app:connect()
      ask(client, command 'fail' .. command('echo', 'x'), '-ERR internal error\r\n' .. command 'x')
      assert.truthy(app:logs 'no good':find 'uncaught error in command handler: ')
      app:logs 'stack traceback'
      ask(client, command 'fail_later' .. command('echo', 'y'), '-ERR internal error\r\n' .. command 'y')
      app:logs "arithmetic on a nil value"
    end)

    it('splits inline commands as Redis does', function()
      local client = boot(mode, PLAIN):connect()
      for line, arguments in pairs {
        ['echo  a\tb  '] = { 'a', 'b' },
        ['  ECHO x'] = { 'x' },
        ['echo "a b" \'c d\''] = { 'a b', 'c d' },
        ['echo "\\n\\r\\t\\b\\a\\\\\\"\\x41\\xfF\\q"'] = { '\n\r\t\b\a\\"A\255q' },
        ["echo 'it\\'s \\n'"] = { "it's \\n" },
        ['echo "" \'\''] = { '', '' },
        ['"echo" pre"fix"'] = { 'prefix' },
        ['echo *3'] = { '*3' },
        ['echo "\\xZZ"'] = { 'xZZ' },
        ['echo'] = {},
      } do
        ask(client, line .. '\r\n', command(unpack(arguments)))
        ask(client, line .. '\n', command(unpack(arguments)))
      end
      ask(client, '\r\n\n   \r\n\t\necho 1\r\n', command '1')
    end)

    it('closes behind an inline command with unbalanced quotes', function()
      local app = boot(mode, PLAIN)
      for _, line in ipairs { 'echo "a', "echo 'a", 'echo "a"b', "echo 'a'b", 'echo "a\\', '"' } do
        local client = app:connect()
        client:send(command('echo', '1') .. line .. '\r\n' .. command('echo', '2'))
        assert.equal(command '1' .. '-ERR Protocol error: unbalanced quotes in request\r\n', client:rest(), line)
      end
    end)

    it('closes without an answer where the framing is violated', function()
      local client = boot(mode, PLAIN):connect()
      client:send(command('echo', '1') .. '*1\r\n+OK\r\n')
      assert.equal(command '1', client:rest())
    end)

    it('takes handlers in a worker, where reloads renew them', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('first', function() return '+inherited\r\n' end)
        server:setHandler('version', function() return '+inherited\r\n' end)
        server:on('workerStart', function()
          server:setHandler('VERSION', function() return '+' .. server.worker_pid .. '\r\n' end)
          emit('handler', server:getHandler 'version' ~= nil, server:getHandler 'First' ~= nil, server:getHandler 'no')
        end)
        server:setHandler('learn', function(_, arguments)
          server:setHandler(arguments[1], function() return '+learnt\r\n' end)
          return '+OK\r\n'
        end)
        run(server)
      ]])
      app:expect('handler', true, true, nil)
      local client = app:connect()
      ask(client, command 'first', '+inherited\r\n')
      client:send(command 'version')
      local before = client:line()
      assert.truthy(before:find '^%+%d+')
      ask(client, command 'new', "-ERR unknown command 'new'\r\n")
      ask(client, command('learn', 'NEW'), '+OK\r\n')
      ask(client, command 'new', '+learnt\r\n')
    end)

    it('sends nothing for what is no string', function()
      local app = boot(mode, [[
        local server = new_redis()
        server:setHandler('nothing', function(_, arguments)
          local results = { nothing = nil, number = 5, table = {}, ['true'] = true, empty = '' }
          return results[arguments[1] ]
        end)
        run(server)
      ]])
      local client = app:connect()
      for _, what in ipairs { 'nothing', 'number', 'table', 'true', 'empty' } do
        client:send(command('nothing', what))
      end
      ask(client, command('echo', 'x'), command 'x')
    end)

    it('closes a connection whose reply cannot be sent', function()
      local app = boot(mode, [[
        local server = new_redis { output_buffer_size = '64K' }
        server:setHandler('large', function() return redis.format(redis.STRING, ('x'):rep(2 ^ 17)) end)
        run(server)
      ]])
      local client = app:connect()
      client:send(command 'large')
      client:ending()
      assert.truthy(app:logs 'cannot be sent':find 'a reply of 131%d%d%d bytes')
    end)

    it('serves without coroutines', function()
      local client = boot(mode, [[
        local server = new_redis { enable_coroutine = false }
        server:setHandler('fail', function() error 'x' end)
        run(server)
      ]]):connect()
      ask(client, command('echo', '1') .. command 'fail' .. command('echo', '2'),
        command '1' .. '-ERR internal error\r\n' .. command '2')
    end)

    it('gives the streams of its other ports to `receive`, and commands of those that speak the protocol to handlers',
      function()
        local app = boot(mode, [[
          local server = new_redis { open_eof_check = true, open_length_check = true, package_length_type = 'N' }
          server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set {}
          local own = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          own:set { open_eof_split = true, package_eof = '\n' }
          own:on('receive', function(_, fd, _, data) server:send(fd, 'own ' .. data) end)
          server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          local last = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
          last:set { open_redis_protocol = true }
          last:on('receive', function() emit 'never' end)
          server:on('receive', function(_, fd, _, data) server:send(fd, 'raw ' .. data) end)
          run(server, function()
            emit('setting', server.setting.open_redis_protocol, server.setting.open_eof_check,
              server.setting.open_length_check)
            emit('callback', server:getCallback 'receive' ~= nil)
          end)
        ]])
        app:expect('setting', true, false, false)
        app:expect('callback', true)
        ask(app:connect(1), command('echo', 'x'), command 'x')
        ask(app:connect(2), '*1', 'raw *1')
        ask(app:connect(3), 'a\nb\n', 'own a\nown b\n')
        ask(app:connect(4), 'echo 4\r\n', command '4')
        ask(app:connect(5), 'echo 5\r\n', command '5')
        assert.equal(0, app:count 'never')
      end)
  end)

  describe('a server of ' .. mode .. ' mode with open_redis_protocol', function()
    after_each(support.cleanup)

    it('gets commands as they came in `receive`', function()
      local app = support.boot(mode, [[
        local server = new_server { open_redis_protocol = true }
        server:on('receive', function(_, fd, _, data) server:send(fd, '<' .. data .. '>') end)
        run(server)
      ]])
      local one, two = command 'PING', command('GET', 'k')
      ask(app:connect(), one .. 'inline\r\n' .. two, '<' .. one .. '><inline\r\n><' .. two .. '>')
    end)
  end)
end)

describe('setHandler', function()
  after_each(support.cleanup)

  it('refuses names without a byte or with too many, raises for what cannot be called', function()
    local app = support.boot('PROCESS', [[
      local server = srvlua.redis.Server('127.0.0.1', 0)
      emit('empty', server:setHandler('', print))
      emit('last', server:getLastError())
      emit('longest', server:setHandler(('x'):rep(63), print))
      emit('too long', server:setHandler(('x'):rep(64), print))
      emit('get too long', server:getHandler(('x'):rep(64)))
      emit('number', pcall(server.setHandler, server, 'x', 5))
      emit('name', pcall(server.setHandler, server, {}, print))
      emit('callable', server:setHandler('x', setmetatable({}, { __call = print })))
      local other = function() end
      server:setHandler('X', other)
      emit('replaced', server:getHandler 'x' == other)
    ]], { start = false })
    app:expect('empty', false, 'the name of a command has 1 to 63 bytes', 505)
    app:expect('last', 505)
    app:expect('longest', true)
    app:expect('too long', false, 'the name of a command has 1 to 63 bytes', 505)
    app:expect('get too long', nil)
    app:expect('number', false, "bad argument #2 to 'setHandler' (function expected, got number)")
    app:expect('name', false, "bad argument #1 to 'setHandler' (string expected, got table)")
    app:expect('callable', true)
    app:expect('replaced', true)
  end)

  it('is for a worker, or before start', function()
    local app = boot('PROCESS', [[
      local server = new_redis()
      run(server, function() emit('master', server:setHandler('x', print)) end)
    ]])
    local ok, _, code = app:expect 'master'
    assert.same({ false, 509 }, { ok, code })
  end)
end)

describe('start of a redis server', function()
  after_each(support.cleanup)

  it('fails where a port has neither the protocol nor a `receive` callback', function()
    local app = boot('PROCESS', [[
      local server = new_redis()
      server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set {}
      emit('start', server:start())
    ]], { start = false })
    local ok, message, code = app:expect 'start'
    assert.is_false(ok)
    assert.truthy(message:find "needs a 'receive' callback", message)
    assert.equal(9015, code)
  end)
end)
