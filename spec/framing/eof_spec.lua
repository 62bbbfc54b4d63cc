-- Packets that end with a mark (protocols.md 1.3).
local support = require 'support'
local framed = require 'support.framed'

support.in_both_modes(function(mode)
  describe('eof framing, ' .. mode .. ',', function()
    after_each(support.cleanup)

    it('split gives one packet per event, its mark included, however the stream is cut', function()
      local app = framed.boot(mode, {
        { 'crlf', "{ open_eof_split = true, package_eof = '\\r\\n' }" },
        { 'usual', '{ open_eof_split = true }' },
        { 'both', "{ open_eof_split = true, open_eof_check = true, package_eof = '\\n' }" },
        { 'aa', "{ open_eof_split = true, package_eof = 'aa' }" },
        { 'aab', "{ open_eof_split = true, package_eof = 'aab' }" },
        { 'nul', "{ open_eof_split = true, package_eof = '\\0\\0' }" },
        { 'eight', "{ open_eof_split = true, package_eof = '12345678' }" },
      })
      framed.check(app, 'crlf', 'a\r\nb\r\n', { 'a\r\n', 'b\r\n' })
      framed.check(app, 'crlf', '\r\n\r\n', { '\r\n', '\r\n' })
      framed.check(app, 'crlf', '\r\r\n\n\r\r\n', { '\r\r\n', '\n\r\r\n' })
      framed.check(app, 'usual', 'x\r\n\ry\r\r\n\r\nz\r\n\r\n', { 'x\r\n\ry\r\r\n\r\n', 'z\r\n\r\n' })
      framed.check(app, 'usual', '\r\n\r\n\r\n\r\n', { '\r\n\r\n', '\r\n\r\n' })
      framed.check(app, 'both', 'a\nb\n\n', { 'a\n', 'b\n', '\n' })
      framed.check(app, 'aa', 'aaabaa', { 'aa', 'abaa' })
      framed.check(app, 'aab', 'aaabaaaab', { 'aaab', 'aaaab' })
      framed.check(app, 'nul', 'a\0b\0\0\0c\0\0', { 'a\0b\0\0', '\0c\0\0' })
      framed.check(app, 'eight', '112345678', { '112345678' })
      framed.check(app, 'eight', '1234567123456781234567812345678', { '123456712345678', '12345678', '12345678' })
    end)

    it('split cuts thousands of packets out of one write', function()
      local app = framed.boot(mode, { { 'semicolon', "{ open_eof_split = true, package_eof = ';' }" } })
      local packets = {}
      for i = 1, 5000 do packets[i] = i .. ';' end
      local client = app:connect(2)
      client:send(table.concat(packets))
      assert.same(packets, framed.packets(client, #packets))
    end)

    it('check gives the whole stream in pieces that end with the mark', function()
      local app = framed.boot(mode, {
        { 'crlf', "{ open_eof_check = true, package_eof = '\\r\\n' }" },
        { 'nul', "{ open_eof_check = true, package_eof = '\\0\\0' }" },
      })
      for _, case in ipairs { { 2, 'one\r\ntwo\r\nthree\r\n', '\r\n' }, { 2, '\r\n\r\n\r\n', '\r\n' },
        { 3, 'a\0b\0\0', '\0\0' } } do
        for at = 0, #case[2] do
          local client, got = app:connect(case[1]), ''
          if at > 0 then client:send_at_once(case[2]:sub(1, at)) end
          if at < #case[2] then client:send_at_once(case[2]:sub(at + 1)) end
          repeat
            local piece = framed.packet(client)
            assert.equal(case[3], piece:sub(-#case[3]))
            got = got .. piece
          until #got >= #case[2]
          assert.equal(case[2], got)
          client:close()
        end
      end
      local client = app:connect(2)
      client:send_at_once 'no end yet\r'
      client:send_at_once '\n'
      assert.equal('no end yet\r\n', framed.packet(client))
    end)

    it('lets packets of the limit pass, and closes at that many bytes without an end', function()
      local app = framed.boot(mode, {
        { 'split', "{ open_eof_split = true, package_eof = '\\n', package_max_length = 65536 }" },
        { 'check', "{ open_eof_check = true, package_eof = '\\r\\n', package_max_length = 65536 }" },
      })
      local full = ('x'):rep(65535) .. '\n'
      local client = app:connect(2)
      client:send(full .. 'ok\n' .. full .. full)
      assert.same({ full, 'ok\n', full, full }, framed.packets(client, 4)) -- it counts per packet, not per read
      full = ('x'):rep(65534) .. '\r\n'
      client = app:connect(3)
      client:send(full)
      assert.equal(full, framed.packet(client))
      framed.check_violation(app, 'split', 'ok\n' .. ('y'):rep(65536) .. '\n', { 'ok\n' }, 1201)
      client = app:connect(3)
      client:send(('z'):rep(65536))
      assert.is_true(client:ending() ~= nil)
      local _, port = client:name()
      assert.truthy(app:logs(':' .. port .. ', '):find 'error 1201')
    end)

    it('drops what has no end when the peer closes, without a line in the log', function()
      local app = framed.boot(mode, { { 'crlf', "{ open_eof_split = true, package_eof = '\\r\\n' }" } })
      local client = app:connect(2)
      client:send_at_once 'a\r\nrest'
      client:half_close()
      assert.equal('00000003a\r\n', client:rest())
      local _, reactor = app:expect 'close'
      assert.is_true(reactor >= 0)
      assert.equal(0, app:log_count 'WARNING')
    end)
  end)
end)
