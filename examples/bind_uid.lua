-- bind_uid.lua [port [BASE|PROCESS]]: a counter per user, whatever connection the user comes by.
-- Try: nc 127.0.0.1 9501, then the lines "login 42", "add 5", "add 7"; and the same in a second terminal.
--
-- With dispatch_mode 5 all connections that were bound to one number have their data handled by the same worker, so
-- what belongs to a user may stay in a plain Lua table. (BASE: connections stay where they were accepted: one worker.)
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])
server:set { worker_num = mode == 'BASE' and 1 or 4, dispatch_mode = srvlua.DISPATCH_UIDMOD }

local totals = {} -- of the users of this worker

local commands = {}

function commands.login(fd, uid)
  local ok, message = server:bind(fd, uid)
  return ok and 'welcome, user ' .. uid or message
end

function commands.add(fd, number)
  local uid = server:getClientInfo(fd).uid
  if not uid or uid == 0 then return 'log in first' end
  totals[uid] = (totals[uid] or 0) + number
  return ('user %d has %d'):format(uid, totals[uid])
end

server:on('start', function()
  print('counters on 127.0.0.1:' .. server.port)
end)

-- The client waits for each answer, so data are one command.
server:on('receive', function(_, fd, _, data)
  local command, number = data:match '^(%a+) (%d+)%s*$'
  local answer = commands[command] and commands[command](fd, tonumber(number))
  server:send(fd, (answer or 'commands: login NUMBER, add NUMBER') .. '\n')
end)

assert(server:start())
