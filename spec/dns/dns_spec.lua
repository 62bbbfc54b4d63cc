local support = require 'support'

-- A name server: `two.test` has two IPv4 addresses and one IPv6, `brief.test` lives for a second, `slow.test` is
-- answered after 300 ms, `silent.test` never; other names do not exist.
local NAME_SERVER = [[
  local bit = require 'bit'
  local A, AAAA = 1, 28
  local zone = {
    ['two.test'] = { [A] = { '\10\0\0\1', '\10\0\0\2' }, [AAAA] = { ('\0'):rep(15) .. '\9' }, ttl = 1000 },
    ['brief.test'] = { [A] = { '\10\0\0\3' }, ttl = 1 },
    ['fleeting.test'] = { [A] = { '\10\0\0\4' }, ttl = 0 },
    ['slow.test'] = { [A] = { '\10\0\0\5' }, ttl = 1000, delay = 300 },
    ['silent.test'] = { silent = true },
  }
  local function number(value, bytes)
    local parts = {}
    for i = bytes, 1, -1 do parts[#parts + 1] = string.char(bit.band(bit.rshift(value, 8 * (i - 1)), 255)) end
    return table.concat(parts)
  end
  local function read_question(query)
    local labels, place = {}, 13
    while query:byte(place) > 0 do
      labels[#labels + 1] = query:sub(place + 1, place + query:byte(place))
      place = place + 1 + query:byte(place)
    end
    return table.concat(labels, '.'):lower(), query:byte(place + 2), query:sub(13, place + 4)
  end
  local server = new_server(nil, srvlua.SOCK_UDP)
  server:on('packet', function(_, query, client)
    local name, kind, question = read_question(query)
    local entry = zone[name]
    if name:find '%.many%.test$' then entry = { [A] = { '\10\1\1\1' }, ttl = 1000 } end
    emit('asked', name, kind)
    if entry and entry.silent then return end
    local records = entry and entry[kind] or {}
    local parts = { query:sub(1, 2), entry and '\129\128' or '\129\131', '\0\1', number(#records, 2), '\0\0\0\0',
      question }
    for _, address in ipairs(records) do
      local ttl_and_length = number(entry.ttl, 4) .. number(#address, 2)
      parts[#parts + 1] = '\192\12' .. number(kind, 2) .. '\0\1' .. ttl_and_length .. address
    end
    local answer = table.concat(parts)
    if entry and entry.delay then
      server:after(entry.delay, function() server:sendto(client.address, client.port, answer) end)
    else
      server:sendto(client.address, client.port, answer)
    end
  end)
  run(server)
]]

local APP = [[
  local function result(tag, value, ...)
    if type(value) == 'table' then return emit(tag, unpack(value)) end
    emit(tag, value, select(2, ...))
  end
  local settings = { dns_server = '127.0.0.1:' .. arg[2] }
]]

local function boot(mode, source)
  local names = support.boot('BASE', NAME_SERVER)
  return support.boot(mode, APP .. source, { args = { tostring(names.where[1]) } }), names
end

-- How often the name server was asked for a name's addresses of a kind.
local function asked(names, name, kind)
  return names:count('asked', name, kind or 1)
end

describe('dns.resolve', function()
  after_each(support.cleanup)

  it('takes an address as it is, and raises for what is no name', function()
    local app = support.boot('PROCESS', [[
      local resolve = srvlua.dns.resolve
      emit('addresses', resolve('127.0.0.9')[1], resolve('::1')[1], resolve('::1', { family = 'inet' })[1])
      for i, call in ipairs { { }, { {} }, { 1 }, { 'a\0b' }, { 'x', 1 }, { 'x', { family = 'ipv4' } },
        { 'x', { timeout = 0 } }, { 'x', { timeout = 'y' } } } do
        emit('raised', pcall(resolve, unpack(call)))
      end
      emit('module', require 'srvlua.dns' == srvlua.dns)
    ]], { start = false })
    app:expect('addresses', '127.0.0.9', '::1', '::1')
    for _, problem in ipairs { "#1 to 'resolve' (string expected, got no value)", "#1 to 'resolve' (string", '#1', '#1',
      "#2 to 'resolve' (table expected, got number)", "#2 to 'resolve' (field 'family'", "field 'timeout'",
      "field 'timeout'" } do
      local _, message = app:expect('raised', false)
      assert.truthy(message:find(problem, 1, true), message)
    end
    app:expect('module', true)
  end)

  support.in_both_modes(function(mode)
    for _, coroutines in ipairs { true, false } do
      it(('asks dns_server, %s, %s'):format(mode, coroutines and 'in a coroutine' or 'blocking'), function()
        local app, names = boot(mode, ([[
          settings.enable_coroutine = %s
          local server = new_server(settings)
          server:on('receive', function()
            local dns = srvlua.dns
            result('any', dns.resolve('two.test'))
            result('inet', dns.resolve('two.test', { family = 'inet' }))
            result('inet6', dns.resolve('TWO.test', { family = 'inet6' }))
            result('again', dns.resolve('Two.Test'))
            result('none', dns.resolve('none.test'))
            result('no such family', dns.resolve('brief.test', { family = 'inet6' }))
            result('long', dns.resolve(('x'):rep(300)))
            local begin = srvlua.hrtime()
            result('silent', dns.resolve('silent.test', { timeout = 0.2 }))
            emit('took', (srvlua.hrtime() - begin) / 1e9)
            emit('cleared', dns.clearCache())
            result('after', dns.resolve('two.test', { family = 'inet' }))
          end)
          run(server)
        ]]):format(tostring(coroutines)))
        app:connect():send 'go'
        assert.same({ '10.0.0.1', '10.0.0.2', '::9' }, { app:expect 'any' })
        assert.same({ '10.0.0.1', '10.0.0.2' }, { app:expect 'inet' })
        assert.same({ '::9' }, { app:expect 'inet6' })
        assert.same({ '10.0.0.1', '10.0.0.2', '::9' }, { app:expect 'again' })
        app:expect('none', false, 711)
        app:expect('no such family', false, 711)
        app:expect('long', false, 711)
        app:expect('silent', false, 712)
        local took = app:expect 'took'
        assert.is_true(took >= 0.19 and took < 5, took)
        app:expect('cleared', true)
        assert.same({ '10.0.0.1', '10.0.0.2' }, { app:expect 'after' })
        assert.equal(3, asked(names, 'two.test')) -- any, inet, after
      end)
    end

    it('suspends only its coroutine, and asks once for all who wait, ' .. mode, function()
      local app, names = boot(mode, [[
        local server = new_server(settings)
        server:on('receive', function(_, fd, _, data)
          if data == 'ping' then return server:send(fd, 'pong') end
          result('slow', srvlua.dns.resolve('slow.test', { family = 'inet', timeout = data == 'short' and 0.1 or nil }))
        end)
        run(server)
      ]])
      for _ = 1, 5 do
        app:connect():send 'go'
      end
      names:expect('asked', 'slow.test', 1)
      local short = app:connect()
      short:send 'short'
      local client = app:connect()
      client:send 'ping'
      assert.equal('pong', client:receive(4))
      assert.equal(0, app:count 'slow')
      app:expect('slow', false, 712)
      for _ = 1, 5 do
        app:expect('slow', '10.0.0.5')
      end
      assert.equal(0, asked(names, 'slow.test'))
    end)
  end)

  it('turns the loop of a user process that waits', function()
    local app = boot('PROCESS', [[
      local server = new_server(settings)
      server:on('receive', function() end)
      server:addProcess(srvlua.Process(function()
        local turns = 0
        srvlua.Timer.tick(10, function() turns = turns + 1 end)
        local addresses = srvlua.dns.resolve('slow.test', { family = 'inet' })
        emit('resolved', addresses[1], turns > 5)
        result('silent', srvlua.dns.resolve('silent.test', { timeout = 0.1 }))
        srvlua.sleep(100)
      end))
      run(server)
    ]])
    app:expect('resolved', '10.0.0.5', true)
    app:expect('silent', false, 712)
  end)

  it('begins anew when the loop of a script has ended', function()
    local app = support.boot('PROCESS', [[
      emit('ended', pcall(srvlua.run, function()
        srvlua.go(function() srvlua.dns.resolve('name.invalid') end)
        error('early', 0)
      end))
      for _ = 1, 2 do
        srvlua.run(function() emit('in the next', srvlua.dns.resolve('127.0.0.1')[1]) end)
      end
      emit('localhost', srvlua.dns.resolve('localhost', { family = 'inet' })[1])
    ]], { start = false })
    app:expect('ended', false, 'early')
    app:expect('in the next', '127.0.0.1')
    app:expect('in the next', '127.0.0.1')
    app:expect('localhost', '127.0.0.1')
  end)

  it('keeps answers as long as their TTL and dns_cache_expire allow, and dns_cache_capacity of them', function()
    local app, names = boot('BASE', [[
      settings.dns_cache_capacity = 2
      local server = new_server(settings)
      server:on('receive', function()
        local resolve = srvlua.dns.resolve
        local inet = { family = 'inet' }
        for _ = 1, 3 do resolve('fleeting.test', inet) end
        for _ = 1, 3 do resolve('brief.test', inet) end
        srvlua.sleep(1.1)
        resolve('brief.test', inet)
        for _, name in ipairs { 'a', 'b', 'a', 'c', 'a', 'b' } do resolve(name .. '.many.test', inet) end
        emit 'done'
      end)
      run(server)
    ]])
    app:connect():send 'go'
    app:expect 'done'
    assert.equal(3, asked(names, 'fleeting.test'))
    assert.equal(2, asked(names, 'brief.test'))
    assert.equal(1, asked(names, 'a.many.test'))
    assert.equal(2, asked(names, 'b.many.test')) -- c took its place
    assert.equal(1, asked(names, 'c.many.test'))
  end)

  it('keeps nothing with dns_cache_expire = 0, and has socket_dns_timeout as its limit', function()
    local app, names = boot('BASE', [[
      settings.dns_cache_expire, settings.socket_dns_timeout = 0, 0.2
      local server = new_server(settings)
      server:on('receive', function()
        for _ = 1, 3 do srvlua.dns.resolve('two.test', { family = 'inet' }) end
        result('silent', srvlua.dns.resolve('silent.test'))
      end)
      run(server)
    ]])
    app:connect():send 'go'
    app:expect('silent', false, 712)
    assert.equal(3, asked(names, 'two.test'))
  end)

  it('has no sockets while nobody waits', function()
    local app = boot('BASE', [[
      local server = new_server(settings)
      server:on('receive', function(_, fd, _, data)
        if data == 'ping' then return server:send(fd, 'pong') end
        result('silent', srvlua.dns.resolve('silent.test', { timeout = 0.1 }))
        result('two', srvlua.dns.resolve('two.test'))
        emit 'done'
      end)
      run(server)
    ]])
    local client = app:connect()
    client:send 'ping'
    client:receive(4)
    local before = support.descriptors(app.pid)
    client:send 'go'
    app:expect 'done'
    assert.is_true(support.eventually(function() return support.descriptors(app.pid) == before end))
  end)
end)
