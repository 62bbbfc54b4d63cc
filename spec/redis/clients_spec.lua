-- The clients that come with Redis, against examples/redis_server.lua.
local support = require 'support'

local function is_there(program)
  return os.execute(('command -v %s >/dev/null'):format(program)) == 0
end

local it_with_cli = is_there 'redis-cli' and it or pending
local it_with_benchmark = is_there 'redis-benchmark' and it or pending

support.in_both_modes(function(mode)
  describe('examples/redis_server.lua in ' .. mode .. ' mode', function()
    after_each(support.cleanup)

    local function start()
      local app = support.launch { support.launcher, support.root .. '/examples/redis_server.lua', 0, mode }
      return app, tonumber(app:expect('print'):match ':(%d+)$')
    end

    it_with_cli('answers redis-cli', function()
      local app, port = start()
      local function cli(...)
        local result = support.run { 'redis-cli', '-p', port, ... }
        assert.equal(0, result.code, result.err)
        return result.out
      end
      assert.equal('PONG\n', cli 'ping')
      assert.equal('OK\n', cli('set', 'greeting', 'hello world'))
      assert.equal('"hello world"\n', cli('--no-raw', 'get', 'greeting'))
      assert.equal('(nil)\n', cli('--no-raw', 'get', 'nothing'))
      assert.equal('(integer) 1\n', cli('--no-raw', 'incr', 'n'))
      assert.equal('1) "greeting"\n', cli('--no-raw', 'keys', 'g*'))
      assert.equal('save\n\n', cli('config', 'get', 'save'))
      assert.equal("ERR unknown command 'nonsense'\n\n", cli('nonsense', 'x'))
      assert.truthy(cli('-3', 'ping'):find 'PONG') -- it asks HELLO first, and goes on with RESP 2
      assert.equal(0, app:stop())
    end)

    it_with_cli('takes a mass insertion of redis-cli --pipe', function()
      local app, port = start()
      local lines = {}
      for i = 1, 5000 do
        lines[i] = ('*3\r\n$3\r\nSET\r\n$%d\r\nkey%d\r\n$%d\r\n%d\r\n'):format(#('key' .. i), i, #tostring(i), i)
      end
      local path = support.write_file(support.directory() .. '/input', table.concat(lines))
      local result = support.run({ 'redis-cli', '-p', port, '--pipe' }, { stdin = path })
      assert.truthy(result.out:find('errors: 0, replies: 5000', 1, true), result.out .. result.err)
      assert.equal('5000\n', support.run({ 'redis-cli', '-p', port, 'dbsize' }).out)
      assert.equal('4711\n', support.run({ 'redis-cli', '-p', port, 'get', 'key4711' }).out)
      assert.equal(0, app:stop())
    end)

    it_with_benchmark('answers redis-benchmark', function()
      local app, port = start()
      for _, depth in ipairs { 1, 16 } do
        local result = support.run({ 'redis-benchmark', '-p', port, '-c', 50, '-P', depth, '-t', 'ping,set,get,incr',
          '-n', 20000, '-r', 1000, '-q' }, { seconds = 60 })
        assert.equal(0, result.code, result.err)
        for _, name in ipairs { 'PING_INLINE', 'PING_MBULK', 'SET', 'GET', 'INCR' } do
          assert.truthy(result.out:find(name .. ': [%d.]+ requests per second'), result.out)
        end
        assert.falsy((result.out .. result.err):find 'rror', result.out .. result.err)
      end
      assert.equal(0, app:stop())
    end)
  end)
end)
