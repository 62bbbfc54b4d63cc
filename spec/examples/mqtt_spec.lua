-- examples/mqtt_broker.lua: the protocol packet by packet, and with the clients of Mosquitto.
local support = require 'support'

local function u16(number)
  return string.char(math.floor(number / 256), number % 256)
end

local function field(text)
  return u16(#text) .. text
end

local function packet_of(first, body)
  local length, digits = #body, ''
  repeat
    digits = digits .. string.char(length % 128 + (length >= 128 and 128 or 0))
    length = math.floor(length / 128)
  until length == 0
  return string.char(first) .. digits .. body
end

-- options: id, is_kept (no clean session), keep_alive, will = { topic, payload, qos, is_retained }, name, password
local function connect_packet(options)
  local flags, payload = options.is_kept and 0 or 2, field(options.id or '')
  local will = options.will
  if will then
    flags = flags + 4 + (will.qos or 0) * 8 + (will.is_retained and 32 or 0)
    payload = payload .. field(will.topic) .. field(will.payload)
  end
  if options.name then
    flags = flags + 128
    payload = payload .. field(options.name)
  end
  if options.password then
    flags = flags + 64
    payload = payload .. field(options.password)
  end
  return packet_of(0x10, field 'MQTT' .. string.char(4, flags) .. u16(options.keep_alive or 0) .. payload)
end

local Client = {}
Client.__index = Client

function Client:send(...)
  self.stream:send(packet_of(...))
end

-- The next packet: its first byte and its body.
function Client:take()
  local first, length, factor = self.stream:receive(1):byte(), 0, 1
  repeat
    local digit = self.stream:receive(1):byte()
    length = length + digit % 128 * factor
    factor = factor * 128
  until digit < 128
  return first, length > 0 and self.stream:receive(length) or ''
end

function Client:expect(first, body)
  assert.same({ ('%x'):format(first), body }, { ('%x'):format(select(1, self:take_noted())), self.body })
end

function Client:take_noted()
  self.first, self.body = self:take()
  return self.first
end

function Client:publish(topic, payload, qos, id, flags)
  self:send(0x30 + (qos or 0) * 2 + (flags or 0), field(topic) .. (id and u16(id) or '') .. payload)
end

local last_id = 0

function Client:subscribe(...)
  last_id = last_id + 1
  local body, codes = u16(last_id), ''
  for filter, qos in (' ' .. table.concat({ ... }, ' ')):gmatch ' (%S+) (%d)' do
    body = body .. field(filter) .. string.char(tonumber(qos))
    codes = codes .. string.char(tonumber(qos))
  end
  self:send(0x82, body)
  self:expect(0x90, u16(last_id) .. codes)
end

-- Nothing has come before the answer to this.
function Client:ping()
  self:send(0xc0, '')
  self:expect(0xd0, '')
end

function Client:ending()
  return self.stream:ending()
end

support.in_both_modes(function(mode)
  describe('examples/mqtt_broker.lua in ' .. mode .. ' mode', function()
    local app, port

    before_each(function()
      app = support.launch { support.launcher, support.root .. '/examples/mqtt_broker.lua', 0, mode }
      port = tonumber(app:expect('print'):match '^mqtt on 127%.0%.0%.1:(%d+)$')
    end)
    after_each(support.cleanup)

    local function connect(options)
      local client = setmetatable({ stream = support.stream(port) }, Client)
      client.stream:send(connect_packet(options or {}))
      client:expect(0x20, string.char(options and options.is_present and 1 or 0, 0))
      return client
    end

    -- Sends these bytes to be answered like this, and no more.
    local function refuses(bytes, answer, name)
      local stream = support.stream(port)
      stream:send(bytes)
      if answer then assert.equal(answer, stream:receive(#answer), name) end
      assert.equal('end', stream:ending(), name)
    end

    it('lets clients in, and names what it does not', function()
      connect():ping()
      connect { id = 'x', name = 'me', password = '\0\255', keep_alive = 60 }:ping()
      refuses(packet_of(0x10, field 'MQTT' .. '\5\2\0\0' .. field 'x'), '\32\2\0\1')
      refuses(connect_packet { is_kept = true }, '\32\2\0\2')
      assert.equal(0, app:stop())
    end)

    it('closes where the protocol is broken', function()
      local connected = connect_packet { id = 'x' }
      local will = { topic = 'a', payload = 'b', qos = 3 }
      for name, bytes in pairs {
        ['no CONNECT'] = packet_of(0xc0, ''),
        ['another protocol'] = packet_of(0x10, field 'MQIsdp' .. '\3\2\0\0' .. field 'x'),
        ['reserved flag of CONNECT'] = packet_of(0x10, field 'MQTT' .. '\4\3\0\0' .. field 'x'),
        ['flags of CONNECT'] = packet_of(0x11, field 'MQTT' .. '\4\2\0\0' .. field 'x'),
        ['password without a name'] = connect_packet { password = 'x' },
        ['will of QoS 3'] = connect_packet { will = will },
        ['will flags without a will'] = packet_of(0x10, field 'MQTT' .. '\4\34\0\0' .. field 'x'),
        ['CONNECT too long'] = packet_of(0x10, field 'MQTT' .. '\4\2\0\0' .. field 'x' .. 'y'),
        ['CONNECT too short'] = packet_of(0x10, field 'MQTT' .. '\4\2\0'),
        ['id that is no UTF-8'] = connect_packet { id = 'a\255' },
        ['id with NUL'] = connect_packet { id = 'a\0' },
      } do
        refuses(bytes, nil, name)
      end
      for name, bytes in pairs {
        ['second CONNECT'] = connected,
        ['CONNACK'] = packet_of(0x20, '\0\0'),
        ['kind 0'] = packet_of(0x00, ''),
        ['kind 15'] = packet_of(0xf0, ''),
        ['QoS 3'] = packet_of(0x36, field 'a' .. '\0\1'),
        ['DUP of QoS 0'] = packet_of(0x38, field 'a'),
        ['wildcard in a topic'] = packet_of(0x30, field 'a/#'),
        ['no topic'] = packet_of(0x30, field ''),
        ['topic that is no UTF-8'] = packet_of(0x30, field '\237\160\128'),
        ['PUBLISH too short'] = packet_of(0x30, '\0\5a'),
        ['packet id 0'] = packet_of(0x32, field 'a' .. '\0\0'),
        ['SUBSCRIBE without filters'] = packet_of(0x82, '\0\1'),
        ['flags of SUBSCRIBE'] = packet_of(0x80, '\0\1' .. field 'a' .. '\0'),
        ['filter a#'] = packet_of(0x82, '\0\1' .. field 'a#' .. '\0'),
        ['filter #/a'] = packet_of(0x82, '\0\1' .. field '#/a' .. '\0'),
        ['filter a+/b'] = packet_of(0x82, '\0\1' .. field 'a+/b' .. '\0'),
        ['filter of QoS 3'] = packet_of(0x82, '\0\1' .. field 'a' .. '\3'),
        ['UNSUBSCRIBE without filters'] = packet_of(0xa2, '\0\1'),
        ['PINGREQ with a body'] = packet_of(0xc0, 'x'),
        ['length in five bytes'] = '\48\255\255\255\255\1',
      } do
        refuses(connected .. bytes, '\32\2\0\0', name)
      end
      connect():ping()
      assert.equal(0, app:stop())
    end)

    it('matches filters', function()
      local publisher = connect()
      for filter, topics in pairs {
        ['sport/tennis/#'] = { 'sport/tennis', 'sport/tennis/x', 'sport/tennis/x/y' },
        ['sport/+'] = { 'sport/', 'sport/tennis' },
        ['sport/+/x'] = { 'sport/tennis/x' },
        ['+/+'] = { '/finance', 'sport/', 'sport/tennis', 'a/$b' },
        ['/+'] = { '/finance' },
        ['+'] = { 'sport' },
        ['#'] = { '/finance', 'a/$b', 'sport', 'sport/', 'sport/tennis', 'sport/tennis/x', 'sport/tennis/x/y' },
        ['$own/#'] = { '$own/x' },
        ['sport'] = { 'sport' },
        ['Sport'] = {},
      } do
        local subscriber = connect()
        subscriber:subscribe(filter, 0)
        local expected, found = {}, {}
        for _, topic in ipairs(topics) do
          expected[topic] = true
        end
        for _, topic in ipairs { '/finance', '$own/x', 'a/$b', 'sport', 'sport/', 'sport/tennis', 'sport/tennis/x',
          'sport/tennis/x/y' } do
          publisher:publish(topic, '')
        end
        publisher:ping()
        subscriber:send(0xc0, '')
        while true do
          local first, body = subscriber:take()
          if first == 0xd0 then break end
          found[body:sub(3)] = true
        end
        assert.same(expected, found, filter)
      end
      assert.equal(0, app:stop())
    end)

    it('delivers once, with the lower QoS of the two, whatever filters match', function()
      local subscriber, publisher = connect(), connect()
      subscriber:subscribe('a/#', 0, 'a/+', 1, 'a/b', 0)
      publisher:publish('a/b', 'one', 0)
      subscriber:expect(0x30, field 'a/b' .. 'one')
      publisher:publish('a/b', 'two', 1, 7)
      publisher:expect(0x40, u16(7))
      subscriber:expect(0x32, field 'a/b' .. u16(1) .. 'two')
      subscriber:send(0x40, u16(1))
      publisher:publish('a/b', 'three', 2, 8)
      publisher:expect(0x50, u16(8))
      publisher:send(0x62, u16(8))
      publisher:expect(0x70, u16(8))
      subscriber:expect(0x32, field 'a/b' .. u16(2) .. 'three')
      subscriber:send(0xa2, u16(9) .. field 'a/+' .. field 'a/#' .. field 'no')
      subscriber:expect(0xb0, u16(9))
      publisher:publish('a/b', 'four', 1, 9)
      subscriber:expect(0x30, field 'a/b' .. 'four')
      subscriber:ping()
      assert.equal(0, app:stop())
    end)

    it('delivers QoS 2 exactly once', function()
      local subscriber, publisher = connect(), connect()
      subscriber:subscribe('a', 2)
      publisher:publish('a', 'x', 2, 5)
      publisher:expect(0x50, u16(5))
      publisher:publish('a', 'x', 2, 5, 8) -- again, as after a lost PUBREC
      publisher:expect(0x50, u16(5))
      publisher:send(0x62, u16(5))
      publisher:expect(0x70, u16(5))
      subscriber:expect(0x34, field 'a' .. u16(1) .. 'x')
      subscriber:send(0x50, u16(1))
      subscriber:expect(0x62, u16(1))
      subscriber:send(0x70, u16(1))
      subscriber:ping()
      assert.equal(0, app:stop())
    end)

    it('keeps retained messages', function()
      local publisher = connect()
      publisher:publish('a/b', 'old', 0, nil, 1)
      publisher:publish('a/b', 'new', 1, 1, 1)
      publisher:expect(0x40, u16(1))
      publisher:publish('a', 'parent', 0, nil, 1)
      publisher:publish('$x', 'hidden', 0, nil, 1)
      publisher:ping()
      local subscriber = connect()
      subscriber:subscribe('a/b', 1)
      subscriber:expect(0x33, field 'a/b' .. u16(1) .. 'new')
      subscriber:send(0x40, u16(1))
      subscriber:subscribe('a/b', 0)
      subscriber:expect(0x31, field 'a/b' .. 'new')
      publisher:publish('a/b', 'newer', 0, nil, 1)
      subscriber:expect(0x30, field 'a/b' .. 'newer') -- it is subscribed: not as a retained one
      publisher:publish('a/b', '', 0, nil, 1)
      subscriber:expect(0x30, field 'a/b')
      local other = connect()
      other:subscribe('#', 0)
      other:expect(0x31, field 'a' .. 'parent')
      other:ping()
      other:subscribe('+', 0)
      other:expect(0x31, field 'a' .. 'parent')
      other:subscribe('a/#', 0)
      other:expect(0x31, field 'a' .. 'parent')
      other:subscribe('$x', 0)
      other:expect(0x31, field '$x' .. 'hidden')
      other:ping()
      assert.equal(0, app:stop())
    end)

    it('publishes a will unless the client has said good-bye', function()
      local watcher = connect()
      watcher:subscribe('will/#', 1)
      local function client(name)
        return connect { id = name, will = { topic = 'will/' .. name, payload = 'gone', qos = 1 } }
      end
      local polite = client 'polite'
      polite:send(0xe0, '')
      assert.equal('end', polite:ending())
      watcher:ping()
      client('rude').stream:close()
      watcher:expect(0x32, field 'will/rude' .. u16(1) .. 'gone')
      watcher:send(0x40, u16(1))
      local wrong = client 'wrong'
      wrong:send(0x00, '')
      wrong:ending()
      watcher:expect(0x32, field 'will/wrong' .. u16(2) .. 'gone')
      watcher:send(0x40, u16(2))
      client 'taken'
      local taking = connect { id = 'taken' }
      watcher:expect(0x32, field 'will/taken' .. u16(3) .. 'gone')
      taking:ping()
      assert.equal(0, app:stop())
    end)

    it('gives a client id to who comes last', function()
      local first = connect { id = 'same' }
      first:subscribe('a', 0)
      local second = connect { id = 'same' }
      first:ending()
      second:publish('a', 'x')
      second:ping() -- the clean session has ended with its connection
      assert.equal(0, app:stop())
    end)

    it('keeps sessions, and sends again what was not acknowledged', function()
      local publisher = connect()
      local client = connect { id = 'kept', is_kept = true }
      client:subscribe('a', 1, 'b', 2)
      publisher:publish('a', 'one', 1, 1)
      publisher:publish('b', 'two', 2, 2)
      publisher:publish('b', 'three', 2, 3)
      client:expect(0x32, field 'a' .. u16(1) .. 'one')
      client:expect(0x34, field 'b' .. u16(2) .. 'two')
      client:expect(0x34, field 'b' .. u16(3) .. 'three')
      client:send(0x50, u16(2))
      client:expect(0x62, u16(2))
      client.stream:close()
      publisher:take()
      publisher:take()
      publisher:take()
      assert.is_true(support.eventually(function() -- until the broker knows that it is away
        publisher:publish('a', 'four', 1, 4)
        publisher:expect(0x40, u16(4))
        return true
      end))

      local again = connect { id = 'kept', is_kept = true, is_present = true }
      again:expect(0x3a, field 'a' .. u16(1) .. 'one')
      again:expect(0x62, u16(2))
      again:expect(0x3c, field 'b' .. u16(3) .. 'three')
      again:send(0x40, u16(1))
      again:send(0x70, u16(2))
      local first, body = again:take()
      assert.same({ true, field 'a' .. u16(4) .. 'four' }, { first == 0x32 or first == 0x3a, body })
      again.stream:close()
      local fresh = connect { id = 'kept' }
      fresh:ping()
      fresh.stream:close()
      assert.equal(0, app:stop())
    end)

    it('sends no more messages than a client acknowledges', function()
      local client, publisher = connect(), connect()
      client:subscribe('a', 1)
      for i = 1, 50 do
        publisher:publish('a', tostring(i), 1, i)
        publisher:expect(0x40, u16(i))
      end
      for i = 1, 20 do
        client:expect(0x32, field 'a' .. u16(i) .. tostring(i))
      end
      client:ping()
      for i = 21, 50 do
        client:send(0x40, u16(i - 20))
        client:expect(0x32, field 'a' .. u16(i) .. tostring(i))
      end
      assert.equal(0, app:stop())
    end)

    it('closes a client that is silent for 1.5 times its keep-alive', function()
      local watcher = connect()
      watcher:subscribe('will', 0)
      local silent = connect { keep_alive = 1, will = { topic = 'will', payload = 'silent' } }
      local from = support.now()
      assert.equal('end', silent:ending())
      local seconds = support.now() - from
      assert.is_true(seconds > 1.4 and seconds < 4, seconds)
      watcher:expect(0x30, field 'will' .. 'silent')
      assert.equal(0, app:stop())
    end)

    it('serves a hundred subscribers', function()
      local clients, publisher = {}, connect()
      for i = 1, 100 do
        clients[i] = connect()
        clients[i]:subscribe('all/+', 0, 'one/' .. i, 1)
      end
      for i = 1, 100 do
        publisher:publish('all/' .. i, 'x')
        publisher:publish('one/' .. i, 'y', 1, i)
        publisher:expect(0x40, u16(i))
      end
      for i = 1, 100 do
        local seen = 0
        for _ = 1, 101 do
          local _, body = clients[i]:take()
          if body:sub(-1) == 'y' then
            assert.equal(field('one/' .. i) .. u16(1) .. 'y', body)
          else
            seen = seen + 1
            assert.equal(field('all/' .. seen) .. 'x', body)
          end
        end
        clients[i]:ping()
      end
      assert.equal(0, app:stop())
    end)
  end)
end)

local has_mosquitto = os.execute 'command -v mosquitto_sub >/dev/null && command -v mosquitto_pub >/dev/null' == 0
local it_with_clients = has_mosquitto and it or pending

support.in_both_modes(function(mode)
  describe('Mosquitto\'s clients with examples/mqtt_broker.lua in ' .. mode .. ' mode', function()
    local app, port

    after_each(support.cleanup)

    local function publish(...)
      local result = support.run({ 'mosquitto_pub', '-p', port, ... }, { seconds = 20 })
      assert.equal(0, result.code, result.err)
    end

    local function start()
      app = support.launch { support.launcher, support.root .. '/examples/mqtt_broker.lua', 0, mode }
      port = tonumber(app:expect('print'):match ':(%d+)$')
      publish('-t', 'ready', '-m', 'ready', '-r')
    end

    -- One that prints a line for each message, and has subscribed: the retained message has come.
    local function subscribe(...)
      local subscriber = support.launch { 'stdbuf', '-oL', 'mosquitto_sub', '-p', port, '-v', '-t', 'ready', ... }
      subscriber:expect('print', 'ready ready')
      return subscriber
    end

    it_with_clients('deliver with each QoS, and by wildcards', function()
      start()
      local all, one = subscribe('-t', 'news/#', '-q', 2), subscribe('-t', 'news/+/today', '-q', 1)
      for qos = 0, 2 do
        publish('-t', 'news/sport/today', '-m', 'goal ' .. qos, '-q', qos)
        publish('-t', 'news', '-m', 'head ' .. qos, '-q', qos)
        all:expect('print', 'news/sport/today goal ' .. qos)
        all:expect('print', 'news head ' .. qos)
        one:expect('print', 'news/sport/today goal ' .. qos)
      end
      assert.equal(0, one:count 'print')
      all:kill 'TERM'
      one:kill 'TERM'
      assert.equal(0, app:stop())
    end)

    it_with_clients('get retained messages until these are removed', function()
      start()
      publish('-t', 'kept/a', '-m', 'old', '-r', '-q', 1)
      publish('-t', 'kept/a', '-m', 'new', '-r', '-q', 1)
      local function look()
        local subscriber = { 'mosquitto_sub', '-p', port, '-v', '-t', 'kept/#', '-t', 'ready', '-C', '2', '-W', '1' }
        return (support.run(subscriber).out:gsub('ready ready\n', ''))
      end
      assert.equal('kept/a new\n', look())
      publish('-t', 'kept/a', '-n', '-r')
      assert.equal('', look())
      assert.equal(0, app:stop())
    end)

    it_with_clients('leave wills', function()
      start()
      local watcher = subscribe('-t', 'wills/#')
      local dying = subscribe('--will-topic', 'wills/x', '--will-payload', 'killed', '--will-qos', 1, '-k', 60)
      dying:kill 'KILL'
      watcher:expect('print', 'wills/x killed')
      watcher:kill 'TERM'
      assert.equal(0, app:stop())
    end)

    it_with_clients('have sessions', function()
      start()
      local kept = { 'mosquitto_sub', '-p', port, '-t', 'later', '-i', 'kept', '-c', '-q', 1 }
      kept[#kept + 1] = '-E' -- subscribes and goes
      assert.equal(0, support.run(kept).code)
      for i = 1, 30 do
        publish('-t', 'later', '-m', i, '-q', 1)
      end
      kept[#kept] = '-C'
      kept[#kept + 1] = 30
      local expected = {}
      for i = 1, 30 do
        expected[i] = i .. '\n'
      end
      assert.equal(table.concat(expected), support.run(kept).out)
      assert.equal(0, app:stop())
    end)

    it_with_clients('carry 1 MiB', function()
      start()
      local directory = support.directory()
      local payload = ('0123456789abcdef'):rep(65536)
      support.write_file(directory .. '/payload', payload)
      for qos = 0, 2 do
        local subscriber = support.launch { 'mosquitto_sub', '-p', port, '-t', 'large', '-t', 'ready', '-q', qos, '-N',
          '-C', '2' }
        -- It prints nothing at once: the publisher tries until one has come.
        assert.is_true(support.eventually(function()
          publish('-t', 'large', '-f', directory .. '/payload', '-q', qos)
          return not subscriber.process:pump(0.2) or subscriber.process:is_gone(0)
        end))
        local code = subscriber:wait()
        assert.equal(0, code)
        assert.equal('ready' .. payload, subscriber.process.out)
      end
      assert.equal(0, app:stop())
    end)
  end)
end)
