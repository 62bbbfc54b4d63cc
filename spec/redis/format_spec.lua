-- The exact bytes of replies (protocols.md 3.4), and what is no reply.
local support = require 'support'

local CASES = [[
  local redis = srvlua.redis
  local format = redis.format
  local function nested(depth)
    local value = {}
    for _ = 2, depth do value = { value } end
    return value
  end
  local cycle = {}
  cycle[1] = cycle
  local cases = {
    nil_ = { redis.NIL }, nil_ignores = { redis.NIL, 'x' },
    error = { redis.ERROR }, error_text = { redis.ERROR, 'ERR no' }, error_lines = { redis.ERROR, 'a\r\nb\nc' },
    status = { redis.STATUS }, status_text = { redis.STATUS, 'QUEUED' }, status_lines = { redis.STATUS, 'a\rb' },
    int = { redis.INT, 1000 }, int_negative = { redis.INT, -7 }, int_zero = { redis.INT, -0 },
    int_largest = { redis.INT, 2 ^ 53 }, int_boxed = { redis.INT, -9223372036854775807LL },
    int_unsigned = { redis.INT, 18446744073709551615ULL },
    string = { redis.STRING, 'hello swoole' }, string_empty = { redis.STRING, '' },
    string_bytes = { redis.STRING, '\0\r\n\255' }, string_number = { redis.STRING, 1.5 },
    string_integer = { redis.STRING, 2 ^ 53 }, string_shortest = { redis.STRING, 0.1 },
    set = { redis.SET, { 'php', 'is', 'best' } }, set_falsy = { redis.SET, { 0, '', false } },
    set_empty = { redis.SET, {} }, set_holes = { redis.SET, { n = 3, 'a', nil, true } },
    set_nested = { redis.SET, { { 1, { 'x' } }, { k = 2.5 }, {} } },
    map = { redis.MAP, { k = 'v' } }, map_empty = { redis.MAP, {} }, map_numbers = { redis.MAP, { [5] = 1 } },
    map_nested = { redis.MAP, { k = { 'a', 'b' } } },
    deepest = { redis.SET, nested(32) },
  }
  for name, case in pairs(cases) do emit(name, format(case[1], case[2])) end
  local failures = {
    no_type = {}, wrong_type = { 7 }, no_int = { redis.INT }, no_string = { redis.STRING }, no_set = { redis.SET },
    no_map = { redis.MAP }, fraction = { redis.INT, 1.5 }, too_large = { redis.INT, 2 ^ 60 },
    text_as_int = { redis.INT, '1' }, table_as_string = { redis.STRING, {} }, number_as_status = { redis.STATUS, 1 },
    names_in_set = { redis.SET, { a = 1 } }, hole_in_set = { redis.SET, { 1, nil, 3 } },
    text_as_set = { redis.SET, 'x' },
    function_ = { redis.SET, { print } }, too_deep = { redis.SET, nested(33) }, cycle = { redis.MAP, cycle },
  }
  for name, case in pairs(failures) do
    local ok, message = pcall(format, case[1], case[2])
    emit(name, ok, message)
  end
  local server = redis.Server('127.0.0.1', 0)
  emit('statics', redis.ERROR, redis.NIL, redis.STATUS, redis.INT, redis.STRING, redis.SET, redis.MAP)
  for _, place in ipairs { redis.Server, server } do
    local same = place.format == format
    for _, name in ipairs { 'ERROR', 'NIL', 'STATUS', 'INT', 'STRING', 'SET', 'MAP' } do
      same = same and place[name] == redis[name]
    end
    emit('same', same)
  end
  emit('module', require 'srvlua.redis' == redis)
  emit('end')
]]

describe('srvlua.redis.format', function()
  after_each(support.cleanup)

  local function run()
    return support.boot('PROCESS', CASES, { start = false })
  end

  it('writes these bytes', function()
    local app = run()
    for name, bytes in pairs {
      nil_ = '$-1\r\n', nil_ignores = '$-1\r\n',
      error = '-ERR\r\n', error_text = '-ERR no\r\n', error_lines = '-a  b c\r\n',
      status = '+OK\r\n', status_text = '+QUEUED\r\n', status_lines = '+a b\r\n',
      int = ':1000\r\n', int_negative = ':-7\r\n', int_zero = ':0\r\n', int_largest = ':9007199254740992\r\n',
      int_boxed = ':-9223372036854775807\r\n', int_unsigned = ':18446744073709551615\r\n',
      string = '$12\r\nhello swoole\r\n', string_empty = '$0\r\n\r\n', string_bytes = '$4\r\n\0\r\n\255\r\n',
      string_number = '$3\r\n1.5\r\n', string_integer = '$16\r\n9007199254740992\r\n',
      string_shortest = '$3\r\n0.1\r\n',
      set = '*3\r\n$3\r\nphp\r\n$2\r\nis\r\n$4\r\nbest\r\n', set_falsy = '*3\r\n:0\r\n$0\r\n\r\n:0\r\n',
      set_empty = '*0\r\n', set_holes = '*3\r\n$1\r\na\r\n$-1\r\n:1\r\n',
      set_nested = '*3\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n*2\r\n$1\r\nk\r\n$3\r\n2.5\r\n*0\r\n',
      map = '*2\r\n$1\r\nk\r\n$1\r\nv\r\n', map_empty = '*0\r\n', map_numbers = '*2\r\n$1\r\n5\r\n:1\r\n',
      map_nested = '*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n',
      deepest = ('*1\r\n'):rep(31) .. '*0\r\n',
    } do
      assert.equal(bytes, app:expect(name), name)
    end
  end)

  it('raises for what is no reply', function()
    local app = run()
    for name, text in pairs {
      no_type = "#1 to 'format' (srvlua.redis.ERROR ... MAP expected, got no value)",
      wrong_type = "#1 to 'format' (srvlua.redis.ERROR ... MAP expected, got 7)",
      no_int = "#2 to 'format' (integer expected, got no value)",
      no_string = "#2 to 'format' (string or number expected, got no value)",
      no_set = "#2 to 'format' (sequence expected, got no value)",
      no_map = "#2 to 'format' (table expected, got no value)",
      fraction = '(integer expected, got 1.5)', too_large = '(integer expected, got 1.152921504606',
      text_as_int = '(integer expected, got string)', table_as_string = '(string or number expected, got table)',
      number_as_status = '(string expected, got number)',
      names_in_set = '(sequence expected, got a table with other keys)',
      hole_in_set = '(sequence expected, got a table with other keys)', text_as_set = '(sequence expected, got string)',
      function_ = '(items that RESP has expected, got function)', too_deep = '(tables nested 32 deep at most',
      cycle = '(tables nested 32 deep at most',
    } do
      local ok, message = app:expect(name)
      assert.is_false(ok, name)
      assert.truthy(message:find(text, 1, true), message)
    end
  end)

  it('and the constants are where they are looked for', function()
    local app = run()
    assert.same({ 0, 1, 2, 3, 4, 5, 6 }, { app:expect 'statics' })
    app:expect('same', true)
    app:expect('same', true)
    app:expect('module', true)
  end)
end)
