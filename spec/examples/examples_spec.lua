local lfs = require 'lfs'
local peers = require 'support.peer'
local process = require 'support.process'
local support = require 'support'

local EXAMPLES = support.root .. '/examples/'

-- Starts an example, with more arguments if need be, and waits for what it prints; returns the app and the matches of
-- `pattern`.
local function start(name, mode, where, pattern, ...)
  local app = support.launch { support.launcher, EXAMPLES .. name, where, mode, ... }
  local line = app:expect 'print'
  local found = { line:match(pattern) }
  assert(found[1], line)
  return app, unpack(found)
end

local exercises = {}

exercises['echo.lua'] = function(mode)
  local app, port = start('echo.lua', mode, 0, '^echo on 127%.0%.0%.1:(%d+)$')
  assert.equal('hello', support.stream(tonumber(port)):echo 'hello')
  return app
end

exercises['udp_echo.lua'] = function(mode)
  local app, port = start('udp_echo.lua', mode, 0, 'port (%d+)$')
  for _, host in ipairs { '127.0.0.1', '::1' } do
    local client = support.datagrams { host, tonumber(port) }
    client:send ''
    client:send 'hello'
    assert.equal('hello', client:receive())
  end
  return app
end

exercises['unix_echo.lua'] = function(mode)
  local directory = support.directory()
  local app = start('unix_echo.lua', mode, directory .. '/x.sock', '^echo on (%S+)')
  assert.equal('hello', support.stream(directory .. '/x.sock'):echo 'hello')
  support.datagrams(directory .. '/x.dgram'):send 'nobody to answer to'
  local client = support.datagrams(directory .. '/x.dgram', directory .. '/own')
  client:send 'hello'
  assert.equal('hello', client:receive())
  return app
end

exercises['multi_port.lua'] = function(mode)
  local app, echo, status, udp = start('multi_port.lua', mode, support.free_ports(2),
    'echo on (%d+), status on (%d+), upper case on (%d+)')
  local client = support.stream(tonumber(echo))
  assert.equal('hello', client:echo 'hello')
  assert.equal('2 connected\n', support.stream(tonumber(status)):rest())
  local datagrams = support.datagrams(tonumber(udp))
  datagrams:send 'hello'
  assert.equal('HELLO', datagrams:receive())
  return app
end

exercises['framing.lua'] = function(mode)
  local app, lines, lengths, strings = start('framing.lua', mode, support.free_ports(3),
    ':(%d+), lengths on (%d+), netstrings on (%d+)')
  local client = support.stream(tonumber(lines))
  client:send 'one\ntwo\n'
  assert.equal('line: one\nline: two\n', client:receive(20))
  assert.equal('\0\2ab\0\0', support.stream(tonumber(lengths)):echo '\0\2ab\0\0')
  assert.equal('5:hello,0:,', support.stream(tonumber(strings)):echo '5:hello,0:,')
  return app
end

exercises['tls_echo.lua'] = function(mode)
  local directory = support.directory()
  local certificate = peers.certificate(directory, 'localhost')
  local app = support.launch { 'env', 'CERT=' .. directory .. '/localhost.crt', 'KEY=' .. directory .. '/localhost.key',
    support.launcher, EXAMPLES .. 'tls_echo.lua', 0, mode }
  local port = app:expect('print'):match '^TLS echo on 127%.0%.0%.1:(%d+)$'
  assert(certificate and port)
  local command = 'echo hello | { echo $$; exec timeout 10 openssl s_client -quiet -connect 127.0.0.1:%s 2>&1; }'
  local client = assert(io.popen(command:format(port)))
  local pid = tonumber((client:read '*l'))
  local answer
  repeat answer = client:read '*l' until not answer or answer == 'hello'
  process.kill(pid, 'TERM')
  client:close()
  assert.equal('hello', answer)
  assert(app:expect('print'):find('TLSv1%.[23] TLS', 1))
  return app
end

