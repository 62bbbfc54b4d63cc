-- task.lua [port [BASE|PROCESS]]: hands each line to a task worker and goes on; the answer comes with the finish event.
-- Try: printf 'one\ntwo\n' | nc 127.0.0.1 9501
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])
server:set { worker_num = 2, task_worker_num = 2 }

local lines = {} -- by connection: what came of a line that is not whole yet

server:on('start', function()
  print('tasks on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, fd, _, data)
  data = (lines[fd] or '') .. data
  for line in data:gmatch '([^\n]*)\n' do
    local id = server:task { fd = fd, line = line }
    server:send(fd, ('task %d is on its way\n'):format(id))
  end
  lines[fd] = data:match '[^\n]*$'
end)
server:on('close', function(_, fd)
  lines[fd] = nil
end)

server:on('task', function(_, id, source, data)
  srvlua.log(srvlua.LOG_DEBUG, 'task', id, 'of worker', source)
  server:finish { fd = data.fd, answer = data.line:reverse() } -- or: return it
end)
server:on('finish', function(_, id, result)
  server:send(result.fd, ('task %d: %s\n'):format(id, result.answer))
end)

assert(server:start())
