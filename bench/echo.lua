-- echo.lua MODE [FRAMING]: the echo server that `make bench` measures: one worker, in PROCESS mode one reactor, each
-- callback in a coroutine. MODE is BASE or PROCESS; FRAMING raw (as it comes), eof or length. Prints where it listens.
local srvlua = require 'srvlua'

local server = srvlua.Server('127.0.0.1', 0, srvlua[arg[1]])
server:set {
  reactor_num = 1,
  worker_num = 1,
  enable_coroutine = true,
  open_tcp_nodelay = true,
  max_connection = 16384,
  log_level = 'warning',
  open_eof_split = arg[2] == 'eof',
  open_length_check = arg[2] == 'length',
}

server:on('start', function()
  print('echo.lua on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)

assert(server:start())
