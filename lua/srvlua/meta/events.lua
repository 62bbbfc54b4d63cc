---@meta
-- luacheck: ignore 631 (the type of a function stands on one line)

-- What callbacks are given. With the setting `event_object` connect, close, receive, packet and workerError get one table
-- instead of the arguments behind the server.

---@alias srvlua.PlainEvent 'start'|'beforeShutdown'|'shutdown'|'managerStart'|'managerStop'|'beforeReload'
---@alias srvlua.WorkerEvent 'workerStart'|'workerStop'|'workerExit'

---@alias srvlua.OnPlain fun(server: srvlua.Server)
---@alias srvlua.OnAfterReload fun(server: srvlua.Server, ok: boolean)
---@alias srvlua.OnWorker fun(server: srvlua.Server, worker_id: integer)
---@alias srvlua.OnWorkerError fun(server: srvlua.Server, worker_id: integer, worker_pid: integer, exit_code: integer, signal: integer)
---@alias srvlua.OnConnection fun(server: srvlua.Server, fd: integer, reactor_id: integer)
---@alias srvlua.OnReceive fun(server: srvlua.Server, fd: integer, reactor_id: integer, data: string)
---@alias srvlua.OnPacket fun(server: srvlua.Server, data: string, source: srvlua.PacketSource)
---@alias srvlua.OnBuffer fun(server: srvlua.Server, fd: integer)

--- Where a datagram came from.
---@class srvlua.PacketSource
---@field address string IP text, or the sender's unix path ('' if it has none)
---@field port integer? nil for unix sockets
---@field server_socket integer descriptor of the listener, for `sendto` and `send`
---@field server_port integer 0 for unix sockets
---@field dispatch_time number when it arrived, seconds since the epoch

--- connect, close and receive with `event_object`.
---@class srvlua.ConnectionEvent
---@field fd integer session id
---@field reactor_id integer -1 in close: closed by the server
---@field dispatch_time number when the data arrived, seconds since the epoch; 0 without data
---@field data string? receive only

--- packet with `event_object`.
---@class srvlua.PacketEvent: srvlua.PacketSource
---@field data string

--- workerError with `event_object`.
---@class srvlua.WorkerErrorEvent
---@field worker_id integer
---@field worker_pid integer
---@field status integer raw wait status
---@field exit_code integer
---@field signal integer 0 if it ended by itself
