-- How TLS connections end with slow readers, half-closed streams, peers that are gone, and what they count meanwhile
-- (protocols.md 2.1, 2.6, methods.md 6, settings.md 3.5).
local support = require 'support'
local peers = require 'support.peer'

local CLIENT = 'spec/support/tls_talk.py'

local APP = [[
  local DIRECTORY = arg[2]
  local KIND = srvlua.SOCK_TCP + srvlua.SSL
  local function file(name) return DIRECTORY .. '/' .. name end
  local function tls(settings)
    settings.ssl_cert_file, settings.ssl_key_file = file 'own.crt', file 'own.key'
    return new_server(settings, KIND)
  end
  local function queued(server, fd) return server:getClientInfo(fd).send_queued_bytes end
]]

support.in_both_modes(function(mode)
  describe('the end of a TLS connection, ' .. mode .. ',', function()
    local directory

    before_each(function()
      directory = peers.certified_directory()
    end)

    after_each(support.cleanup)

    local function boot(source)
      return support.boot(mode, APP .. source, { args = { directory } })
    end

    local function start(app, ...)
      return support.start { 'python3', '-I', '-S', CLIENT, app.where[1], ... }
    end

    local function gate(name)
      return 'wait:' .. directory .. '/' .. name, function() support.write_file(directory .. '/' .. name, '') end
    end

    -- What was encrypted already kept the socket open until the client took it.
    it('is a reset at once if that is asked for, whatever waits', function()
      local app = boot [[
        local server = tls { socket_buffer_size = '8m', kernel_socket_send_buffer_size = 16384 }
        server:on('receive', function(self, fd)
          self:send(fd, ('x'):rep(2000000))
          srvlua.Timer.after(50, function()
            emit('closed', self:close(fd, true))
            self:tick(10, function(id)
              if self:stats().connection_num > 0 then return end
              self:clearTimer(id)
              emit 'gone'
            end)
          end)
        end)
        server:on('close', function(_, fd, reactor) emit('close', fd, reactor) end)
        run(server)
      ]]
      local wait, open = gate 'gone'
      local client = start(app, 'slow=1', 'shake', 'send:go', wait, 'raw_rest')
      app:expect('closed', true)
      app:expect('close', 1, -1)
      app:expect 'gone'
      open()
      client:wait()
      assert.truthy(client.out:find '\nreset\n', client.out .. client.err)
    end)

    -- What was encrypted already counted as it was, and parts of files with it.
    it('comes after the same events of its queue as without TLS', function()
      local app = boot [[
        local server = tls { socket_buffer_size = '64k', kernel_socket_send_buffer_size = 16384, send_yield = false,
                             buffer_high_watermark = 4000 }
        server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set {
          socket_buffer_size = '64k', kernel_socket_send_buffer_size = 16384, buffer_high_watermark = 4000 }
        server:on('bufferFull', function(self, fd) emit('full', fd, queued(self, fd) >= 4000) end)
        server:on('bufferEmpty', function(self, fd)
          emit('empty', fd, queued(self, fd))
          self:close(fd)
        end)
        server:on('receive', function(self, fd, _, data)
          if data == 'file\n' then
            self:sendfile(fd, file 'large')
            srvlua.Timer.after(50, function() emit('sent', fd, queued(self, fd)) end)
          else
            self:send(fd, ('x'):rep(1000))
            self:send(fd, ('x'):rep(1500000))
          end
        end)
        server:on('close', function(_, fd) emit('close', fd) end)
        run(server)
      ]]
      support.write_file(directory .. '/large', ('y'):rep(3000000))
      local wait, open = gate 'read'
      local one = start(app, 'slow=1', 'shake', 'send:file', wait, 'send:go', 'rest')
      app:expect('sent', 1, 0)
      local plain = app:connect(2)
      plain:send 'file\n'
      app:expect('sent', 2, 0)
      assert.same({}, app:names())
      open()
      plain:receive(3000000)
      plain:send 'go\n'
      assert.equal(1501000, #plain:rest())
      one:wait()
      assert.truthy(one.out:find '\n4501000 %x+ notified\n', one.out .. one.err)
      for fd = 1, 2 do
        app:expect('full', fd, true)
        app:expect('empty', fd, 0)
        app:expect('close', fd)
      end
      assert.same({}, app:names())
    end)

    it('comes after all that a client sent that closes while answers go out', function()
      for kind, framing in pairs { raw = '', lines = "open_eof_split = true, package_eof = '\\n'" } do
        local app = boot(([[
          local server = tls { worker_ring_size = '64k', kernel_socket_recv_buffer_size = '1m', %s }
          local total = 0
          server:on('receive', function(self, fd, _, data)
            if total == 0 then hold(file %q) end
            total = total + #data
            self:send(fd, ('x'):rep(1000))
          end)
          server:on('close', function(_, fd, reactor) emit('close', fd, reactor >= 0, total) end)
          run(server)
        ]]):format(framing, kind))
        local client = start(app, 'shake', 'lines:200')
        assert.equal(0, client:wait(), client.err)
        support.write_file(directory .. '/' .. kind, '')
        assert.equal(200000, select(3, app:expect('close', 1, true)))
        app:stop()
      end
    end)

    for way, step in pairs { ['close_notify of the peer'] = 'unwrap', ['its FIN'] = 'fin', ['close(fd)'] = 'rest' } do
      it('comes after all that was accepted, also to a slow reader: ' .. way, function()
        local app = boot(([[
          local server = tls { socket_buffer_size = '64m' }
          server:on('receive', function(self, fd)
            for i = 1, 10 do self:send(fd, ('z'):rep(600000)) end
            if %q == 'rest' then self:close(fd) end
            emit 'sent'
          end)
          server:on('close', function(_, fd, reactor) emit('close', fd, reactor) end)
          run(server)
        ]]):format(step))
        local wait, open = gate 'sent'
        local client = start(app, 'slow=1', 'shake', 'send:go', wait, step, step == 'fin' and 'rest' or nil)
        app:expect 'sent'
        open()
        client:wait()
        local ending = step == 'fin' and 'cut' or 'notified'
        assert.truthy(client.out:find('\n6000000 %x+ ' .. ending), client.out .. client.err)
        app:expect('close', 1, step == 'rest' and -1 or 0)
      end)
    end
  end)
end)

describe('a TLS handshake that has begun', function()
  local directory

  before_each(function()
    directory = peers.certified_directory()
  end)

  after_each(support.cleanup)

  local RELOADED = [[
    local server = tls { worker_num = 2, max_wait_time = %g }
    server:on('connect', function(_, fd) emit('connect', fd) end)
    server:on('receive', function(self, fd, _, data)
      if data == 'reload\n' then self:reload() else self:send(fd, data) end
    end)
    server:on('close', function(_, fd, reactor) emit('close', fd, reactor) end)
    server:on('workerStart', function() emit 'worker' end)
    server:on('workerStop', function() emit 'left' end)
    run(server)
  ]]

  -- A client in the middle of its handshake, and the way to let it go on.
  local function begin(app)
    local hello, go = directory .. '/hello', directory .. '/go'
    local client = support.start { 'python3', '-I', '-S', CLIENT, app.where[1], 'hello:answered', 'touch:' .. hello,
      'wait:' .. go, 'shake', 'rest' }
    assert(support.eventually(function() return support.read_file(hello) end))
    return client, function() support.write_file(go, '') end
  end

  local function reload(app)
    local client = support.start { 'python3', '-I', '-S', CLIENT, app.where[1], 'shake', 'send:reload', 'rest' }
    app:expect 'connect'
    for _ = 1, 2 do app:expect 'worker' end
    return client
  end

  -- They met nobody: the old worker read nothing any more, and left without a word.
  it('is finished when a worker leaves in a reload, BASE', function()
    local app = support.boot('BASE', APP .. RELOADED:format(15), { args = { directory } })
    for _ = 1, 2 do app:expect 'worker' end
    local client, go_on = begin(app)
    reload(app)
    app:expect 'left' -- the one without
    go_on()
    client:wait()
    assert.truthy(client.out:find '^TLSv1.2 None new own\n0 %x+ notified\n$', client.out .. client.err)
    app:expect('connect', 1)
    app:expect('close', 1, -1)
    app:expect 'left'
  end)

  support.in_both_modes(function(mode)
    it('is cancelled with a word when there is no time left, ' .. mode, function()
      local app = support.boot(mode, APP .. RELOADED:format(0.5), { args = { directory } })
      for _ = 1, 2 do app:expect 'worker' end
      local client, go_on = begin(app)
      if mode == 'BASE' then
        reload(app)
        for _ = 1, 2 do app:expect 'left' end
      else
        app:stop()
      end
      go_on()
      client:wait()
      assert.truthy(client.out:find '^failed .*closed %(EOF%)', client.out .. client.err)
      assert.equal(0, app:count('connect', 1))
    end)
  end)
end)
