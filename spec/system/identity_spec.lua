local ffi = require 'ffi'
local lfs = require 'lfs'
local support = require 'support'

if not pcall(function() return ffi.C.geteuid end) then ffi.cdef [[ unsigned geteuid(void); ]] end
local is_root = ffi.C.geteuid() == 0

-- What /proc says of a process: real, effective, saved and file-system ids.
local function ids(pid, kind)
  return (support.read_file('/proc/' .. pid .. '/status'):match(kind .. ':%s*([%d\t ]*%d)'):gsub('%s+', ' '))
end

local nobody = support.read_file '/etc/passwd':match '\nnobody:[^:]*:(%d+):'
local nogroup = support.read_file '/etc/passwd':match '\nnobody:[^:]*:%d+:(%d+):'
local daemon = support.read_file '/etc/group':match '\ndaemon:[^:]*:(%d+):'

local function four(id)
  return ('%s %s %s %s'):format(id, id, id, id)
end

-- An app whose workers answer a line with what the code in `handlers` makes of it.
local function boot(mode, settings, options)
  return support.boot(mode, ([[
    local server = new_server { worker_num = 2 }
    server:set { %s }
    server:on('workerStart', function(s, id) emit('worker', id, srvlua.getpid(), io.open '/etc/passwd' ~= nil) end)
    server:on('workerError', function(s, id, pid, code, signal) emit('error', id, code, signal) end)
    server:on('afterReload', function(s, ok) emit('reloaded', ok) end)
    server:on('shutdown', function() emit 'shutdown' end)
    server:on('receive', function(s, fd, _, data)
      if data:find '^reload' then
        local ok, _, code = s:reload()
        s:send(fd, tostring(ok) .. ' ' .. tostring(code) .. '\n')
      elseif data:find '^shutdown' then
        s:shutdown()
      end
    end)
    run(server)
  ]]):format(settings), options)
end

