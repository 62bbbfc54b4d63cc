-- What real clients and scanners say about TLS ports: versions, suites, curves, chains, renegotiation.
local support = require 'support'
local peers = require 'support.peer'

local APP = [[
  local function pair(name)
    return { ssl_cert_file = arg[2] .. '/' .. name .. '.crt', ssl_key_file = arg[2] .. '/' .. name .. '.key' }
  end
  local function serve(settings)
    local server = new_server(pair 'own', srvlua.SOCK_TCP + srvlua.SSL)
    server:set(settings)
    server:on('receive', function(_, fd, _, data)
      if data:find '^GET ' then
        server:send(fd, 'HTTP/1.0 200 OK\r\n\r\nhello ' .. tostring(server:getClientInfo(fd).ssl_alpn))
        server:close(fd)
      else
        server:send(fd, 'you said ' .. data)
      end
    end)
    run(server)
  end
]]

local function has(program)
  return support.run({ 'sh', '-c', 'command -v ' .. program }).code == 0
end

local function given(program, name, run)
  it(name, not has(program) and function() pending(program .. ' is not installed') end or run)
end

describe('TLS ports', function()
  local directory

  before_each(function() -- support.cleanup() removes directories
    directory = peers.certified_directory()
  end)

  after_each(support.cleanup)

  local function boot(mode, settings)
    return support.boot(mode, APP .. 'serve { ' .. (settings or '') .. ' }', { args = { directory } })
  end

  -- All that openssl says, talking with the server for as long as `input` takes (a shell command).
  local function s_client(app, options, input)
    local line = '%s | timeout 10 openssl s_client -connect 127.0.0.1:%d %s 2>&1'
    return support.run({ 'sh', '-c', line:format(input or 'echo Q', app.where[1], options) }).out
  end

  local function agreed(app, options)
    return s_client(app, options):match 'Cipher is (%S+)'
  end

  support.in_both_modes(function(mode)
    given('openssl', 'offer openssl what is modern and nothing else, ' .. mode, function()
      local app = boot(mode)
      local all = s_client(app, '-CAfile ' .. directory .. '/own.crt -status -tlsextdebug')
      for _, text in ipairs {
        'Verify return code: 0 (ok)', 'TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256',
        'Secure Renegotiation IS supported', 'Compression: NONE',
        'Extended master secret: yes', 'TLS session ticket lifetime hint: 3600',
      } do
        assert.truthy(all:find(text, 1, true), text .. ' is not in\n' .. all)
      end
      assert.equal('ECDHE-ECDSA-AES256-GCM-SHA384', agreed(app, '-tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384'))
      for _, options in ipairs {
        '-tls1_1 -cipher ALL:@SECLEVEL=0', '-tls1 -cipher ALL:@SECLEVEL=0', '-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA256',
        '-tls1_2 -cipher aNULL:eNULL:@SECLEVEL=0', '-tls1_2 -cipher DHE',
      } do
        assert.equal('(NONE)', agreed(app, options), options)
      end
      assert.equal(5, app:log_count 'handshake failed')
    end)

    given('openssl', 'tell openssl that it has to show a certificate, ' .. mode, function()
      local app = boot(mode, "ssl_verify_peer = true, ssl_client_cert_file = arg[2] .. '/own.crt'")
      -- s_client hears of it behind its own part of a TLS 1.3 handshake
      assert.truthy(s_client(app, '-tls1_2', 'sleep 1'):find 'alert handshake failure')
      app:logs 'no client certification received'
      local shown = ('-cert %s/own.crt -key %s/own.key'):format(directory, directory)
      assert.truthy(s_client(app, shown):find 'Verify return code')
      assert.equal(1, app:log_count 'handshake failed')
    end)

    given('openssl', 'follow their settings of suites and curves, and send the chain, ' .. mode, function()
      peers.certificate(directory, 'issuer')
      local own, issuer = directory .. '/own.crt', directory .. '/issuer.crt'
      support.write_file(own, support.read_file(own) .. support.read_file(issuer))
      local app = boot(mode, [[
        ssl_ciphers = 'ECDHE-ECDSA-CHACHA20-POLY1305:TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384', ssl_ecdh_curve = 'P-384'
      ]])
      assert.equal('ECDHE-ECDSA-CHACHA20-POLY1305', agreed(app, '-tls1_2'))
      assert.equal('(NONE)', agreed(app, '-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256'))
      assert.equal('(NONE)', agreed(app, '-tls1_2 -curves X25519'))
      local all = s_client(app, '-tls1_2 -showcerts -curves X25519:P-384:P-256')
      assert.truthy(all:find 'Server Temp Key: ECDH, secp384r1' or all:find 'Server Temp Key: ECDH, P%-384', all)
      assert.equal(2, select(2, all:gsub('BEGIN CERTIFICATE', '')))
    end)

    given('openssl', 'refuse renegotiation and go on, ' .. mode, function()
      local app = boot(mode)
      local all = s_client(app, '-tls1_2', '(echo R; echo more; sleep 0.1; echo Q)')
      assert.truthy(all:find 'RENEGOTIATING', all)
      assert.truthy(all:find 'no renegotiation', all)
      assert.equal('ECDHE-ECDSA-AES128-GCM-SHA256', agreed(app, '-tls1_2'))
    end)

    given('curl', 'serve curl, ' .. mode, function()
      local app = boot(mode, "ssl_alpn = { 'http/1.1' }")
      local curl = support.run { 'curl', '-sS', '--max-time', '10', '--cacert', directory .. '/own.crt', '--resolve',
        'own:' .. app.where[1] .. ':127.0.0.1', 'https://own:' .. app.where[1] .. '/', }
      assert.equal('hello http/1.1', curl.out, curl.err)
      curl = support.run { 'curl', '-sSk', '--max-time', '10', '--tls-max', '1.1',
        'https://127.0.0.1:' .. app.where[1] }
      assert.equal(35, curl.code)
    end)

    given('sslscan', 'leave sslscan nothing to complain about, ' .. mode, function()
      local app = boot(mode)
      local scan = support.run { 'sslscan', '--no-colour', '--no-check-certificate', '127.0.0.1:' .. app.where[1] }
      assert.equal(0, scan.code, scan.err)
      for _, old in ipairs { 'SSLv2', 'SSLv3', 'TLSv1.0', 'TLSv1.1' } do
        assert.truthy(scan.out:find('\n' .. old:gsub('%.', '%%.') .. ' +disabled'), old .. '\n' .. scan.out)
      end
      local suites = {}
      for suite in scan.out:gmatch '\n%a+ +TLSv1%.2 +%d+ bits +(%S+)' do
        suites[#suites + 1] = suite
      end
      assert.same('ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES256-GCM-SHA384',
        table.concat(suites, ' '))
      assert.truthy(scan.out:find 'TLSv1.2 not vulnerable to heartbleed', scan.out)
      assert.is_nil(scan.out:find 'Insecure')
    end)
  end)
end)
