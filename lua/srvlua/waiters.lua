--- Coroutines that wait for something of this process, first come, first served: what Channel and WaitGroup share.
-- A waiter is { id =, ticket =, value = } (src/lua/coroutine_module.c) and a link of a list that both ends can leave.

local core = require('srvlua.core').coroutine
local ticket, park, unpark = core.ticket, core.park, core.unpark

local waiters = {}

--- The codes of failures.
waiters.OUT_OF_COROUTINE = 10001

function waiters.newList()
  return { count = 0 }
end

--- Takes a waiter out of its list.
local function remove(list, waiter)
  local before, after = waiter.before, waiter.after
  if before then before.after = after else list.first = after end
  if after then after.before = before else list.last = before end
  list.count = list.count - 1
end

--- Suspends the running coroutine at the end of a list. `value` is there for who wakes it.
---@return boolean? woken nil: there is no coroutine; false: nobody came in time
---@return any value what it was woken with
function waiters.wait(list, name, timeout, value)
  local id, number = ticket()
  if not id then return nil end
  local last = list.last
  local waiter = { id = id, ticket = number, value = value, before = last }
  if last then last.after = waiter else list.first = waiter end
  list.last = waiter
  list.count = list.count + 1
  local woken, result = park(number, name, timeout)
  if not woken then remove(list, waiter) end
  return woken, result
end

--- Wakes the first one of a list with a value; it goes on at the end of this turn of the loop or in the next one.
---@return table? waiter nil: nobody waits
function waiters.wake(list, value)
  local waiter = list.first
  while waiter do
    remove(list, waiter)
    if unpark(waiter.id, waiter.ticket, value) then return waiter end
    waiter = list.first -- that one was left behind when its loop ended
  end
end

--- Argument `position` of a method, as seconds; nil and negative numbers: no limit.
function waiters.checkTimeout(timeout, position, name)
  if timeout == nil then return -1 end
  if type(timeout) ~= 'number' or timeout ~= timeout then
    local got = type(timeout) == 'number' and 'nan' or type(timeout)
    error(("bad argument #%d to '%s' (seconds expected, got %s)"):format(position, name, got), 3)
  end
  return timeout
end

--- Argument `position` of a function, as a whole number from `least` on.
function waiters.checkInteger(value, position, name, least)
  if type(value) ~= 'number' or value % 1 ~= 0 or value < least then
    local got = type(value) == 'number' and tostring(value) or type(value)
    local expected = least > -math.huge and ('integer from %d on'):format(least) or 'integer'
    error(("bad argument #%d to '%s' (%s expected, got %s)"):format(position, name, expected, got), 3)
  end
  return value
end

return waiters
