local support = require 'support'

local function status(pid, name)
  return support.read_file('/proc/' .. pid .. '/status'):match(name .. ':%s*(%S+)')
end

-- CPU numbers of a list such as `0-2,4`.
local function cpus(list)
  local numbers = {}
  for first, last in (list .. ','):gmatch '(%d+)%-?(%d*),' do
    for cpu = tonumber(first), tonumber(last) or tonumber(first) do
      numbers[#numbers + 1] = cpu
    end
  end
  return numbers
end

local allowed = status('self', 'Cpus_allowed_list')
local numbers = cpus(allowed)

describe('open_cpu_affinity', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('pins worker i to the i-th allowed CPU in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server { worker_num = 3, open_cpu_affinity = true }
        server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
        server:on('receive', function() end)
        run(server)
      ]])
      for id = 0, 2 do
        local _, pid = app:expect('worker', id)
        assert.equal(tostring(numbers[id % #numbers + 1]), status(pid, 'Cpus_allowed_list'))
      end
      assert.equal(allowed, status(app.pid, 'Cpus_allowed_list'))
      assert.equal(0, app:stop())
    end)

    it('leaves ignored CPUs out in ' .. mode .. ' mode', function()
      if #numbers < 2 then return pending 'needs two CPUs' end
      local app = support.boot(mode, ([[
        local server = new_server { worker_num = 2, open_cpu_affinity = true, cpu_affinity_ignore = { %d } }
        server:on('workerStart', function(_, id) emit('worker', id, srvlua.getpid()) end)
        server:on('receive', function() end)
        run(server)
      ]]):format(numbers[1]))
      local _, pid = app:expect('worker', 0)
      assert.equal(tostring(numbers[2]), status(pid, 'Cpus_allowed_list'))
      assert.equal(0, app:stop())
    end)
  end)

  it('pins reactor i to the i-th allowed CPU', function()
    local app = support.boot('PROCESS', [[
      local server = new_server { worker_num = 2, reactor_num = 2, open_cpu_affinity = true }
      server:on('receive', function() end)
      run(server)
    ]])
    local found = {}
    local function look()
      for tid in require 'lfs'.dir('/proc/' .. app.pid .. '/task') do
        local reactor = tid:find '%d' and status(app.pid .. '/task/' .. tid, 'Name')
        local number = reactor == 'reactor' and
          support.read_file('/proc/' .. app.pid .. '/task/' .. tid .. '/comm'):match '(%d+)'
        if number then found[tonumber(number)] = status(app.pid .. '/task/' .. tid, 'Cpus_allowed_list') end
      end
      return found[0] == tostring(numbers[1]) and found[1] == tostring(numbers[1 % #numbers + 1])
    end
    assert.is_true(support.eventually(look), 'reactors run on ' .. tostring(found[0]) .. ' and ' .. tostring(found[1]))
    assert.equal(0, app:stop())
  end)

  it('is undone when the only process of a BASE server returns from start()', function()
    local app = support.boot('BASE', [[
      local server = new_server { open_cpu_affinity = true }
      local function list()
        for line in io.lines '/proc/self/status' do
          local found = line:match '^Cpus_allowed_list:%s*(%S+)'
          if found then return found end
        end
      end
      server:on('workerStart', function() emit('pinned', list()) end)
      server:on('receive', function() end)
      run(server)
      emit('after', list())
    ]])
    assert.equal(tostring(numbers[1]), (app:expect 'pinned'))
    assert.equal(0, app:stop())
    assert.equal(allowed, (app:expect 'after'))
  end)
end)
