--- `require 'srvlua.Event'`: descriptors that this process watches, and its loop (C part: srvlua.core).

return require('srvlua.core').Event
