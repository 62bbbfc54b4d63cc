--- `require 'srvlua.Lock'`: locks between all processes (C part: srvlua.core).

return require('srvlua.core').Lock
