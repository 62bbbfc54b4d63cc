local support = require 'support'

describe('a start that fails', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    -- It returned to a program that runs in the background, with nobody to look at what start() said.
    it('in the background ends the process and tells why in the log, in ' .. mode .. ' mode', function()
      if support.sanitizer then return pending 'sanitizers need more address space than there is then' end
      local directory = support.directory()
      local app = support.boot(mode, [[
        local ffi = require 'ffi'
        ffi.cdef 'int setrlimit(int, const unsigned long *);'
        local log_file, pid_file = arg[2] .. '/log', arg[2] .. '/pid'
        local server = new_server { daemonize = true, worker_num = 2, log_file = log_file, pid_file = pid_file }
        server:on('receive', function() end)
        local limit = ffi.new('unsigned long[2]', 300 * 2^20, 300 * 2^20)
        assert(ffi.C.setrlimit(9, limit) == 0) -- AS: no room for the shared memory
        run(server)
        emit 'after'
      ]], { start = false, args = { directory } })
      assert.equal(0, app:wait())
      assert.is_true(app:is_gone())
      local log = support.read_file(directory .. '/log')
      assert.truthy(log:find('the server could not start: the shared memory could not be mapped', 1, true))
      assert.falsy(log:find('@', 1, true))
      assert.is_nil(support.read_file(directory .. '/pid'))
    end)
  end)
end)
