--- `require 'srvlua.dns'`: host names to addresses (C part: srvlua.core).

return require('srvlua.core').dns
