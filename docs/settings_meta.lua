--- Writes the LuaLS definitions of the settings from docs/settings.md to standard output:
--   luajit docs/settings_meta.lua docs/settings.md > lua/srvlua/meta/settings.lua

local WIDTH = 116

local kinds = {
  boolean = 'boolean', integer = 'integer', number = 'number', seconds = 'number', milliseconds = 'integer',
  size = 'integer|string', string = 'string', path = 'string', ['function'] = 'function', map = 'table',
  table = 'table', file = 'integer|string',
}

-- the LuaLS type of a cell such as "integer 0..65535" or "one of 'fd' (2), 'ip' (4)"
local function type_of(cell)
  if cell:find('^one of') then
    local names = {}
    for name in cell:gmatch("'[%w_]+'") do
      names[#names + 1] = name
    end
    return table.concat(names, '|') .. '|integer'
  elseif cell:find('list of pairs') then
    return 'table'
  elseif cell:find('list of integers') then
    return 'integer[]'
  elseif cell:find('string or list') then
    return 'string|string[]'
  elseif cell:find('^list') then
    return cell:find('sum of') and 'string[]|integer' or 'string[]'
  end
  return kinds[cell:match('^%a+')] or 'any'
end

local function print_wrapped(text)
  local line = '---'
  for word in text:gmatch('%S+') do
    if #line + 1 + #word > WIDTH then
      print(line)
      line = '---'
    end
    line = line .. ' ' .. word
  end
  print(line)
end

print('---@meta\n-- Made from docs/settings.md by docs/settings_meta.lua.\n')
print('--- What `server:set` takes; docs/settings.md says which of them `port:set` takes too.')
print('---@class srvlua.Settings')
for line in io.lines(arg[1]) do
  local names, kind, default, _, effect = line:gsub('\\|', '\1'):match('^| (`.-) | (.-) | (.-) | (.-) | (.-) |$')
  if names then
    local canonical = names:match('[%w_]+')
    for name in names:gmatch('`([%w_]+)`') do
      if name == canonical then
        print_wrapped((effect:gsub('\1', '|')) .. ' Default: ' .. default .. '.')
      else
        print('--- The same as `' .. canonical .. '`.')
      end
      print(('---@field %s? %s'):format(name, type_of(kind)))
    end
  end
end
