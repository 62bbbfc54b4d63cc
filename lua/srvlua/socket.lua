--- `require 'srvlua.socket'`: client sockets that suspend their coroutine, and block elsewhere (C part: srvlua.core).

local socket = require('srvlua.core').socket

--- A stream object that is connected, or nil and why not.
function socket.connect(host, port, options)
  local sock = socket.tcp()
  local ok, err = sock:connect(host, port, options)
  if ok then
    return sock
  end
  return nil, err
end

return socket
