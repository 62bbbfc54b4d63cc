---@meta

--- JSON with lua-cjson (`require 'srvlua.json'`).
---@class srvlua.json
---@field null lightuserdata JSON's null, in both directions
local json = {}

--- Sequences become arrays, other tables objects; an empty table is `{}`. Raises for functions and other values that
--- JSON does not have, nan, infinities, tables with both list and other keys or with holes, more than 1000 tables in
--- one another (cycles).
---@param value any
---@return string text
function json.encode(value) end

---@param text string
---@return any value, string? message, integer? code  `false, message, 505`: no JSON, or over 1000 deep
function json.decode(text) end

return json