describe('the identity of workers', function()
  after_each(support.cleanup)

  local function as_root(name, declare)
    if is_root then it(name, declare) else pending(name .. ' (needs root)') end
  end

  support.in_both_modes(function(mode)
    describe('in ' .. mode .. ' mode', function()
      as_root('is taken by every worker, and by no other process', function()
        local app = boot(mode, "user = 'nobody'")
        for id = 0, 1 do
          local _, pid = app:expect('worker', id)
          assert.equal(four(nobody), ids(pid, 'Uid'))
          assert.equal(four(nogroup), ids(pid, 'Gid'))
          assert.equal(nogroup, ids(pid, 'Groups'))
        end
        assert.equal(four '0', ids(app.pid, 'Uid'))
        for _, pid in ipairs(app:members()) do
          if not support.title(pid):find 'worker' then assert.equal(four '0', ids(pid, 'Uid')) end
        end
        assert.equal(0, app:stop())
      end)

      as_root('may be a number, with a group of its own', function()
        local app = boot(mode, ("user = '%s', group = 'daemon'"):format(nobody))
        local _, pid = app:expect('worker', 1)
        assert.equal(four(nobody), ids(pid, 'Uid'))
        assert.equal(four(daemon), ids(pid, 'Gid'))
        assert.equal(0, app:stop())
      end)

      as_root('lets root reload, but not the workers', function()
        local app = boot(mode, "user = 'nobody'")
        local before = { [0] = select(2, app:expect('worker', 0)), select(2, app:expect('worker', 1)) }
        local client = app:connect()
        client:send 'reload\n'
        assert.equal('false 1', client:line()) -- EPERM
        assert.equal(0, app:count('worker'))
        client:close()
        app:kill 'USR1'
        app:expect('reloaded', true)
        for id = 0, 1 do
          local _, pid = app:expect('worker', id)
          assert.not_equal(before[id], pid)
          assert.equal(four(nobody), ids(pid, 'Uid'))
        end
        assert.equal(0, app:stop())
      end)

      as_root('is taken by the successor of a worker that was killed', function()
        local app = boot(mode, "user = 'nobody'")
        local _, pid = app:expect('worker', 1)
        support.kill(pid, 'KILL')
        app:expect('error', 1, 0, 9)
        local _, successor = app:expect('worker', 1)
        assert.equal(four(nobody), ids(successor, 'Uid'))
        assert.equal(0, app:stop())
      end)

      as_root('does not keep a worker alive whose manager was killed', function()
        local app = boot(mode, "user = 'nobody'")
        local _, worker = app:expect('worker', 0)
        local manager = support.info(worker).parent
        assert.not_equal(mode == 'PROCESS' and app.pid or 1, manager)
        support.kill(manager, 'KILL')
        assert.is_true(app:is_gone(), 'orphans are left') -- setuid clears the parent-death signal: it is set again
      end)

      as_root('shows workers another root', function()
        local root = support.directory()
        local log = support.directory() .. '/log'
        local app = boot(mode, ("user = 'nobody', chroot = '%s', log_file = '%s'"):format(root, log))
        local _, pid, sees_passwd = app:expect('worker', 0)
        assert.is_false(sees_passwd)
        assert.equal(root, lfs.symlinkattributes('/proc/' .. pid .. '/root', 'target'))
        assert.equal(root, lfs.symlinkattributes('/proc/' .. pid .. '/cwd', 'target'))
        assert.equal(0, app:stop())
        assert.truthy(support.read_file(log):find 'WARNING.*outside of their chroot')
      end)

      as_root("has srvlua's own modules there, whenever they are used first", function()
        local app = support.boot(mode, ([[
          local server = new_server { user = 'nobody', chroot = '%s' }
          server:on('workerStart', function()
            srvlua.Timer.after(1, function() emit('fired', type(srvlua.socket.tcp), type(srvlua.Channel)) end)
          end)
          server:on('receive', function() end)
          run(server)
        ]]):format(support.directory()))
        app:expect('fired', 'function', 'table')
      end)

      as_root('is given the log file, so that it can be opened again', function()
        local directory = support.directory()
        os.execute('chmod 755 ' .. directory)
        local path = directory .. '/log'
        local app = boot(mode, ("user = 'nobody', log_file = '%s'"):format(path))
        local _, pid = app:expect('worker', 0)
        assert.equal(tonumber(nobody), lfs.attributes(path, 'uid'))
        assert.is_true(os.rename(path, path .. '.1'))
        app:kill(28) -- SIGWINCH
        local function inode_of_worker()
          for name in lfs.dir('/proc/' .. pid .. '/fd') do
            if lfs.symlinkattributes('/proc/' .. pid .. '/fd/' .. name, 'target') == path then return true end
          end
        end
        assert.is_true(support.eventually(inode_of_worker), 'the worker did not open its log again')
        assert.equal(tonumber(nobody), lfs.attributes(path, 'uid'))
        assert.equal(0, app:stop())
      end)

      as_root('ends the server where it cannot be taken', function()
        local source = [[
          local server = new_server { worker_num = 2, user = 'nobody' }
          server:on('receive', function() end)
          server:on('workerStart', function() emit 'worker' end)
          server:on('workerError', function() emit 'error' end)
          server:on('shutdown', function() emit 'shutdown' end)
          run(server)
        ]]
        local prelude = "local srvlua, emit, new_server, run = require 'support.prelude'() "
        -- root that may not change its user
        local app = support.launch {
          '/usr/bin/setpriv', '--bounding-set=-setuid', '--inh-caps=-setuid',
          support.launcher, '-e', prelude .. source, mode,
        }
        local ok, message, code = app:expect 'returned'
        assert.same({ false, 1 }, { ok, code })
        assert.truthy(message:find('Operation not permitted', 1, true))
        app:logs 'ERROR'
        assert.equal(0, app:wait())
        assert.is_true(app:is_gone())
        assert.same({ 0, 0, 0 }, { app:count 'worker', app:count 'error', app:count 'shutdown' })
      end)

      it('stays as it is, with a warning, where the server was not started by root', function()
        local argv = { support.launcher, '-e', [[
          local srvlua, emit, new_server, run = require 'support.prelude'()
          local server = new_server { user = 'daemon', chroot = '/' }
          server:on('workerStart', function() emit('worker', srvlua.getpid()) end)
          server:on('receive', function() end)
          run(server)
        ]], mode }
        if is_root then
          for i, word in ipairs { '/usr/bin/setpriv', '--reuid=' .. nobody, '--regid=' .. nogroup, '--clear-groups' } do
            table.insert(argv, i, word)
          end
        end
        local app = support.launch(argv)
        app:expect 'start'
        local pid = app:expect 'worker'
        assert.not_equal(four(daemon), ids(pid, 'Uid'))
        app:logs 'not started by root'
        assert.equal(1, app:log_count 'have no effect')
        assert.equal(0, app:stop())
      end)
    end)
  end)

  as_root('lets a worker shut the server down in PROCESS mode', function()
    local app = boot('PROCESS', "user = 'nobody'")
    app:connect():send 'shutdown\n'
    app:expect 'shutdown'
    assert.equal(0, app:wait())
  end)

  as_root('is taken by the only process of a BASE server too', function()
    local app = support.boot('BASE', [[
      local server = new_server { user = 'nobody' }
      server:on('receive', function() end)
      run(server)
    ]])
    assert.equal(four(nobody), ids(app.pid, 'Uid'))
    assert.equal(0, app:stop())
  end)

  it('needs a group for a number without an account', function()
    if not is_root then return pending 'needs root' end
    local app = support.boot('BASE', [[
      local server = new_server { user = '3999999999' }
      server:on('receive', function() end)
      run(server)
    ]], { start = false })
    local ok, message, code = app:expect 'returned'
    assert.same({ false, 505 }, { ok, code })
    assert.truthy(message:find("'group'", 1, true))
  end)
end)
