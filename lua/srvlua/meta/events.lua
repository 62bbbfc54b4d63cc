---@meta
-- luacheck: ignore 631 (the type of a function stands on one line)

-- What callbacks are given. With the setting `event_object` connect, close, receive, packet, workerError, task, finish and
-- pipeMessage get one table instead of the arguments behind the server; with `task_object` or `task_enable_coroutine` task
-- alone does.

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
---@alias srvlua.OnTask fun(server: srvlua.Server, task_id: integer, source_worker_id: integer, data: any): any
---@alias srvlua.OnTaskObject fun(server: srvlua.Server, task: srvlua.Task): any
---@alias srvlua.OnFinish fun(server: srvlua.Server, task_id: integer, data: any)
---@alias srvlua.OnPipeMessage fun(server: srvlua.Server, source_worker_id: integer, message: any)

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

--- A task with `task_object`, `task_enable_coroutine` or `event_object`. A plain table that can be sent on.
---@class srvlua.Task
---@field id integer
---@field worker_id integer process number of who gave it; -1: master or manager
---@field data any
---@field dispatch_time number when it was given, seconds since the epoch
---@field flags integer sum of `srvlua.TASK_*`
local Task = {}

--- Sends a result to the worker that gave the task; also later than its callback, from a coroutine. A value that is not
--- nil which the callback returns is one more result.
---@param value any raises for what cannot be sent: functions, coroutines, userdata, cycles
---@return boolean ok, string? message, integer? code  507: nobody waits for a result; 509: not in a task worker; 9014: no room for 10 s
function Task:finish(value) end

--- finish with `event_object`, and what a callback of a task's own gets then.
---@class srvlua.FinishEvent
---@field task_id integer
---@field task_worker_id integer process number of the task worker
---@field dispatch_time number when the result was sent, seconds since the epoch
---@field data any

--- pipeMessage with `event_object`.
---@class srvlua.PipeMessageEvent
---@field source_worker_id integer process number of the sender; -1: master or manager
---@field worker_id integer the same
---@field dispatch_time number when it was sent, seconds since the epoch
---@field data any
