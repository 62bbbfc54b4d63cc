local support = require 'support'

-- Functions that run for ever, or for some seconds. The specs know the numbers of these lines.
local BUSY = [[
local busy = {}
local function spin(limit, step)
  local x = 0
  while x < limit do
    x = x + step
  end
  return x
end
local function through(limit, step)
  return (spin(limit, step))
end
function busy.compiled()
  through(100, 1)
  local x = through(1e18, 1)
  return x
end
function busy.interpreted()
  jit.off()
  local x = through(1e18, 1)
  return x
end
function busy.nested()
  local outer = coroutine.wrap(function()
    local inner = coroutine.create(function()
      through(100, 1)
      local x = through(1e18, 1)
      return x
    end)
    local ok = coroutine.resume(inner)
    return ok
  end)
  local ok = outer()
  return ok
end
function busy.nested_interpreted()
  jit.off()
  return busy.nested()
end
function busy.blocked()
  local status = os.execute 'exec sleep 2'
  return status
end
function busy.some_time()
  local till = os.clock() + 0.9
  local sum = 0
  repeat
    local parts = {}
    for i = 1, 100 do
      parts[i] = coroutine.wrap(function() return tostring(i) end)()
    end
    sum = #table.concat(parts)
  until os.clock() > till
  return sum
end
function busy.hooked()
  local function hook() end
  debug.sethook(hook, '', 1000000)
  jit.off()
  busy.some_time()
  return debug.gethook() == hook
end
return busy
]]

local SERVER = [[
  local busy = dofile(arg[2])
  local settings = loadstring('return ' .. arg[3])()
  settings.worker_num, settings.max_wait_time = 2, 0.1
  local server = new_server(settings)
  server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
  server:on('workerError', function(_, id, pid, code, signal) emit('workerError', id, pid, code, signal) end)
  server:on('receive', function(s, fd, _, data)
    local how, what = data:match '(%a+) ([%a_]+)'
    if how == 'timer' then
      s:after(1, function() local x = busy[what]() return x end)
    elseif how == 'deferred' then
      s:defer(function() local x = busy[what]() return x end)
    elseif how == 'woken' then
      srvlua.sleep(0.01)
      busy[what]()
    elseif how == 'asleep' then
      srvlua.sleep(1)
      s:send(fd, 'awake\n')
    else
      local result = busy[what]()
      s:send(fd, tostring(result) .. '\n')
    end
  end)
  run(server)
]]

-- The thread sanitizer holds signals back from code that it does not know, so there the stack cannot be read; that of
-- compiled code can on x86-64 only.
local it_reads = support.sanitizer == 'tsan' and pending or it
local it_reads_compiled = jit.arch == 'x64' and it_reads or pending

