-- chat.lua [port [BASE|PROCESS]]: a chat room for nc or telnet. /nick NAME, /who, /quit; all else goes to everybody.
--
-- What a worker keeps about a connection (its name, the line it has not finished) may stay in plain Lua tables, because
-- all data of a connection goes to the same worker. Whom to send to comes from server.connections, which knows the
-- connections of all workers. (BASE: only those of its own, so one worker there.)
local srvlua = require 'srvlua'

local MAX_LINE = 1024

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])
server:set { worker_num = mode == 'BASE' and 1 or 2 }

local names, unfinished = {}, {}

local function name_of(fd)
  return names[fd] or 'guest' .. fd
end

local function tell_all(text, except)
  for fd in server.connections() do
    if fd ~= except then server:send(fd, text .. '\n') end
  end
end

local commands = {}

function commands.nick(fd, name)
  if not name:find('^[%w_-]+$') or #name > 20 then
    server:send(fd, 'a name has 1 to 20 letters, digits, - and _\n')
    return
  end
  tell_all(('* %s is now %s'):format(name_of(fd), name))
  names[fd] = name
end

function commands.who(fd)
  server:send(fd, ('* %d here\n'):format(server.connections:count()))
end

function commands.quit(fd)
  server:send(fd, 'bye\n')
  server:close(fd)
end

local function handle_line(fd, line)
  local command, argument = line:match('^/(%a+)%s*(.*)$')
  if not command then
    if line ~= '' then tell_all(('<%s> %s'):format(name_of(fd), line), fd) end
  elseif commands[command] then
    commands[command](fd, argument)
  else
    server:send(fd, 'commands: /nick NAME, /who, /quit\n')
  end
end

server:on('start', function()
  print('chat on 127.0.0.1:' .. server.port)
end)

server:on('connect', function(_, fd)
  server:send(fd, ('welcome, %s\n'):format(name_of(fd)))
  tell_all(('* %s came'):format(name_of(fd)), fd)
end)

server:on('receive', function(_, fd, _, data)
  -- TCP has no lines: data may hold half of one or several.
  local text = (unfinished[fd] or '') .. data
  local first = 1
  for line, next_first in text:gmatch('([^\n]*)\n()') do
    first = next_first
    handle_line(fd, (line:gsub('\r$', '')))
  end
  unfinished[fd] = text:sub(first)
  if #unfinished[fd] > MAX_LINE then
    server:send(fd, 'that line is too long\n')
    server:close(fd)
  end
end)

server:on('close', function(_, fd)
  tell_all(('* %s left'):format(name_of(fd)), fd)
  names[fd], unfinished[fd] = nil, nil
end)

assert(server:start())
