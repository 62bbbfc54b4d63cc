---@meta

--- The class of shared numbers (`require 'srvlua.Atomic'`): `srvlua.Atomic([value])`, unsigned, 32 bits, and
--- `srvlua.Atomic.Long([value])`, signed, 64 bits. Both raise for values out of range and, with `code` 509, when the
--- server runs already.
---@class srvlua.AtomicClass
---@field Long fun(value?: integer|ffi.cdata*): srvlua.AtomicLong
---@overload fun(value?: integer): srvlua.Atomic

--- A number of 0 to 2^32-1 that all processes share. It wraps.
---@class srvlua.Atomic
local Atomic = {}

---@return integer
function Atomic:get() end

---@param value integer
---@return true
function Atomic:set(value) end

---@param n? integer from 0 on; 1
---@return integer value the new one
function Atomic:add(n) end

---@param n? integer from 0 on; 1
---@return integer value the new one
function Atomic:sub(n) end

--- Makes it `new` if it is `old`.
---@param old integer
---@param new integer
---@return boolean was_old
function Atomic:cmpset(old, new) end

--- Takes a 1 (makes it 0), or waits for `wakeup`. In a coroutine only that coroutine waits.
---@param timeout? number seconds, negative: for ever; 1.0
---@return boolean ok, string? message, integer? code  110: in vain
function Atomic:wait(timeout) end

--- Makes a 0 a 1 and wakes up to `n` waiters, of which one takes it. Does nothing at other values.
---@param n? integer from 1 on; 1
---@return true
function Atomic:wakeup(n) end

--- A signed number of 64 bits that all processes share. Values are numbers up to 2^53, beyond that `int64_t`.
---@class srvlua.AtomicLong
local Long = {}

---@return integer|ffi.cdata*
function Long:get() end

---@param value integer|ffi.cdata*
---@return true
function Long:set(value) end

---@param n? integer|ffi.cdata* 1
---@return integer|ffi.cdata* value the new one
function Long:add(n) end

---@param n? integer|ffi.cdata* 1
---@return integer|ffi.cdata* value the new one
function Long:sub(n) end

--- Makes it `new` if it is `old`.
---@param old integer|ffi.cdata*
---@param new integer|ffi.cdata*
---@return boolean was_old
function Long:cmpset(old, new) end

return Atomic
