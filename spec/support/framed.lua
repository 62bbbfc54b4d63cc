--- For specs of framing: servers that answer each packet as eight digits of length and the packet itself, so that a
--- client sees the borders.

local assert = require 'luassert'
local support = require 'support'

local M = {}

--- Lua text that defines framed(data), echo(server), open(server, settings) for apps.
M.prelude = [[
  local function framed(data) return ('%08d'):format(#data) .. data end
  local function echo(server)
    server:on('receive', function(self, fd, reactor, data) self:send(fd, framed(data)) end)
    server:on('close', function(self, fd, reactor) emit('close', fd, reactor) end)
  end
  local function open(server, settings)
    server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP):set(settings)
  end
]]

--- Boots an app with such a port for each name of `ports`, a list of { name, settings as Lua text }; `server_settings`
-- is text, too. `app.number` has the index of each for connect().
function M.boot(mode, ports, server_settings)
  local lines, number = {}, {}
  for i, port in ipairs(ports) do
    lines[i] = ('open(server, %s)\n'):format(port[2])
    number[port[1]] = i + 1
  end
  local app = support.boot(mode, M.prelude .. ('local server = new_server(%s)\necho(server)\n'):format(
    server_settings or '{ worker_num = 2 }') .. table.concat(lines) .. 'run(server)')
  app.number = number
  return app
end

--- The next packet that was answered.
function M.packet(client)
  return client:receive(assert(tonumber(client:receive(8))))
end

--- So many of them.
function M.packets(client, count)
  local packets = {}
  for i = 1, count do
    packets[i] = M.packet(client)
  end
  return packets
end

--- Byte by byte, each in a segment of its own.
function M.drip(client, data)
  for i = 1, #data do
    client:send_at_once(data:sub(i, i))
  end
end

--- The stream gives these packets, sent at once, byte by byte, and cut in two at each place.
function M.check(app, name, stream, packets)
  local index = app.number[name]
  for _, send in ipairs { 'send_at_once', 'drip' } do
    local client = app:connect(index);
    (M[send] or client[send])(client, stream)
    assert.same(packets, M.packets(client, #packets), name .. ', ' .. send)
    client:close()
  end
  if #stream > 40 then return end
  for at = 1, #stream - 1 do
    local client = app:connect(index)
    client:send_at_once(stream:sub(1, at))
    client:send_at_once(stream:sub(at + 1))
    assert.same(packets, M.packets(client, #packets), ('%s, cut after %d'):format(name, at))
    client:close()
  end
end

--- The stream gives these packets, then the connection ends with one line in the log that has the code and, if given,
-- this text; its close event says that the reactor ended it.
function M.check_violation(app, name, stream, packets, code, text)
  for _, send in ipairs { 'send_at_once', 'drip' } do
    local client = app:connect(app.number[name])
    local ip, port = client:name()
    pcall(M[send] or client[send], client, stream) -- the end may come while it sends
    assert.same(packets, M.packets(client, #packets), name)
    assert.is_true(client:ending() ~= nil)
    local line = app:logs(('(%s:%d, port %d)'):format(ip, port, app.where[app.number[name]]))
    assert.truthy(line:find 'WARNING' and line:find('error ' .. code, 1, true), line)
    if text then assert.truthy(line:find(text, 1, true), line) end
  end
end

return M
