-- unix_echo.lua [port [BASE|PROCESS]]: echo on unix sockets, a stream and a datagram one. A number gives the paths
-- /tmp/srvlua-PORT.sock and /tmp/srvlua-PORT.dgram; a path of your own may stand in its place.
-- Try: echo hello | nc -N -U /tmp/srvlua-9501.sock
local srvlua = require 'srvlua'

local where, mode = arg[1] or '9501', arg[2] or 'PROCESS'
local base = where:find('/', 1, true) and where:gsub('%.sock$', '') or '/tmp/srvlua-' .. where
local server = srvlua.Server(base .. '.sock', 0, srvlua[mode], srvlua.SOCK_UNIX_STREAM)
assert(server:addListener(base .. '.dgram', 0, srvlua.SOCK_UNIX_DGRAM))

server:on('start', function()
  print('echo on ' .. base .. '.sock and ' .. base .. '.dgram')
end)
server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)
server:on('packet', function(_, data, client)
  -- A sender that did not bind its socket has no address to answer to.
  if client.address ~= '' and data ~= '' then
    server:send(client.address, data, client.server_socket)
  end
end)

assert(server:start())
