--- What becomes of the packet that a worker died over (on_lost_request). A long one, which travels to its worker in
--- pieces, was announced as given once more, and was not.
local support = require 'support'

local SERVER = [[
  local ffi = require 'ffi'
  ffi.cdef 'int kill(int, int);'
  local settings = { worker_num = 1, reactor_num = 1, respawn_delay_max = 0, socket_buffer_size = 0,
    open_length_check = true, on_lost_request = arg[2] }
  local server = new_server(settings)
  local deaths = srvlua.Atomic(tonumber(arg[3])) -- that are still to come
  server:on('receive', function(s, fd, _, data)
    local size = #data - 4
    if data:byte(5) == 100 and deaths:get() > 0 then -- d
      deaths:sub(1)
      emit('dies', size)
      ffi.C.kill(srvlua.getpid(), 9)
    end
    s:send(fd, ('%08d'):format(size))
  end)
  server:on('close', function(s, fd) emit('close', fd, s:stats().lost_count) end)
  run(server)
]]

local function packet(letter, size)
  local high = math.floor(size / 65536)
  return string.char(math.floor(high / 256), high % 256, math.floor(size / 256) % 256, size % 256) .. letter:rep(size)
end

describe('the packet that a worker died over', function()
  after_each(support.cleanup)

  local function boot(way, deaths)
    local app = support.boot('PROCESS', SERVER, { args = { way, tostring(deaths) } })
    return app, app:connect()
  end

  for _, size in ipairs { 10, 65536, 300000, 2 ^ 20 } do
    describe(('of %d bytes'):format(size), function()
      it('is given once more to the successor, in its place', function()
        local app, client = boot('redeliver', 1)
        client:send(packet('a', 1) .. packet('d', size) .. packet('a', 2))
        app:expect('dies', size)
        assert.equal('00000001', client:receive(8))
        assert.equal(('%08d'):format(size), client:receive(8))
        assert.equal('00000002', client:receive(8))
        app:logs 'died while it served session 1: its successor gets it once more'
        client:close()
        app:expect('close', 1, 0)
      end)

      it('is given up with its connection after a second death', function()
        local app, client = boot('redeliver', 2)
        client:send(packet('d', size))
        app:expect('dies', size)
        app:expect('dies', size)
        app:logs 'died while it served session 1: that request is lost'
        assert.equal('end', client:ending())
        app:expect('close', 1, 1)
      end)

      it('is lost by name and nothing else is', function()
        local app, client = boot('keep', 1)
        client:send(packet('a', 1) .. packet('d', size) .. packet('a', 2))
        app:expect('dies', size)
        assert.equal('00000001', client:receive(8))
        assert.equal('00000002', client:receive(8))
        app:logs 'died while it served session 1: that request is lost'
        client:close()
        app:expect('close', 1, 1)
      end)
    end)
  end
end)
