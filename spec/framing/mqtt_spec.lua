-- MQTT control packets (protocols.md 1.6).
local support = require 'support'
local framed = require 'support.framed'

support.in_both_modes(function(mode)
  describe('mqtt framing, ' .. mode .. ',', function()
    after_each(support.cleanup)

    local PING, PUBLISH = '\xc0\0', '\x30\x80\x01' .. ('p'):rep(128)

    it('cuts control packets by their remaining length', function()
      local app = framed.boot(mode, { { 'mqtt', '{ open_mqtt_protocol = true }' } })
      framed.check(app, 'mqtt', PING .. '\x30\3\0\1a' .. PING, { PING, '\x30\3\0\1a', PING })
      framed.check(app, 'mqtt', PUBLISH .. PING, { PUBLISH, PING })
      framed.check(app, 'mqtt', '\xc0\x80\0\xc0\x80\x80\0' .. '\xc0\x80\x80\x80\0' .. PING, -- longer than they need be
        { '\xc0\x80\0', '\xc0\x80\x80\0', '\xc0\x80\x80\x80\0', PING })
      framed.check(app, 'mqtt', '\0\0\xff\1x', { '\0\0', '\xff\1x' }) -- types and flags are the application's
      local three = '\x30\xa0\x8d\x06' .. ('q'):rep(100000)
      local client = app:connect(2)
      client:send(PING .. three .. PING:rep(500))
      local packets = framed.packets(client, 502)
      assert.equal(three, packets[2])
      assert.equal(PING:rep(501), packets[1] .. table.concat(packets, '', 3))
    end)

    it('closes for a length of five bytes, or over the limit', function()
      local app = framed.boot(mode, { { 'mqtt', '{ open_mqtt_protocol = true, package_max_length = 65536 }' } })
      framed.check_violation(app, 'mqtt', PING .. '\x30\xff\xff\xff\xff', { PING }, 1204)
      framed.check_violation(app, 'mqtt', PING .. '\x30\xff\xff\xff\x7f', { PING }, 1201)
      framed.check_violation(app, 'mqtt', '\x30\xfd\xff\x03', {}, 1201) -- 65537 in all
      local client = app:connect(2)
      local full = '\x30\xfc\xff\x03' .. ('m'):rep(65532)
      client:send(full)
      assert.equal(full, framed.packet(client))
    end)
  end)
end)