describe('a callback that does not end', function()
  after_each(support.cleanup)

  local path

  local function boot(mode, settings)
    path = support.write_file(support.directory() .. '/busy.lua', BUSY)
    return support.boot(mode, SERVER, { args = { path, settings } })
  end

  local function ask(app, what)
    local client = app:connect()
    client:send(what)
    return client
  end

  -- The stack of the first report, places of the file as `@line`, functions without a name as `<@line>`.
  local function stack_of(app, last)
    app:logs 'been in one callback'
    app:logs(last or '(receive callback)')
    local text = app.process.err:match '\n\tstack traceback:\n(.-%([^\n]*callback%)\n)'
      or app.process.err:match '\n\tstack traceback:\n(.-%(timer%)\n)'
      or app.process.err:match '\n\tstack traceback:\n(.-%(deferred function%)\n)'
    local lines = {}
    for line in text:gmatch '\t([^\n]+)\n' do
      line = line:gsub(path:gsub('%p', '%%%0') .. ':', '@')
      lines[#lines + 1] = line
    end
    return lines
  end

  local function assert_lines(expected, lines)
    for i, line in ipairs(expected) do
      assert.equal(line, lines[i], 'line ' .. i .. ' of\n' .. table.concat(lines, '\n'))
    end
  end

  support.in_both_modes(function(mode)
    describe(mode, function()
      it_reads_compiled('is reported with its whole stack inside a compiled loop', function()
        local app = boot(mode, '{ hang_warning = 0.2 }')
        ask(app, 'call compiled')
        local lines = stack_of(app)
        assert.is_truthy(lines[1]:find "^@[45]: in function 'spin' %(compiled%)$", lines[1])
        assert_lines({ "@10: in function 'through'", '@14: in function <@12>' }, { unpack(lines, 2) })
        app:logs 'serving session 1'
      end)

      it_reads('is reported with its whole stack in the interpreter', function()
        local app = boot(mode, '{ hang_warning = 0.2 }')
        ask(app, 'call interpreted')
        local lines = stack_of(app)
        assert.is_truthy(lines[1]:find "^@[45]: in function 'spin'$", lines[1])
        assert_lines({ "@10: in function 'through'", '@19: in function <@17>' }, { unpack(lines, 2) })
      end)

      it_reads_compiled('is reported in coroutines of the program inside one another', function()
        for _, what in ipairs { 'nested', 'nested_interpreted' } do
          local app = boot(mode, '{ hang_warning = 0.2 }')
          ask(app, 'call ' .. what)
          local lines = stack_of(app)
          assert.is_truthy(lines[1]:find "^@[45]: in function 'spin'", lines[1])
          assert_lines({ "@10: in function 'through'", '@26: in function <@24>', '(resumed by)' }, { unpack(lines, 2) })
          local text = table.concat(lines, '\n')
          assert.is_truthy(text:find("(resumed by)\n[C]: in function 'resume'\n@29: in function <@23>", 1, true), text)
          assert.is_truthy(text:find("(resumed by)\n[C]: in function 'resume'\n" ..
            "coroutine.wrap:3: in function 'outer'\n@32: in function ", 1, true), text)
          support.cleanup()
        end
      end)

      it_reads('is reported when a C function blocks', function()
        local app = boot(mode, '{ hang_warning = 0.2, hang_timeout = 0.5 }')
        ask(app, 'call blocked')
        assert_lines({ "[C]: in function 'execute'", '@40: in function <@39>' }, stack_of(app))
        app:expect('workerError')
      end)

      it_reads('is reported in timers, deferred functions and coroutines that go on', function()
        for how, last in pairs { timer = '(timer)', deferred = '(deferred function)', woken = '(receive callback)' } do
          local app = boot(mode, '{ hang_warning = 0.2 }')
          ask(app, how .. ' interpreted')
          local lines = stack_of(app, last)
          assert.is_truthy(lines[1]:find "^@[45]: in function 'spin'$", lines[1])
          support.cleanup()
        end
      end)

      it('is reported again when its age has doubled', function()
        local app = boot(mode, '{ hang_warning = 0.2 }')
        ask(app, 'call compiled')
        for _ = 1, 3 do
          app:logs 'been in one callback for'
        end
        support.eventually(function() return app:log_count 'been in one callback' >= 3 end)
        local ages = {}
        for age in app.process.err:gmatch 'been in one callback for ([%d.]+) s' do
          ages[#ages + 1] = tonumber(age)
        end
        for i = 1, 3 do -- a line may be late, but never comes before its time
          assert.is_true(ages[i] >= 0.2 * 2 ^ (i - 1), table.concat(ages, ' '))
        end
      end)

      it('is killed at hang_timeout, and its worker replaced', function()
        for _, warning in ipairs { 0.2, 0 } do
          local app = boot(mode, ('{ hang_warning = %g, hang_timeout = 0.5 }'):format(warning))
          app:expect('worker', 0)
          app:expect('worker', 1)
          local client = ask(app, 'call compiled')
          local slot, pid = app:expect 'workerError'
          app:expect('worker', slot)
          assert.is_false(support.is_alive(pid))
          assert.is_truthy(app:logs('it is killed (hang_timeout)'):find(pid, 1, true))
          app:logs 'was ended by signal 9'
          if support.sanitizer ~= 'tsan' then assert.is_truthy(app.process.err:find(path, 1, true)) end
          client:close()
          support.cleanup()
        end
      end)

      it('goes on unharmed when it ends after all', function()
        local app = boot(mode, '{ hang_warning = 0.01 }')
        local client = ask(app, 'call some_time')
        assert.equal('192', client:line())
        assert.is_true(app:log_count 'been in one callback' >= 3)
        assert.equal(0, app:count 'workerError')
      end)

      it_reads("leaves the program's own debug hook in its place", function()
        local app = boot(mode, '{ hang_warning = 0.1 }')
        local client = ask(app, 'call hooked')
        assert.equal('true', client:line())
        assert.is_true(app:log_count 'been in one callback' >= 1)
      end)

      it('is not one that waits', function()
        local app = boot(mode, '{ hang_warning = 0.1, hang_timeout = 0.5 }')
        local client = ask(app, 'asleep now')
        assert.equal('awake', client:line())
        assert.equal(0, app:log_count 'been in one callback')
      end)

      it("is nobody's business with hang_warning = 0", function()
        local app = boot(mode, '{ hang_warning = 0 }')
        local client = ask(app, 'call some_time')
        assert.equal('192', client:line())
        assert.equal(0, app:log_count 'been in one callback')
      end)
    end)
  end)

  it('is reported as one line of JSON', function()
    local app = boot('PROCESS', "{ hang_warning = 0.2, log_format = 'json' }")
    ask(app, 'call interpreted')
    local record = require 'cjson'.decode(app:logs 'been in one callback')
    assert.equal('warning', record.level)
    assert.equal(1, record.session)
    if support.sanitizer ~= 'tsan' then assert.is_truthy(record.stack:find(path, 1, true)) end
  end)
end)

describe('coroutine.resume and coroutine.wrap of srvlua', function()
  after_each(support.cleanup)

  it("do what LuaJIT's own do", function()
    local result = support.run { support.launcher, '-e', [[
      local own = { resume = coroutine.resume, wrap = coroutine.wrap }
      require 'srvlua'
      local function describe(...)
        local parts = {}
        for i = 1, select('#', ...) do
          local value = select(i, ...)
          parts[i] = type(value) == 'table' and 'table' or tostring(value)
        end
        return table.concat(parts, ' ')
      end
      local function run(functions)
        local resume, wrap = functions.resume, functions.wrap
        local seen = {}
        local function try(...) seen[#seen + 1] = describe(pcall(...)) end
        local function yielding(...) return select('#', ...), coroutine.yield(...) end
        local co = coroutine.create(yielding)
        try(resume, co, nil, 2, nil)
        try(resume, co, 'a', nil)
        try(resume, co)
        local failing = coroutine.create(function() error { code = 1 } end)
        try(resume, failing)
        try(resume, failing)
        local itself
        itself = coroutine.create(function() return resume(itself) end)
        try(resume, itself)
        try(function() local x = resume(1) return x end)
        try(function() local x = wrap() return x end)
        try(wrap(yielding), 1, nil, 3, nil)
        local once = wrap(function() return 1 end)
        try(once)
        try(once)
        try(function() local x = wrap(function() error 'text' end)() return x end)
        try(function() return wrap(function() error 'text' end)() end)
        try(function() return wrap(function() error { } end)() end)
        local again
        again = wrap(function() again() end)
        try(again)
        local sum = 0
        for value in wrap(function() for i = 1, 1000 do coroutine.yield(i) end end) do sum = sum + value end
        seen[#seen + 1] = tostring(sum)
        local status
        local outer = coroutine.create(function(self)
          return wrap(function() return coroutine.status(self), coroutine.running() ~= self end)()
        end)
        try(resume, outer, outer)
        local many = {}
        for i = 1, 3000 do many[i] = i end
        seen[#seen + 1] = tostring(select('#', resume(coroutine.create(function(...) return ... end), unpack(many))))
        return seen
      end
      local expected, got = run(own), run(coroutine)
      for i, text in ipairs(expected) do
        if got[i] ~= text then print(i, text, got[i]) end
      end
      print(#got == #expected, own.wrap ~= coroutine.wrap)
    ]] }
    assert.equal('true\ttrue\n', result.out)
    assert.equal('', result.err)
  end)

  it('raise an error where LuaJIT overflows the C stack', function()
    local result = support.run { support.launcher, '-e', [[
      require 'srvlua'
      local function down() return coroutine.wrap(function() down() return 1 end)() end
      local ok, message = pcall(down)
      print(ok, message:match '[^:]*$')
    ]] }
    assert.equal('false\t C stack overflow\n', result.out)
  end)
end)
