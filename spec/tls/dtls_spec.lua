-- DTLS sessions: handshakes on bad networks, peers that come back, floods, idle limits, what they carry, reloads.
local support = require 'support'
local peers = require 'support.peer'

local CLIENT = 'spec/support/dtls_talk.py'

local APP = [[
  local DIRECTORY = arg[2]
  local KIND = srvlua.SOCK_UDP + srvlua.SSL
  local server
  local function new(settings, host, kind)
    server = new_server(settings, kind or KIND, host)
    server:set { ssl_cert_file = DIRECTORY .. '/own.crt', ssl_key_file = DIRECTORY .. '/own.key' }
    return server
  end
  local orders = {
    echo = function(fd, text) server:send(fd, text .. '\n') end,
    close = function(fd) server:close(fd) end,
    worker = function(fd) server:send(fd, server:getWorkerPid() .. '\n') end,
    protect = function(fd) server:send(fd, tostring(server:protect(fd)) .. '\n') end,
    empty = function(fd)
      local ok, _, code = server:send(fd, '')
      server:send(fd, tostring(ok) .. ' ' .. tostring(code) .. '\n')
    end,
    info = function(fd)
      local info, keys = server:getClientInfo(fd), {}
      for key in pairs(info) do keys[#keys + 1] = key end
      table.sort(keys)
      local names = table.concat(keys, ' ')
      emit('info', info.remote_ip, info.ssl_protocol, info.ssl_cipher, info.socket_type, names)
      server:send(fd, 'told\n')
    end,
    stats = function(fd)
      local now = server:stats()
      server:send(fd, ('%d %d %d %d\n'):format(now.connection_num, now.accept_count, now.close_count, now.abort_count))
    end,
    often = function(fd)
      srvlua.Timer.tick(100, function() server:send(fd, '.') end)
    end,
    reload = function() server:reload() end,
  }
  local function serve(on_start)
    server:on('connect', function(_, fd) emit('connect', fd) end)
    server:on('receive', function(_, fd, _, data)
      for line in data:gmatch '[^\n]+' do
        local order, text = line:match '^(%a+) ?(.*)$'
        if orders[order] then orders[order](fd, text) else server:send(fd, #line .. '\n') end
      end
    end)
    server:on('packet', function() emit 'packet' end)
    server:on('close', function(_, fd, from)
      local info = server:getClientInfo(fd)
      emit('close', fd, from == -1, info and info.close_errno)
    end)
    run(server, on_start)
  end
]]

describe('sessions over DTLS', function()
  local directory

  before_each(function()
    directory = peers.certified_directory()
  end)

  after_each(support.cleanup)

  local function boot(mode, source)
    return support.boot(mode, APP .. source, { args = { directory } })
  end

  local function start(...)
    return support.start { 'python3', '-S', '-E', CLIENT, ... }
  end

  local function lines_of(text)
    local lines = {}
    for line in text:gmatch '[^\n]+' do
      lines[#lines + 1] = line
    end
    return lines
  end

  -- The lines that a client printed.
  local function talk(where, ...)
    local host, port = '127.0.0.1', where
    if type(where) == 'table' then host, port = where[1], where[2] end
    local argv = { 'python3', '-S', '-E', CLIENT, 'talk', host, port, ... }
    local result = support.run(argv, { seconds = 40 }) -- lost datagrams are repeated after seconds
    assert(result.code == 0, result.err)
    return lines_of(result.out)
  end

  support.in_both_modes(function(mode)
    it('begin on a network that loses, doubles and swaps, ' .. mode, function()
      local app = boot(mode, 'new { worker_num = 2, ssl_handshake_timeout = 60 } serve()')
      local relay = support.start {
        'python3', '-S', 'spec/support/udp_relay.py', app.where[1], 20, 'b', 10, 25, 25, 'merciful',
      }
      local ports = lines_of((peers.await(relay, 'ports ([^\n]*)\n'):gsub(' ', '\n')))
      local crowd = start('crowd', unpack(ports))
      assert.equal(0, crowd:wait(60), crowd.err)
      for _, line in ipairs(lines_of(crowd.out)) do
        -- It has got an answer; its pauses are 1, 2, 4, 8 and, with bad luck, 16 seconds, and do not begin anew.
        assert.is_true(tonumber(line) and tonumber(line) < 33, crowd.out)
      end
      relay:kill 'TERM'
      relay:wait()
      local lost, doubled, swapped = relay.out:match 'lost (%d+) doubled (%d+) swapped (%d+)'
      assert.is_true(tonumber(lost) > 5 and tonumber(doubled) > 5 and tonumber(swapped) > 5, relay.out)
      for _ = 1, 20 do app:expect 'connect' end
      assert.equal(0, app:count 'connect') -- nobody has two
    end)

    it('are with the address that was asked, ' .. mode, function()
      local app = boot(mode, "new(nil, '0.0.0.0') serve()")
      assert.same({ 'open new', 'told' }, talk({ '127.0.0.2', app.where[1] }, 'shake', 'ask:info'))
      local ip, protocol, cipher, kind, keys = app:expect 'info'
      assert.equal('127.0.0.1 DTLSv1.2 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 2',
        table.concat({ ip, protocol, cipher, kind }, ' '))
      for key in ('connect_time last_recv_time server_fd server_port socket_fd ssl ssl_resumed'):gmatch '%S+' do
        assert.is_truthy((' ' .. keys .. ' '):find(' ' .. key .. ' ', 1, true), key .. ' is not among ' .. keys)
      end
      app:stop()
      local both = boot(mode, "new(nil, '::', srvlua.SOCK_UDP6 + srvlua.SSL) serve()")
      for _, host in ipairs { '::1', '127.0.0.1', '127.0.0.2' } do
        assert.same({ 'open new', '3' }, talk({ host, both.where[1] }, 'shake', 'ask:abc'))
      end
    end)

    it('carry records as they come, ' .. mode, function()
      local app = boot(mode, 'new() serve()')
      local long = ('x'):rep(16000)
      assert.same({ 'open new', '16000', '16000', 'false 550', '3' },
        talk(app.where[1], 'shake', 'ask:' .. long, 'ask:echo ' .. long, 'ask:empty', 'hex:', 'hex:00',
          'hex:17fefd' .. ('00'):rep(65000), 'hex:16fefd' .. ('00'):rep(100), 'ask:abc'))
    end)

    it('end with a word, whoever ends them, and the port may come again, ' .. mode, function()
      local app = boot(mode, 'new() serve()')
      assert.same({ 'open new', '0 ended', 'open resumed', '1', 'open resumed', '2' }, talk(app.where[1],
        'shake', 'send:close', 'rest', 'again', 'shake', 'ask:a', 'again', 'shake', 'ask:bb', 'send:often'))
      app:expect('close', 1, true, 0)
      app:expect('close', 2, false, 0)
      app:expect('close', 3, false, 111) -- the program has ended without a word
      local lines = talk(app.where[1], 'shake', 'ask:stats')
      assert.same({ 'open new', '1 4 3 0' }, lines)
    end)

    it('give way to a client that begins anew from the same port, at once, ' .. mode, function()
      local app = boot(mode, 'new() serve()')
      local began = support.now()
      assert.same({ 'open new', '1', 'open new', '2' }, talk(app.where[1], 'shake', 'ask:a', 'anew', 'shake', 'ask:bb'))
      app:expect('close', 1, false, 0)
      -- in the middle of a handshake: there was no session yet
      assert.same({ 'open new', '3' }, talk(app.where[1], 'half', 'anew', 'shake', 'ask:ccc'))
      assert.is_truthy(support.now() - began < 2 or support.sanitizer, 'clients had to repeat themselves')
    end)

    it('are told that their worker or server leaves, ' .. mode, function()
      local app = boot(mode, 'new { worker_num = 2 } serve()')
      if mode == 'BASE' then -- a session is its worker's
        local lines = talk(app.where[1], 'shake', 'ask:worker', 'send:reload', 'rest', 'anew', 'shake', 'ask:worker')
        assert.equal('open new|0 ended|open new', table.concat({ lines[1], lines[3], lines[4] }, '|'))
        assert.are_not.equal(lines[2], lines[5])
        app:expect('close', 1)
      end
      local go = directory .. '/go'
      local steps = { 'shake', 'ask:worker', 'wait:' .. go, 'ask:worker', 'rest' }
      local client = start('talk', '127.0.0.1', app.where[1], unpack(steps))
      local before = peers.await(client, '\n(%d+)\n')
      if mode == 'PROCESS' then
        assert.same({ 'open new' }, talk(app.where[1], 'shake', 'send:reload'))
        assert.is_truthy(support.eventually(function()
          return not support.is_alive(tonumber(before))
        end))
      end
      support.write_file(go, '')
      assert.equal(mode == 'BASE', before == peers.await(client, '\n%d+\n(%d+)\n'))
      app:stop()
      assert.equal(0, client:wait(), client.err)
      assert.is_truthy(client.out:find('\n0 ended\n', 1, true), client.out)
    end)

    it('are nothing before the cookie is back, and one after that, ' .. mode, function()
      local app = boot(mode, 'new { worker_num = 2 } serve()')
      -- The half session gave way to the client's next one.
      assert.same({ 'other true', 'own', 'open new', '1 2 1 1' },
        talk(app.where[1], 'doubled', 'anew', 'shake', 'ask:stats'))
    end)

    it('are bounded in number and memory as long as they are unfinished, ' .. mode, function()
      local app = boot(mode, [[
        new { ssl_handshake_limit = 10, ssl_handshake_timeout = 4, max_connection = 3000 }
        serve()
      ]])
      local function memory()
        return tonumber(support.read_file('/proc/' .. app.pid .. '/statm'):match '^%d+ (%d+)') * 4
      end
      assert.same({ 'open new', '1' }, talk(app.where[1], 'shake', 'ask:a'))
      local descriptors, before = support.descriptors(app.pid), memory()
      local attack = start('flood', app.where[1], 1200)
      peers.await(attack, 'there')
      assert.is_true(support.descriptors(app.pid) - descriptors <= 1010, support.descriptors(app.pid))
      -- KiB; with all that they need they would take 43 MiB
      assert.is_truthy(support.sanitizer or memory() - before < 10 * 1024, memory() - before)
      assert(support.eventually(function() -- when their time is over
        return table.concat(talk(app.where[1], 'shake', 'ask:a'), ' ') == 'open new 1'
      end, 40), 'nobody gets in')
      assert.is_truthy(support.eventually(function()
        return support.descriptors(app.pid) <= descriptors + 1
      end))
    end)

    it('end when they are idle, ' .. mode, function()
      local app = boot(mode, 'new { heartbeat_check_interval = 0.1, heartbeat_idle_time = 0.5 } serve()')
      local go = directory .. '/go'
      local shielded = start('talk', '127.0.0.1', app.where[1], 'shake', 'ask:protect', 'send:often', 'rest')
      peers.await(shielded, 'true')
      -- What does not come from the peer does not keep a session, nor does what goes there.
      local noisy = start('talk', '127.0.0.1', app.where[1], 'shake', 'send:often', 'wait:' .. go, 'rest')
      app:expect('connect', 2)
      local began = support.now()
      app:expect('close', 2, false, 110)
      local took = support.now() - began
      assert.is_true(took > 0.3 and took < 3, took)
      support.write_file(go, '')
      assert.equal(0, noisy:wait(), noisy.err)
      assert.is_truthy(noisy.out:match '%d+ ended\n', noisy.out) -- it was told
      assert.equal(0, app:count('close', 1))
      app:stop()
      assert.equal(0, shielded:wait())
      assert.is_truthy(shielded.out:match '%d+ ended\n', shielded.out)
    end)

    it('end when nothing moves either way, ' .. mode, function()
      local app = boot(mode, 'new { max_idle_time = 0.5 } serve()')
      local busy = start('talk', '127.0.0.1', app.where[1], 'shake', 'send:often', 'rest')
      app:expect('connect', 1)
      assert.same({ 'open new', '1', '0 ended' }, talk(app.where[1], 'shake', 'ask:a', 'rest'))
      app:expect('close', 2, false, 110)
      assert.equal(0, app:count('close', 1)) -- what it is sent counts
      busy:kill 'KILL'
      app:expect('close', 1, false, 111)
    end)

    it('have the time limits and frames of streams, ' .. mode, function()
      local app = boot(mode, "new { package_timeout = 0.4, open_eof_split = true, package_eof = ';' } serve()")
      -- The line feed is the beginning of a packet.
      assert.same({ 'open new', '4', '0 ended' }, talk(app.where[1], 'shake', 'ask:abc;', 'rest'))
      app:expect('close', 1, false, 110)
    end)

    it('pass the door of their port, ' .. mode, function()
      local app = boot(mode, "new { max_connection_per_ip = 1 } serve()")
      local go = directory .. '/go'
      local first = start('talk', '127.0.0.1', app.where[1], 'shake', 'ask:a', 'wait:' .. go, 'send:close', 'rest')
      peers.await(first, 'open new\n1\n')
      local second = start('talk', '127.0.0.1', app.where[1], 'shake', 'ask:bb')
      app:logs 'max_connection_per_ip'
      support.write_file(go, '')
      assert.equal(0, second:wait(), second.err)
      assert.equal('open new\n2\n', second.out) -- it has repeated itself, and was not ignored
    end)
  end)
end)
