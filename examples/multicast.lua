-- multicast.lua [port [BASE|PROCESS [interface]]]: prints what is sent to the group 239.255.20.30.
-- Try: echo hello | socat - UDP4-DATAGRAM:239.255.20.30:9501,ip-multicast-if=127.0.0.1
local srvlua = require 'srvlua'

local GROUP = '239.255.20.30'

local port, mode, interface = tonumber(arg[1] or 9501), arg[2] or 'PROCESS', arg[3] or 'lo'
local server = srvlua.Server('0.0.0.0', port, srvlua[mode], srvlua.SOCK_UDP)
server:set { worker_num = 1 }

local socket = server:getSocket()
assert(socket:setOption(srvlua.IPPROTO_IP, srvlua.MCAST_JOIN_GROUP, { group = GROUP, interface = interface }))

server:on('start', function()
  print(('listening to %s, port %d'):format(GROUP, server.port))
end)
server:on('packet', function(_, data, client)
  print(('%s: %s'):format(client.address, data))
  io.stdout:flush()
end)

assert(server:start())
