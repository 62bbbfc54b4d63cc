local support = require 'support'

local ECHO = support.build .. '/embed/echo'

local function start(mode, port)
  local app = support.launch { ECHO, port or 0, mode }
  local number = app:expect('print'):match '^echo on 127%.0%.0%.1:(%d+)$'
  return app, tonumber(number)
end

describe('a C host', function()
  after_each(support.cleanup)

  support.in_both_modes(function(mode)
    it('serves, and ends in order, ' .. mode, function()
      local app, port = start(mode)
      local client = support.stream(port)
      assert.equal('hello', client:echo 'hello')
      local large = ('0123456789'):rep(20000)
      assert.is_true(client:echo(large) == large)
      assert.same({ 0, nil }, { app:stop() })
      assert.equal('end', client:ending())
    end)

    it('finds what the header promises, ' .. mode, function()
      local directory = support.directory()
      local sanitize = { asan = '-fsanitize=address,undefined', tsan = '-fsanitize=thread' }
      local command = ('cc -std=gnu11 -Wall -Wextra -Werror -pthread %s -I%s/include %s/spec/embed/host.c ' ..
        '%s/libsrvlua.a -lev -lmbedtls -lmbedx509 -lmbedcrypto -lm -ldl -o %s/host'):format(
        sanitize[support.sanitizer] or '', support.root, support.root, support.build, directory)
      local built = support.run({ 'sh', '-c', command }, { seconds = 60 })
      assert.equal(0, built.code, built.err)
      local log = directory .. '/log'
      local result = support.run { directory .. '/host', mode, log }
      assert.same({ 'done\n', '', 0 }, { result.out, result.err, result.code })
      local text = support.read_file(log)
      assert.truthy(text:find 'DATE NOTICE %d+ worker#0 the timer is released\n')
      for line in text:gmatch '[^\n]+' do
        assert.truthy(line:find '^DATE ', line)
      end
    end)
  end)

  it('keeps its connections when a worker is killed', function()
    local app, port = start 'PROCESS'
    local client = support.stream(port)
    client:echo 'x'
    for _, pid in ipairs(app:members()) do
      if support.title(pid):find 'worker' then support.kill(pid, 'KILL') end
    end
    assert.equal('y', client:echo 'y')
    app:logs 'was ended by signal 9'
  end)

  it('is told why it cannot start', function()
    local app, port = start 'BASE'
    local result = support.run { ECHO, port, 'PROCESS' }
    assert.same({ 1, '' }, { result.code, result.out })
    assert.truthy(result.err:find '^echo: .*in use.* %(98%)\n$', result.err)
    app:stop()
  end)
end)
