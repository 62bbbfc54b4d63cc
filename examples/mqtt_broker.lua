-- mqtt_broker.lua [port [BASE|PROCESS]]: a broker for MQTT 3.1.1: QoS 0 to 2, retained messages, wildcards, wills,
-- sessions that outlive connections. Names and passwords are read and not checked.
-- Try: mosquitto_sub -p 9501 -t 'news/#' & mosquitto_pub -p 9501 -t news/today -m hello -q 1
--
-- The framing of the reactor hands over whole control packets, so this is the protocol and no more. One worker, for
-- sessions and subscriptions are plain tables. (Several would tell each other what is published by server:sendMessage,
-- and each client id would have to belong to one of them.)
local srvlua = require 'srvlua'

local KEEP_ALIVE_GRACE = 1.5      -- [MQTT-3.1.2-24]
local CONNECT_WITHIN = 10         -- seconds until the first packet
local MOST_LEVELS = 128           -- of a topic
local MOST_SUBSCRIPTIONS = 1000   -- per session
local MOST_SESSIONS = 10000
local MOST_IN_FLIGHT = 20         -- messages of QoS 1 and 2 per client that it has not acknowledged
local MOST_WAITING = 1000         -- behind those
local MOST_WAITING_BYTES = 2 ^ 24
local MOST_RETAINED_BYTES = 2 ^ 26

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])
server:set {
  worker_num = 1,
  open_mqtt_protocol = true,
  package_max_length = '2M',
  output_buffer_size = '4M',
  socket_buffer_size = '16M',
  send_yield = false, -- nobody waits for a slow subscriber
}

local byte, char, sub, floor = string.byte, string.char, string.sub, math.floor

-- ----------------------------------------------------------------------------------------------------------- packets

local CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
local SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14

-- Ends the connection: raised by what reads packets, caught by `receive`.
local function refuse(reason)
  error({ reason = reason }, 0)
end

local function is_utf8(text)
  if not text:find '[%z\128-\255]' then return true end
  if text:find '%z' then return false end
  local rest = text:gsub('[\194-\223][\128-\191]', ''):gsub('\224[\160-\191][\128-\191]', '')
    :gsub('[\225-\236\238\239][\128-\191][\128-\191]', ''):gsub('\237[\128-\159][\128-\191]', '')
    :gsub('\240[\144-\191][\128-\191][\128-\191]', ''):gsub('[\241-\243][\128-\191][\128-\191][\128-\191]', '')
    :gsub('\244[\128-\143][\128-\191][\128-\191]', '')
  return not rest:find '[\128-\255]'
end

local Reader = {}
Reader.__index = Reader

local function new_reader(packet)
  local at = 2
  while byte(packet, at) >= 128 do -- the remaining length, which the reactor has looked at
    at = at + 1
  end
  return setmetatable({ packet = packet, at = at + 1 }, Reader)
end

function Reader:left()
  return #self.packet - self.at + 1
end

function Reader:bytes(count)
  if count > self:left() then refuse 'a packet is too short for what it says' end
  self.at = self.at + count
  return sub(self.packet, self.at - count, self.at - 1)
end

function Reader:u8()
  return byte(self:bytes(1))
end

function Reader:u16()
  local high, low = byte(self:bytes(2), 1, 2)
  return high * 256 + low
end

function Reader:id()
  local id = self:u16()
  if id == 0 then refuse 'a packet has the id 0' end
  return id
end

function Reader:data()
  return self:bytes(self:u16())
end

function Reader:text()
  local text = self:data()
  if not is_utf8(text) then refuse 'a string is not UTF-8' end
  return text
end

function Reader:done()
  if self:left() > 0 then refuse 'a packet is too long' end
end

local function u16(number)
  return char(floor(number / 256), number % 256)
end

