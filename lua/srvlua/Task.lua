--- `require 'srvlua.Task'`: tasks as they wait in message queues (C part: srvlua.core).

return require('srvlua.core').Task
