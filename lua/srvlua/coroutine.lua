--- `require 'srvlua.coroutine'`: what is known of the coroutines of this process (C part: srvlua.core).

local core = require('srvlua.core').coroutine

return {
  context = core.context,
  exists = core.exists,
  id = core.id,
  list = core.list,
  parent = core.parent,
  stats = core.stats,
  traceback = core.traceback,
}
