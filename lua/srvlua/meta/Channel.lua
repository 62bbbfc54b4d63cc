---@meta

--- The class of channels (`require 'srvlua.Channel'`): `srvlua.Channel([capacity])`, an integer from 1 on, which is the
--- default.
---@class srvlua.ChannelClass
---@overload fun(capacity?: integer): srvlua.Channel

--- Values handed from coroutine to coroutine of one process, first in, first out; so are those who wait, too. What need
--- not wait works outside of coroutines as well. Failures: `false, message, code`: -1 (CHANNEL_TIMEOUT), -2
--- (CHANNEL_CLOSED), 10001: it would have to wait outside of coroutines.
---@class srvlua.Channel
---@field capacity integer
---@field errCode integer code of the last call that failed, 0 after a good one
local Channel = {}

--- Puts a value in; waits while the channel is full. A coroutine that waits for it goes on in the next pass.
---@param value any all but nil
---@param timeout? number seconds, negative: for ever, 0: does not wait; -1
---@return boolean ok, string? message, integer? code  -1, -2, 10001
function Channel:push(value, timeout) end

--- Takes the oldest value; waits while there is none.
---@param timeout? number seconds, negative: for ever, 0: does not wait; -1
---@return any value, string? message, integer? code  -1, -2, 10001; with the value `false` there are no further results
function Channel:pop(timeout) end

--- Ends all waiting. Values that are in the channel can still be popped.
---@return boolean ok, string? message, integer? code  -2: it is closed already
function Channel:close() end

---@return integer
function Channel:length() end

---@return boolean
function Channel:isEmpty() end

---@return boolean
function Channel:isFull() end

--- How many wait to pop and to push, and how many values there are.
---@return { consumer_num: integer, producer_num: integer, queue_num: integer }
function Channel:stats() end

return Channel
