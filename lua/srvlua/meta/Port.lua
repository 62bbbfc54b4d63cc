---@meta

--- A listener, from `server.ports` or `server:addListener`. Its fields are read-only.
---@class srvlua.Port
---@field host string
---@field port integer 0 for unix sockets
---@field type integer `srvlua.SOCK_*`
---@field ssl boolean
---@field sock integer descriptor of the listener
---@field setting srvlua.Settings? what was set; nil until `set` was called: then the primary port's settings hold
---@field connections srvlua.Connections those of this port
local Port = {}

--- Changes settings of this port. Calling it at all ends the inheritance of the primary port's. Raises for a bad value.
--- Before start.
---@param settings srvlua.Settings
---@return boolean ok, string? message, integer? code  509: running
function Port:set(settings) end

--- Registers or replaces a callback of this port; without one, the primary port's is called. Before start.
---@param event string an event of ports, in any case: connect, receive, packet, close, bufferFull, bufferEmpty
---@param callback function
---@return boolean ok, string? message, integer? code  505: no event of a port; 509: running
---@overload fun(self: srvlua.Port, event: 'connect'|'close', callback: srvlua.OnConnection): boolean
---@overload fun(self: srvlua.Port, event: 'receive', callback: srvlua.OnReceive): boolean
---@overload fun(self: srvlua.Port, event: 'packet', callback: srvlua.OnPacket): boolean
---@overload fun(self: srvlua.Port, event: 'bufferFull'|'bufferEmpty', callback: srvlua.OnBuffer): boolean
function Port:on(event, callback) end

--- This port's own callback for an event, nil if it has none.
---@param event string
---@return function?
function Port:getCallback(event) end

--- The listening socket. Any process, any time.
---@return srvlua.ListenSocket|false socket, string? message, integer? code
function Port:getSocket() end

--- Options of a listening socket. Collecting this object does not close it.
---@class srvlua.ListenSocket
---@field fd integer
local ListenSocket = {}

--- Sets an option. MCAST_JOIN_GROUP and its like take `{ group =, interface = [, source =] }`, IP_MULTICAST_IF the name
--- or number of an interface, SO_LINGER `{ onoff =, linger = }`, SO_RCVTIMEO and SO_SNDTIMEO `{ sec =, usec = }`.
---@param level integer `srvlua.SOL_SOCKET`, `srvlua.IPPROTO_*`
---@param name integer `srvlua.SO_*`, `srvlua.TCP_*`, ...
---@param value integer|boolean|string|table
---@return boolean ok, string? message, integer? errno
function ListenSocket:setOption(level, name, value) end

--- Reads an option.
---@param level integer
---@param name integer
---@return integer|string|table|false value, string? message, integer? errno
function ListenSocket:getOption(level, name) end

--- Connections of a server or port. `for fd in server.connections() do` walks through those that there were when it
--- began, ascending, leaving out those that are gone by then.
---@class srvlua.Connections
---@operator call: fun(): integer?
local Connections = {}

--- How many there are.
---@return integer|false count, string? message, integer? code
function Connections:count() end

--- Whether a connection is live and not closing.
---@param fd integer session id
---@return boolean
function Connections:has(fd) end

--- The same as `server:getClientInfo(fd)`.
---@param fd integer session id
---@return srvlua.ClientInfo|false info, string? message, integer? code
function Connections:info(fd) end

return Port
