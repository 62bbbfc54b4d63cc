--- `require 'srvlua.Process'`: programs in processes of their own (C part: srvlua.core).

return require('srvlua.core').Process
