local ffi = require 'ffi'
local srvlua = require 'srvlua'
local support = require 'support'

ffi.cdef [[
  int socketpair(int domain, int type, int protocol, int *pair);
  int close(int fd);
  long read(int fd, void *buffer, size_t size);
  long write(int fd, const void *data, size_t size);
]]

local Event = srvlua.Event
local READ, WRITE = srvlua.EVENT_READ, srvlua.EVENT_WRITE

local function pair()
  local ends = ffi.new 'int[2]'
  assert(ffi.C.socketpair(1, 1, 0, ends) == 0)
  return ends[0], ends[1]
end

local function read(fd, size)
  local buffer = ffi.new('char[?]', size or 100)
  local count = tonumber(ffi.C.read(fd, buffer, size or 100))
  return count > 0 and ffi.string(buffer, count) or nil
end

local function write(fd, data)
  assert(ffi.C.write(fd, data, #data) == #data)
end

local function code(ok, message, number)
  assert.is_true(ok == false and type(message) == 'string')
  return number
end

describe('srvlua.Event in a script', function()
  local ours, theirs

  before_each(function() ours, theirs = pair() end)
  after_each(function()
    ffi.C.close(ours)
    ffi.C.close(theirs)
  end)

  it('calls functions when a descriptor is readable or writable', function()
    local seen = {}
    assert.is_true(Event.add(ours, function(fd)
      seen[#seen + 1] = fd == ours and read(fd)
      if #seen == 2 then Event.del(fd) else write(theirs, 'b') end
    end))
    write(theirs, 'a')
    assert.is_true(Event.wait())
    assert.same({ 'a', 'b' }, seen)
    assert.is_true(Event.add(ours, nil, function(fd) seen = 'writable' Event.del(fd) end, WRITE))
    Event.wait()
    assert.equal('writable', seen)
  end)

  it('changes what is watched', function()
    local order = {}
    Event.add(ours, function(fd)
      order[#order + 1] = read(fd)
      assert.is_true(Event.set(fd, nil, nil, WRITE))
      assert.is_true(Event.isset(fd) and Event.isset(fd, WRITE) and not Event.isset(fd, READ))
    end, function(fd)
      order[#order + 1] = 'old'
      assert.is_true(Event.set(fd, nil, function()
        order[#order + 1] = 'new'
        Event.del(fd)
      end))
    end)
    write(theirs, 'read')
    Event.wait()
    assert.same({ 'read', 'old', 'new' }, order)
    assert.is_false(Event.isset(ours))
  end)

  it('refuses what makes no sense', function()
    assert.equal(505, code(Event.del(ours)))
    assert.equal(505, code(Event.set(ours, print)))
    assert.equal(505, code(Event.add(ours, nil, print)))
    assert.equal(505, code(Event.add(ours, print, nil, READ + WRITE)))
    assert.equal(505, code(Event.cycle(nil)))
    assert.is_true(Event.add(ours, print))
    assert.equal(505, code(Event.add(ours, print)))
    assert.equal(505, code(Event.set(ours, nil, nil, WRITE)))
    assert.is_true(Event.del(ours))
    assert.equal(9, code(Event.add(9999, print)))
    assert.is_false((pcall(Event.add, 'x', print)))
    assert.is_false((pcall(Event.add, -1, print)))
    assert.is_false((pcall(Event.add, ours, 'x')))
    assert.is_false((pcall(Event.add, ours, print, nil, 3)))
    assert.is_false((pcall(Event.defer)))
    assert.is_false((pcall(Event.write, ours)))
    Event.wait()
  end)

  it('takes objects that have a descriptor', function()
    local seen = {}
    local first, second = { fd = ours }, { getfd = function() return theirs end }
    Event.add(first, function(object) seen.first = object Event.del(first) end)
    Event.add(second, function(object) seen.second = object Event.del(theirs) end)
    write(theirs, 'x')
    write(ours, 'y')
    Event.wait()
    assert.is_true(seen.first == first and seen.second == second)
  end)

  it('writes as much as there is room for, in order, and the rest later', function()
    local data, got = ('0123456789'):rep(200000), {}
    assert.is_true(Event.write(ours, data))
    assert.is_true(Event.write(ours, 'the end'))
    local length = 0
    Event.add(theirs, function(fd)
      local piece = read(fd, 100000)
      got[#got + 1] = piece
      length = length + #piece
      if length == #data + 7 then Event.del(fd) end
    end)
    Event.wait()
    assert.is_true(table.concat(got) == data .. 'the end')
    assert.is_true(Event.write(ours, ''))
    ffi.C.close(theirs)
    assert.equal(32, code(Event.write(ours, 'x'))) -- and no SIGPIPE
    Event.wait()
  end)

  it('runs deferred functions in order, without I/O, and a cycle function after them', function()
    local order = {}
    local function note(what) return function() order[#order + 1] = what end end
    Event.cycle(function()
      order[#order + 1] = 'cycle'
      assert.is_true(Event.cycle(nil))
    end)
    Event.cycle(note 'begin', true)
    Event.defer(note 'first')
    Event.defer(function()
      order[#order + 1] = 'second'
      Event.defer(note 'next turn')
      Event.cycle(nil, true)
    end)
    assert.is_true(Event.wait())
    assert.same({ 'begin', 'first', 'second', 'cycle', 'next turn' }, order)
  end)

  it('has timers and coroutines as well', function()
    local order = {}
    Event.defer(function()
      srvlua.Timer.after(2, function() order[#order + 1] = 'timer' end)
      srvlua.go(function() srvlua.sleep(0.01) order[#order + 1] = 'go' end)
      srvlua.sleep(0.02)
      order[#order + 1] = 'deferred'
    end)
    Event.wait()
    assert.same({ 'timer', 'go', 'deferred' }, order)
  end)

  it('turns once, or ends when it is told', function()
    local count = 0
    Event.defer(function() count = count + 1 end)
    assert.is_true(Event.dispatch() and count == 1)
    srvlua.Timer.tick(1, function(id)
      count = count + 1
      if count == 5 then Event.exit() end
      if count > 5 then srvlua.Timer.clear(id) end
    end)
    assert.is_true(Event.wait())
    assert.equal(5, count)
    assert.equal(509, code(srvlua.Timer.after(1, print)))
    assert.is_true(Event.wait() and Event.dispatch())
  end)

  it('belongs to srvlua.run there', function()
    local seen
    srvlua.run(function()
      assert.equal(509, code(Event.wait()))
      assert.equal(509, code(Event.dispatch()))
      Event.add(ours, function(fd) seen = read(fd) Event.del(fd) end)
      write(theirs, 'run')
    end)
    assert.equal('run', seen)
  end)

  it('goes on after an error in a function', function()
    local result = support.run { support.launcher, '-e', [[
      local srvlua = require 'srvlua'
      srvlua.Event.defer(function() error 'gone wrong' end)
      srvlua.Event.defer(function() print 'goes on' end)
      srvlua.Event.wait()
    ]] }
    assert.equal('goes on\n', result.out)
    assert.is_truthy(result.err:find('uncaught error in deferred function: ', 1, true))
    support.cleanup()
  end)
end)

support.in_both_modes(function(mode)
  describe('srvlua.Event in a server, ' .. mode, function()
    after_each(support.cleanup)

    local PAIR = [[
      local ffi, Event = require 'ffi', srvlua.Event
      ffi.cdef 'int socketpair(int, int, int, int *); long read(int, void *, size_t);'
      local ends = ffi.new 'int[2]'
      ffi.C.socketpair(1, 1, 0, ends)
    ]]

    it('watches in workers, in coroutines, and keeps them from leaving', function()
      local app = support.boot(mode, PAIR .. [[
        local server = new_server { max_wait_time = 10 }
        emit('before', (select(3, Event.add(ends[0], print))))
        server:on('workerStart', function()
          emit('added', Event.add(ends[0], function(fd)
            local buffer = ffi.new 'char[10]'
            ffi.C.read(fd, buffer, 10)
            srvlua.sleep(0.001)
            emit('read', ffi.string(buffer), srvlua.coroutine.id() > 0)
          end))
          Event.cycle(function() emit 'turn' Event.cycle(nil) end)
          emit('loop', (select(3, Event.wait())), (select(3, Event.dispatch())), (select(3, Event.exit())))
        end)
        server:on('workerExit', function() emit 'workerExit' Event.del(ends[0]) end)
        server:on('receive', function(s, _, _, data)
          if data == 'error' then
            Event.set(ends[0], function(fd) ffi.C.read(fd, ffi.new 'char[10]', 10) error 'gone wrong' end)
          end
          Event.write(ends[1], data)
          s:after(20, function() emit('errors', s:stats().error_count) end)
        end)
        run(server)
      ]])
      app:expect('before', 509)
      app:expect('added', true)
      app:expect('loop', 509, 509, 509)
      app:expect 'turn'
      local client = app:connect()
      client:send 'hello'
      app:expect('read', 'hello', true)
      app:expect('errors', 0)
      client:send 'error'
      app:logs 'uncaught error in Event callback: '
      app:expect('errors', 1)
      assert.equal(0, app:stop())
      assert.equal(1, app:count 'workerExit')
    end)
  end)
end)
