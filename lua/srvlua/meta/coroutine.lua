---@meta

--- Coroutines of this process (`require 'srvlua.coroutine'`): those that callbacks, timers and `srvlua.go` run in, not
--- the program's own ones. Ids count from 1 and are not used twice.
---@class srvlua.coroutine
local coroutine = {}

---@return integer id of the running one, -1 outside
function coroutine.id() end

--- Who called `srvlua.go`; -1: the server started it, or nobody's coroutine did.
---@param id? integer the running one
---@return integer|false id, string? message, integer? code  10016
function coroutine.parent(id) end

---@param id integer
---@return boolean
function coroutine.exists(id) end

---@return integer[] ids of the live ones, ascending
function coroutine.list() end

--- The Lua stack of one; what it waits for is the first line.
---@param id integer
---@return string|false text, string? message, integer? code  10016
function coroutine.traceback(id) end

--- A table for the program, one for each coroutine, empty when that starts.
---@return table|false context, string? message, integer? code  10001: outside of coroutines
function coroutine.context() end

---@return { coroutine_num: integer, coroutine_peak_num: integer, coroutine_last_id: integer }
function coroutine.stats() end

return coroutine
