-- framing.lua [port [BASE|PROCESS]]: three protocols on three ports: lines, packets with a length in front, and packets
-- whose length a function knows. Each receive is one whole packet, however it came.
-- Try: printf 'one\ntwo\n' | nc -N 127.0.0.1 9501
local srvlua = require 'srvlua'

local port, mode = tonumber(arg[1] or 9501), arg[2] or 'PROCESS'
local server = srvlua.Server('127.0.0.1', port, srvlua[mode])

server:set{ open_eof_split = true, package_eof = '\n', package_max_length = '64k' }

local lengths = server:addListener('127.0.0.1', port == 0 and 0 or port + 1, srvlua.SOCK_TCP)
lengths:set{ open_length_check = true, package_length_type = 'n', package_body_offset = 2 }

-- Netstrings: `5:hello,`. The function runs in the reactor, so it may use its arguments only.
local strings = server:addListener('127.0.0.1', port == 0 and 0 or port + 2, srvlua.SOCK_TCP)
strings:set{
  open_length_check = true,
  package_length_func = function(data)
    local digits = data:match('^(%d+):')
    if digits then return #digits + 1 + tonumber(digits) + 1 end
    return data:find('^%d%d?%d?%d?%d?$') and 0 or -1
  end,
}

server:on('start', function()
  print(('lines on 127.0.0.1:%d, lengths on %d, netstrings on %d'):format(server.port, lengths.port, strings.port))
end)
server:on('receive', function(_, fd, _, line)
  server:send(fd, 'line: ' .. line)
end)
lengths:on('receive', function(_, fd, _, packet)
  server:send(fd, packet)
end)
strings:on('receive', function(_, fd, _, packet)
  server:send(fd, packet)
end)

assert(server:start())
