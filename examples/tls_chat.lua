-- tls_chat.lua [port [BASE|PROCESS]]: a chat room over TLS for clients with a certificate of its authority. Each line
-- goes to everybody; /reload reads the server's certificate and key again, as kill -HUP does.
-- CERT, KEY and CA in the environment name the PEM files; without: cert.pem, key.pem, ca.pem. To make some:
--   curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
--   openssl req -x509 $curve -subj /CN=ca -keyout ca.key -out ca.pem
--   for name in cert:key alice:alice.key; do    # a pair for the server, and one for a client
--     openssl req $curve -subj /CN=localhost -keyout ${name#*:}.pem -out csr
--     openssl x509 -req -in csr -CA ca.pem -CAkey ca.key -CAcreateserial -out ${name%:*}.pem
--   done
-- Try: openssl s_client -connect 127.0.0.1:9501 -quiet -CAfile ca.pem -cert alice.pem -key alice.key.pem
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode], srvlua.SOCK_TCP + srvlua.SSL)

local function file(variable, otherwise)
  return os.getenv(variable) or otherwise
end

server:set {
  worker_num = mode == 'BASE' and 1 or 2, -- BASE: a worker knows the connections of its own only
  open_eof_split = true, package_eof = '\n', package_max_length = '64k', package_timeout = 60,
  ssl_cert_file = file('CERT', 'cert.pem'), ssl_key_file = file('KEY', 'key.pem'),
  ssl_client_cert_file = file('CA', 'ca.pem'), ssl_verify_peer = true, -- without it nobody needs a certificate
}

local function tell_all(text)
  for fd in server.connections() do
    server:send(fd, text)
  end
end

server:on('start', function()
  print('TLS chat on 127.0.0.1:' .. server.port)
end)

-- Comes when the handshake is over: who has no good certificate never gets here, the log says why.
server:on('connect', function(_, fd)
  local info = server:getClientInfo(fd)
  -- ssl_client_cert is PEM: an X.509 library (luaossl, lua-openssl) reads names from it.
  print(('%d came with %d bytes of certificate'):format(fd, #info.ssl_client_cert))
  tell_all(('* %d came\n'):format(fd))
end)

server:on('receive', function(_, fd, _, line)
  if not line:find '^/reload\r?\n$' then return tell_all(('<%d> %s'):format(fd, line)) end
  local ok, problem = server:reloadCertificates() -- bad files: the old ones stay
  server:send(fd, ok and '* reloaded\n' or '* ' .. problem .. '\n')
end)

server:on('close', function(_, fd)
  tell_all(('* %d left\n'):format(fd))
end)

assert(server:start())
