--- `require 'srvlua.Atomic'`: numbers that all processes share (C part: srvlua.core).

return require('srvlua.core').Atomic
