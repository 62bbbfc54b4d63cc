local lfs = require 'lfs'
local support = require 'support'

local LINE = '^%d%d%d%d%-%d%d%-%d%d %d%d:%d%d:%d%d (%u+) (%d+) (%S+) (.*)$'

-- Logs what it receives, in the level that the first letter says.
local SOURCE = [[
  local server = new_server(loadstring('return ' .. (arg[2] or '{}'))())
  local levels = { D = srvlua.LOG_DEBUG, I = srvlua.LOG_INFO, W = srvlua.LOG_WARNING, E = srvlua.LOG_ERROR }
  server:on('receive', function(s, fd, _, data)
    emit('logged', srvlua.log(levels[data:sub(1, 1)], data:sub(2)))
  end)
  server:on('managerStart', function() emit('manager', srvlua.getpid()) end)
  server:on('workerStart', function() emit('worker', srvlua.getpid()) end)
  run(server)
]]

local function has_open(pid, path)
  local folder = '/proc/' .. pid .. '/fd/'
  for name in lfs.dir(folder) do
    if name:find '^%d' and lfs.symlinkattributes(folder .. name, 'target') == path then return true end
  end
  return false
end

describe('the log', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('goes to stderr with time, level, pid and role, ' .. mode, function()
      local app = support.boot(mode, SOURCE, { args = { '{ worker_num = 2 }' } })
      app:connect():send 'Wtwo words'
      local level, pid, role, message = app:logs('two words'):match(LINE)
      assert.same({ 'WARNING', 'two words' }, { level, message })
      assert.truthy(role:find '^worker#[01]$', role)
      assert.is_true(support.is_alive(tonumber(pid)))
      assert.equal(0, app:stop())
      local roles = {}
      for line in app.process.err:gmatch '[^\n]+' do
        local _, _, who = line:match(LINE)
        roles[assert(who, line)] = true
      end
      assert.is_true(roles[mode == 'PROCESS' and 'master' or 'manager'])
    end)

    it('leaves out what is below its level, ' .. mode, function()
      local app = support.boot(mode, SOURCE, { args = { "{ log_level = 'warning' }" } })
      local client = app:connect()
      for _, text in ipairs { 'Dquiet', 'Iquiet', 'Wloud', 'Elouder' } do
        client:send(text)
        app:expect('logged', true)
      end
      app:logs 'louder'
      app:logs 'loud'
      assert.equal(0, app:log_count 'quiet')
      assert.equal(0, app:stop())
      assert.equal(0, app:log_count 'INFO')
    end)

    it('goes to a file, and to another one when that was moved away, ' .. mode, function()
      local path = support.directory() .. '/log'
      local app = support.boot(mode, SOURCE, { args = { ('{ worker_num = 2, log_file = %q }'):format(path) } })
      local worker, other, manager = app:expect 'worker', app:expect 'worker', app:expect 'manager'
      local clients = { app:connect(), app:connect() }
      for round, signal in ipairs { 34, 28 } do -- SIGRTMIN, SIGWINCH
        for i, client in ipairs(clients) do
          client:send(('Wround %d client %d'):format(round, i))
          app:expect('logged', true)
        end
        local before = support.read_file(path)
        for i = 1, 2 do
          assert.truthy(before:find(('round %d client %d'):format(round, i), 1, true))
        end
        os.rename(path, path .. round)
        support.kill(round == 1 and app.pid or manager, signal)
        for _, pid in ipairs { round == 1 and app.pid or manager, manager, worker, other } do
          assert.is_truthy(support.eventually(function() return has_open(pid, path) end), 'opened by ' .. pid)
        end
        assert.equal(before, support.read_file(path .. round):sub(1, #before))
      end
      clients[1]:send 'Wafter'
      app:expect('logged', true)
      assert.truthy(support.read_file(path):find 'after')
      assert.equal(0, app:stop())
      assert.equal('', app.process.err)
    end)

    it('shows Lua errors on stderr as well, unless told, ' .. mode, function()
      for shown, settings in ipairs { 'display_errors = false', 'display_errors = true' } do
        local path = support.directory() .. '/log'
        local app = support.boot(mode, [[
          local server = new_server(loadstring('return ' .. arg[2])())
          server:on('receive', function(s, fd) s:defer(function() s:send(fd, 'x') end) error 'on display' end)
          run(server)
        ]], { args = { ('{ log_file = %q, %s }'):format(path, settings) } })
        app:connect():echo 'x'
        assert.truthy(support.read_file(path):find 'on display')
        assert.equal(shown - 1, math.min(1, app:log_count 'on display'))
      end
    end)
  end)

  it('is JSON when asked', function()
    local app = support.boot('PROCESS', SOURCE, { args = { "{ log_format = 'json' }" } })
    app:connect():send 'Wquoted "words"\n\tand more'
    local line = require('cjson').decode(app:logs 'quoted')
    local message = line.message or line.msg
    assert.equal('quoted "words"\n\tand more', message)
    assert.truthy(tostring(line.level):lower():find 'warning')
    assert.equal('number', type(line.pid))
  end)

  it('has a date as one likes', function()
    local app = support.boot('PROCESS', SOURCE,
      { args = { "{ log_date_format = '[%H|%M]', log_date_with_microseconds = true }" } })
    app:connect():send 'Wdated'
    assert.truthy(app:logs('dated'):find '^%[%d%d|%d%d%]%.%d%d%d%d%d%d WARNING')
  end)

  it('changes its file with the date', function()
    local directory = support.directory()
    local app = support.boot('PROCESS', SOURCE,
      { args = { ("{ log_file = %q, log_rotation = 'monthly' }"):format(directory .. '/log') } })
    app:connect():send 'Wrotated'
    app:expect('logged', true)
    local text = support.read_file(directory .. '/log.' .. os.date '%Y%m')
    assert.truthy(text and text:find 'rotated')
  end)

  it('takes values as print does, also before start, and lines of several processes whole', function()
    local app = support.boot('PROCESS', [[
      emit('no server', srvlua.log(srvlua.LOG_ERROR, 'to stderr', 1), srvlua.log(srvlua.LOG_DEBUG, 'not shown'))
      local server = new_server { worker_num = 4 }
      emit('before', srvlua.log(srvlua.LOG_ERROR, 'early', nil, 5, true))
      emit('raises', (pcall(srvlua.log)), (pcall(srvlua.log, 'x', 'y')))
      server:on('receive', function() end)
      server:on('workerStart', function(_, id)
        for i = 1, 50 do srvlua.log(srvlua.LOG_ERROR, ('%d-%d '):format(id, i) .. string.char(97 + id):rep(500)) end
        emit('done', id)
      end)
      run(server)
    ]])
    app:expect('no server', true, true)
    assert.truthy(app:logs('to stderr'):find('to stderr\t1', 1, true))
    app:expect('before', true)
    app:expect('raises', false, false)
    assert.truthy(app:logs('early'):find('early\tnil\t5\ttrue', 1, true))
    for id = 0, 3 do
      app:expect('done', id)
    end
    app:stop()
    for id = 0, 3 do
      for i = 1, 50 do
        local message = ('%d-%d '):format(id, i) .. string.char(97 + id):rep(500)
        assert.equal(message, (select(4, app:logs(message):match(LINE))))
      end
    end
  end)
end)
