local support = require 'support'

describe('signals', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    -- They waited until start() gave the host its signals back, and ended it then: no code after start() ran.
    it('that come while the server shuts down do not end the host, in ' .. mode .. ' mode', function()
      local directory = support.directory()
      local app = support.boot(mode, [[
        local ffi = require 'ffi'
        ffi.cdef 'int kill(int, int);'
        local server = new_server { pid_file = arg[2] }
        server:on('receive', function() end)
        server:on('shutdown', function()
          for _, signal in ipairs { 15, 10, 12, 1, 14 } do
            for _ = 1, 3 do
              ffi.C.kill(srvlua.getpid(), signal)
            end
          end
        end)
        run(server)
        emit 'after'
      ]], { args = { directory .. '/pid' } })
      assert.equal(0, app:stop())
      app:expect('returned', true)
      app:expect 'after'
      assert.is_nil(support.read_file(directory .. '/pid'))
    end)
  end)
end)
