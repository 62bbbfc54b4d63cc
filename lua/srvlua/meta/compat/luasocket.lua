---@meta

--- LuaSocket's `socket`, made of `srvlua.socket` (`require 'srvlua.compat.luasocket'`): what is written for it suspends
--- its coroutine instead of blocking the process. Clients only.
---@class srvlua.compat.luasocket
---@field BLOCKSIZE integer
---@field dns { toip: fun(name: string): string?, table | string }
---@field sinkt table<string, fun(sock: srvlua.compat.luasocket.tcp): table>
---@field sourcet table<string, fun(sock: srvlua.compat.luasocket.tcp, length?: integer): table>
---@field sink fun(mode?: string, sock: srvlua.compat.luasocket.tcp): table
---@field source fun(mode?: string, sock: srvlua.compat.luasocket.tcp, length?: integer): table
---@field try fun(...): ...
local socket = {}

--- A stream. Errors are `nil, error`; the error words are those of `srvlua.socket`.
---@class srvlua.compat.luasocket.tcp
local tcp = {}

---@param host string
---@param port integer
---@return 1? ok, string? error
function tcp:connect(host, port) end

---@param data string
---@param first? integer
---@param last? integer
---@return integer? last, string? error, integer? last_sent
function tcp:send(data, first, last) end

---@param pattern? '*l' | '*a' | integer
---@param prefix? string counts among the bytes of a number
---@return string? data, string? error, string? partial
function tcp:receive(pattern, prefix) end

--- Of each wait.
---@param seconds? number nil, negative: without limit
---@param mode? 'b' | 't'
---@return 1
function tcp:settimeout(seconds, mode) end

---@param how? 'receive' | 'send' | 'both'
---@return 1? ok, string? error
function tcp:shutdown(how) end

---@return 1
function tcp:close() end

---@return string? address, integer | string port, string? family
function tcp:getpeername() end

---@return string? address, integer | string port, string? family
function tcp:getsockname() end

---@return 1? ok, string? error
function tcp:setoption(name, value) end

---@return integer fd  -1: not connected
function tcp:getfd() end

---@return srvlua.compat.luasocket.tcp
function socket.tcp() end

--- Connected datagrams only: `setpeername`, `send`, `receive`, `settimeout`, `close`, `getfd`.
function socket.udp() end

---@param host string
---@param port integer
---@return srvlua.compat.luasocket.tcp? object, string? error
function socket.connect(host, port) end

--- There are no listening sockets here.
---@return nil, 'not supported'
function socket.bind() end

---@return number seconds since the epoch
function socket.gettime() end

---@param seconds number
function socket.sleep(seconds) end

---@param count integer
---@return any ... what follows the first `count` values
function socket.skip(count, ...) end

---@param functions table<string, function>
---@return function
function socket.choose(functions) end

--- A function that raises where its first argument is false, after it called `finalizer`. It can suspend.
---@param finalizer? function
function socket.newtry(finalizer) end

--- `fn` as a function that returns nil and the error where a `try` raises. It can suspend.
---@param fn function
---@return function
function socket.protect(fn) end

--- Makes this what `require 'socket'` and `require 'socket.core'` return: LuaSocket's `socket.http` and `ltn12` then
--- run on it.
function socket.install() end

return socket
