-- Packets that begin with their length (protocols.md 1.4).
local ffi = require 'ffi'
local support = require 'support'
local framed = require 'support.framed'

-- A number in so many bytes, the low one first.
local function little(number, width)
  local bytes = {}
  for i = 1, width do
    bytes[i] = string.char(number % 256)
    number = math.floor(number / 256)
  end
  return table.concat(bytes)
end

local function big(number, width)
  return little(number, width):reverse()
end

local host = ffi.abi 'le' and little or big
local LETTERS = { c = { 1, host }, C = { 1, host }, s = { 2, host }, S = { 2, host }, n = { 2, big }, v = { 2, little },
  l = { 4, host }, L = { 4, host }, N = { 4, big }, V = { 4, little }, q = { 8, host }, Q = { 8, host }, J = { 8, big },
  P = { 8, little } }

local function settings(letter, length_offset, body_offset, more)
  return ([[{ open_length_check = true, package_length_type = '%s', package_length_offset = %d,
    package_body_offset = %d, %s }]]):format(letter, length_offset, body_offset, more or '')
end

support.in_both_modes(function(mode)
  describe('length framing, ' .. mode .. ',', function()
    after_each(support.cleanup)

    it('reads every letter in its width, sign and order', function()
      local ports = {}
      for letter, field in pairs(LETTERS) do
        ports[#ports + 1] = { letter, settings(letter, 0, field[1]) }
      end
      local app = framed.boot(mode, ports)
      for letter, field in pairs(LETTERS) do
        local width, write = field[1], field[2]
        local packets = {}
        for i, size in ipairs { 7, 0, width == 1 and 127 or 300 } do
          packets[i] = write(size, width) .. ('x'):rep(size)
        end
        framed.check(app, letter, table.concat(packets), packets)
      end
      for _, letter in ipairs { 'C', 'S', 'n', 'v' } do -- the highest bit is no sign
        local width, write = LETTERS[letter][1], LETTERS[letter][2]
        local size = width == 1 and 255 or 40000
        local client = app:connect(app.number[letter])
        client:send(write(size, width) .. ('y'):rep(size))
        assert.equal(size + width, #framed.packet(client))
      end
    end)

    it('finds the field anywhere in the header', function()
      local app = framed.boot(mode, {
        { 'usual', '{ open_length_check = true }' },
        { 'whole', settings('N', 0, 0) },
        { 'short', settings('n', 0, 0) },
        { 'late', settings('N', 8, 16) },
        { 'middle', settings('v', 2, 4) },
        { 'byte', settings('C', 0, 1) },
        { 'signed', settings('c', 0, 10) },
        { 'wide', settings('P', 0, 8) },
        { 'beyond', settings('N', 0, 2) }, -- the value counts a part of the field, too
        { 'far', settings('n', 8180, 8180) },
      })
      framed.check(app, 'usual', '\0\0\0\3abc\0\0\0\0\0\0\0\1x', { '\0\0\0\3abc', '\0\0\0\0', '\0\0\0\1x' })
      framed.check(app, 'whole', '\0\0\0\7abc\0\0\0\4', { '\0\0\0\7abc', '\0\0\0\4' })
      framed.check(app, 'short', '\0\2\0\2', { '\0\2', '\0\2' })
      framed.check(app, 'late', '12345678\0\0\0\5abcdhello', { '12345678\0\0\0\5abcdhello' })
      framed.check(app, 'middle', '\xab\xcd\2\0hi', { '\xab\xcd\2\0hi' })
      framed.check(app, 'byte', '\xff' .. ('z'):rep(255), { '\xff' .. ('z'):rep(255) })
      framed.check(app, 'signed', '\5' .. ('y'):rep(14), { '\5' .. ('y'):rep(14) })
      framed.check(app, 'wide', '\3\0\0\0\0\0\0\0abc', { '\3\0\0\0\0\0\0\0abc' })
      framed.check(app, 'beyond', '\0\0\0\2\0\0\0\3x', { '\0\0\0\2', '\0\0\0\3x' })
      local far = ('h'):rep(8180) .. '\0\5tail!'
      local client = app:connect(app.number.far)
      client:send(far:sub(1, 8185) .. far:sub(1, 8185))
      assert.same({ far:sub(1, 8185), far:sub(1, 8185) }, framed.packets(client, 2))
    end)

    it('closes for lengths that cannot be', function()
      local app = framed.boot(mode, {
        { 'c', settings('c', 0, 1) }, { 's', settings('s', 0, 2) }, { 'l', settings('l', 0, 4) },
        { 'q', settings('q', 0, 8) }, { 'Q', settings('Q', 0, 8) }, { 'J', settings('J', 0, 8) },
        { 'P', settings('P', 0, 8) }, { 'N', settings('N', 0, 0) }, { 'offset', settings('n', 2, 0) },
        { 'body', settings('N', 0, 4) },
      })
      framed.check_violation(app, 'c', '\1a\xff', { '\1a' }, 1204)
      framed.check_violation(app, 's', host(65534, 2), {}, 1204)
      framed.check_violation(app, 'l', ('\xff'):rep(4), {}, 1204)
      framed.check_violation(app, 'q', ('\xff'):rep(8), {}, 1204)
      framed.check_violation(app, 'Q', ('\xff'):rep(8), {}, 1204)
      framed.check_violation(app, 'J', '\x80\0\0\0\0\0\0\0', {}, 1204)
      framed.check_violation(app, 'P', '\0\0\0\0\0\0\0\x80', {}, 1204)
      framed.check_violation(app, 'N', '\0\0\0\0', {}, 1203)
      framed.check_violation(app, 'N', '\0\0\0\4\0\0\0\2', { '\0\0\0\4' }, 1204)
      framed.check_violation(app, 'offset', 'ab\0\3', {}, 1204)
      framed.check_violation(app, 'body', '\xff\xff\xff\xff', {}, 1201)
      framed.check_violation(app, 'Q', host(2 ^ 52, 8), {}, 1201)
      framed.check_violation(app, 'J', '\x7f\xff\xff\xff\xff\xff\xff\xff', {}, 1201) -- no overflow
    end)

    it('closes for a length over the limit before the body comes', function()
      local app = framed.boot(mode, { { 'N', settings('N', 0, 4, 'package_max_length = 65536') } })
      local full = big(65532, 4) .. ('b'):rep(65532)
      framed.check_violation(app, 'N', '\0\0\0\1a' .. big(65533, 4), { '\0\0\0\1a' }, 1201)
      local client = app:connect(2)
      client:send(full .. full)
      assert.same({ full, full }, framed.packets(client, 2))
    end)

    it('keeps a thousand packets apart that come at once', function()
      local app = framed.boot(mode, { { 'n', settings('n', 1, 3) } })
      local packets = {}
      for i = 1, 3000 do packets[i] = 'T' .. big(i % 400, 2) .. string.char(i % 256):rep(i % 400) end
      local client, got = app:connect(2), {}
      for first = 1, #packets, 500 do -- both directions move, or both sides would wait for the other
        client:send(table.concat(packets, '', first, first + 499))
        for i = 0, 499 do got[first + i] = framed.packet(client) end
      end
      assert.same(packets, got)
    end)

    it('takes packets larger than every buffer, several in a row, with slow workers', function()
      local app = support.boot(mode, framed.prelude .. [[
        local ffi = require 'ffi'
        local server = new_server { open_length_check = true, package_max_length = '4m', worker_ring_size = '1m' }
        server:on('receive', function(self, fd, reactor, data)
          ffi.C.usleep(20000)
          local sum = 0
          for i = 1, #data, 997 do sum = (sum * 31 + data:byte(i)) % 1000003 end
          self:send(fd, framed(#data .. ' ' .. sum))
        end)
        run(server)
      ]])
      local function sum_of(data)
        local sum = 0
        for i = 1, #data, 997 do sum = (sum * 31 + data:byte(i)) % 1000003 end
        return #data .. ' ' .. sum
      end
      local clients, expected = { app:connect(), app:connect() }, { {}, {} }
      for round = 1, 4 do
        for i, client in ipairs(clients) do
          local body = {}
          for k = 1, 64 do body[k] = string.char((round * 64 + k * i) % 256):rep(32768 + round) end
          local data = table.concat(body)
          data = big(#data, 4) .. data
          client:send(data .. '\0\0\0\2ok')
          table.insert(expected[i], sum_of(data))
          table.insert(expected[i], sum_of '\0\0\0\2ok')
        end
      end
      for i, client in ipairs(clients) do
        assert.same(expected[i], framed.packets(client, #expected[i]))
      end
    end)
  end)
end)
