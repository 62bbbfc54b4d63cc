---@meta

--- The class of shared rows (`require 'srvlua.Table'`): `srvlua.Table(size)`.
---@class srvlua.TableClass
---@field TYPE_INT integer 1
---@field TYPE_FLOAT integer 2
---@field TYPE_STRING integer 3
---@overload fun(size: integer, conflict_proportion?: number): srvlua.Table

--- Rows of fixed columns, found by key and shared by all processes. Made, with its columns and `create()`, before
--- `start()`; reloads and crashes of workers keep the contents. A process that is killed leaves each row as before or
--- as after what it was doing with it. Nothing here suspends.
---
--- Values: INT are integral numbers or `int64_t`, and come back as numbers where that is exact (up to 2^53); FLOAT are
--- numbers; STRING are any bytes. Wrong types and unknown columns raise, and nothing is changed then.
---@class srvlua.Table
---@field size integer rows that fit at least, whatever their keys
---@field memorySize integer? bytes mapped; nil before `create()`
local Table = {}

--- Adds a column. Before `create()`. Raises for a name that is empty or there already, an unknown type or size.
---@param name string
---@param type integer `TYPE_INT`, `TYPE_FLOAT`, `TYPE_STRING`
---@param size? integer most bytes of a string, 1 to 2^24; needed there
---@return true
function Table:column(name, type, size) end

--- Maps the memory, which is used up as rows come. Raises without columns and the second time.
---@return boolean ok, string? message, integer? code  501: no memory, 509: the server runs
function Table:create() end

--- Makes a row (columns that are not named: 0, 0.0, '') or changes the named columns. Readers see all of it or nothing.
---@param key string|integer 1 to 63 bytes, or an integral number, which is taken as its decimal text
---@param row table<string, string|number|ffi.cdata*>
---@return boolean ok, string? message, integer? code  501: full, 504: key, 505: a string too long for its column, 509
function Table:set(key, row) end

--- A copy of a row, or the value of one column.
---@param key string|integer
---@param column? string
---@return table<string, any>|string|number|ffi.cdata*|false row false alone: no such row
---@return string? message
---@return integer? code 504, 509
function Table:get(key, column) end

--- Adds to a number and returns the sum; makes the row if there is none. Integers wrap at 64 bits.
---@param key string|integer
---@param column string
---@param by? number|ffi.cdata* 1
---@return number|ffi.cdata*|false value, string? message, integer? code  501, 504, 509
function Table:incr(key, column, by) end

--- Subtracts from a number; otherwise as `incr`.
---@param key string|integer
---@param column string
---@param by? number|ffi.cdata* 1
---@return number|ffi.cdata*|false value, string? message, integer? code  501, 504, 509
function Table:decr(key, column, by) end

--- Whether there is a row.
---@param key string|integer
---@return boolean is_there, string? message, integer? code  504, 509
function Table:exist(key) end

Table.exists = Table.exist

--- Deletes a row.
---@param key string|integer
---@return boolean was_there, string? message, integer? code  504, 509
function Table:del(key) end

--- Rows now.
---@return integer
function Table:count() end

--- Iterator: `for key, row in tbl:rows() do`. Rows that are there all the time come once, others at most once, in no
--- order. The table may be changed meanwhile.
---@return fun(): string?, table<string, any>?
function Table:rows() end

--- Removes all rows.
---@return integer removed
function Table:clear() end

---@class srvlua.TableStats
---@field num integer rows
---@field size integer
---@field available_slice_num integer rows that surely fit yet
---@field conflict_count integer rows that were made in a bucket with others
---@field conflict_max_level integer most of those others
---@field insert_count integer
---@field update_count integer
---@field delete_count integer

---@return srvlua.TableStats
function Table:stats() end

return Table
