--- `require 'srvlua.WaitGroup'`: waits until a number of coroutines of this process have done their work.

local waiters = require 'srvlua.waiters'

local TIMEDOUT = 110

local WaitGroup = {}
local metatable = { __index = WaitGroup }

local function change(self, delta, name)
  local left = self.left + delta
  if left < 0 then
    error(("'%s' of a wait group would make its count negative (%d)"):format(name, left), 3)
  end
  self.left = left
  if left == 0 then
    while waiters.wake(self.waiting) do end -- luacheck: ignore 542
  end
end

--- So much more is to be done.
function WaitGroup:add(delta)
  if delta ~= nil then waiters.checkInteger(delta, 1, 'add', -math.huge) end
  change(self, delta or 1, 'add')
end

--- One thing is done.
function WaitGroup:done()
  change(self, -1, 'done')
end

--- What is still to be done.
function WaitGroup:count()
  return self.left
end

--- Waits until nothing is left to be done.
function WaitGroup:wait(timeout)
  timeout = waiters.checkTimeout(timeout, 1, 'wait')
  if self.left == 0 then return true end
  if timeout ~= 0 then
    local woken = waiters.wait(self.waiting, 'WaitGroup:wait', timeout)
    if woken then return true end
    if woken == nil then return false, 'only a coroutine can wait for others', waiters.OUT_OF_COROUTINE end
  end
  return false, 'the work was not done in time', TIMEDOUT
end

return setmetatable({}, {
  __call = function(_, count)
    return setmetatable({
      left = count == nil and 0 or waiters.checkInteger(count, 1, 'WaitGroup', 0),
      waiting = waiters.newList(),
    }, metatable)
  end,
})
