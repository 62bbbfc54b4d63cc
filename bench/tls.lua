-- tls.lua MODE CERTIFICATE KEY FILE: what raw_tls.c does, by srvlua: one worker, in PROCESS mode one reactor. MODE is BASE
-- or PROCESS. Prints where it listens.
local srvlua = require 'srvlua'
local mode, certificate, key, file = unpack(arg)

local REQUEST_BYTES, PIECE = 16, ('\0'):rep(65536)

local server = srvlua.Server('127.0.0.1', 0, srvlua[mode], srvlua.SOCK_TCP + srvlua.SSL)
server:set {
  reactor_num = 1,
  worker_num = 1,
  enable_coroutine = true,
  open_tcp_nodelay = true,
  max_connection = 16384,
  ssl_cert_file = certificate,
  ssl_key_file = key,
  log_level = 'warning',
}

local uploads = {} -- session id → bytes to come

local function take(fd, bytes)
  local left = uploads[fd] - bytes
  uploads[fd] = left > 0 and left or nil
  if left == 0 then server:send(fd, 'k') end
end

local serve = {
  d = function(fd, size)
    for _ = 1, size / #PIECE do server:send(fd, PIECE) end
  end,
  f = function(fd, size)
    server:sendfile(fd, file, 0, size)
  end,
  u = function(fd, size, data)
    uploads[fd] = size
    if #data > REQUEST_BYTES then take(fd, #data - REQUEST_BYTES) end
  end,
}

server:on('start', function()
  print('tls.lua on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, fd, _, data)
  if uploads[fd] then
    take(fd, #data)
  else
    serve[data:sub(1, 1)](fd, tonumber(data:sub(2, REQUEST_BYTES)), data)
  end
end)

assert(server:start())
