--- `require 'srvlua.json'`: JSON, strict in both directions.
--
-- Reading is lua-cjson's. Writing is not: it would cut numbers to 14 digits (2^53 comes out as another number), write
-- tables with both list and other keys as objects and sparse ones as lists with holes.

local constants = require('srvlua.core').constants
local shortest = require('srvlua.numbers').shortest

local found, cjson = pcall(require, 'cjson')
if not found then
  error('srvlua.json needs lua-cjson (a package of that name, in Debian and LuaRocks): ' .. cjson:match '[^\n]*', 0)
end

local null = cjson.null
local DEPTH = 1000 -- most tables inside one another

local reader = cjson.new() -- an instance of our own: its settings are nobody else's
reader.decode_max_depth(DEPTH)
reader.decode_invalid_numbers(false)

local concat, floor, format = table.concat, math.floor, string.format
local find, gsub, byte = string.find, string.gsub, string.byte

-- ------------------------------------------------------------------------------------------------------- writing

local escapes = { ['"'] = '\\"', ['\\'] = '\\\\', ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t' }

local function escape(character)
  return escapes[character] or format('\\u%04x', byte(character))
end

local function string_text(text)
  if find(text, '[%c"\\]') then text = gsub(text, '[%c"\\]', escape) end
  return '"' .. text .. '"'
end

local function number_text(number)
  if number == floor(number) and number > -1e15 and number < 1e15 then return format('%d', number) end
  if number ~= number or number == math.huge or number == -math.huge then
    error('no ' .. tostring(number) .. ' in JSON', 0)
  end
  return shortest(number)
end

-- How many elements a list has; nil for a table that is none. Raises for what is both, or has holes.
local function list_length(value)
  local count, has_names = 0, false
  for key in next, value do
    if type(key) == 'number' then
      count = count + 1
    elseif type(key) == 'string' then
      has_names = true
    else
      error('no keys of type ' .. type(key) .. ' in JSON', 0)
    end
  end
  if count == 0 then return nil end
  if has_names then error('a table is either a list or has names as keys', 0) end
  for i = 1, count do
    if rawget(value, i) == nil then error('a list without holes expected, nothing at ' .. i, 0) end
  end
  return count
end

local write

local function write_list(out, count, value, length, depth)
  for i = 1, length do
    count = count + 1
    out[count] = i == 1 and '[' or ','
    count = write(out, count, rawget(value, i), depth)
  end
  out[count + 1] = ']'
  return count + 1
end

local function write_object(out, count, value, depth)
  local separator = '{'
  for key, item in next, value do
    out[count + 1] = separator
    out[count + 2] = string_text(key)
    out[count + 3] = ':'
    count = write(out, count + 3, item, depth)
    separator = ','
  end
  out[count + 1] = separator == '{' and '{}' or '}'
  return count + 1
end

-- Appends a value's text to the parts in `out`; returns how many those are then.
function write(out, count, value, depth)
  local kind = type(value)
  if kind == 'table' then
    if depth == DEPTH then error(format('tables nested more than %d deep, or in a cycle', DEPTH), 0) end
    local length = list_length(value)
    if length then return write_list(out, count, value, length, depth + 1) end
    return write_object(out, count, value, depth + 1)
  end
  if kind == 'string' then
    out[count + 1] = string_text(value)
  elseif kind == 'number' then
    out[count + 1] = number_text(value)
  elseif kind == 'boolean' then
    out[count + 1] = value and 'true' or 'false'
  elseif value == nil or value == null then
    out[count + 1] = 'null'
  else
    error('no ' .. kind .. ' in JSON', 0)
  end
  return count + 1
end

-- ------------------------------------------------------------------------------------------------------- the module

local json = { null = null }

--- The text of a value. Raises for what JSON does not have.
function json.encode(...)
  if select('#', ...) == 0 then error("bad argument #1 to 'encode' (value expected)", 2) end
  local out = {}
  local ok, count = pcall(write, out, 0, (...), 0)
  if not ok then error(("bad argument #1 to 'encode' (%s)"):format(count), 2) end
  return concat(out, '', 1, count)
end

--- The value of a text, or false, message, 505.
function json.decode(text)
  if type(text) ~= 'string' then
    error(("bad argument #1 to 'decode' (string expected, got %s)"):format(text == nil and 'no value' or type(text)), 2)
  end
  local ok, value = pcall(reader.decode, text)
  if not ok then return false, value, constants.ERROR_INVALID_PARAMS end
  return value
end

return json
