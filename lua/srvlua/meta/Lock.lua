---@meta

--- The class of shared locks (`require 'srvlua.Lock'`): `srvlua.Lock([type])`, a MUTEX unless told. Raises for other
--- types and, with `code` 509, when the server runs already.
---@class srvlua.LockClass
---@field RWLOCK integer 1
---@field MUTEX integer 3
---@field SPINLOCK integer 5
---@overload fun(type?: integer): srvlua.Lock

--- A lock between processes. Its owner is the process, so two coroutines of one process exclude each other, too. In a
--- coroutine only that coroutine waits. What a process held when it ended or was killed goes to the next one, which is
--- told so by a second result: `true, 'abandoned'`.
---@class srvlua.Lock
local Lock = {}

---@param timeout? number seconds, negative: for ever; -1
---@return boolean ok, string? message, integer? code  35: this process holds it (outside of coroutines), 110: timeout
function Lock:lock(timeout) end

--- `lock` with a time limit.
---@param timeout? number seconds, negative: for ever; 1.0
---@return boolean ok, string? message, integer? code  35, 110
function Lock:lockwait(timeout) end

---@return boolean ok, string? message, integer? code  16: it is held
function Lock:trylock() end

--- Gives back what `lock` or `lockRead` took.
---@return boolean ok, string? message, integer? code  1: this process does not hold it
function Lock:unlock() end

--- RWLOCK: shares it with other readers. Waiting writers go before new readers. Raises for other locks.
---@param timeout? number seconds, negative: for ever; -1
---@return boolean ok, string? message, integer? code  11: more than 1024 processes, 35, 110
function Lock:lockRead(timeout) end

---@return boolean ok, string? message, integer? code  11, 16
function Lock:trylockRead() end

Lock.lock_read = Lock.lockRead
Lock.trylock_read = Lock.trylockRead

return Lock
