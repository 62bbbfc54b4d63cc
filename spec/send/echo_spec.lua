local socket = require 'socket'
local support = require 'support'

local STREAMS = {
  { name = 'TCP', where = function(port) return port end },
  { name = 'TCP6', where = function(port) return { '::1', port } end },
  { name = 'UNIX_STREAM', where = function(_, path) return path end },
}

-- Different bytes everywhere, all values among them.
local function pattern(length)
  local block = {}
  for i = 0, 250 do
    block[i + 1] = string.char(i)
  end
  for i = 251, 255 do
    block[i + 1] = string.char(i)
  end
  local text = table.concat(block):rep(math.ceil(length / 256))
  return text:sub(1, length)
end

-- Sends and receives at once, so that neither side's buffers must hold it all.
local function echo_large(client, data)
  local sent, parts, got = 0, {}, 0
  client.sock:settimeout(0)
  local last = support.now() + 30
  while got < #data do
    assert.is_true(support.now() < last, 'the echo takes too long')
    if sent < #data then
      local index, message, partial = client.sock:send(data, sent + 1, math.min(#data, sent + 100000))
      assert(index or message == 'timeout', message)
      sent = index or partial
    end
    local part, message, partial = client.sock:receive(math.min(100000, #data - got))
    assert(part or message == 'timeout', message)
    part = part or partial
    parts[#parts + 1] = part
    got = got + #part
    if got < #data then socket.select({ client.sock }, sent < #data and { client.sock } or nil, 1) end
  end
  client.sock:settimeout(10)
  return table.concat(parts)
end

describe('echo', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    for _, stream in ipairs(STREAMS) do
      it(('of every byte and many sizes on %s, %s'):format(stream.name, mode), function()
        local path = support.directory() .. '/socket'
        local app = support.boot(mode, [[
          local sock_type = srvlua['SOCK_' .. arg[2] ]
          local server = new_server({ worker_num = 2, socket_buffer_size = '16M' }, sock_type,
            arg[2]:find 'UNIX' and arg[3])
          server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
          run(server)
        ]], { args = { stream.name, path } })
        app.where[1] = stream.where(app.where[1], path)
        local clients = {}
        for i = 1, 3 do
          clients[i] = app:connect()
        end
        local data = pattern(3000000)
        for i, length in ipairs { 1, 2, 255, 256, 4096, 65535, 65536, 65537, 200000 } do
          local part = data:sub(i, i + length - 1)
          assert.is_true(clients[i % 3 + 1]:echo(part) == part, length .. ' bytes')
        end
        assert.is_true(echo_large(clients[1], data) == data)
      end)
    end

    it('to many clients at once mixes nothing up, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 2, reactor_num = 2 }
        server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
        run(server)
      ]])
      local clients = {}
      for i = 1, 100 do
        clients[i] = app:connect()
      end
      for round = 1, 5 do
        for i = 1, 100 do
          clients[i]:send(('%d-%d;'):format(round, i):rep(50))
        end
        for i = 1, 100 do
          local expected = ('%d-%d;'):format(round, i):rep(50)
          assert.equal(expected, clients[i]:receive(#expected))
        end
      end
    end)

    it('to a client that reads slowly is not lost, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { socket_buffer_size = '32M', kernel_socket_send_buffer_size = 65536 }
        server:on('receive', function(s, fd, _, data)
          for i = 1, 20 do emit('sent', s:send(fd, (string.char(96 + i)):rep(200000))) end
        end)
        run(server)
      ]])
      local client = app:connect()
      client:send 'x'
      for _ = 1, 20 do
        app:expect('sent', true)
      end
      for i = 1, 20 do
        assert.is_true(client:receive(200000) == string.char(96 + i):rep(200000))
      end
    end)
  end)
end)
