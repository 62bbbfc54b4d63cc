-- The real haproxy in front, with send-proxy and send-proxy-v2: the application sees haproxy's clients.
local support = require 'support'

local HAPROXY = [[
global
  maxconn 200
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen version1
  bind 127.0.0.1:%d
  bind [::1]:%d
  server app 127.0.0.1:%d send-proxy
listen version2
  bind 127.0.0.1:%d
  bind [::1]:%d
  server app 127.0.0.1:%d send-proxy-v2 proxy-v2-options crc32c,unique-id check check-send-proxy inter 100ms
]]

describe('haproxy', function()
  after_each(support.cleanup)

  local is_missing = support.run({ 'sh', '-c', 'command -v haproxy' }).code ~= 0
  local declare = is_missing and function(name) pending(name .. ' (haproxy is not installed)') end or it

  -- Ports of its two versions.
  local function front(port)
    local first = support.free_ports(2)
    local config = HAPROXY:format(first, first, port, first + 1, first + 1, port)
    local path = support.write_file(support.directory() .. '/haproxy.cfg', config)
    support.launch { 'haproxy', '-db', '-q', '-f', path }
    for number = first, first + 1 do
      assert(support.eventually(function()
        local ok, client = pcall(support.stream, number)
        return ok and (client:close() or true)
      end), 'haproxy does not listen')
    end
    return first, first + 1
  end

  support.in_both_modes(function(mode)
    declare('shows the application the addresses of its clients, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { open_proxy_protocol = true, proxy_protocol_trusted = { '127.0.0.1' },
          worker_num = 2 }
        server:on('receive', function(s, fd, _, data)
          if data ~= 'who' then return s:send(fd, data) end
          local info = s:getClientInfo(fd)
          s:send(fd, ('%s %d %s\n'):format(info.remote_ip, info.remote_port, info.proxy_ip))
        end)
        run(server)
      ]])
      local data = ('0123456789'):rep(20000)
      for _, port in ipairs { front(app.where[1]) } do
        for _, way in ipairs { { '127.0.0.1', '127.0.0.5' }, { '127.0.0.1', '127.0.0.6' }, { '::1', '::1' } } do
          local client = support.stream({ way[1], port }, way[2])
          client:send 'who'
          local _, own_port = client:name()
          assert.equal(('%s %d 127.0.0.1'):format(way[2], own_port), client:line())
          assert.equal(#data, #client:echo(data))
          client:close()
        end
      end
      assert.equal(0, app:log_count 'WARNING')
    end)

    declare('that checks whether the application lives is no client, ' .. mode, function()
      local app = support.boot(mode, [[
        local server = new_server { open_proxy_protocol = true, proxy_protocol_trusted = { '127.0.0.1' },
          max_connection_per_ip = 1, connection_limit_exempt = { '127.0.0.1' } }
        server:on('connect', function(s, fd) emit('connect', s:getClientInfo(fd).remote_ip) end)
        server:on('receive', function(s, fd, _, data) s:send(fd, data) end)
        run(server)
      ]])
      local _, port = front(app.where[1])
      app:expect('connect', '127.0.0.1') -- LOCAL
      local first = support.stream({ '127.0.0.1', port }, '127.0.0.5')
      assert.equal('x', first:echo 'x')
      support.stream({ '127.0.0.1', port }, '127.0.0.5'):ending()
      assert.equal('x', support.stream({ '127.0.0.1', port }, '127.0.0.6'):echo 'x')
      app:logs '127.0.0.5 has max_connection_per_ip of 1'
    end)
  end)
end)
