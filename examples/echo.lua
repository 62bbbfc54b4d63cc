-- echo.lua [port [BASE|PROCESS]]: sends back what it receives. Try: echo hello | nc -N 127.0.0.1 9501
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])

server:on('start', function()
  print('echo on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)

assert(server:start())
