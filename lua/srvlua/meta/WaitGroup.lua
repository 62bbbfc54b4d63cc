---@meta

--- The class of wait groups (`require 'srvlua.WaitGroup'`): `srvlua.WaitGroup([count])`, 0 unless told.
---@class srvlua.WaitGroupClass
---@overload fun(count?: integer): srvlua.WaitGroup

--- Counts what coroutines of one process have to do, for those who wait until it is done. It can be used again.
---@class srvlua.WaitGroup
local WaitGroup = {}

--- So much more is to be done. Raises where the count would become negative.
---@param delta? integer 1
function WaitGroup:add(delta) end

--- The same as `add(-1)`.
function WaitGroup:done() end

---@return integer
function WaitGroup:count() end

--- Waits until the count is 0.
---@param timeout? number seconds, negative: for ever; -1
---@return boolean ok, string? message, integer? code  110: not in time; 10001: outside of coroutines
function WaitGroup:wait(timeout) end

return WaitGroup
