-- The ends of connections: what a client sent before its end is delivered, and what was accepted for it goes out
-- (events.md 7, protocols.md 0.3, methods.md 6).
local support = require 'support'
local framed = require 'support.framed'

local KINDS = {
  raw = { '', function(i) return ('%07d '):format(i):rep(125) end },
  eof = {
    "open_eof_split = true, package_eof = '\\n'",
    function(i) return ('%07d '):format(i):rep(125):sub(1, -2) .. '\n' end,
  },
  length = {
    "open_length_check = true, package_length_type = 'n', package_length_offset = 0, package_body_offset = 2",
    function(i) return '\3\230' .. ('%07d '):format(i):rep(125):sub(1, 998) end,
  },
}

support.in_both_modes(function(mode)
  describe('the end of a connection, ' .. mode .. ',', function()
    after_each(support.cleanup)

    -- Who answers a client that has gone learns it by a failing write; what had not been passed on by then was dropped.
    for kind, traits in pairs(KINDS) do
      for _, way in ipairs { 'closes', 'resets' } do
        it(('comes after all that a client sent which %s while answers go out, %s'):format(way, kind), function()
          local gate = support.directory() .. '/gate'
          local app = support.boot(mode, ([[
            local server = new_server { worker_ring_size = '64k', kernel_socket_recv_buffer_size = '1m', %s }
            local total, code = 0, nil
            server:on('receive', function(self, fd, reactor, data)
              if total == 0 then
                self:send(fd, ('x'):rep(1000))
                hold(%q)
              end
              total = total + #data
              local ok, message, number = self:send(fd, ('x'):rep(1000))
              code = not ok and number or code
            end)
            server:on('close', function(self, fd, reactor)
              emit('close', fd, reactor >= 0, total, code, self:getClientInfo(fd).close_errno ~= 0)
            end)
            run(server)
          ]]):format(traits[1], gate))
          local client, packets = app:connect(), {}
          for i = 1, 200 do packets[i] = traits[2](i) end
          client:send(table.concat(packets))
          client:arrived() -- else the kernel drops it when the first answer finds nobody
          if way == 'closes' then client:receive(1000) end -- a close with something unread is a reset
          client:close()
          support.write_file(gate, '')
          local _, _, total, code = app:expect('close', 1, true)
          assert.equal(#table.concat(packets), total)
          if code then assert.equal(1002, code) end
        end)
      end
    end

    it('comes after the answers to all whole packets of a client that ends its side, in each framing', function()
      local big = ('x'):rep(300000)
      local kinds = {
        { 'split', "{ open_eof_split = true, package_eof = '\\n' }", { 'a\n', big .. '\n', 'b\n' }, 'c' },
        { 'check', "{ open_eof_check = true, package_eof = '\\n' }", { 'a\n' .. big .. '\n' }, nil },
        { 'length', '{ open_length_check = true }', { '\0\0\0\1a', '\0\4\147\224' .. big, '\0\0\0\0' }, '\0\0\0\2a' },
        { 'func', '{ open_length_check = true, package_length_func = function() return 3 end}', { 'abc', 'def' }, 'g' },
        { 'mqtt', '{ open_mqtt_protocol = true }', { '\192\0', '\48\224\167\18' .. big, '\192\0' }, '\48\3x' },
        { 'redis', '{ open_redis_protocol = true }', {
          '*1\r\n$4\r\nPING\r\n', '*1\r\n$300000\r\n' .. big .. '\r\n', 'ping\r\n' }, '*1\r\n$4' },
      }
      local app = framed.boot(mode, kinds, "{ worker_num = 2, socket_buffer_size = '64m' }")
      for _, kind in ipairs(kinds) do
        local client = app:connect(app.number[kind[1]])
        client:send(table.concat(kind[3]) .. (kind[4] or ''))
        client:half_close()
        assert.same(kind[3], framed.packets(client, #kind[3]), kind[1])
        assert.equal('end', client:ending())
        assert.is_true(select(2, app:expect 'close') >= 0)
      end
      assert.equal(0, app:log_count 'WARNING')
    end)
  end)
end)