-- A client of tls_chat.lua in two steps: what its connect callback and its line make of the room.
local CHAT_CLIENT = [[
import socket, ssl, sys
def connect(*pair):
    context = ssl._create_unverified_context()
    if pair:
        context.load_cert_chain(*pair)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=30))
try:
    connect()
    print('a stranger is in')
except ssl.SSLError as e:
    print(e.reason)
first = connect(*sys.argv[2:])
room = first.makefile('rw', newline='\n')
def say(text):
    for c in text:
        room.write(c)
        room.flush()
print(room.readline().split(' ', 2)[2], end='')
say('hello\n')
print(room.readline().split(' ', 1)[1], end='')
say('/reload\n')
print(room.readline(), end='')
other = connect(*sys.argv[2:])
print(room.readline().split(' ', 2)[2], end='')
other.close()
print(room.readline().split(' ', 2)[2], end='')
]]

exercises['tls_chat.lua'] = function(mode)
  local directory = support.directory()
  peers.certificate(directory, 'own') -- its own authority, and the clients' certificate, too
  local cert, key = directory .. '/own.crt', directory .. '/own.key'
  local app = support.launch { 'env', 'CERT=' .. cert, 'KEY=' .. key, 'CA=' .. cert, support.launcher,
    EXAMPLES .. 'tls_chat.lua', 0, mode }
  local port = app:expect('print'):match '^TLS chat on 127%.0%.0%.1:(%d+)$'
  local client = support.run { 'python3', '-c', CHAT_CLIENT, port, cert, key }
  assert.equal('SSLV3_ALERT_HANDSHAKE_FAILURE\ncame\nhello\n* reloaded\ncame\nleft\n', client.out, client.err)
  assert.truthy(app:expect('print'):find '^%d+ came with %d+ bytes of certificate$')
  return app
end

