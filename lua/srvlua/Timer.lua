--- `require 'srvlua.Timer'`: the timers of this process (C part: srvlua.core).

return require('srvlua.core').Timer