local function packet_of(kind, flags, body)
  local length, digits = #body, {}
  repeat
    local digit = length % 128
    length = floor(length / 128)
    digits[#digits + 1] = char(length > 0 and digit + 128 or digit)
  until length == 0
  return char(kind * 16 + flags) .. table.concat(digits) .. body
end

local function publish_packet(message, qos, id, is_retained, is_again)
  local flags = (is_again and 8 or 0) + qos * 2 + (is_retained and 1 or 0)
  local body = u16(#message.topic) .. message.topic .. (qos > 0 and u16(id) or '') .. message.payload
  return packet_of(PUBLISH, flags, body)
end

-- ------------------------------------------------------------------------------------------------------------ topics

-- One tree for both: a node is a level of a topic or of a filter, and `+` and `#` are names of levels like others.
--   { children = { name → node }, subscribers = { session → QoS } | nil, retained = message | nil }
local root = { children = {} }
local retained_bytes = 0
local NODE_BYTES = 256 -- what a level takes, roughly

local function levels_of(topic)
  local levels = {}
  for level in (topic .. '/'):gmatch '([^/]*)/' do
    levels[#levels + 1] = level
  end
  return levels
end

local function is_topic(topic)
  return topic ~= '' and not topic:find '[+#]' and #levels_of(topic) <= MOST_LEVELS
end

local function is_filter(filter)
  local levels = levels_of(filter)
  for i, level in ipairs(levels) do
    if level:find '[+#]' and #level > 1 then return false end
    if level == '#' and i < #levels then return false end
  end
  return filter ~= '' and #levels <= MOST_LEVELS
end

-- Changes the node of a topic or filter, making it where it is missing; what is empty afterwards goes.
local function change_node(levels, change)
  local path = { root }
  for i, level in ipairs(levels) do
    local node = path[i].children[level] or { children = {} }
    path[i].children[level] = node
    path[i + 1] = node
  end
  change(path[#path])
  for i = #levels, 1, -1 do
    local node = path[i + 1]
    if next(node.children) or node.subscribers or node.retained then return end
    path[i].children[levels[i]] = nil
  end
end

local function set_subscriber(filter, session, qos)
  change_node(levels_of(filter), function(node)
    node.subscribers = node.subscribers or {}
    node.subscribers[session] = qos
    if not next(node.subscribers) then node.subscribers = nil end
  end)
end

-- The sessions with a filter that the topic matches, each with the highest QoS of these.
local function subscribers_of(topic)
  local levels, found = levels_of(topic), {}
  local function take(node)
    for session, qos in pairs(node and node.subscribers or {}) do
      found[session] = math.max(found[session] or 0, qos)
    end
  end
  local function visit(node, depth)
    local children = node.children
    local has_wildcards = depth > 1 or sub(topic, 1, 1) ~= '$' -- [MQTT-4.7.2-1]
    if has_wildcards then take(children['#']) end -- of the parent level, too
    if depth > #levels then return take(node) end
    if children[levels[depth]] then visit(children[levels[depth]], depth + 1) end
    if has_wildcards and children['+'] then visit(children['+'], depth + 1) end
  end
  visit(root, 1)
  return found
end

local function retain(message)
  local levels = levels_of(message.topic)
  local overhead = #message.topic + #levels * NODE_BYTES
  local bytes = #message.payload + overhead
  change_node(levels, function(node)
    if node.retained then retained_bytes = retained_bytes - #node.retained.payload - overhead end
    node.retained = nil
    if message.payload == '' or retained_bytes + bytes > MOST_RETAINED_BYTES then return end
    node.retained = message
    retained_bytes = retained_bytes + bytes
  end)
end

-- Calls `give` with each retained message whose topic matches the filter.
local function each_retained(filter, give)
  local levels = levels_of(filter)
  local function visit(node, depth)
    local level = levels[depth]
    if not level or level == '#' then
      if node.retained then give(node.retained) end
      if not level then return end
    end
    if level ~= '+' and level ~= '#' then
      if node.children[level] then visit(node.children[level], depth + 1) end
      return
    end
    for name, child in pairs(node.children) do
      if node ~= root or sub(name, 1, 1) ~= '$' then visit(child, level == '#' and depth or depth + 1) end
    end
  end
  visit(root, 1)
end

-- ---------------------------------------------------------------------------------------------------------- sessions

-- What belongs to a client id: { id =, is_clean =, client = | nil, filters = { filter → QoS },
--   received = { packet id → true }: messages of QoS 2 that came and were not released,
--   in_flight = { packet id → delivery }, waiting = deliveries from `first` to `last`, not sent yet }.
-- A delivery is { message =, qos =, is_retained =, id =, is_again =, is_released = }.
local sessions, session_count = {}, 0
-- fd → { fd =, session = | nil, seen = second of the last packet, keep_alive =, will = | nil }
local clients = {}

local function new_session(id, is_clean)
  session_count = session_count + 1
  local session = {
    id = id, is_clean = is_clean, filters = {}, filter_count = 0, received = {},
    in_flight = {}, in_flight_count = 0, last_id = 0, waiting = {}, first = 1, last = 0, waiting_bytes = 0,
  }
  sessions[id] = session
  return session
end

local function end_session(session)
  for filter in pairs(session.filters) do
    set_subscriber(filter, session, nil)
  end
  sessions[session.id] = nil
  session_count = session_count - 1
end

local function free_packet_id(session)
  repeat
    session.last_id = session.last_id % 65535 + 1
  until not session.in_flight[session.last_id]
  return session.last_id
end

local function send_delivery(session, delivery)
  if delivery.is_released then return server:send(session.client.fd, packet_of(PUBREL, 2, u16(delivery.id))) end
  return server:send(session.client.fd,
    publish_packet(delivery.message, delivery.qos, delivery.id, delivery.is_retained, delivery.is_again))
end

-- Sends what waits, as far as the client takes it; goes on at an acknowledgement or `bufferEmpty`.
local function send_waiting(session)
  while session.client and session.first <= session.last and session.in_flight_count < MOST_IN_FLIGHT do
    local delivery = session.waiting[session.first]
    delivery.id = delivery.id or free_packet_id(session)
    if not send_delivery(session, delivery) then return end
    session.waiting[session.first] = nil
    session.first = session.first + 1
    session.waiting_bytes = session.waiting_bytes - #delivery.message.payload
    session.in_flight[delivery.id] = delivery
    session.in_flight_count = session.in_flight_count + 1
  end
end

local function deliver(session, message, qos, is_retained)
  if qos == 0 then
    if session.client then server:send(session.client.fd, publish_packet(message, 0, nil, is_retained)) end
    return -- lost if the client is away or does not read
  end
  local bytes = session.waiting_bytes + #message.payload
  if session.last - session.first + 1 >= MOST_WAITING or bytes > MOST_WAITING_BYTES then return end
  session.last = session.last + 1
  session.waiting[session.last] = { message = message, qos = qos, is_retained = is_retained }
  session.waiting_bytes = bytes
  send_waiting(session)
end

local function publish(message)
  if message.is_retained then retain(message) end
  for session, qos in pairs(subscribers_of(message.topic)) do
    deliver(session, message, math.min(qos, message.qos), false)
  end
end

-- The delivery has been taken by the client.
local function finish_delivery(session, id)
  if not session.in_flight[id] then return end
  session.in_flight[id] = nil
  session.in_flight_count = session.in_flight_count - 1
  send_waiting(session)
end

-- A client that came back gets again what it has not acknowledged, in the order it was sent first, then the rest.
local function send_again(session)
  local ids, waiting = {}, {}
  for id in pairs(session.in_flight) do
    ids[#ids + 1] = id
  end
  table.sort(ids, function(one, other)
    return (one - session.last_id - 1) % 65536 < (other - session.last_id - 1) % 65536
  end)
  for i, id in ipairs(ids) do
    local delivery = session.in_flight[id]
    delivery.is_again = true
    waiting[i] = delivery
    session.waiting_bytes = session.waiting_bytes + #delivery.message.payload
  end
  for i = session.first, session.last do
    waiting[#waiting + 1] = session.waiting[i]
  end
  session.in_flight, session.in_flight_count = {}, 0
  session.waiting, session.first, session.last = waiting, 1, #waiting
  send_waiting(session)
end

-- The client is no longer there, whoever ended the connection; does nothing the second time.
local function leave(client, has_said_so)
  clients[client.fd] = nil
  local session = client.session
  if not session then return end
  client.session, session.client = nil, nil
  if session.is_clean then end_session(session) end
  if client.will and not has_said_so then publish(client.will) end
end

local function drop(client, has_said_so)
  leave(client, has_said_so)
  server:close(client.fd)
end

-- ------------------------------------------------------------------------------------------- packets of the clients

local ACCEPTED, WRONG_VERSION, WRONG_ID, UNAVAILABLE = 0, 1, 2, 3

local function connack(client, is_present, code)
  server:send(client.fd, packet_of(CONNACK, 0, char(is_present and 1 or 0, code)))
  if code ~= ACCEPTED then drop(client) end
end

local function has_bit(flags, bit)
  return floor(flags / 2 ^ bit) % 2 == 1
end

local function read_will(reader, flags)
  local qos, is_retained = floor(flags / 8) % 4, has_bit(flags, 5)
  if not has_bit(flags, 2) then
    if qos ~= 0 or is_retained then refuse 'CONNECT has flags of a will and no will' end
    return nil
  end
  local topic = reader:text()
  if qos == 3 or not is_topic(topic) then refuse 'CONNECT has a will that cannot be published' end
  return { topic = topic, payload = reader:data(), qos = qos, is_retained = is_retained }
end

local handlers = {} -- kind → function(client, reader, flags of the first byte)

handlers[CONNECT] = function(client, reader)
  if client.session then refuse 'a second CONNECT' end
  if reader:text() ~= 'MQTT' then refuse 'this is not MQTT 3.1.1' end
  if reader:u8() ~= 4 then return connack(client, false, WRONG_VERSION) end
  local flags, keep_alive = reader:u8(), reader:u16()
  local is_clean, has_password, has_name = has_bit(flags, 1), has_bit(flags, 6), has_bit(flags, 7)
  if has_bit(flags, 0) or has_password and not has_name then refuse 'CONNECT has wrong flags' end
  local id = reader:text()
  local will = read_will(reader, flags)
  if has_name then reader:text() end
  if has_password then reader:data() end
  reader:done()
  if id == '' then
    if not is_clean then return connack(client, false, WRONG_ID) end
    id = ('srvlua-%d'):format(client.fd)
  end

  local session = sessions[id]
  if session and session.client then drop(session.client) end -- taken over; ends a clean session
  session = sessions[id]
  if session and is_clean then
    end_session(session)
    session = nil
  end
  if not session and session_count >= MOST_SESSIONS then return connack(client, false, UNAVAILABLE) end
  local is_present = session ~= nil
  session = session or new_session(id, is_clean)
  session.client = client
  client.session, client.will, client.keep_alive = session, will, keep_alive
  connack(client, is_present, ACCEPTED)
  send_again(session)
end

handlers[PUBLISH] = function(client, reader, flags)
  local qos, session = floor(flags / 2) % 4, client.session
  if qos == 3 or qos == 0 and flags >= 8 then refuse 'PUBLISH has wrong flags' end
  local topic = reader:text()
  if not is_topic(topic) then refuse 'PUBLISH has no topic that it could go to' end
  local id = qos > 0 and reader:id()
  local message = { topic = topic, qos = qos, is_retained = flags % 2 == 1, payload = reader:bytes(reader:left()) }
  if qos == 2 then
    if not session.received[id] then publish(message) end -- else it came again
    session.received[id] = true
    server:send(client.fd, packet_of(PUBREC, 0, u16(id)))
    return
  end
  publish(message)
  if qos == 1 then server:send(client.fd, packet_of(PUBACK, 0, u16(id))) end
end

handlers[PUBREL] = function(client, reader)
  local id = reader:id()
  reader:done()
  client.session.received[id] = nil
  server:send(client.fd, packet_of(PUBCOMP, 0, u16(id)))
end

handlers[PUBACK] = function(client, reader)
  local id = reader:id()
  reader:done()
  local delivery = client.session.in_flight[id]
  if delivery and delivery.qos == 1 then finish_delivery(client.session, id) end
end

handlers[PUBREC] = function(client, reader)
  local id = reader:id()
  reader:done()
  local delivery = client.session.in_flight[id]
  if delivery and delivery.qos == 2 then delivery.is_released = true end
  server:send(client.fd, packet_of(PUBREL, 2, u16(id)))
end

handlers[PUBCOMP] = function(client, reader)
  local id = reader:id()
  reader:done()
  local delivery = client.session.in_flight[id]
  if delivery and delivery.is_released then finish_delivery(client.session, id) end
end

handlers[SUBSCRIBE] = function(client, reader)
  local id, session, codes, granted = reader:id(), client.session, {}, {}
  repeat
    local filter, qos = reader:text(), reader:u8()
    if qos > 2 or not is_filter(filter) then refuse 'SUBSCRIBE has a wrong filter' end
    if not session.filters[filter] and session.filter_count >= MOST_SUBSCRIPTIONS then
      codes[#codes + 1] = char(128)
    else
      if not session.filters[filter] then session.filter_count = session.filter_count + 1 end
      session.filters[filter] = qos
      set_subscriber(filter, session, qos)
      codes[#codes + 1] = char(qos)
      granted[#granted + 1] = { filter = filter, qos = qos }
    end
  until reader:left() == 0
  server:send(client.fd, packet_of(SUBACK, 0, u16(id) .. table.concat(codes)))
  for _, subscription in ipairs(granted) do
    each_retained(subscription.filter, function(message)
      deliver(session, message, math.min(subscription.qos, message.qos), true)
    end)
  end
end

handlers[UNSUBSCRIBE] = function(client, reader)
  local id, session = reader:id(), client.session
  repeat
    local filter = reader:text()
    if session.filters[filter] then
      session.filters[filter] = nil
      session.filter_count = session.filter_count - 1
      set_subscriber(filter, session, nil)
    end
  until reader:left() == 0
  server:send(client.fd, packet_of(UNSUBACK, 0, u16(id)))
end

handlers[PINGREQ] = function(client, reader)
  reader:done()
  server:send(client.fd, packet_of(PINGRESP, 0, ''))
end

handlers[DISCONNECT] = function(client, reader)
  reader:done()
  drop(client, true)
end

-- -------------------------------------------------------------------------------------------------------- the server

local FLAGS = { [PUBREL] = 2, [SUBSCRIBE] = 2, [UNSUBSCRIBE] = 2 } -- what the reserved bits must be, 0 elsewhere

local function handle(client, packet)
  local first = byte(packet)
  local kind, flags = floor(first / 16), first % 16
  local handler = handlers[kind]
  if not handler then refuse 'a packet that clients do not send' end
  if kind ~= PUBLISH and flags ~= (FLAGS[kind] or 0) then refuse 'a packet has wrong flags' end
  if kind ~= CONNECT and not client.session then refuse 'the first packet is no CONNECT' end
  handler(client, new_reader(packet), flags)
end

server:on('connect', function(_, fd)
  clients[fd] = { fd = fd, seen = srvlua.hrtime() / 1e9, keep_alive = 0 }
end)

server:on('receive', function(_, fd, _, packet)
  local client = clients[fd]
  if not client then return end -- it was dropped; this came before it learnt that
  client.seen = srvlua.hrtime() / 1e9
  local ok, problem = pcall(handle, client, packet)
  if ok then return end
  if not problem.reason then error(problem, 0) end
  srvlua.log(srvlua.LOG_NOTICE, ('client %d is closed: %s'):format(fd, problem.reason))
  drop(client)
end)

server:on('close', function(_, fd)
  if clients[fd] then leave(clients[fd]) end
end)

server:on('bufferEmpty', function(_, fd)
  local client = clients[fd]
  if client and client.session then send_waiting(client.session) end
end)

local function is_late(client, now)
  if not client.session then return now - client.seen > CONNECT_WITHIN end
  return client.keep_alive > 0 and now - client.seen > client.keep_alive * KEEP_ALIVE_GRACE
end

server:on('workerStart', function()
  server:tick(500, function()
    local now, late = srvlua.hrtime() / 1e9, {}
    for _, client in pairs(clients) do
      if is_late(client, now) then late[#late + 1] = client end
    end
    for _, client in ipairs(late) do
      drop(client)
    end
  end)
end)

server:on('workerExit', function()
  srvlua.Timer.clearAll() -- a worker with timers has work left
end)

server:on('start', function()
  print('mqtt on 127.0.0.1:' .. server.port)
end)

assert(server:start())
