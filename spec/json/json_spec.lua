local json = require 'srvlua.json'
local support = require 'support'

describe('srvlua.json', function()
  after_each(support.cleanup)

  it('writes values', function()
    for text, value in pairs { ['[1,"two",true,false]'] = { 1, 'two', true, false }, ['{}'] = {}, ['"x"'] = 'x',
      null = json.null, ['{"a":{"b":[{}]}}'] = { a = { b = { {} } } }, ['[null]'] = { json.null } } do
      assert.equal(text, json.encode(value))
    end
    assert.equal('null', json.encode(nil))
    assert.equal([["\"\\/\u0000\u001f\n\r\t\u007f\u0008 ü"]], json.encode '"\\/\0\31\n\r\t\127\8 ü')
  end)

  it('writes numbers that read back as the same', function()
    for text, number in pairs { ['0'] = 0, ['-1'] = -1, ['0.1'] = 0.1, ['2.5'] = 2.5, ['9007199254740992'] = 2 ^ 53,
      ['1700000000123456'] = 1700000000123456, ['1700000000.123456'] = 1700000000.123456, ['1e+100'] = 1e100,
      ['123456789012345'] = 123456789012345 } do
      assert.equal(text, json.encode(number))
    end
    for _, number in ipairs { 1 / 3, 2 ^ 53 - 1, 1e308, 5e-324, -2 ^ 63, 0.1 + 0.2, math.pi } do
      assert.equal(number, json.decode(json.encode(number)))
    end
  end)

  it('raises for what JSON does not have', function()
    local cycle = {}
    cycle.me = cycle
    local deep = {}
    for _ = 1, 1000 do
      deep = { deep }
    end
    for _, value in ipairs { print, cycle, deep, { 1, a = 2 }, { a = 1, [1] = 2 }, { [2] = 1 }, { [1.5] = 1 },
      { [true] = 1 }, 0 / 0, 1 / 0, -1 / 0, coroutine.create(print), io.stdout, { { { print } } }, 1LL } do
      assert.has_error.matches(function() json.encode(value) end, "bad argument #1 to 'encode' %(")
    end
    assert.has_error(function() json.encode() end)
  end)

  it('reads values', function()
    local value = json.decode '{"a":[1,2.5,"x\\u0041\\ud83d\\ude00",null,true],"b":{},"c":-1e3}'
    assert.same({ a = { 1, 2.5, 'xA😀', json.null, true }, b = {}, c = -1000 }, value)
    assert.equal(false, json.decode 'false')
    assert.equal(5, json.decode ' 5 ')
    assert.equal(json.null, json.decode 'null')
  end)

  it('goes 1000 tables deep, both ways', function()
    local text = ('['):rep(999) .. '{}' .. (']'):rep(999)
    assert.equal(text, json.encode(json.decode(text)))
    assert.is_false((json.decode('[' .. text .. ']')))
  end)

  it('fails for bad text with 505', function()
    for _, text in ipairs { '', ' ', '{"a":', '1 2', '[1,]', "{'a':1}", '{a:1}', 'nan', '[Infinity]', '0x10', '01',
      '"\\ud800"', 'nul', '[1', '{"a" 1}' } do
      local value, message, code = json.decode(text)
      assert.same({ false, 'string', 505 }, { value, type(message), code }, text)
    end
    assert.has_error.matches(function() json.decode {} end, "bad argument #1 to 'decode' %(string expected, got table")
    assert.has_error(function() json.decode() end)
    assert.has_error(function() json.decode(1) end)
  end)

  it('leaves the settings of other users of cjson alone', function()
    local cjson = require 'cjson'
    assert.equal('[null,null,1]', cjson.encode { [3] = 1 })
    assert.is_not_nil(cjson.decode '[0x10]')
    assert.equal(cjson.null, json.null)
  end)

  it('says what it needs when lua-cjson is not there', function()
    local app = support.boot('PROCESS', [[
      package.path, package.cpath = package.path:match '[^;]+lua/%?%.lua;[^;]+' or package.path, ''
      package.preload.cjson = nil
      emit('missing', pcall(function() return srvlua.json end))
    ]], { start = false })
    local _, message = app:expect('missing', false)
    assert.truthy(message:find('srvlua.json needs lua-cjson', 1, true), message)
  end)
end)
