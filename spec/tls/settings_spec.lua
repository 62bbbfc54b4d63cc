-- Settings of ports with TLS: when files are judged, what is refused and where it is told. What they do on the wire is
-- the business of other specs.
local support = require 'support'
local peers = require 'support.peer'

local PRELUDE = [[
  local DIRECTORY = arg[2]
  local function file(name) return DIRECTORY .. '/' .. name end
  local function pair(name) return { ssl_cert_file = file(name .. '.crt'), ssl_key_file = file(name .. '.key') } end
  local function new_tls(settings, sock_type)
    local server = new_server(settings, sock_type or srvlua.SOCK_TCP + srvlua.SSL)
    server:on('receive', function() end)
    server:on('packet', function() end)
    return server
  end
  local function try(object, settings)
    local ok, message = pcall(object.set, object, settings)
    emit('set', ok, ok or tostring(message))
  end
  local function start(server)
    server:on('workerStart', function(self) self:shutdown() end)
    local ok, message, code = server:start()
    emit('started', ok, code, message)
  end
]]

describe('settings of TLS', function()
  local directory

  -- support.cleanup() removes directories
  before_each(function()
    directory = support.directory()
    peers.certificate(directory, 'one')
    peers.certificate(directory, 'two')
    support.write_file(directory .. '/garbage.pem', 'no certificate\n')
  end)

  after_each(support.cleanup)

  local function boot(mode, source)
    return support.boot(mode, PRELUDE .. source, { start = false, args = { directory } })
  end

  -- The next set call failed, and its message has all these words.
  local function refused(app, ...)
    local ok, message = app:expect 'set'
    assert.is_false(ok, table.concat({ ... }, ' '))
    for _, word in ipairs { ... } do
      assert.truthy(message:find(word, 1, true), message)
    end
  end

  it('are judged as soon as certificate and key are there, naming the file', function()
    local app = boot('BASE', [[
      local server = new_tls()
      try(server, { ssl_cert_file = file 'nowhere.crt' })
      try(server, { ssl_key_file = file 'one.key' })
      try(server, { ssl_cert_file = file 'one.crt' })
      try(server, { ssl_key_file = file 'one.key' })
      try(server, { ssl_key_file = file 'two.key' })
      try(server, { ssl_cert_file = file 'garbage.pem' })
      try(server, { ssl_client_cert_file = file 'nowhere.pem' })
      try(server, { ssl_cafile = file 'garbage.pem' })
      try(server, { ssl_capath = file 'nowhere' })
      local mixed = { ssl_cert_file = file 'one.crt', ssl_key_file = file 'two.key' }
      try(server, { ssl_sni_certs = { ['a.example'] = mixed } })
      try(server, { ssl_key_file = '' })
      emit('setting', server.setting)
    ]])
    app:expect('set', true)
    refused(app, directory .. '/nowhere.crt')
    app:expect('set', true)
    app:expect('set', true)
    refused(app, 'two.key')
    refused(app, directory .. '/garbage.pem')
    refused(app, directory .. '/nowhere.pem')
    refused(app, directory .. '/garbage.pem')
    refused(app, directory .. '/nowhere')
    refused(app, 'two.key')
    app:expect('set', true)
    local setting = app:expect 'setting'
    assert.equal(directory .. '/one.crt', setting.ssl_cert_file)
    assert.equal('', setting.ssl_key_file)
    assert.is_nil(setting.ssl_cafile)
  end)

  it('change nothing when one of a call is bad', function()
    local app = boot('BASE', [[
      local server = new_tls(pair 'one')
      local bad = pair 'two'
      bad.ssl_client_cert_file, bad.backlog = file 'nowhere.pem', 7
      try(server, bad)
      try(server, { ssl_protocols = 8, ssl_verify_depth = 3 })
      emit('setting', server.setting)
    ]])
    refused(app, 'nowhere.pem')
    refused(app, 'ssl_protocols')
    local setting = app:expect 'setting'
    assert.equal(directory .. '/one.crt', setting.ssl_cert_file)
    assert.is_nil(setting.backlog)
    assert.is_nil(setting.ssl_verify_depth)
  end)

  it('refuse names that nobody knows, naming them', function()
    local app = boot('BASE', [[
      local server = new_tls()
      for _, settings in ipairs {
        { ssl_ciphers = 'ECDHE-RSA-AES128-GCM-SHA256:NO-SUCH-SUITE' },
        { ssl_ciphers = { 'HIGH' } },
        { ssl_ciphers = '!aNULL' },
        { ssl_ecdh_curve = 'P-256:P-17' },
        { ssl_protocols = 2 + 4 + 8 + 16 },
        { ssl_protocols = 1 },
        { ssl_protocols = { 'TLSv1.1' } },
        { ssl_alpn = { '' } },
        { ssl_alpn = { ('x'):rep(256) } },
        { ssl_verify_depth = 256 },
        { ssl_session_timeout = 0 },
        { ssl_handshake_limit = -1 },
        { ssl_sni_certs = { 'a.example' } },
        { ssl_sni_certs = { ['a.example'] = true } },
        { ssl_sni_certs = { ['a\0b'] = pair 'one' } },
        { ssl_sni_certs = { ['a.example'] = { ssl_cert_file = file 'one.crt' } } },
        { ssl_sni_certs = { ['a.example'] = { ssl_cert_file = 1, ssl_key_file = file 'one.key' } } },
        { ssl_sni_certs = { ['a.example'] = { ssl_cert_file = file 'one.crt', ssl_protocols = 32 } } },
      } do try(server, settings) end
      for _, settings in ipairs {
        { ssl_ciphers = 'ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256' },
        { ssl_ciphers = { 'ECDHE-RSA-AES128-GCM-SHA256', 'TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384' } },
        { ssl_ciphers = '' }, { ssl_ecdh_curve = 'auto' }, { ssl_ecdh_curve = 'X25519:P-256:prime256v1' },
        { ssl_ecdh_curve = '' }, { ssl_protocols = 0 }, { ssl_protocols = { 'TLSv1.2' } },
        { ssl_protocols = srvlua.SSL_TLSv1_2 + srvlua.SSL_TLSv1_3 + 128 }, { ssl_alpn = { 'x', 'y' } },
        { ssl_handshake_timeout = false, ssl_handshake_limit = 0 }, { ssl_passphrase = '' },
      } do try(server, settings) end
    ]])
    for _, words in ipairs {
      { 'ssl_ciphers', 'NO-SUCH-SUITE' }, { 'ssl_ciphers', 'HIGH' }, { 'ssl_ciphers', 'aNULL' },
      { 'ssl_ecdh_curve', 'P-17' }, { 'ssl_protocols' }, { 'ssl_protocols' }, { 'ssl_protocols' }, { 'ssl_alpn' },
      { 'ssl_alpn' }, { 'ssl_verify_depth' },
      { 'ssl_session_timeout' }, { 'ssl_handshake_limit' }, { 'ssl_sni_certs' }, { 'ssl_sni_certs', 'a.example' },
      { 'ssl_sni_certs' }, { 'ssl_sni_certs', 'a.example', 'ssl_key_file' },
      { 'ssl_sni_certs', 'a.example', 'ssl_cert_file', 'got 1' },
      { 'ssl_sni_certs', 'a.example', 'ssl_protocols' },
    } do
      refused(app, unpack(words))
    end
    for i = 1, 12 do
      local ok, message = app:expect 'set'
      assert.is_true(ok, i .. ': ' .. tostring(message))
    end
  end)

  it('drop versions that are never offered, and tell what has no effect', function()
    local app = boot('BASE', [[
      local server = new_tls()
      try(server, { ssl_protocols = srvlua.SSL_TLSv1_2 + 8 + 16 })
      try(server, { ssl_dhparam = file 'nowhere', ssl_compress = true })
    ]])
    app:expect('set', true)
    app:expect('set', true)
    app:logs 'versions before TLSv1.2 are never offered'
    app:logs "'ssl_dhparam' has no effect"
    app:logs "'ssl_compress' has no effect"
    assert.equal(1, app:log_count 'never offered')
  end)

  it('have no effect on a port without SSL, which is told where they were set', function()
    local app = boot('BASE', [[
      local server = new_tls({ ssl_cert_file = file 'nowhere.crt', ssl_key_file = file 'one.key' }, srvlua.SOCK_TCP)
      server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
      local own = server:addListener('127.0.0.1', 0, srvlua.SOCK_UDP)
      try(own, { ssl_alpn = { 'x' } })
      start(server)
    ]])
    app:expect('set', true)
    app:expect('started', true)
    assert.equal(2, app:log_count 'have no effect on port')
  end)

  it('that need ssl_verify_peer are told about without it', function()
    local app = boot('BASE', [[
      local server = new_tls(pair 'one')
      try(server, { ssl_cafile = file 'one.crt', ssl_verify_depth = 2 })
      start(server)
    ]])
    app:expect('set', true)
    app:expect('started', true)
    app:logs "'ssl_cafile' has no effect on port"
    app:logs 'ssl_verify_peer is off'
    assert.equal(2, app:log_count 'has no effect')
  end)

  it('are inherited by ports that never called set, whatever the order', function()
    local app = boot('BASE', [[
      local server = new_tls(pair 'one', srvlua.SOCK_TCP)
      local tls = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP + srvlua.SSL)
      emit('ssl', server.ssl, server.type, tls.ssl, tls.type)
      try(server, pair 'two')
      try(server, { ssl_key_file = file 'one.key' })
      os.remove(file 'two.crt') -- was read when it was set
      start(server)
    ]])
    app:expect('ssl', false, 1, true, 1)
    app:expect('set', true)
    refused(app, 'one.key')
    app:expect('started', true)
    assert.equal(0, app:log_count 'no effect')
  end)

  it('of a plain primary port that were not good are found by the first port that inherits them', function()
    local app = boot('BASE', [[
      local server = new_tls({ ssl_cert_file = file 'nowhere.crt', ssl_key_file = file 'one.key' }, srvlua.SOCK_TCP)
      server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP + srvlua.SSL)
      start(server)
    ]])
    local ok, code, message = app:expect 'started'
    assert.is_false(ok)
    assert.equal(2, code)
    assert.truthy(message:find('nowhere.crt', 1, true), message)
  end)

  support.in_both_modes(function(mode)
    it('let nothing start without certificates: 509; a verifying port without CAs: 505, ' .. mode, function()
      local app = boot(mode, [[
        local server = new_tls()
        start(server)
        local own = server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP + srvlua.SSL)
        server:set(pair 'one')
        own:set {} -- ends inheritance
        start(server)
        own:set(pair 'two')
        own:set { ssl_verify_peer = true }
        start(server)
        own:set { ssl_cafile = file 'one.crt' }
        start(server)
      ]])
      app:expect('started', false, 509)
      local _, _, message = app:expect('started', false, 509)
      assert.truthy(message:find '^port 127.0.0.1:%d+ speaks TLS', message)
      app:expect('started', false, 505)
      app:expect('started', true)
    end)
  end)

  it('go with a type of port: DTLS on UDP needs receive, unix datagrams have none', function()
    local app = boot('BASE', [[
      local server = new_server(pair 'one', srvlua.SOCK_UDP + srvlua.SSL)
      emit('ssl', server.ssl, server.type)
      server:on('packet', function() end)
      emit('unix', server:addListener(file 'socket', 0, srvlua.SOCK_UNIX_DGRAM + srvlua.SSL))
      start(server)
      server:on('receive', function() end)
      start(server)
    ]])
    app:expect('ssl', true, 2)
    assert.equal(724, (select(3, app:expect('unix', false))))
    app:expect('started', false, 9015)
    app:expect('started', true)
  end)

  it('are checked by srvlua -c', function()
    local script = support.write_file(directory .. '/app.lua', ([[
      local srvlua = require 'srvlua'
      local server = srvlua.Server('127.0.0.1', 0, srvlua.PROCESS, srvlua.SOCK_TCP + srvlua.SSL)
      server:on('receive', function() end)
      if arg[1] then server:set { ssl_cert_file = arg[1], ssl_key_file = '%s/one.key' } end
      server:start()
    ]]):format(directory))
    local good = support.run { support.launcher, '-c', script, directory .. '/one.crt' }
    assert.equal(0, good.code, good.err)
    local none = support.run { support.launcher, '-c', script }
    assert.equal(1, none.code)
    assert.truthy(none.err:find 'ssl_cert_file', none.err)
    local other = support.run { support.launcher, '-c', script, directory .. '/two.crt' }
    assert.equal(1, other.code)
    assert.truthy(other.err:find('one.key', 1, true) or other.err:find('two.crt', 1, true), other.err)
  end)
end)
