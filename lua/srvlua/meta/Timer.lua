---@meta

--- Timers of this process (`require 'srvlua.Timer'`). They need the loop of a running server, and end with the process.
---@class srvlua.Timer
local Timer = {}

--- Calls `fn(timer_id, ...)` every `ms` milliseconds. It keeps its phase: what was missed is skipped.
---@param ms number from 1 on; fractions are cut off
---@param fn fun(timer_id: integer, ...)
---@param ... any further arguments of fn
---@return integer|false timer_id, string? message, integer? code  505, 509
function Timer.tick(ms, fn, ...) end

--- Calls `fn(...)` once, after `ms` milliseconds.
---@param ms number from 1 on; fractions are cut off
---@param fn fun(...)
---@param ... any arguments of fn
---@return integer|false timer_id, string? message, integer? code  505, 509
function Timer.after(ms, fn, ...) end

--- Ends a timer of this process, also from inside its own function.
---@param timer_id integer
---@return boolean ok, string? message, integer? code  505: unknown or finished
function Timer.clear(timer_id) end

--- Ends all timers that the program made in this process. Sleeping coroutines go on sleeping.
---@return boolean ok, string? message, integer? code  505: there never was one
function Timer.clearAll() end

--- Whether a timer is there and was not cleared.
---@param timer_id integer
---@return boolean
function Timer.exists(timer_id) end

---@class srvlua.TimerInfo
---@field exec_msec integer when it is due, in milliseconds since the process's timers began
---@field exec_count integer how often it fired
---@field interval integer milliseconds; 0 = it fires once
---@field round integer
---@field removed boolean it was cleared, and is still inside its function

--- What is known of a timer; nil when it is gone.
---@param timer_id integer
---@return srvlua.TimerInfo?
function Timer.info(timer_id) end

--- Ids of the program's timers in this process, ascending.
---@return integer[]
function Timer.list() end

--- Counts of this process's timers, the server's own included.
---@return { initialized: boolean, num: integer, round: integer }
function Timer.stats() end

return Timer
