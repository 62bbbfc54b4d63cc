---@meta

--- Descriptors that this process watches, and its loop (`require 'srvlua.Event'`). In a server: from workerStart on, in
--- master and in user processes. In a script without a server the first thing that is added makes a loop, which turns
--- in `Event.wait()`. Functions run in coroutines where callbacks do. One turn of the loop: signals, timers and
--- descriptors, deferred functions, cycle functions.
---@class srvlua.Event
local Event = {}

---@alias srvlua.Descriptor integer|srvlua.Process|table or an object with a field `fd` or a method `getfd`

--- Watches a descriptor, which becomes non-blocking. A function gets what was given as the descriptor.
---@param fd srvlua.Descriptor
---@param on_read? fun(fd: srvlua.Descriptor)
---@param on_write? fun(fd: srvlua.Descriptor)
---@param flags? integer srvlua.EVENT_READ, EVENT_WRITE or their sum; EVENT_READ
---@return boolean ok, string? message, integer? code  505: is watched, no function; 509: no loop; errno
function Event.add(fd, on_read, on_write, flags) end

--- Changes what `add` was told. nil keeps what is there.
---@param fd srvlua.Descriptor
---@param on_read? fun(fd: srvlua.Descriptor)
---@param on_write? fun(fd: srvlua.Descriptor)
---@param flags? integer
---@return boolean ok, string? message, integer? code  505
function Event.set(fd, on_read, on_write, flags) end

--- Whether a descriptor is watched for one of these.
---@param fd srvlua.Descriptor
---@param flags? integer EVENT_READ + EVENT_WRITE
---@return boolean
function Event.isset(fd, flags) end

--- Watches it no longer. Before the descriptor is closed. What was not written yet is dropped.
---@param fd srvlua.Descriptor
---@return boolean ok, string? message, integer? code  505: it is not watched
function Event.del(fd) end

--- Writes to a descriptor, which becomes non-blocking, as soon as it takes it. `add` is not needed.
---@param fd srvlua.Descriptor
---@param data string
---@return boolean ok, string? message, integer? code  509: no loop; errno
function Event.write(fd, data) end

--- Runs a function at the end of this turn of the loop, in the order of the calls. `server:defer` is the same.
---@param fn fun()
---@return boolean ok, string? message, integer? code  509
function Event.defer(fn) end

--- Runs a function in every turn, from now on, instead of the one before; nil: no longer. It does not keep a loop
--- turning.
---@param fn fun()|nil
---@param before? boolean at the beginning of the turn; at its end
---@return boolean ok, string? message, integer? code  505: there was none; 509
function Event.cycle(fn, before) end

--- A script's loop turns until nothing is left to wait for, and ends.
---@return boolean ok, string? message, integer? code  509: in a server, or it turns already
function Event.wait() end

--- One turn of a script's loop: waits for the next event.
---@return boolean ok, string? message, integer? code  509
function Event.dispatch() end

--- Ends a script's loop after this turn, whatever is left.
---@return boolean ok, string? message, integer? code  509
function Event.exit() end

return Event
