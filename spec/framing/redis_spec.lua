-- Redis commands as they come (protocols.md 1.7).
local support = require 'support'
local framed = require 'support.framed'

support.in_both_modes(function(mode)
  describe('redis framing, ' .. mode .. ',', function()
    after_each(support.cleanup)

    local COMMANDS = { '*1\r\n$4\r\nPING\r\n', '*2\r\n$3\r\nGET\r\n$1\r\nk\r\n',
      '*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\na\r\nb\0\n\r\n', '*2\r\n$4\r\nECHO\r\n$0\r\n\r\n',
      '*2\r\n$4\r\nINCR\r\n:42\r\n' }

    it('gives each command of a pipeline its own event, byte for byte', function()
      local app = framed.boot(mode, { { 'redis', '{ open_redis_protocol = true }' } })
      framed.check(app, 'redis', table.concat(COMMANDS), COMMANDS)
      for _, command in ipairs(COMMANDS) do framed.check(app, 'redis', command, { command }) end
      local client, big = app:connect(2), '*2\r\n$3\r\nSET\r\n$1500000\r\n' .. ('v'):rep(1500000) .. '\r\n'
      client:send(COMMANDS[1] .. big .. COMMANDS[2])
      assert.same({ COMMANDS[1], big, COMMANDS[2] }, framed.packets(client, 3))
      local many, expected = {}, {}
      for i = 1, 2000 do
        many[i] = COMMANDS[i % #COMMANDS + 1]
        expected[i] = many[i]
      end
      client = app:connect(2)
      client:send(table.concat(many))
      assert.same(expected, framed.packets(client, #expected))
    end)

    it('takes inline commands, and swallows what is empty', function()
      local app = framed.boot(mode, { { 'redis', '{ open_redis_protocol = true }' } })
      framed.check(app, 'redis', 'PING\r\nECHO hi\n', { 'PING\r\n', 'ECHO hi\n' })
      framed.check(app, 'redis', '\r\n\n*0\r\n*-1\r\nPING\r\n' .. COMMANDS[1] .. '\r\n', { 'PING\r\n', COMMANDS[1] })
      local line = 'ECHO ' .. ('x'):rep(65529) .. '\r\n'
      local client = app:connect(2)
      client:send(line)
      assert.equal(line, framed.packet(client))
    end)

    it('closes for what is no command', function()
      local malformed = { '*x\r\n', '*1x\r\n', '*\r\n', '*1048577\r\n', '*2147483648\r\n', '*1\r\n$-1\r\n',
        '*1\r\n$-5\r\n', '*1\r\n+OK\r\n', '*1\r\n$3\r\nabcde', '*1\r\n$99999999999\r\n', '*1\r\n$x\r\n',
        '*1\r\n$' .. ('0'):rep(40), '*' .. ('1'):rep(40) }
      local ports = { { 'redis', '{ open_redis_protocol = true }' },
        { 'small', '{ open_redis_protocol = true, package_max_length = 65536 }' } }
      for i in ipairs(malformed) do ports[i + 2] = { 'redis' .. i, '{ open_redis_protocol = true }' } end
      local app = framed.boot(mode, ports)
      for i, bad in ipairs(malformed) do -- a port writes ten lines a second at most
        framed.check_violation(app, 'redis' .. i, COMMANDS[1] .. bad, { COMMANDS[1] }, 1204)
      end
      framed.check_violation(app, 'small', '*2\r\n$3\r\nSET\r\n$65536\r\n', {}, 1201)
      framed.check_violation(app, 'redis', COMMANDS[1] .. '*1\r\n$2097152\r\n', { COMMANDS[1] }, 1201)
    end)
  end)
end)
