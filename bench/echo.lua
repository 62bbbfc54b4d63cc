-- echo.lua MODE: the echo server that `make bench` measures: one worker, in PROCESS mode one reactor, each callback in
-- a coroutine. MODE is BASE or PROCESS. Prints where it listens.
local srvlua = require 'srvlua'

local server = srvlua.Server('127.0.0.1', 0, srvlua[arg[1]])
server:set {
  reactor_num = 1,
  worker_num = 1,
  enable_coroutine = true,
  open_tcp_nodelay = true,
  max_connection = 16384,
  log_level = 'warning',
}

server:on('start', function()
  print('echo.lua on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)

assert(server:start())