exercises['gateway.lua'] = function(mode)
  local app, port, calls, admin = start('gateway.lua', mode, 0,
    '^redis on 127%.0%.0%.1:(%d+), calls on (%d+), admin on (%S+)$')
  local function enter(where)
    local client = support.stream(tonumber(where))
    client:send 'PROXY TCP4 192.0.2.7 127.0.0.1 4242 9501\r\n'
    return client
  end
  local function ask(client, request, answer)
    client:send(request)
    assert.equal(answer, client:receive(#answer))
  end
  local client = enter(port)
  ask(client, 'ADD apple\r\n', ':1\r\n')
  ask(client, 'ADD apple\r\n', ':2\r\n')
  ask(client, 'COUNT\r\n', ':1\r\n')
  ask(client, 'ADD\r\n', '-ERR a word has 1 to 63 bytes\r\n')
  ask(client, 'WHO\r\n', '$27\r\n192.0.2.7:4242 by 127.0.0.1\r\n')
  client = enter(calls)
  client:send '\0\0\0\29{"call":"add","wo'
  client:send 'rd":"apple"}'
  local reply = client:receive(4)
  reply = client:receive(reply:byte(4))
  assert.truthy(reply:find('"ok":true', 1, true) and reply:find('"answer":3', 1, true), reply)
  client:send '\0\0\0\4none'
  assert.equal('end', client:ending())
  client = support.stream(admin)
  client:send 'stats\nwhat\n'
  assert.truthy(client:line():find '"connection_num":')
  assert.equal('stats or reload?', client:line())
  return app
end

exercises['command.lua'] = function(mode)
  local app, master = start('command.lua', mode, 0, '^master: pid (%d+), type master$')
  local worker = app:expect('print'):match '^worker: pid (%d+), type worker$'
  assert.is_true(worker ~= master)
  assert.equal(mode == 'PROCESS', tonumber(master) == app.pid)
  assert.equal("unknown: there is no command 'test_not_found' (9012)", app:expect 'print')
  for id = 0, 1 do
    assert.truthy(app:expect('print'):match('^memory of worker ' .. id .. ': %d+ KiB$'))
  end
  local port = app:expect('print'):match '^echo on (%d+)$'
  assert.equal('hello', support.stream(tonumber(port)):echo 'hello')
  return app
end

exercises['redis_client.lua'] = function(mode)
  local directory = support.directory()
  local redis_port = support.free_ports(1)
  local redis = support.launch { 'redis-server', '--port', redis_port, '--bind', '127.0.0.1', '--save', '',
    '--dir', directory }
  local app, port = start('redis_client.lua', mode, 0, ':(%d+)$', redis_port)
  assert.is_true(support.eventually(function() return (pcall(support.stream, redis_port)) end))
  local client = support.stream(tonumber(port))
  client:send 'apple\r\npear\nap'
  assert.equal('apple: 1', client:line())
  assert.equal('pear: 1', client:line())
  client:send 'ple\n'
  assert.equal('apple: 2', client:line())
  redis:kill 'KILL'
  redis:wait()
  client:send 'apple\n'
  assert.truthy(client:line():find('^no answer from Redis: '))
  client:send(('x'):rep(2000))
  assert.equal('that line is too long', client:line())
  return app
end

exercises['chat.lua'] = function(mode)
  local app, port = start('chat.lua', mode, 0, ':(%d+)$')
  local ann = support.stream(tonumber(port))
  assert.equal('welcome, guest1', ann:line())
  local bob = support.stream(tonumber(port))
  assert.equal('welcome, guest2', bob:line())
  assert.equal('* guest2 came', ann:line())
  ann:send '/nick an'
  ann:send 'n\n'
  assert.equal('* guest1 is now ann', bob:line())
  assert.equal('* guest1 is now ann', ann:line())
  ann:send 'hi\r\nyou\n'
  assert.equal('<ann> hi', bob:line())
  assert.equal('<ann> you', bob:line())
  bob:send '/who\n'
  assert.equal('* 2 here', bob:line())
  bob:send '/nonsense\n'
  assert.equal('commands: /nick NAME, /who, /quit', bob:line())
  bob:send '/quit\n'
  assert.equal('bye', bob:line())
  assert.equal('end', bob:ending())
  assert.equal('* guest2 left', ann:line())
  ann:send(('x'):rep(2000))
  assert.equal('that line is too long', ann:line())
  assert.equal('end', ann:ending())
  return app
end

exercises['broadcast.lua'] = function(mode)
  if mode == 'BASE' then
    local result = support.run { support.launcher, EXAMPLES .. 'broadcast.lua', 0, mode }
    assert.same({ 1, 'broadcast.lua is for the PROCESS mode\n' }, { result.code, result.err })
    return nil
  end
  local app, port = start('broadcast.lua', mode, 0, ':(%d+)$')
  local clients = {}
  for i = 1, 3 do -- one that is connected may not have been accepted yet
    clients[i] = support.stream(tonumber(port))
    clients[i]:send('join ' .. i)
    for j = 1, i do
      assert.equal('join ' .. i, clients[j]:receive(6))
    end
  end
  for i = 1, 3 do
    clients[i]:send('from ' .. i)
    for j = 1, 3 do
      assert.equal('from ' .. i, clients[j]:receive(6))
    end
  end
  return app
end

exercises['bind_uid.lua'] = function(mode)
  local app, port = start('bind_uid.lua', mode, 0, ':(%d+)$')
  local function login(uid)
    local client = support.stream(tonumber(port))
    client:send 'add 1\n'
    assert.equal('log in first', client:line())
    client:send(('login %d\n'):format(uid))
    assert.equal('welcome, user ' .. uid, client:line())
    return client
  end
  local totals = {}
  for round = 1, 3 do
    for uid = 41, 44 do
      local client = login(uid)
      client:send(('add %d\n'):format(uid * round))
      totals[uid] = (totals[uid] or 0) + uid * round
      assert.equal(('user %d has %d'):format(uid, totals[uid]), client:line())
    end
  end
  local client = login(41)
  client:send 'login 5\n'
  assert.truthy(client:line():find 'has a uid already')
  client:send 'what\n'
  assert.equal('commands: login NUMBER, add NUMBER', client:line())
  return app
end

exercises['multicast.lua'] = function(mode)
  local app, port = start('multicast.lua', mode, 0, 'port (%d+)$')
  local sender = assert(require('socket').udp4())
  assert(sender:setoption('ip-multicast-if', '127.0.0.1'))
  assert(sender:setoption('ip-multicast-loop', true))
  assert(sender:sendto('hello', '239.255.20.30', tonumber(port)))
  sender:close()
  app:expect('print', '127.0.0.1: hello')
  return app
end

exercises['redis_ping.lua'] = function(mode)
  local app, port = start('redis_ping.lua', mode, 0, ':(%d+)$')
  local client = support.stream(tonumber(port))
  local function ask(request, answer)
    client:send(request)
    assert.equal(answer, client:receive(#answer))
  end
  ask('PING\r\n', '+PONG\r\n')
  ask('*1\r\n$4\r\nPING\r\n', '+PONG\r\n')
  ask('*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nv\0v\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n', '+OK\r\n$3\r\nv\0v\r\n')
  local split = '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n'
  for i = 1, #split - 1 do
    client:send(split:sub(i, i))
  end
  ask(split:sub(-1), '$3\r\nv\0v\r\n')
  ask('DEL k\r\nGET k\r\n', ':1\r\n$-1\r\n')
  ask('NONSENSE\r\n', "-ERR unknown command 'NONSENSE'\r\n")
  client:send '*x\r\n'
  assert.truthy(client:line():find '^%-ERR Protocol error')
  assert.equal('end', client:ending())
  if os.execute 'command -v redis-benchmark >/dev/null' == 0 then
    local argv = { 'redis-benchmark', '-p', port, '-c', 50, '-P', 16, '-t', 'ping,set,get', '-n', 20000, '-q' }
    local result = support.run(argv, { seconds = 60 })
    assert.equal(0, result.code)
    for _, command in ipairs { 'PING_MBULK', 'SET', 'GET' } do
      assert.truthy(result.out:find(command .. ': [%d.]+ requests per second'), result.out)
    end
    assert.falsy(result.out:find 'rror')
  end
  return app
end

exercises['redis_server.lua'] = function(mode) -- the clients of Redis: spec/redis/clients_spec.lua
  local app, port = start('redis_server.lua', mode, 0, ':(%d+)$')
  local client = support.stream(tonumber(port))
  local function ask(request, answer)
    client:send(request .. '\r\n')
    assert.equal(answer, client:receive(#answer))
  end
  ask('PING', '+PONG\r\n')
  ask('ping "a b"', '$3\r\na b\r\n')
  ask('SET k v', '+OK\r\n')
  ask('GET k', '$1\r\nv\r\n')
  ask('SET k w NX', '$-1\r\n')
  ask('SET new w XX', '$-1\r\n')
  ask('SET k w EX 100 XX', '+OK\r\n')
  ask('TTL k', ':100\r\n')
  ask('PERSIST k', ':1\r\n')
  ask('TTL k', ':-1\r\n')
  ask('SET k w EX', '-ERR value is not an integer or out of range\r\n')
  ask('SET k w PX 0', '-ERR value is not an integer or out of range\r\n')
  ask('SET k w ZX', '-ERR syntax error\r\n')
  ask('INCR n', ':1\r\n')
  ask('INCRBY n 41', ':42\r\n')
  ask('DECR n', ':41\r\n')
  ask('INCR k', '-ERR value is not an integer or out of range\r\n')
  ask('INCRBY n 9007199254740991', '-ERR value is not an integer or out of range\r\n')
  ask('EXISTS k n no', ':2\r\n')
  ask('SET a-b 1', '+OK\r\n')
  ask('KEYS a-?', '*1\r\n$3\r\na-b\r\n')
  ask('KEYS [a-c]-*', '*1\r\n$3\r\na-b\r\n')
  ask('KEYS [', '*0\r\n')
  ask('KEYS \\*', '*0\r\n')
  ask('DEL a-b n no', ':2\r\n')
  ask('DBSIZE', ':1\r\n')
  ask('SET short x PX 20', '+OK\r\n')
  assert.is_true(support.eventually(function()
    client:send 'EXISTS short\r\n'
    return client:line():find '^:0'
  end) ~= nil)
  ask('EXPIRE k -1', ':1\r\n')
  ask('GET k', '$-1\r\n')
  ask('CONFIG GET save', '*2\r\n$4\r\nsave\r\n$0\r\n\r\n')
  ask('CONFIG SET save x', '-ERR only CONFIG GET is known\r\n')
  ask('GET', "-ERR wrong number of arguments for 'get' command\r\n")
  ask('FLUSHALL', '+OK\r\n')
  client:send 'QUIT\r\n'
  assert.equal('+OK\r\n', client:rest())
  return app
end

exercises['mqtt_broker.lua'] = function(mode) -- the rest: mqtt_spec.lua
  local app, port = start('mqtt_broker.lua', mode, 0, '^mqtt on 127%.0%.0%.1:(%d+)$')
  local client = support.stream(tonumber(port))
  client:send '\16\14\0\4MQTT\4\2\0\0\0\2me'
  assert.equal('\32\2\0\0', client:receive(4))
  client:send '\130\6\0\1\0\1a\0'
  assert.equal('\144\3\0\1\0', client:receive(5))
  client:send '\48\6\0\1axyz\192\0'
  assert.equal('\48\6\0\1axyz\208\0', client:receive(10))
  client:send '\224\0'
  assert.equal('end', client:ending())
  return app
end

exercises['task.lua'] = function(mode)
  local app, port = start('task.lua', mode, 0, ':(%d+)$')
  local client = support.stream(tonumber(port))
  client:send 'hello\nwor'
  client:send 'ld\n'
  local lines = {}
  for _ = 1, 4 do
    lines[client:line():gsub('task %d+', 'task')] = true
  end
  assert.same({ ['task is on its way'] = true, ['task: olleh'] = true, ['task: dlrow'] = true }, lines)
  return app
end

exercises['taskwait.lua'] = function(mode)
  local app, port = start('taskwait.lua', mode, 0, ':(%d+)$')
  local client = support.stream(tonumber(port))
  client:send '10 1000 100000\n'
  for _, line in ipairs { '10: 4', '1000: 168', '100000: 9592' } do
    assert.equal(line, client:line())
  end
  client:send '1000000\n'
  assert.equal('78498', client:line())
  client:send '?\n'
  assert.equal('numbers, please', client:line())
  return app
end

describe('the example', function()
  after_each(support.cleanup)

  for name in lfs.dir(EXAMPLES) do
    if name:find '%.lua$' then
      support.in_both_modes(function(mode)
        it(('%s serves in %s mode'):format(name, mode), function()
          local exercise = assert(exercises[name], 'no spec for this example')
          local app = exercise(mode) -- nil: it is not for this mode
          if app then assert.equal(0, app:stop()) end
        end)
      end)
    end
  end

  it('of the README serves', function()
    local source = support.read_file(support.root .. '/README.md'):match '```lua\n(.-)```'
    assert.is_true(#source:gsub('[^\n]', '') <= 12)
    local changed, count = source:gsub('9501', '0')
    assert.equal(1, count)
    local app = support.launch { support.launcher, '-e', changed }
    local port = app:expect('print'):match ':(%d+)$'
    assert.equal('hello', support.stream(tonumber(port)):echo 'hello')
    assert.equal(0, app:stop())
  end)

  it('echo.lua says that its port is taken', function()
    local app, port = start('echo.lua', 'PROCESS', 0, ':(%d+)$')
    local result = support.run { support.launcher, EXAMPLES .. 'echo.lua', port }
    assert.equal(1, result.code)
    assert.truthy(result.err:find 'in use', result.err)
    app:stop()
  end)
end)
