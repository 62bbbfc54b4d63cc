-- The PROXY header (protocols.md 4): who is believed to be whom, and what becomes of those who do not say it properly.
local bit = require 'bit'
local peer = require 'support.peer'
local support = require 'support'

local SIGNATURE = '\r\n\r\n\0\r\nQUIT\n'
local LOCAL, PROXY, TCP4, TCP6, UNIX = 0x20, 0x21, 0x11, 0x21, 0x31
local IPV4 = '\192\0\2\7\198\51\100\1\220\4\1\187' -- 192.0.2.7:56324 to 198.51.100.1:443
local PREFIX = '\32\1\13\184' .. ('\0'):rep(11)
local IPV6 = PREFIX .. '\7' .. PREFIX .. '\1\0\5\1\187' -- [2001:db8::7]:5 to [2001:db8::1]:443
local LINE = 'PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n'

local function u16(number)
  return string.char(bit.rshift(number, 8), bit.band(number, 255))
end

local function v2(command, family, block)
  return SIGNATURE .. string.char(command, family) .. u16(#block) .. block
end

local function crc32c(data)
  local crc = -1
  for i = 1, #data do
    crc = bit.bxor(crc, data:byte(i))
    for _ = 1, 8 do
      crc = bit.bxor(bit.rshift(crc, 1), bit.band(-bit.band(crc, 1), 0x82f63b78))
    end
  end
  return bit.bnot(crc)
end

-- A v2 header with its checksum, or with a wrong one.
local function checked(is_wrong)
  local before = IPV4 .. '\4\0\2ab\3\0\4'
  local crc = crc32c(v2(PROXY, TCP4, before .. '\0\0\0\0'))
  if is_wrong then crc = bit.bxor(crc, 1) end
  return v2(PROXY, TCP4, before .. u16(bit.band(bit.rshift(crc, 16), 65535)) .. u16(bit.band(crc, 65535)))
end

local SAID = { -- header, address, port
  { LINE, '192.0.2.7', 56324 },
  { 'PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n', '2001:db8::7', 56324 },
  { 'PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n', '255.255.255.255', 65535 },
  { 'PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 65535 },
  { v2(PROXY, TCP4, IPV4), '192.0.2.7', 56324 },
  { v2(PROXY, TCP6, IPV6), '2001:db8::7', 5 },
  { v2(PROXY, TCP4, IPV4 .. '\4\0\2ab\1\0\2h2'), '192.0.2.7', 56324 },
  { v2(PROXY, TCP4, IPV4 .. '\4' .. u16(505) .. ('x'):rep(505)), '192.0.2.7', 56324 }, -- 536 bytes, the most
  { checked(), '192.0.2.7', 56324 },
}

local UNSAID = { -- the peer's own address holds
  'PROXY UNKNOWN\r\n', 'PROXY UNKNOWN ffff:ffff::1 what ever 1 2\r\n', v2(LOCAL, 0, ''), v2(LOCAL, TCP4, IPV4),
  v2(PROXY, 0, ''), v2(PROXY, 0, 'whatever'), v2(PROXY, UNIX, ('u'):rep(216)), v2(LOCAL, 0, ('l'):rep(520)),
}

local MALFORMED = {
  'GET / HTTP/1.1\r\n\r\n', '\22\3\1\0\5hello', ('\r\n'):rep(10), 'proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n',
  'PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n', 'PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n',
  'PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 00080 2\r\n',
  'PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n', 'PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n',
  'PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n', 'PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n',
  'PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n', 'PROXY TCP4 ::1 ::1 1 2\r\n', 'PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n',
  'PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n', 'PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n', 'PROXY\r\n', 'PROXY UNKNOWNX\r\n',
  'PROXY TCP4 ' .. ('1'):rep(120), 'PROXY UNKNOWN ' .. ('x'):rep(120) .. '\r\n',
  v2(0x31, TCP4, IPV4), v2(0x11, TCP4, IPV4), v2(0x22, TCP4, IPV4), v2(PROXY, TCP4, IPV4:sub(1, 11)),
  v2(PROXY, TCP6, IPV6:sub(1, 35)), v2(PROXY, UNIX, ('u'):rep(215)), v2(PROXY, TCP4, IPV4 .. ('\4\0\0'):rep(200)),
  SIGNATURE:sub(1, 11) .. 'X' .. '\33\17\0\12' .. IPV4, checked(true),
}

local APP = [[
  local function serve(settings, ...)
    local all = { open_proxy_protocol = true, proxy_protocol_trusted = { '127.0.0.1', '::1' } }
    for name, value in pairs(settings or {}) do all[name] = value end
    local server = new_server(all, ...)
    server:on('connect', function(s, fd)
      local info = s:getClientInfo(fd)
      emit('connect', info.remote_ip, info.remote_port, info.proxy_ip, info.proxy_port)
    end)
    server:on('receive', function(s, fd, _, data)
      if data == 'aborted' then s:send(fd, s:stats().abort_count .. '\n')
      elseif data == 'worker' then s:send(fd, s.worker_id .. '\n')
      elseif data == 'close' then s:close(fd)
      else s:send(fd, data) end
    end)
    server:on('close', function(_, fd) emit('close', fd) end)
    return server
  end
]]

-- Says its PROXY header (hexadecimal), then speaks TLS: prints what comes back.
local TLS_CLIENT = [[
import socket, ssl, sys
plain = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=30)
for i in range(0, len(sys.argv[2]), 2):
    plain.send(bytes.fromhex(sys.argv[2][i:i + 2]))
context = ssl._create_unverified_context()
conn = context.wrap_socket(plain)
conn.sendall(b'hello')
print(conn.recv(100).decode())
]]

describe('the PROXY header', function()
  after_each(support.cleanup)

  local function enter(app, header, from)
    local client = app:connect(1, from)
    client:send(header)
    return client
  end

  -- Waits until so many were refused.
  local function expect_aborted(app, count)
    local client = enter(app, LINE)
    local got
    assert(support.eventually(function()
      client:send 'aborted'
      got = tonumber(client:line())
      return got >= count
    end), 'not refused')
    assert.equal(count, got)
    client:close()
  end

  local function assert_no_events(app)
    assert.equal(0, app:count 'connect')
    assert.equal(0, app:count 'close')
  end

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      it('tells the address of the client; what comes behind it is data', function()
        local app = support.boot(mode, APP .. 'run(serve())')
        for _, case in ipairs(SAID) do
          local client = enter(app, case[1] .. 'hello')
          assert.equal('hello', client:receive(5))
          local _, own_port = client:name()
          assert.same({ case[2], case[3], '127.0.0.1', own_port }, { app:expect 'connect' })
          assert.equal('more', client:echo 'more')
          client:close()
          app:expect 'close'
        end
      end)

      it('may say nothing of the client: LOCAL, UNKNOWN, other families', function()
        local app = support.boot(mode, APP .. 'run(serve())')
        for _, header in ipairs(UNSAID) do
          local client = enter(app, header .. 'x')
          assert.equal('x', client:receive(1))
          local _, own_port = client:name()
          app:expect('connect', '127.0.0.1', own_port)
          client:close()
        end
      end)

      it('may come byte by byte', function()
        local app = support.boot(mode, APP .. 'run(serve())')
        for _, header in ipairs {
          LINE, v2(PROXY, TCP4, IPV4 .. '\4\0\2ab'), checked(), 'PROXY UNKNOWN x\r\n', v2(LOCAL, 0, ''),
        } do
          local client = app:connect()
          for i = 1, #header do
            client:send(header:sub(i, i))
          end
          client:send 'hello'
          assert.equal('hello', client:receive(5))
          app:expect 'connect'
          client:close()
        end
      end)

      it('comes before the connect event', function()
        local app = support.boot(mode, APP .. 'run(serve { worker_num = 2 })')
        local slow = enter(app, LINE:sub(1, 20))
        local other = enter(app, LINE)
        assert.equal('x', other:echo 'x')
        app:expect 'connect'
        assert.equal(0, app:count 'connect')
        slow:send(LINE:sub(21))
        app:expect('connect', '192.0.2.7')
        assert.equal('x', slow:echo 'x')
      end)

      it('ends a connection without any event where it is malformed or missing', function()
        local app = support.boot(mode, APP .. 'run(serve { proxy_protocol_timeout = 60 })')
        for i, data in ipairs(MALFORMED) do
          local client = enter(app, data)
          local rest, message = client.sock:receive '*a' -- nothing is said to it
          assert.is_true(rest == '' or rest == nil and message ~= 'timeout', i .. ': ' .. tostring(message))
          client:close()
        end
        assert_no_events(app)
        expect_aborted(app, #MALFORMED)
        local lines = app:log_count 'PROXY'
        assert.is_true(lines >= 1 and lines <= #MALFORMED, lines .. ' lines')
      end)

      it('is judged as soon as it cannot become valid any more', function()
        local app = support.boot(mode, APP .. 'run(serve { proxy_protocol_timeout = 0 })')
        for _, data in ipairs {
          'G', 'PROXI', 'PROXY X', 'PROXY TCP4 300', '\r\n\r\r', SIGNATURE .. '\49', SIGNATURE .. '\33\17\255\255',
          SIGNATURE .. '\33\17\0\4',
        } do
          enter(app, data):ending()
        end
        assert_no_events(app)
        expect_aborted(app, 8)
      end)

      it('has to be there within proxy_protocol_timeout, however it is dripped', function()
        local app = support.boot(mode, APP .. 'run(serve { proxy_protocol_timeout = 0.3 })')
        local silent, half = app:connect(), enter(app, LINE:sub(1, 30))
        local began, dripping = support.now(), enter(app, 'PROXY UNKNOWN ')
        assert(support.eventually(function() return not dripping.sock:send 'x' end), 'dripped for ever')
        local took = support.now() - began
        assert.is_true(took < 3, took .. ' s')
        assert.equal('end', silent:ending())
        half:ending()
        app:logs 'PROXY header did not come'
        assert_no_events(app)
        expect_aborted(app, 3)
        -- who was in time is not bound by it
        local client = enter(app, LINE)
        app:expect 'connect'
        app:expect 'connect'
        assert.is_nil(client.sock:settimeout(0.5) and client.sock:receive(1))
        client.sock:settimeout(10)
        assert.equal('x', client:echo 'x')
      end)

      it('is taken from trusted senders only', function()
        local app = support.boot(mode, APP .. [[
          run(serve { proxy_protocol_trusted = { '127.0.0.1', '127.0.1.0/24' }, proxy_protocol_timeout = 0 })
        ]])
        app:connect(1, '127.0.0.2'):ending() -- at once, whatever it was about to say
        app:connect(1, '127.0.2.1'):ending()
        app:logs '127.0.0.2'
        assert_no_events(app)
        assert.equal('x', enter(app, LINE .. 'x', '127.0.1.200'):receive(1))
        local _, _, ip = app:expect('connect', '192.0.2.7')
        assert.equal('127.0.1.200', ip)
        expect_aborted(app, 2)
      end)

      it('that breaks off with its connection leaves nothing behind', function()
        local app = support.boot(mode, APP .. 'run(serve { max_connection = 20, proxy_protocol_timeout = 0 })')
        for i = 1, 60 do
          local client = enter(app, LINE:sub(1, i % #LINE))
          if i % 3 == 0 then client:reset() elseif i % 3 == 1 then client:close() else client:half_close() end
        end
        assert_no_events(app)
        assert(support.eventually(function()
          local client = enter(app, LINE)
          local answer = client.sock:send 'x' and client.sock:receive(1)
          client:close()
          return answer
        end), 'the places are not free again')
      end)

      it('decides about limits per address', function()
        local app = support.boot(mode, APP .. [[
          run(serve { max_connection_per_ip = 1, connection_limit_exempt = { '192.0.2.9' } })
        ]])
        local function header(ip) return ('PROXY TCP4 %s 198.51.100.1 1 2\r\n'):format(ip) end
        local first = enter(app, header '192.0.2.7')
        assert.equal('x', first:echo 'x')
        enter(app, header '192.0.2.7'):ending()
        app:logs '192.0.2.7 has max_connection_per_ip of 1'
        for _, ip in ipairs { '192.0.2.8', '192.0.2.9', '192.0.2.9' } do
          assert.equal('x', enter(app, header(ip)):echo 'x')
        end
        assert.equal('x', enter(app, 'PROXY UNKNOWN\r\n'):echo 'x') -- the proxy itself
        enter(app, v2(LOCAL, 0, '')):ending()
        assert.equal(5, app:count 'connect')
        first:send 'aborted'
        assert.equal('2', first:line())
        first:send 'close'
        first:ending()
        assert(support.eventually(function()
          local client = enter(app, header '192.0.2.7')
          return client.sock:send 'x' and client.sock:receive(1)
        end), 'never let in again')
      end)

      it('decides about limits of the rate', function()
        local app = support.boot(mode, APP .. 'run(serve { connection_rate_per_ip = 0.001 })')
        assert.equal('x', enter(app, LINE):echo 'x')
        enter(app, LINE):ending()
        app:logs '192.0.2.7 is over connection_rate_per_ip'
        assert.equal('x', enter(app, 'PROXY TCP4 192.0.2.8 1.1.1.1 1 2\r\n'):echo 'x')
      end)

      it('comes from unix peers without a list of whom to trust', function()
        local path = support.directory() .. '/socket'
        local app = support.boot(mode, APP .. ([[
          local server = new_server()
          server:on('receive', function() end)
          local port = server:addListener(%q, 0, srvlua.SOCK_UNIX_STREAM)
          port:set { open_proxy_protocol = true, max_connection_per_ip = 1 }
          port:on('connect', function(s, fd)
            local info = s:getClientInfo(fd)
            emit('connect', info.remote_ip, info.remote_port)
          end)
          port:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          run(server)
        ]]):format(path), { where = { [2] = path } })
        local client = app:connect(2)
        client:send(LINE .. 'x')
        assert.equal('x', client:receive(1))
        assert.same({ '192.0.2.7', 56324 }, { app:expect 'connect' })
        local second = app:connect(2)
        second:send(LINE)
        second:ending()
        for _ = 1, 3 do -- the proxy itself: not bound
          local own = app:connect(2)
          own:send 'PROXY UNKNOWN\r\nx'
          assert.equal('x', own:receive(1))
        end
      end)

      it('needs to be allowed to somebody on IP ports', function()
        local app = support.boot(mode, [[
          local server = new_server { open_proxy_protocol = true }
          server:on('receive', function() end)
          emit('start', server:start())
        ]], { start = false })
        local ok, message, code = app:expect 'start'
        assert.is_false(ok)
        assert.equal(505, code)
        assert.truthy(message:find 'proxy_protocol_trusted', message)
      end)

      it('that never comes does not hold up the end of the server', function()
        local app = support.boot(mode, APP .. 'run(serve { proxy_protocol_timeout = 0 })')
        local client = enter(app, LINE:sub(1, 10))
        assert.equal('x', enter(app, LINE):echo 'x')
        assert.equal(0, app:stop())
        client:ending()
      end)

      it('comes before the TLS handshake, in the clear', function()
        local cert, key = peer.certificate(support.directory(), 'proxied.example')
        local app = support.boot(mode, APP .. ([[
          run(serve({ ssl_cert_file = %q, ssl_key_file = %q }, srvlua.SOCK_TCP + srvlua.SSL))
        ]]):format(cert, key))
        for _, header in ipairs { LINE, v2(PROXY, TCP4, IPV4) } do
          local hex = header:gsub('.', function(byte) return ('%02x'):format(byte:byte()) end)
          local client = support.run { 'python3', '-c', TLS_CLIENT, tostring(app.where[1]), hex }
          assert.equal('hello\n', client.out, client.err)
          app:expect('connect', '192.0.2.7', 56324, '127.0.0.1')
        end
        local client = enter(app, '\22\3\1') -- a handshake without a header
        client:ending()
        assert.equal(0, app:count 'connect')
      end)

      it('comes before enable_delay_receive', function()
        local app = support.boot(mode, APP .. [[
          local server = serve { enable_delay_receive = true }
          server:on('connect', function(s, fd) emit('connect', s:getClientInfo(fd).remote_ip) s:confirm(fd) end)
          run(server)
        ]])
        assert.equal('x', enter(app, LINE .. 'x'):receive(1))
        app:expect('connect', '192.0.2.7')
      end)
    end)
  end)

  it('decides about the worker in dispatch_mode 4', function()
    local app = support.boot('PROCESS', APP .. 'run(serve { worker_num = 3, dispatch_mode = 4 })')
    for number = 1, 9 do -- 192.0.2.n as a number: 3221225984 + n
      local client = enter(app, ('PROXY TCP4 192.0.2.%d 198.51.100.1 %d 443\r\n'):format(number, 1000 + number))
      client:send 'worker'
      assert.equal((3221225984 + number) % 3, tonumber(client:line()))
    end
  end)

  it('is told at most ten times a second of how it was wrong', function()
    local app = support.boot('PROCESS', APP .. 'run(serve())')
    local began = support.now()
    for _ = 1, 100 do
      enter(app, 'x'):ending()
    end
    local most = 10 * (1 + math.ceil(support.now() - began)) + 1
    expect_aborted(app, 100)
    assert.is_true(app:log_count 'PROXY' <= most)
  end)
end)
