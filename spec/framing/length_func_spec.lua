-- package_length_func: the program's own measure of packets, in the reactors (protocols.md 1.5, settings.md 3.3).
local support = require 'support'
local framed = require 'support.framed'

support.in_both_modes(function(mode)
  describe('package_length_func, ' .. mode .. ',', function()
    after_each(support.cleanup)

    local function boot(functions, server_settings)
      local ports = {}
      for i, port in ipairs(functions) do
        -- loaded from text, so that the app's variables are no upvalues
        ports[i] = { port[1], ('{ open_length_check = true, package_max_length = 70000, package_length_func = %s }')
          :format(('assert(loadstring %q)()'):format('return ' .. port[2])) }
      end
      return framed.boot(mode, ports, server_settings)
    end

    local NETSTRING = [[function(data)
      local digits = data:match '^(%d+):'
      if digits then return #digits + 1 + tonumber(digits) end
      if data:find '^%d*$' then return 0 end
      if data:sub(1, 1) == 'E' then error 'what a packet' end
      return -1
    end]]

    it('waits at 0 and cuts at a length, however the stream is cut', function()
      local app = boot { { 'netstring', NETSTRING }, { 'three', 'function() return 3 end' },
        { 'all', 'function(data) return #data end' }, { 'one', 'function() return 1 end' } }
      framed.check(app, 'netstring', '5:hello2:hi0:12:123456789012', { '5:hello', '2:hi', '0:', '12:123456789012' })
      local twelve = {}
      for i = 1, 12 do twelve[i] = 'ABC' end
      framed.check(app, 'three', ('ABC'):rep(12), twelve)
      framed.check(app, 'one', 'xyz', { 'x', 'y', 'z' })
      framed.check(app, 'all', 'x', { 'x' })
    end)

    it('closes only the connection for what is no length, and says why', function()
      local app = boot {
        { 'netstring', NETSTRING },
        { 'nothing', 'function() end' },
        { 'text', "function() return '3' end" },
        { 'fraction', 'function() return 2.5 end' },
        { 'infinite', 'function() return math.huge end' },
        { 'nan', 'function() return 0/0 end' },
        { 'table', 'function() return {} end' },
        { 'error', 'function(data) error { data } end' },
        { 'raised', "function(data) local t = nil; return t.x end" },
        { 'huge', 'function() return 2^60 end' },
        { 'over', 'function() return 70001 end' },
      }
      local healthy = app:connect(app.number.netstring)
      healthy:send '12'
      framed.check_violation(app, 'netstring', '1:aoops', { '1:a' }, 1204, 'returned -1')
      framed.check_violation(app, 'netstring', 'Error', {}, 1204, 'what a packet')
      framed.check_violation(app, 'netstring', '99999:', {}, 1201)
      framed.check_violation(app, 'nothing', 'x', {}, 1204, 'returned nil')
      framed.check_violation(app, 'text', 'x', {}, 1204, 'returned a string')
      framed.check_violation(app, 'fraction', 'x', {}, 1204, 'returned 2.5')
      framed.check_violation(app, 'infinite', 'x', {}, 1204, 'returned inf')
      framed.check_violation(app, 'nan', 'x', {}, 1204, 'returned')
      framed.check_violation(app, 'table', 'x', {}, 1204, 'returned a table')
      framed.check_violation(app, 'error', 'x', {}, 1204, 'a table was raised')
      framed.check_violation(app, 'raised', 'x', {}, 1204, 'package_length_func failed')
      framed.check_violation(app, 'huge', 'x', {}, 1201)
      framed.check_violation(app, 'over', 'x', {}, 1201)
      healthy:send ':123456789012'
      assert.equal('12:123456789012', framed.packet(healthy))
    end)

    it('sees at most 64 KiB, and may not ask for more then', function()
      local app = boot { { 'seen', 'function(data) if #data < 65536 then return 0 end return #data end' },
        { 'never', 'function() return 0 end' },
        { 'larger', 'function(data) return #data >= 65536 and 70000 or 0 end' } }
      local client = app:connect(app.number.seen)
      client:send(('s'):rep(66000))
      assert.equal(65536, #framed.packet(client))
      client:send(('s'):rep(65536 - 464))
      assert.equal(65536, #framed.packet(client))
      client = app:connect(app.number.larger)
      client:send(('l'):rep(140000))
      assert.same({ 70000, 70000 }, { #framed.packet(client), #framed.packet(client) })
      client = app:connect(app.number.never)
      client:send(('n'):rep(65535))
      local _, port = client:name()
      pcall(client.send, client, 'nn')
      assert.is_true(client:ending() ~= nil)
      assert.truthy(app:logs(':' .. port .. ', '):find 'error 1203')
    end)

    it('runs with the libraries of reactors, without the program', function()
      local app = boot({
        { 'libraries', [[function()
          assert(not _G and not io and not os and not require and not ffi and not load and not debug and not jit)
          assert(string.len 'x' == 1 and table.concat { 1 } == '1' and math.max(1, 2) == 2 and bit.band(3, 1) == 1)
          assert(tonumber '1' and tostring(1) and type(pairs) == 'function' and ipairs and select('#') == 0 and pcall)
          assert(srvlua.SOCK_TCP and not srvlua.Server and print)
          print('measured', 1, nil)
          return 1
        end]] },
      }, '{ worker_num = 1 }')
      local client = app:connect(2)
      client:send 'a'
      assert.equal('a', framed.packet(client))
      assert.truthy(app:logs 'measured':find(mode == 'BASE' and 'worker' or 'reactor', 1, true))
    end)

    it('is inherited with the settings of the primary port', function()
      local app = support.boot(mode, framed.prelude .. [[
        local server = new_server { worker_num = 2, open_length_check = true,
          package_length_func = function(data) return data:byte() - 48 end }
        server:addListener('127.0.0.1', 0, srvlua.SOCK_TCP)
        open(server, { open_length_check = true, package_length_func = function() return 2 end })
        open(server, { open_length_check = true, package_length_type = 'C', package_body_offset = 1 })
        echo(server)
        run(server)
      ]])
      for port, packets in ipairs { { '3ab', '1' }, { '3ab', '1' }, { '3a', 'b1' }, { '\0', '\3abc' } } do
        local client = app:connect(port)
        client:send(table.concat(packets))
        assert.same(packets, framed.packets(client, #packets))
      end
    end)

    it('is warned of when it holds its reactor up, once', function()
      local app = boot({ { 'slow', [[function(data)
        if data == 's' then
          local sum = 0
          repeat sum = sum + 1 until sum > 1e8
        end
        return 1
      end]] } }, '{ worker_num = 1 }')
      local client = app:connect(2)
      client:send_at_once 's'
      framed.packet(client)
      assert.truthy(app:logs 'package_length_func took':find 'WARNING')
      client:send_at_once 's'
      framed.packet(client)
      assert.equal(1, app:log_count 'package_length_func took')
    end)

    it('goes on over a reload', function()
      local app = boot({ { 'netstring', NETSTRING } }, '{ worker_num = 2 }')
      local client = app:connect(2)
      client:send '3:abc5:he'
      assert.equal('3:abc', framed.packet(client))
      app:kill 'USR1'
      if mode == 'PROCESS' then
        client:send 'llo'
        assert.equal('5:hello', framed.packet(client))
      end
      client = app:connect(2)
      client:send '2:hi'
      assert.equal('2:hi', framed.packet(client))
    end)

    it('does not make the process grow', function()
      if support.sanitizer then return end -- they keep what was freed
      local app = boot({ { 'growing', 'function(data) if #data < 60000 then return 0 end return 60000 end' } },
        '{ worker_num = 1 }')
      local client = app:connect(2)
      local function round(count)
        for i = 1, count do
          client:send(string.char(i % 256):rep(60000))
          framed.packet(client)
        end
      end
      local function memory()
        local sum = 0
        for _, pid in ipairs(app:members()) do
          sum = sum + (tonumber((support.read_file('/proc/' .. pid .. '/status') or ''):match 'VmRSS:%s*(%d+)') or 0)
        end
        return sum
      end
      round(300)
      local before = memory()
      round(1500)
      assert.is_true(memory() - before < 8192, ('%d KiB more'):format(memory() - before))
    end)
  end)
end)
