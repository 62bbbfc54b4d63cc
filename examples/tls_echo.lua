-- tls_echo.lua [port [BASE|PROCESS]]: sends back what it receives, over TLS. CERT and KEY in the environment name
-- the PEM files; without: cert.pem and key.pem. To make some:
--   openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 30 \
--     -keyout key.pem -out cert.pem
-- Try: echo hello | openssl s_client -connect 127.0.0.1:9501 -quiet
-- After changing the files: kill -HUP the server. Connections that are open keep the old ones.
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode], srvlua.SOCK_TCP + srvlua.SSL)

server:set{ ssl_cert_file = os.getenv('CERT') or 'cert.pem', ssl_key_file = os.getenv('KEY') or 'key.pem' }

server:on('start', function()
  print('TLS echo on 127.0.0.1:' .. server.port)
end)
server:on('connect', function(_, fd)
  local info = server:getClientInfo(fd)
  print(('%s:%d %s %s'):format(info.remote_ip, info.remote_port, info.ssl_protocol, info.ssl_cipher))
end)
server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)

assert(server:start())
