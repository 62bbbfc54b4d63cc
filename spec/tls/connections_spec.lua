-- Connections of TLS and DTLS ports: what they are after the handshake, how they end, what they carry, who may come.
local support = require 'support'
local peers = require 'support.peer'

local CLIENT = 'spec/support/tls_talk.py'

local APP = [[
  local DIRECTORY = arg[2]
  local function file(name) return DIRECTORY .. '/' .. name end
  local function pair(name) return { ssl_cert_file = file(name .. '.crt'), ssl_key_file = file(name .. '.key') } end
  local KIND = srvlua.SOCK_TCP + srvlua.SSL
  local server
  local function describe(info)
    local parts = {}
    for _, key in ipairs { 'ssl', 'ssl_protocol', 'ssl_cipher', 'ssl_server_name', 'ssl_alpn', 'ssl_resumed' } do
      parts[#parts + 1] = tostring(info[key])
    end
    parts[#parts + 1] = tostring(info.ssl_client_cert and #info.ssl_client_cert > 0 or false)
    return table.concat(parts, ' ')
  end
  local orders = {
    echo = function(fd, text) server:send(fd, text .. '\n') end,
    info = function(fd) server:send(fd, describe(server:getClientInfo(fd)) .. '\n') end,
    close = function(fd) server:close(fd) end,
    reset = function(fd) server:close(fd, true) end,
    big = function(fd, count) server:send(fd, ('x'):rep(tonumber(count))) end,
    file = function(fd, path)
      emit('file', server:send(fd, '<'), server:sendfile(fd, path), server:send(fd, '>'), server:close(fd))
    end,
    count = function(fd)
      server:send(fd, #server:getClientList(0, 100) .. ' ' .. server:stats().abort_count .. '\n')
    end,
    reload = function() server:reload() end,
  }
  local function serve(self)
    server = self
    local rest = {}
    server:on('connect', function(_, fd) emit('connect', fd, server:exist(fd)) end)
    server:on('receive', function(_, fd, _, data)
      data = (rest[fd] or '') .. data
      local done, last = 1, data:find('\n', 1, true)
      while last do
        local line = data:sub(done, last - 1)
        local order, text = line:match '^(%a+) ?(.*)$'
        if orders[order] then orders[order](fd, text) else server:send(fd, #line .. '\n') end
        done, last = last + 1, data:find('\n', last + 1, true)
      end
      rest[fd] = data:sub(done)
    end)
    server:on('close', function(_, fd, from)
      rest[fd] = nil
      local info = server:getClientInfo(fd)
      emit('close', fd, from == -1, info and info.close_errno)
    end)
    run(server)
  end
]]

local function sha1(path)
  local result = support.run { 'sha1sum', path }
  return (result.out:match '^%x+')
end

describe('connections over TLS', function()
  local directory

  before_each(function() -- support.cleanup() removes directories
    directory = peers.certified_directory()
  end)

  after_each(support.cleanup)

  local function boot(mode, source)
    return support.boot(mode, APP .. source, { args = { directory } })
  end

  local function start(port, ...)
    return support.start { 'python3', '-I', '-S', CLIENT, port, ... }
  end

  -- The lines that a client printed.
  local function talk(port, ...)
    local result = support.run { 'python3', '-I', '-S', CLIENT, port, ... }
    assert(result.code == 0, result.err)
    local lines = {}
    for line in result.out:gmatch '[^\n]+' do
      lines[#lines + 1] = line
    end
    return lines
  end

  local function openssl(...)
    local result = support.run { 'openssl', ... }
    assert(result.code == 0, result.err)
  end

  -- A certificate that another one has signed; `days` = 0: it is over at once.
  local function sign(name, issuer, days, is_authority)
    local path, by = directory .. '/' .. name, directory .. '/' .. issuer
    support.write_file(path .. '.ext', ('basicConstraints=CA:%s\n'):format(is_authority and 'TRUE' or 'FALSE'))
    openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
      '-keyout', path .. '.key', '-out', path .. '.csr', '-subj', '/CN=' .. name)
    openssl('x509', '-req', '-in', path .. '.csr', '-CA', by .. '.crt', '-CAkey', by .. '.key', '-CAcreateserial',
      '-days', days or 1, '-extfile', path .. '.ext', '-out', path .. '.crt')
  end

  -- NAME.chain.crt: a certificate with those that stand between it and its root.
  local function chain(name, ...)
    local texts = {}
    for i, part in ipairs { name, ... } do
      texts[i] = support.read_file(directory .. '/' .. part .. '.crt')
    end
    support.write_file(directory .. '/' .. name .. '.chain.crt', table.concat(texts))
  end

  local function shown(name)
    local key = name:match '^(.*)%.chain$' or name
    return ('cert=%s/%s.crt'):format(directory, name), ('key=%s/%s.key'):format(directory, key)
  end

  support.in_both_modes(function(mode)
    it('exist from their handshake on, and tell of it, ' .. mode, function()
      peers.certificate(directory, 'other')
      local app = boot(mode, [[
        local server = new_server(pair 'own', KIND)
        server:set { ssl_alpn = { 'two', 'one' }, ssl_sni_certs = { ['*.b.example'] = pair 'other' } }
        serve(server)
      ]])
      local port = app.where[1]
      local silent = app:connect()
      local expected = 'true TLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 a.b.example one false false'
      assert.same({ 'TLSv1.2 one new other', expected, '1 0' },
        talk(port, 'name=A.b.EXAMPLE', 'alpn=one,three', 'shake', 'ask:info', 'ask:count'))
      app:expect('connect', 2, true)
      app:expect('close', 2)
      assert.same({ 'TLSv1.2 two new own', 'a', 'TLSv1.2 two resumed own' },
        talk(port, 'name=x.y.b.example', 'alpn=one,two', 'shake', 'ask:echo a', 'again', 'shake'))
      assert.truthy(talk(port, 'alpn=three', 'shake')[1]:find 'no application protocol')
      assert.same({ 'TLSv1.2 None new own', '1 1' }, talk(port, 'shake', 'ask:count'))
      silent:send 'GET / HTTP/1.1\r\n\r\n'
      silent:ending()
      app:logs 'no TLS: the first byte is 0x47'
      assert.equal(0, app:count('connect', 1))
    end)

    it('end as each side says, ' .. mode, function()
      local app = boot(mode, "serve(new_server(pair 'own', KIND))")
      local port = app.where[1]
      local function ending(...)
        local lines = talk(port, 'shake', ...)
        return lines[#lines]:match '^(%d+) %x+ (%a+)$'
      end
      assert.same({ '2', 'notified' }, { ending('send:echo a\nclose', 'rest') })
      app:expect('close', 1, true, 0)
      assert.equal('reset', talk(port, 'shake', 'send:reset', 'raw_rest')[2])
      app:expect('close', 2, true, 0)
      assert.same({ '0', 'notified' }, { ending 'unwrap' }) -- the peer's close_notify is answered
      app:expect('close', 3, false, 0)
      assert.same({ '2', 'cut' }, { ending('send:echo a', 'fin', 'rest') }) -- its FIN is not
      app:expect('close', 4, false, 0)
      -- A bad record: the peer sees an alert. What came before it in the same read is a request like any other; its
      -- answer was once lost, because the alert had gone out before it.
      assert.same({ '0', 'alert' }, { ending('flip', 'rest') })
      app:expect('close', 5, false, 0)
      assert.same({ '2', 'alert' }, { ending('bad:echo a', 'rest') })
      app:expect('close', 6, false, 0)
      assert.equal('alert', select(2, ending('hex:170303ffff', 'rest'))) -- mbedTLS says nothing over this one
      app:expect('close', 7, false, 0)
      app:logs 'an invalid ssl record was received'
      assert.equal(3, app:log_count 'error 1204')
    end)

    it('carry any cutting, ' .. mode, function()
      local app = boot(mode, "serve(new_server(pair 'own', KIND))")
      local lines = talk(app.where[1], 'cut=1', 'shake', 'ask:echo drop by drop', 'tiny:500')
      assert.same({ 'TLSv1.2 None new own', 'drop by drop', '499' }, lines)
      lines = talk(app.where[1], 'cut=1337', 'shake', 'ask:' .. ('y'):rep(100000), 'tiny:2000')
      assert.same({ 'TLSv1.2 None new own', '100000', '1999' }, lines)
    end)

    it('deliver what was accepted, files among it, before they end, ' .. mode, function()
      local app = boot(mode, "serve(new_server(pair 'own', KIND))")
      local path = directory .. '/file'
      support.write_file(path, ('0123456789abcdef'):rep(150000))
      support.write_file(directory .. '/expected', '<' .. support.read_file(path) .. '>')
      local size = 150000 * 16 + 2
      for _, pace in ipairs { 'fast=1', 'slow=1' } do
        local lines = talk(app.where[1], pace, 'shake', 'send:file ' .. path, 'rest')
        assert.equal(('%d %s notified'):format(size, sha1(directory .. '/expected')), lines[2])
        app:expect('file', true, true, true, true)
      end
      local lines = talk(app.where[1], 'slow=1', 'shake', 'send:big 1500000\nclose', 'rest')
      assert.equal('1500000', lines[2]:match '^(%d+) %x+ notified$')
    end)

    it('ask for certificates, and refuse who has none that holds, ' .. mode, function()
      peers.certificate(directory, 'ca')
      peers.certificate(directory, 'stranger')
      sign('good', 'ca')
      sign('over', 'ca', 0)
      sign('middle', 'ca', 1, true)
      sign('deep', 'middle')
      chain('deep', 'middle')
      sign('lower', 'middle', 1, true)
      sign('deeper', 'lower')
      chain('deeper', 'lower', 'middle')
      local app = boot(mode, [[
        local server = new_server(pair 'own', KIND)
        server:set { ssl_client_cert_file = file 'ca.crt' }
        for _, settings in ipairs {
          { ssl_client_cert_file = file 'ca.crt', ssl_verify_peer = true, ssl_verify_depth = 1 },
          { ssl_client_cert_file = file 'ca.crt', ssl_verify_peer = true, ssl_allow_self_signed = true },
        } do
          local port = server:listen('127.0.0.1', 0, KIND)
          port:set(pair 'own')
          port:set(settings)
        end
        serve(server)
      ]])
      local function is_let_in(port, ...)
        local line = talk(app.where[port], ...)[2]
        return line ~= nil and line:match ' (%a+)$'
      end
      assert.equal('false', is_let_in(1, 'shake', 'ask:info'))
      for _, name in ipairs { 'good', 'over', 'stranger' } do
        local cert, key = shown(name)
        assert.equal('true', is_let_in(1, cert, key, 'shake', 'ask:info'), name)
        assert.equal(name == 'good' and 'true', is_let_in(2, cert, key, 'shake', 'ask:info'), name)
        assert.equal(name ~= 'over' and 'true', is_let_in(3, cert, key, 'shake', 'ask:info'), name)
      end
      assert.is_false(is_let_in(2, 'shake', 'ask:info'))
      assert.is_false(is_let_in(3, 'shake', 'ask:info'))
      local cert, key = shown 'deep.chain'
      assert.equal('true', is_let_in(2, cert, key, 'shake', 'ask:info'))
      cert, key = shown 'deeper.chain'
      assert.is_false(is_let_in(2, cert, key, 'shake', 'ask:info'))
      assert.equal('true', is_let_in(3, cert, key, 'shake', 'ask:info'))
      cert, key = shown 'good'
      local lines = talk(app.where[2], cert, key, 'shake', 'ask:echo a', 'again', 'shake', 'ask:info')
      assert.truthy(lines[3]:find 'resumed' and lines[4]:find ' true true$', lines[4]) -- of the first one
      app:logs 'certificate of the client refused: The certificate validity has expired'
      app:logs 'no client certification received'
    end)

    it('are resumed by any worker, also a new one, until the ticket is too old, ' .. mode, function()
      local app = boot(mode, [[
        local server = new_server(pair 'own', KIND)
        server:set { worker_num = 2 }
        local other = server:listen('127.0.0.1', 0, KIND)
        other:set(pair 'own')
        other:set { ssl_session_timeout = 1 }
        server:on('workerStart', function() emit 'worker' end)
        server:on('workerStop', function() emit 'left' end)
        serve(server)
      ]])
      for _ = 1, 2 do app:expect 'worker' end
      for _ = 1, 3 do
        assert.truthy(talk(app.where[1], 'shake', 'ask:echo a', 'again', 'shake')[3]:find 'resumed')
      end
      local go_on = 'wait:' .. directory .. '/new'
      local client = start(app.where[1], 'shake', 'ask:echo a', 'send:reload', go_on, 'again', 'shake')
      for _ = 1, 2 do app:expect 'worker' end
      for _ = 1, 2 do app:expect 'left' end
      support.write_file(directory .. '/new', '')
      client:wait()
      assert.truthy(client.out:find('resumed', 1, true), client.out .. client.err)
      assert.truthy(talk(app.where[2], 'shake', 'ask:echo a', 'again', 'shake')[3]:find 'resumed')
    end)

    it('are bounded in number and time until they have shaken hands, ' .. mode, function()
      local app = boot(mode, [[
        local server = new_server(pair 'own', KIND)
        server:set { ssl_handshake_limit = 20, ssl_handshake_timeout = 0.5 }
        serve(server)
      ]])
      local open = start(app.where[1], 'shake', 'ask:echo a', 'rest')
      app:expect('connect', 1)
      local silent, began = {}, support.now()
      for i = 1, 100 do
        silent[i] = app:connect()
        if i % 10 == 0 then silent[i]:send '\22\3\1' end
      end
      for i = 1, 100 do
        assert.equal('end', silent[i]:ending())
      end
      local took = support.now() - began
      assert.is_true(took > 0.45 and took < 5, took)
      assert.same({ 'TLSv1.2 None new own', '2 100' }, talk(app.where[1], 'shake', 'ask:count'))
      assert.equal(0, app:log_count 'NOTICE')
      open:kill 'KILL'
    end)

    it('over datagrams are sessions, ' .. mode, function()
      local app = boot(mode, [[
        local server = new_server(pair 'own', srvlua.SOCK_UDP + srvlua.SSL)
        server:set { worker_num = 2 }
        server:on('packet', function() emit 'packet' end)
        serve(server)
      ]])
      local orders = ('info\necho %s\nbig 40000\nclose\n'):format(('z'):rep(10000))
      local input = support.write_file(directory .. '/orders', orders)
      local clients = {}
      for i = 1, 6 do -- at once: some were once kept waiting for a second, until their client repeated itself
        local argv = { 'openssl', 's_client', '-dtls1_2', '-connect', '127.0.0.1:' .. app.where[1], '-quiet' }
        clients[i] = support.start(argv, { stdin = input })
      end
      local noise = app:datagrams()
      for _, text in ipairs { '', 'x', ('\22'):rep(100), '\22\254\253' .. ('\0'):rep(60) } do
        noise:send(text)
      end
      for _ = 1, 6 do app:expect('close') end
      for _, client in ipairs(clients) do
        assert.equal(0, client:wait(), client.err) -- it was told of the end
        assert.equal('true DTLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 nil nil false false\n' ..
          ('z'):rep(10000) .. '\n' .. ('x'):rep(40000), client.out)
      end
      assert.equal(0, app:count 'packet')
    end)
  end)
end)
