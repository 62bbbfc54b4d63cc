---@meta

--- Servers for Redis clients (`require 'srvlua.redis'`). The constants are the kinds of replies that `format` writes.
---@class srvlua.redis
---@field Server srvlua.redis.ServerClass
---@field ERROR integer
---@field NIL integer
---@field STATUS integer
---@field INT integer
---@field STRING integer
---@field SET integer
---@field MAP integer
local redis = {}

--- The bytes of a reply (RESP 2). Items of SET and MAP: whole numbers `:n`, booleans `:1` and `:0`, strings and other
--- numbers as bulk strings, nil `$-1`, sequences and tables without items as SET, other tables as MAP; 32 deep at most.
--- Raises for what RESP does not have: other types, cycles, strings over 512 MiB, a value that is missing.
---@param kind integer NIL `$-1`; ERROR `-ERR` or `-VALUE`; STATUS `+OK` or `+VALUE`; INT; STRING; SET, a sequence (a
--- field `n` gives its length, holes are nil items); MAP, a table, in the order of `pairs`
---@param value? any INT: a whole number or a boxed int64_t; STRING: a string or a number; ERROR, STATUS: a string
---@return string reply
function redis.format(kind, value) end

--- `srvlua.redis.Server([host [, port [, mode [, sock_type]]]])`, as `srvlua.Server`; carries the constants and
--- `format` as fields.
---@class srvlua.redis.ServerClass: srvlua.redis
---@overload fun(host?: string, port?: integer, mode?: integer, sock_type?: integer): srvlua.redis.Server

--- A server whose primary port speaks RESP: `start()` switches `open_redis_protocol` on there, and eof, length and MQTT
--- framing off. The commands of all its ports with that setting go to handlers; `receive` is for other ports. Carries
--- the constants and `format` (called with a dot) as fields.
---@class srvlua.redis.Server: srvlua.Server
local Server = {}

--- A handler of one command. The arguments are strings of any bytes, numbers where the client sent `:n`. A string that
--- it returns is sent as it is; after anything else it has answered itself or will, by `server:send`. The next command
--- of the connection starts when it has returned. If it raises, the client gets `-ERR internal error`.
---@alias srvlua.redis.Handler fun(fd: integer, arguments: (string|number)[]): any

--- Names the handler of a command; replaces a former one. Before start (all workers inherit it) or in a worker (its
--- own). The order of one connection's commands is kept by dispatch modes that give them all to one worker.
---@param command string in any case, 1 to 63 bytes
---@param handler srvlua.redis.Handler a function, or a value with `__call`
---@return boolean ok, string? message, integer? code  505: the name; 509: in another process
function Server:setHandler(command, handler) end

---@param command string in any case
---@return srvlua.redis.Handler? handler
function Server:getHandler(command) end

return redis
