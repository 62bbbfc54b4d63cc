--- `require 'srvlua.Channel'`: values handed from coroutine to coroutine of one process, first in, first out.

local waiters = require 'srvlua.waiters'
local wait, wake = waiters.wait, waiters.wake

local TIMEOUT, CLOSED = -1, -2
local messages = {
  [TIMEOUT] = 'nothing happened to the channel in time',
  [CLOSED] = 'the channel is closed',
  [waiters.OUT_OF_COROUTINE] = 'only a coroutine can wait for another one',
}

local Channel = {}
local metatable = { __index = Channel }

local function fail(self, code)
  self.errCode = code
  return false, messages[code], code
end

local function put(self, value)
  local last = self.last + 1
  self.last = last
  self.values[last] = value
end

--- Puts a value in; waits while the channel is full.
function Channel:push(value, timeout)
  if value == nil then
    error("bad argument #1 to 'push' (value expected, got nil)", 2)
  end
  timeout = waiters.checkTimeout(timeout, 2, 'push')
  if self.is_closed then return fail(self, CLOSED) end
  if not wake(self.consumers, value) then
    if self.last - self.first + 1 < self.capacity then
      put(self, value)
    elseif timeout == 0 then
      return fail(self, TIMEOUT)
    else
      local woken, is_taken = wait(self.producers, 'Channel:push', timeout, value)
      if not woken then return fail(self, woken == nil and waiters.OUT_OF_COROUTINE or TIMEOUT) end
      if not is_taken then return fail(self, CLOSED) end
    end
  end
  self.errCode = 0
  return true
end

--- Takes the oldest value out; waits while there is none.
function Channel:pop(timeout)
  timeout = waiters.checkTimeout(timeout, 1, 'pop')
  local first = self.first
  local value = self.values[first]
  if value ~= nil then
    self.values[first] = nil
    self.first = first + 1
    local producer = wake(self.producers, true)
    if producer then put(self, producer.value) end
  elseif self.is_closed then
    return fail(self, CLOSED)
  elseif timeout == 0 then
    return fail(self, TIMEOUT)
  else
    local woken
    woken, value = wait(self.consumers, 'Channel:pop', timeout)
    if not woken then return fail(self, woken == nil and waiters.OUT_OF_COROUTINE or TIMEOUT) end
    if value == nil then return fail(self, CLOSED) end
  end
  self.errCode = 0
  return value
end

--- Nothing more can be pushed; what is in it can still be popped.
function Channel:close()
  if self.is_closed then return fail(self, CLOSED) end
  self.is_closed = true
  while wake(self.consumers) do end -- luacheck: ignore 542
  while wake(self.producers) do end -- luacheck: ignore 542
  self.errCode = 0
  return true
end

function Channel:length()
  return self.last - self.first + 1
end

function Channel:isEmpty()
  return self.last < self.first
end

function Channel:isFull()
  return self.last - self.first + 1 >= self.capacity
end

function Channel:stats()
  return {
    consumer_num = self.consumers.count,
    producer_num = self.producers.count,
    queue_num = self.last - self.first + 1,
  }
end

return setmetatable({}, {
  __call = function(_, capacity)
    return setmetatable({
      capacity = capacity == nil and 1 or waiters.checkInteger(capacity, 1, 'Channel', 1),
      errCode = 0,
      values = {},
      first = 1, -- places of the oldest and the newest value
      last = 0,
      is_closed = false,
      consumers = waiters.newList(),
      producers = waiters.newList(),
    }, metatable)
  end,
})
