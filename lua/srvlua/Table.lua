--- `require 'srvlua.Table'`: rows that all processes share (C part: srvlua.core).

return require('srvlua.core').Table
