-- command.lua [port [BASE|PROCESS]]: asks processes of the server for what only they know, then echoes.
local srvlua = require 'srvlua'

local server = srvlua.Server('127.0.0.1', tonumber(arg[1] or 9501), srvlua[arg[2] or 'PROCESS'])
server:set { worker_num = 2 }

-- Runs in the process that is asked. What it returns is the answer, usually JSON.
server:addCommand('test_getpid', srvlua.COMMAND_MASTER + srvlua.COMMAND_EVENT_WORKER, function(_, data)
  return srvlua.json.encode { pid = srvlua.getpid(), type = data.type }
end)

server:addCommand('memory', srvlua.COMMAND_EVENT_WORKER, function()
  return srvlua.json.encode { kilobytes = math.ceil(collectgarbage 'count') }
end)

local function show(name, answer, message, code)
  if answer then
    print(('%s: pid %d, type %s'):format(name, answer.pid, answer.type))
  else
    print(('%s: %s (%d)'):format(name, message, code))
  end
end

-- Commands are sent by the master (BASE: by worker 0), in a coroutine: the start callback is one.
server:on('start', function()
  show('master', server:command('test_getpid', 0, srvlua.COMMAND_MASTER, { type = 'master' }))
  show('worker', server:command('test_getpid', 1, srvlua.COMMAND_EVENT_WORKER, { type = 'worker' }))
  show('unknown', server:command('test_not_found', 1, srvlua.COMMAND_EVENT_WORKER, { type = 'worker' }))
  for id = 0, 1 do
    local answer = assert(server:command('memory', id, srvlua.COMMAND_EVENT_WORKER, {}))
    print(('memory of worker %d: %d KiB'):format(id, answer.kilobytes))
  end
  print('echo on ' .. server.port)
end)

server:on('receive', function(_, fd, _, data)
  server:send(fd, data)
end)

assert(server:start())
