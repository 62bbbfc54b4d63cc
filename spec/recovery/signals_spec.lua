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

    -- It was ignored in them, too: they did not end when nobody read what they wrote.
    it('of broken pipes end the programs that a worker runs, in ' .. mode .. ' mode', function()
      local app = support.boot(mode, [[
        local server = new_server()
        server:on('receive', function(s, fd)
          local pipe = io.popen "(exec 3>&1; (yes; echo $? >&3) | read line) 2>/dev/null"
          s:send(fd, pipe:read '*l')
          pipe:close()
        end)
        run(server)
      ]])
      assert.equal('141', app:connect():echo 'yes') -- 128 + SIGPIPE
      assert.equal(0, app:stop())
    end)
  end)
end)
