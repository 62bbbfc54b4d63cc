local peers = require 'support.peer'
local support = require 'support'

local ECHO = support.build .. '/embed/echo'

local function start(mode, port)
  local app = support.launch { ECHO, port or 0, mode }
  local number = app:expect('print'):match '^echo on 127%.0%.0%.1:(%d+)$'
  return app, tonumber(number)
end

describe('a C host', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('serves, and ends in order, ' .. mode, function()
      local app, port = start(mode)
      local client = support.stream(port)
      assert.equal('hello', client:echo 'hello')
      local large = ('0123456789'):rep(20000)
      assert.is_true(client:echo(large) == large)
      assert.same({ 0, nil }, { app:stop() })
      assert.equal('end', client:ending())
    end)

    it('finds what the header promises, ' .. mode, function()
      local directory = support.directory()
      local sanitize = { asan = '-fsanitize=address,undefined', tsan = '-fsanitize=thread' }
      local command = ('cc -std=gnu11 -Wall -Wextra -Werror -pthread %s -I%s/include %s/spec/embed/host.c ' ..
        '%s/libsrvlua.a -lev -lmbedtls -lmbedx509 -lmbedcrypto -lm -ldl -o %s/host'):format(
        sanitize[support.sanitizer] or '', support.root, support.root, support.build, directory)
      local built = support.run({ 'sh', '-c', command }, { seconds = 60 })
      assert.equal(0, built.code, built.err)
      local log = directory .. '/log'
      local result = support.run { directory .. '/host', mode, log }
      assert.same({ 'done\n', '', 0 }, { result.out, result.err, result.code })
      local text = support.read_file(log)
      assert.truthy(text:find 'DATE NOTICE %d+ worker#0 the timer is released\n')
      for line in text:gmatch '[^\n]+' do
        assert.truthy(line:find '^DATE ', line)
      end
    end)
  end)

  -- Two packets, byte for byte, an order to the path given, and what is no packet.
  local CLIENT = [[
import socket, ssl, sys
context = ssl._create_unverified_context()
context.load_cert_chain(*sys.argv[3:])
client = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=30))
for byte in b'U\5\0helloE\1\0x':
    client.sendall(bytes([byte]))
answer = b''
while len(answer) < 12:
    answer += client.recv(100)
print(answer)
admin = socket.socket(socket.AF_UNIX)
admin.settimeout(30)
admin.connect(sys.argv[2])
admin = admin.makefile('rw')
for order in 'count', 'reload', 'what':
    admin.write(order + '\n')
    admin.flush()
    print(admin.readline(), end='')
client.sendall(b'X')
print(client.recv(100))
]]

  support.in_both_modes(function(mode)
    it('frames packets over TLS, ' .. mode, function()
      local directory = peers.certified_directory()
      local cert, key = directory .. '/own.crt', directory .. '/own.key'
      local app = support.launch { 'env', 'CERT=' .. cert, 'KEY=' .. key, 'CA=' .. cert,
        support.build .. '/embed/framed_tls', 0, mode }
      local port, path = app:expect('print'):match '^packets over TLS on 127%.0%.0%.1:(%d+), orders on (%S+)$'
      local client = support.run { 'python3', '-c', CLIENT, port, path, cert, key }
      assert.equal([[b'U\x05\x00HELLOE\x01\x00x']] .. "\n1\ndone\nreload or count?\nb''\n", client.out, client.err)
      app:logs 'no packet begins with byte 88'
      app:logs '127.0.0.1 came by TLSv1.2, with a certificate'
      assert.same({ 0, nil }, { app:stop() })
    end)
  end)

  it('keeps its connections when a worker is killed', function()
    local app, port = start 'PROCESS'
    local client = support.stream(port)
    client:echo 'x'
    for _, pid in ipairs(app:members()) do
      if support.title(pid):find 'worker' then support.kill(pid, 'KILL') end
    end
    assert.equal('y', client:echo 'y')
    app:logs 'was ended by signal 9'
  end)

  it('is told why it cannot start', function()
    local app, port = start 'BASE'
    local result = support.run { ECHO, port, 'PROCESS' }
    assert.same({ 1, '' }, { result.code, result.out })
    assert.truthy(result.err:find '^echo: .*in use.* %(98%)\n$', result.err)
    app:stop()
  end)
end)
