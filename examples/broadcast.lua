-- broadcast.lua [port]: what one client sends goes to all, by way of a user process. Try two: nc 127.0.0.1 9501
--
-- The workers only hand over what they receive; the process takes it from its pipe, message by message, and sends it to
-- every connection of the server. (PROCESS mode: in BASE mode connections are their workers', and it would see none.)
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
if mode ~= 'PROCESS' then
  io.stderr:write('broadcast.lua is for the PROCESS mode\n')
  os.exit(1)
end
local server = srvlua.Server('127.0.0.1', port, srvlua.PROCESS)
server:set { worker_num = 2 }

local process = srvlua.Process(function(process)
  local socket = process:exportSocket()
  while true do
    local message = socket:recv()
    for fd in server.connections() do
      server:send(fd, message)
    end
  end
end, false, srvlua.PIPE_TYPE_DGRAM, true)
server:addProcess(process)

server:on('start', function()
  print('broadcast on 127.0.0.1:' .. server.port)
end)
server:on('receive', function(_, _, _, data)
  process:exportSocket():send(data)
end)

assert(server:start())
