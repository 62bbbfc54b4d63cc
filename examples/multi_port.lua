-- multi_port.lua [port [BASE|PROCESS]]: one server, several ports with callbacks of their own.
--   port      TCP: echo
--   port + 1  TCP: says how many clients are connected, then closes
--   port      UDP: upper case
local srvlua = require 'srvlua'

local port_number, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port_number, srvlua[mode])
local status_port = assert(server:addListener('127.0.0.1', server.port + 1, srvlua.SOCK_TCP))
local udp_port = assert(server:addListener('127.0.0.1', server.port, srvlua.SOCK_UDP))

server:on('start', function()
  print(('echo on %d, status on %d, upper case on %d/udp'):format(server.port, status_port.port, udp_port.port))
end)

server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)

status_port:on('connect', function(_, fd)
  server:send(fd, ('%d connected\n'):format(server:stats().connection_num))
  server:close(fd)
end)
-- Every stream port needs a receive callback, its own or the primary port's; nobody is heard here.
status_port:on('receive', function() end)

udp_port:on('packet', function(_, data, client)
  if data ~= '' then
    server:sendto(client.address, client.port, data:upper(), client.server_socket)
  end
end)

assert(server:start())
