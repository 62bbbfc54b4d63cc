--- Servers for client sockets to talk to: listeners of the spec itself, TLS and redis servers as processes.

local socket = require 'socket'
local unix = require 'socket.unix'
local process = require 'support.process'
local support = require 'support'

local M = {}
local open = {}

local function keep(sock)
  sock:settimeout(process.deadline)
  open[#open + 1] = sock
  return sock
end

local Listener = {}
Listener.__index = Listener

--- A listener on loopback and a port that the kernel picks, or at a path.
function M.listen(path)
  local sock, port
  if path then
    sock = assert(unix.stream())
    assert(sock:bind(path))
    assert(sock:listen(64))
  else
    sock = assert(socket.bind('127.0.0.1', 0, 1024))
    port = select(2, sock:getsockname())
  end
  return setmetatable({ sock = keep(sock), port = tonumber(port) }, Listener)
end

local Connection = {}
Connection.__index = Connection

--- The next connection.
function Listener:accept()
  local sock, message = self.sock:accept()
  if not sock then error('accept: ' .. message, 2) end
  keep(sock)
  pcall(sock.setoption, sock, 'tcp-nodelay', true)
  return setmetatable({ sock = sock }, Connection)
end

--- Whether somebody has connected meanwhile.
function Listener:has_client()
  return #socket.select({ self.sock }, nil, 0) > 0
end

function Listener:close()
  self.sock:close()
end

function Connection:send(data)
  local ok, message = self.sock:send(data)
  if not ok then error('send: ' .. message, 2) end
end

--- One byte at a time.
function Connection:drip(data)
  for i = 1, #data do
    self:send(data:sub(i, i))
  end
end

function Connection:receive(pattern)
  local data, message, partial = self.sock:receive(pattern)
  if not data then error(('receive: %s after %q'):format(message, partial), 2) end
  return data
end

--- Waits for the end of the stream.
function Connection:ending()
  local data, message = self.sock:receive(1)
  if data then error('more came: ' .. data, 2) end
  return message
end

--- Whether the stream has ended, or something has come; does not wait.
function Connection:is_quiet()
  return #socket.select({ self.sock }, nil, 0) == 0
end

function Connection:close()
  self.sock:close()
end

--- Closes with RST.
function Connection:reset()
  self.sock:setoption('linger', { on = true, timeout = 0 })
  self.sock:close()
end

--- A datagram socket on loopback: sock, port.
function M.datagrams()
  local sock = keep(assert(socket.udp4()))
  assert(sock:setsockname('127.0.0.1', 0))
  return sock, tonumber((select(2, sock:getsockname())))
end

-- ----------------------------------------------------------------------------------------------------- processes

--- Takes in output of a process until something matches, and returns what was captured.
function M.await(server, pattern)
  local captured
  process.eventually(function()
    server:pump(0.05)
    captured = server.out:match(pattern)
    return captured or next(server.pipes) == nil
  end)
  if not captured then error(('no %s from the peer: %s%s'):format(pattern, server.out, server.err), 2) end
  return captured
end

--- Makes a certificate for a name, self-signed, in a directory: cert, key.
function M.certificate(directory, name)
  local cert, key = directory .. '/' .. name .. '.crt', directory .. '/' .. name .. '.key'
  local result = process.run {
    'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key,
    '-out', cert, '-days', '1', '-subj', '/CN=' .. name, '-addext', ('subjectAltName=DNS:%s,IP:127.0.0.1'):format(name),
  }
  assert(result.code == 0, result.err)
  return cert, key
end

--- A new directory with a certificate: own.crt and own.key.
function M.certified_directory()
  local directory = support.directory()
  M.certificate(directory, 'own')
  return directory
end

local TlsServer = {}
TlsServer.__index = TlsServer

--- A TLS server (tls_peer.py). `manner`: see there.
function M.tls(cert, key, manner)
  local server = process.start { 'python3', 'spec/support/tls_peer.py', cert, key, manner or 'echo' }
  local port = M.await(server, 'port (%d+)\n')
  return setmetatable({ process = server, port = tonumber(port), seen = 0 }, TlsServer)
end

--- What the next handshake was: name (or 'none'), 'new' or 'resumed', version; or 'failed'.
function TlsServer:handshake()
  local name, kind, version = 'none', nil, nil
  process.eventually(function()
    self.process:pump(0.05)
    local count = 0
    for line in self.process.out:gmatch 'handshake ([^\n]*)\n' do
      count = count + 1
      if count > self.seen then
        self.seen = count
        name, kind, version = line:match '^(%S+) ?(%S*) ?(%S*)'
        return true
      end
    end
  end)
  return name, kind, version
end

--- A redis server: its port, or nil where it is not installed.
function M.redis(directory)
  local found = process.run { 'sh', '-c', 'command -v redis-server' }
  if found.code ~= 0 then return nil end
  local sock = assert(socket.bind('127.0.0.1', 0))
  local port = tonumber((select(2, sock:getsockname())))
  sock:close()
  local server = process.start {
    'redis-server', '--port', port, '--bind', '127.0.0.1', '--save', '', '--dir', directory, '--maxclients', 4000,
  }
  M.await(server, '(Ready to accept connections)')
  return port
end

--- To be called after each spec.
function M.cleanup()
  for _, sock in ipairs(open) do
    sock:close()
  end
  open = {}
end

return M
