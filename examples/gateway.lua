-- gateway.lua [port [BASE|PROCESS]]: one service behind haproxy or nginx, by several protocols and with task workers.
--   port      redis: ADD, COUNT, WHO        redis-cli -p 9601 add apple
--   port + 1  calls: four bytes of length, then JSON: { "call": "add", "word": "apple" }
--   /tmp/srvlua-PORT.admin                  echo stats | nc -N -U /tmp/srvlua-9501.admin
-- The first two take connections from a proxy on this machine only, which tells the clients' addresses. For haproxy:
--   listen redis
--     mode tcp
--     bind :9601
--     server here 127.0.0.1:9501 send-proxy-v2
-- and the same with :9602 and port 9502.
local srvlua = require 'srvlua'
local redis, json = srvlua.redis, srvlua.json

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local behind_proxy = { open_proxy_protocol = true, proxy_protocol_trusted = { '127.0.0.1' } }

-- The primary port of such a server speaks redis; the others are what their settings say.
local server = redis.Server('127.0.0.1', port, srvlua[mode])
server:set { worker_num = 2, task_worker_num = 2 }
server:set(behind_proxy)

-- Once set is called for a port it inherits nothing of the above.
local calls = assert(server:addListener('127.0.0.1', port == 0 and 0 or port + 1, srvlua.SOCK_TCP))
calls:set(behind_proxy)
calls:set { open_length_check = true, package_length_type = 'N', package_body_offset = 4, package_max_length = '1m' }

local admin = assert(server:addListener(('/tmp/srvlua-%d.admin'):format(server.port), 0, srvlua.SOCK_UNIX_STREAM))
admin:set { open_eof_split = true, package_eof = '\n' }

-- ------------------------------------------------------------------------------------------------------- the service

local words = srvlua.Table(1024) -- is shared by all processes
words:column('count', srvlua.Table.TYPE_INT)
words:create()

-- In a task worker, which may compute or block as long as it likes.
server:on('task', function(_, _, _, word)
  return words:incr(word, 'count')
end)

-- What the client is told, and whether that is good news.
local function add(word)
  if type(word) ~= 'string' or word == '' or #word > 63 then return false, 'a word has 1 to 63 bytes' end
  local count, problem = server:taskwait(word, 5)
  if not count then return false, problem end
  return true, count
end

-- ----------------------------------------------------------------------------------------------------- its protocols

server:setHandler('ADD', function(_, arguments)
  local ok, answer = add(arguments[1])
  return ok and redis.format(redis.INT, answer) or redis.format(redis.ERROR, 'ERR ' .. answer)
end)

server:setHandler('COUNT', function()
  return redis.format(redis.INT, words:count())
end)

server:setHandler('WHO', function(fd)
  local info = server:getClientInfo(fd)
  return redis.format(redis.STRING, ('%s:%d by %s'):format(info.remote_ip, info.remote_port, info.proxy_ip))
end)

local function packed(number) -- as `N` reads it
  local bytes = bit.tohex(number):gsub('..', function(hex) return string.char(tonumber(hex, 16)) end)
  return bytes
end

calls:on('receive', function(_, fd, _, packet)
  local request = json.decode(packet:sub(5))
  if type(request) ~= 'table' or request.call ~= 'add' then return server:close(fd) end
  local ok, answer = add(request.word)
  local reply = json.encode { ok = ok, answer = answer }
  server:send(fd, packed(#reply) .. reply)
end)

admin:on('receive', function(_, fd, _, line)
  if line == 'stats\n' then
    server:send(fd, json.encode(server:stats()) .. '\n')
  elseif line == 'reload\n' then
    server:send(fd, tostring(select(2, server:reload()) or 'asked') .. '\n')
  else
    server:send(fd, 'stats or reload?\n')
  end
end)

server:on('start', function()
  print(('redis on 127.0.0.1:%d, calls on %d, admin on %s'):format(server.port, calls.port, admin.host))
end)

assert(server:start())
