local support = require 'support'

local SERVER = [[
  local ffi = require 'ffi'
  ffi.cdef 'struct spec_limit { unsigned long now, most; };'
  ffi.cdef 'int setrlimit(int, const struct spec_limit *); void abort(void);'
  ffi.C.setrlimit(4, ffi.new('struct spec_limit', 0, 0)) -- no core files
  local server = new_server(loadstring('return ' .. arg[2])())
  local crash = {}
  function crash.read()
    local pointer = ffi.cast('int *', 16)
    return pointer[0]
  end
  function crash.compiled()
    local pointer, sum = ffi.cast('int *', ffi.new 'int[4]'), 0
    for i = 0, 1e12 do
      sum = sum + pointer[i]
    end
    return sum
  end
  function crash.abort()
    ffi.C.abort()
  end
  function crash.nested()
    local co = coroutine.wrap(function() crash.abort() end)
    co()
    return true
  end
  server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
  server:on('workerError', function(_, id, pid, code, signal) emit('workerError', id, pid, code, signal) end)
  server:on('receive', function(s, fd, _, data)
    if crash[data] then
      local result = crash[data]()
      emit('result', result)
    end
    s:send(fd, 'alive\n')
  end)
  run(server)
]]

-- Sanitizers have handlers of their own for these signals, and count what they report as a failure.
local it_crashes = support.sanitizer and pending or it

describe('a worker that crashes', function()
  after_each(support.cleanup)

  local function boot(mode, settings)
    return support.boot(mode, SERVER, { args = { settings or '{ worker_num = 2 }' }, cwd = support.directory() })
  end

  support.in_both_modes(function(mode)
    describe(mode, function()
      local function crash(what, signal)
        local app = boot(mode)
        app:expect('worker', 0)
        app:expect('worker', 1)
        local client = app:connect()
        client:send(what)
        local slot, pid, code, got = app:expect 'workerError'
        assert.same({ 0, support.signals[signal] }, { code, got })
        app:expect('worker', slot)
        local line = app:logs 'crashed: '
        local expected = ('ERROR %d worker#%d worker %d crashed: signal %d (SIG%s)'):format(pid, slot, slot, got,
          signal)
        assert.is_truthy(line:find(expected, 1, true), line)
        assert.is_truthy(line:find(', while it served session 1', 1, true), line)
        app:logs '(receive callback)'
        assert.equal(1, app:log_count 'crashed: ')
        local frames, stack = app.process.err:match '\tC frames:\n(.-)\tstack traceback:\n(.-)\t%(receive callback%)\n'
        return stack, frames, line
      end

      it_crashes('writes the C frames and the Lua stack before it ends', function()
        local stack, frames, line = crash('read', 'SEGV')
        assert.is_truthy(line:find(', address 0x10,', 1, true), line)
        assert.is_truthy(frames:find 'luajit', frames)
        assert.is_truthy(stack:find('(command line):9: in function', 1, true), stack)
      end)

      it_crashes('names the line inside a compiled loop', function()
        local stack = crash('compiled', 'SEGV')
        assert.is_truthy(stack:find '^\t%(command line%):1[34]: in function [^\n]*%(compiled%)\n', stack)
      end)

      it('does so for abort(), in a coroutine of the program', function()
        local stack, frames = crash('nested', 'ABRT')
        assert.is_truthy(frames:find('abort', 1, true), frames)
        assert.is_truthy(stack:find("[C]: in function 'abort'", 1, true), stack)
        assert.is_truthy(stack:find('(command line):19: in function', 1, true), stack)
        assert.is_truthy(stack:find('(resumed by)', 1, true), stack)
        assert.is_truthy(stack:find('(command line):23: in function', 1, true), stack)
      end)

      it_crashes('does so for each fatal signal that it is sent', function()
        for name, number in pairs { ILL = 4, ABRT = 6, BUS = 7, FPE = 8, SEGV = 11 } do
          local app = boot(mode)
          local _, pid = app:expect('worker', 1)
          support.kill(pid, number)
          app:expect('workerError', 1, pid, 0, number)
          app:logs(('worker 1 crashed: signal %d (SIG%s), sent by process'):format(number, name))
          app:logs 'C frames:'
          support.cleanup()
        end
      end)
    end)
  end)

  it('writes one line of JSON', function()
    local app = boot('PROCESS', "{ worker_num = 1, log_format = 'json' }")
    local _, pid = app:expect('worker', 0)
    app:connect():send 'nested'
    app:expect('workerError', 0, pid, 0, 6)
    local record = require 'cjson'.decode(app:logs 'crashed: ')
    assert.equal('error', record.level)
    assert.equal('worker', record.role)
    assert.same({ 0, pid, 1 }, { record.id, record.pid, record.session })
    assert.is_truthy(record.message:find('\nC frames:\n', 1, true))
    assert.is_truthy(record.stack:find("in function 'abort'", 1, true))
  end)

  it('writes to log_file', function()
    local log = support.directory() .. '/log'
    local app = boot('PROCESS', ('{ worker_num = 1, log_file = %q, display_errors = false }'):format(log))
    local _, pid = app:expect('worker', 0)
    app:connect():send 'nested'
    app:expect('workerError', 0, pid, 0, 6)
    local text = support.read_file(log)
    assert.is_truthy(text:find '^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d ERROR %d+ worker#0 worker 0 crashed: ' or
      text:find '\n%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d ERROR %d+ worker#0 worker 0 crashed: ', text)
    assert.is_truthy(text:find("[C]: in function 'abort'", 1, true), text)
    assert.equal(0, app:log_count 'crashed: ')
  end)

  it_crashes("leaves the host's own process alone", function()
    local app = boot('BASE', '{ worker_num = 1 }') -- a single process, which is the one that called start()
    assert.is_true(support.kill(app.pid, 8))
    local _, signal = app:wait()
    assert.equal(8, signal)
    assert.equal(0, app:log_count 'crashed: ')
  end)
end)
