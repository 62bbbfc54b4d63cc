-- udp_echo.lua [port [BASE|PROCESS]]: sends datagrams back, IPv4 and IPv6. Try: echo hello | nc -u -w 1 127.0.0.1 9501
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode], srvlua.SOCK_UDP)
-- One number for both families, also where the kernel picked it.
assert(server:addListener('::1', server.port, srvlua.SOCK_UDP6))

server:on('start', function()
  print('udp echo on 127.0.0.1 and ::1, port ' .. server.port)
end)
server:on('packet', function(_, data, client)
  if data == '' then return end -- there is nothing to send
  local ok, message = server:sendto(client.address, client.port, data, client.server_socket)
  if not ok then
    srvlua.log(srvlua.LOG_WARNING, 'no answer to ' .. client.address .. ': ' .. message)
  end
end)

assert(server:start())
