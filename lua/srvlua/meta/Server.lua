---@meta
-- luacheck: ignore 631 (what is returned stands on one line)

--- The class of servers. Calling it makes a server and binds its primary port. One server per process: another one may
--- be made when the first has returned from `start()` or was collected. Raises `{ message =, code = }` (it reads as its
--- message) if the server cannot be made; a taken address is told by `start()`. The host 'SYSTEMD' with port 0 makes
--- ports of all sockets that a service manager passed (LISTEN_FDS).
---@class srvlua.ServerClass
---@overload fun(host?: string, port?: integer, mode?: integer, sock_type?: integer): srvlua.Server

--- A server. The fields below are read-only; other fields are the program's own, and private to each process.
---@class srvlua.Server
---@field host string of the primary port
---@field port integer of the primary port; what the kernel chose if 0 was asked for
---@field type integer `srvlua.SOCK_*`
---@field ssl boolean
---@field mode integer `srvlua.BASE` or `srvlua.PROCESS`
---@field ports srvlua.Port[] the primary port, then those of `addListener`
---@field setting srvlua.Settings what was set; when running, also what start() derived
---@field connections srvlua.Connections of the whole server; BASE: of this worker
---@field master_pid integer BASE: of worker 0
---@field manager_pid integer 0 without a manager
---@field worker_id integer -1 where the process is no worker
---@field worker_pid integer 0 where the process is no worker
---@field taskworker boolean
---@field stats_timer integer? id of the timer that writes `stats_file`
---@field [string] any
local Server = {}

--- Changes settings, all of them or none. Merges into `server.setting`. Raises for a bad value. Before start.
---@param settings srvlua.Settings
---@return boolean ok, string? message, integer? code  509: running
function Server:set(settings) end

--- Registers or replaces a callback; events of ports go to the primary port. Before start.
---@param event string in any case, without `on`
---@param callback function or a value with `__call`
---@return boolean ok, string? message, integer? code  505: unknown event; 509: running
---@overload fun(self: srvlua.Server, event: srvlua.PlainEvent, callback: srvlua.OnPlain): boolean
---@overload fun(self: srvlua.Server, event: 'afterReload', callback: srvlua.OnAfterReload): boolean
---@overload fun(self: srvlua.Server, event: srvlua.WorkerEvent, callback: srvlua.OnWorker): boolean
---@overload fun(self: srvlua.Server, event: 'workerError', callback: srvlua.OnWorkerError): boolean
---@overload fun(self: srvlua.Server, event: 'connect'|'close', callback: srvlua.OnConnection): boolean
---@overload fun(self: srvlua.Server, event: 'receive', callback: srvlua.OnReceive): boolean
---@overload fun(self: srvlua.Server, event: 'packet', callback: srvlua.OnPacket): boolean
---@overload fun(self: srvlua.Server, event: 'bufferFull'|'bufferEmpty', callback: srvlua.OnBuffer): boolean
---@overload fun(self: srvlua.Server, event: 'task', callback: srvlua.OnTask|srvlua.OnTaskObject): boolean
---@overload fun(self: srvlua.Server, event: 'finish', callback: srvlua.OnFinish): boolean
---@overload fun(self: srvlua.Server, event: 'pipeMessage', callback: srvlua.OnPipeMessage): boolean
function Server:on(event, callback) end

--- Adds a listener. Before start.
---@param host string IPv4 or IPv6 text, host name or unix path
---@param port integer 0 = the kernel chooses; without effect for unix sockets
---@param sock_type integer `srvlua.SOCK_*`, `+ srvlua.SSL` for TLS (UDP: DTLS)
---@return srvlua.Port|false port, string? message, integer? code  9004, 9005, 504, 724, 509, errno of bind
function Server:addListener(host, port, sock_type) end
Server.listen = Server.addListener

--- Adds a user process: the manager starts it and starts it again whatever its end; reloads do not touch it, SIGTERM
--- ends it. In BASE mode a server with one has a manager. Returns the position among them, from 0 on. Before start.
---@param process srvlua.Process
---@return integer|false position, string? message, integer? code  505: added or started already; 509: running
function Server:addProcess(process) end

--- Runs the server until it ends; the code behind it runs in the starting process only.
---@return boolean ok, string? message, integer? code  509, 9015: a callback is missing, 9003, errno of bind
function Server:start() end

--- Asks for a graceful restart of the workers; `true` means asked. Any process of a running server.
---@param only_task_workers? boolean default false
---@return boolean ok, string? message, integer? code  507: no manager; 509
function Server:reload(only_task_workers) end

--- Reads the files of a port with TLS, or of all of them, again: certificates, keys, CAs. New handshakes use them;
--- connections stay as they are, and tickets good (`ssl_session_timeout`). All ports change or none. Any process of a
--- running server, if it may read the files: workers may not after `user`, while SIGHUP is the master's business.
---@param port? srvlua.Port|integer the port, or its number in `server.ports`; default: all with TLS
---@return boolean ok, string? message, integer? code  errno: a file cannot be read; 505: it is not good, or the port has no TLS; 507: no port has TLS; 509
function Server:reloadCertificates(port) end

--- Stops a worker; its manager starts another. Any process of a running server, without id workers only.
---@param worker_id? integer default -1: this one
---@param wait_event? boolean default false; true: leave when the loop is empty
---@return boolean ok, string? message, integer? code  505: unknown id; 509
function Server:stop(worker_id, wait_event) end

--- Asks for an orderly end of the server; `true` means asked. Any process of a running server.
---@return boolean ok, string? message, integer? code
function Server:shutdown() end

--- Calls `fn(timer_id, ...)` every `ms` milliseconds. Any process of a running server; ends with the process.
---@param ms number from 1 on; fractions are cut off
---@param fn fun(timer_id: integer, ...)
---@param ... any
---@return integer|false timer_id, string? message, integer? code  505, 509
function Server:tick(ms, fn, ...) end

--- Calls `fn(...)` once, after `ms` milliseconds. Any process of a running server.
---@param ms number from 1 on; fractions are cut off
---@param fn fun(...)
---@param ... any
---@return integer|false timer_id, string? message, integer? code  505, 509
function Server:after(ms, fn, ...) end

--- Ends a timer of this process.
---@param timer_id integer
---@return boolean ok, string? message, integer? code  505: unknown or finished; 509
function Server:clearTimer(timer_id) end

--- Calls `fn()` at the end of the current loop turn. Not in the manager.
---@param fn fun()
---@return boolean ok, string? message, integer? code
function Server:defer(fn) end

--- Closes a connection when what `send` accepted is out, or at once. In the owning worker the close callback runs
--- inside of this call. Any process of a running server.
---@param fd integer session id
---@param reset? boolean default false; true: drop what is queued, the peer gets a reset
---@return boolean ok, string? message, integer? code  1001 to 1006
function Server:close(fd, reset) end

--- Whether a connection is live and not closing. Never fails.
---@param fd integer session id
---@return boolean
function Server:exist(fd) end
Server.exists = Server.exist

--- Stops reading from a client.
---@param fd integer session id
---@return boolean ok, string? message, integer? code
function Server:pause(fd) end

--- Goes on reading from a client.
---@param fd integer session id
---@return boolean ok, string? message, integer? code
function Server:resume(fd) end

--- Begins to read from a client under `enable_delay_receive`.
---@param fd integer session id
---@return boolean ok, string? message, integer? code  509: it is read already
function Server:confirm(fd) end

--- Keeps a silent connection from being closed by heartbeat and `max_idle_time`, or gives it up.
---@param fd integer session id
---@param is_protected? boolean default true
---@return boolean ok, string? message, integer? code
function Server:protect(fd, is_protected) end

--- Gives a connection a user id, once; with `dispatch_mode` 'uid' it chooses the worker.
---@param fd integer session id
---@param uid integer -2147483648 to 4294967295, not 0
---@return boolean ok, string? message, integer? code  505; 509: it has one
function Server:bind(fd, uid) end

--- Looks for connections that were silent for longer than their port allows.
---@param close_them? boolean default true
---@return integer[]|false fds ascending, string? message, integer? code  507: no heartbeat settings
function Server:heartbeat(close_them) end

---@class srvlua.ClientInfo
---@field server_port integer port number of the listener, 0 for unix sockets
---@field server_fd integer descriptor of the listener
---@field socket_fd integer descriptor of the client, in the process that owns it
---@field socket_type integer `srvlua.SOCK_*` of the port, without `srvlua.SSL`
---@field remote_port integer 0 for unix sockets
---@field remote_ip string of the client, also behind a proxy that sends PROXY headers
---@field reactor_id integer BASE: id of the worker that owns it
---@field connect_time integer seconds since the epoch, as all times here
---@field last_time integer last_recv_time without its fraction
---@field last_recv_time number when bytes came last; before any: the time of connecting
---@field last_send_time number 0 = never
---@field last_dispatch_time number when the data came that a worker began last; 0 = none yet
---@field close_errno integer why the connection broke; 0: it did not
---@field recv_queued_bytes integer read and not yet given to a callback
---@field send_queued_bytes integer accepted by `send` and not yet sent
---@field uid integer? if it was bound
---@field worker_id integer? with dispatch_mode 'co_conn'
---@field proxy_ip string? of who sent the PROXY header, if there was one
---@field proxy_port integer?
---@field ssl boolean? true on a port with TLS
---@field ssl_protocol string? 'TLSv1.2', 'TLSv1.3', 'DTLSv1.2'; this and the following in the process that ran `connect` for it
---@field ssl_cipher string? IANA name
---@field ssl_server_name string? that the client asked for (SNI)
---@field ssl_alpn string? the protocol that was agreed on
---@field ssl_client_cert string? the client's certificate, PEM; checked with `ssl_verify_peer` only. An X.509 library reads names from it
---@field ssl_resumed boolean? by a ticket
---@field ssl_ktls boolean? the kernel encrypts what is sent

--- What is known of a connection; works in its close callback too. BASE: this worker's own connections only.
---@param fd integer session id
---@param reactor_id? integer without effect
---@param ignore_error? boolean default false; true: also of one that is closed, as long as its record is there
---@return srvlua.ClientInfo|false info, string? message, integer? code
function Server:getClientInfo(fd, reactor_id, ignore_error) end
Server.connection_info = Server.getClientInfo

--- Session ids, page by page: the last one is the next `start_fd`; an empty list is the end. `server.connections` is
--- safer while connections close.
---@param start_fd? integer default 0
---@param page_size? integer 1 to 100, default 10
---@return integer[]|false fds ascending, string? message, integer? code  505, 1005
function Server:getClientList(start_fd, page_size) end
Server.connection_list = Server.getClientList

--- Sends data to a client. Asynchronous: true means queued, not received. Any process of a running server.
---@param fd integer|string session id, or a unix datagram peer's path that begins with '/'
---@param data string 1 byte to `buffer_output_size`
---@param server_socket? integer for paths: the packet's `server_socket`; default -1: the last added such port
---@return boolean ok, string? message, integer? code  550, 1001 to 1008, 1202; paths: errno, 505, 507
function Server:send(fd, data, server_socket) end

--- Sends a part of a file behind what `send` has queued. Not in the master.
---@param fd integer session id
---@param filename string
---@param offset? integer default 0
---@param length? integer default 0: to the file's end
---@return boolean ok, string? message, integer? code  errno, 505, 702, 9009, 9013 and those of `send`
function Server:sendfile(fd, filename, offset, length) end

--- Sends a datagram at once. Any process of a running server.
---@param ip string IP text, or a unix path
---@param port integer 1 to 65535
---@param data string
---@param server_socket? integer the packet's `server_socket`; default -1: the last added port of the family
---@return boolean ok, string? message, integer? code  505, 507, 550, 722, 723, errno
function Server:sendto(ip, port, data, server_socket) end

--- Sends data and blocks until the kernel has it. BASE workers, their own connections.
---@param fd integer session id
---@param data string
---@return boolean ok, string? message, integer? code  507, 550, 1005, errno
function Server:sendwait(fd, data) end

--- Gives a task to a task worker, which runs the task callback. Data: strings as they are, other values as copies. The
--- result goes to `finish_callback`, or fires the finish event here. Waits while the task workers have no room, in a
--- coroutine alone. In master, manager and user processes one-way: nothing comes back. Not in task workers.
---@param data any raises for what cannot be sent: functions, coroutines, userdata, cycles
---@param dst? integer index of a task worker, from 0 on; default -1: whoever is free first
---@param finish_callback? fun(server: srvlua.Server, task_id: integer, data: any) called once; with `event_object` `(server, srvlua.FinishEvent)`; event workers only
---@return integer|false task_id, string? message, integer? code  unique in this process; 505: no such task worker; 507: there are none; 509; 2002: no room, and this process must not wait
function Server:task(data, dst, finish_callback) end

--- Gives a task and waits for its result, in a coroutine alone. Event workers.
---@param data any as for `task`
---@param timeout? number seconds, default 0.5; 0 or less: as long as it takes
---@param dst? integer as for `task`
---@return any result, string? message, integer? code  2002: not delivered; 2003: nothing came in time; 505, 507, 509
function Server:taskwait(data, timeout, dst) end

--- Gives several tasks and waits for all results, in a coroutine alone. Event workers.
---@param tasks any[] at most 1024
---@param timeout? number seconds, default 0.5, for all of them together; 0 or less: as long as it takes
---@return table|false results, string? message, integer? code  result i of task i, absent if none came in time, false if it was not delivered; `n`: how many tasks; 2002: none was delivered; 505, 507, 509
function Server:taskWaitMulti(tasks, timeout) end

--- As `taskWaitMulti`, in coroutines only: every index has a value, false where no result came.
---@param tasks any[] at most 1024
---@param timeout? number seconds, default 0.5, for all of them together; 0 or less: as long as it takes
---@return any[]|false results, string? message, integer? code  2002: none was delivered; 10001: no coroutine; 505, 507, 509
function Server:taskCo(tasks, timeout) end

--- Sends a result to the worker that gave the running task, each call one; a value that is not nil which the task callback
--- returns is one more. taskwait, taskWaitMulti and taskCo take the first. In the task callback, without
--- `task_enable_coroutine`, where it raises: use `task:finish`.
---@param data any as for `task`
---@return boolean ok, string? message, integer? code  507: nobody waits for a result; 509: no task runs here; 9014: no room for 10 s
function Server:finish(data) end

--- Sends a value to another worker, where it fires pipeMessage; in order from one process to another. Never waits where the
--- process has a loop: what finds no room is kept, up to `message_stash_size`; sync task workers and user processes wait.
--- Any process of a running server.
---@param message any as for `task`
---@param worker_id integer event or task worker, from 0 on, not this one
---@return boolean ok, string? message, integer? code  505: no such worker, or this one; 509; 9006: too much waits already; 9015: there is no pipeMessage callback
function Server:sendMessage(message, worker_id) end

--- The callback that was registered for an event, nil if there is none.
---@param event string
---@return function?
function Server:getCallback(event) end

--- Counters, since the start of the server unless said otherwise.
---@class srvlua.Stats
---@field start_time integer seconds since the epoch
---@field connection_num integer connections now
---@field accept_count integer connections that were accepted
---@field close_count integer of these, how many are gone
---@field abort_count integer turned away: max_connection, limits per address, PROXY header, handshake
---@field worker_num integer
---@field task_worker_num integer
---@field user_worker_num integer
---@field idle_worker_num integer event workers that run no callback just now
---@field dispatch_count integer packets given to workers
---@field request_count integer packets whose callback has returned or suspended
---@field response_count integer sends that were accepted
---@field total_recv_bytes integer of streams, without TLS's own
---@field total_send_bytes integer that `send` and `sendfile` accepted
---@field pipe_packet_msg_id integer number of the next long record between processes
---@field session_round integer last session id
---@field min_fd integer lowest descriptor of a listener or connection; BASE: of this process
---@field max_fd integer
---@field worker_request_count integer? of this worker, since its start; a task worker's tasks
---@field worker_response_count integer?
---@field worker_dispatch_count integer? 0 in BASE
---@field worker_concurrency integer? waits for HTTP, as `concurrency`
---@field concurrency integer
---@field task_idle_worker_num integer? this and the following with task workers only
---@field tasking_num integer? task workers that run a task
---@field task_queue_num integer? tasks that wait
---@field task_queue_bytes integer?
---@field coroutine_num integer of this process, now
---@field coroutine_peek_num integer the most of this process
---@field error_count integer uncaught errors in callbacks, all processes
---@field reload_failed integer reloads in which a new process failed
---@field lost_count integer requests and tasks that died with their process

--- Counters of the server and of this process. Any process of a running server.
---@return srvlua.Stats|false stats, string? message, integer? code  509
function Server:stats() end

--- Id of this worker.
---@return integer|false worker_id, string? message, integer? code  509: this process is none
function Server:getWorkerId() end

--- Pid of a worker.
---@param worker_id? integer default -1: this one
---@return integer|false pid, string? message, integer? code  505, 509
function Server:getWorkerPid(worker_id) end

--- What a worker does: `srvlua.WORKER_BUSY`, `WORKER_IDLE` or `WORKER_EXIT`.
---@param worker_id? integer default -1: this one
---@return integer|false status, string? message, integer? code  505
function Server:getWorkerStatus(worker_id) end

--- Pid of the manager, 0 if there is none.
---@return integer
function Server:getManagerPid() end

--- Pid of the master; BASE: of worker 0; 0 before start.
---@return integer
function Server:getMasterPid() end

--- Code of the last failure in this process, 0 if there was none.
---@return integer
function Server:getLastError() end

--- Adds a command: a question that `command` puts to a process; what the callback returns is the answer. Before start.
-- The callback runs in the process that is asked, outside of coroutines, and returns text, usually JSON. Another type
-- is answered with `{"data":"wrong return type","code":-2}`, an error with code -1.
---@param name string
---@param accepted_process_types integer sum of COMMAND_MASTER, _EVENT_WORKER, _TASK_WORKER, _MANAGER
---@param callback fun(server: srvlua.Server, data: any): string
---@return boolean ok, string? message, integer? code  505, 509
function Server:addCommand(name, accepted_process_types, callback) end

--- Asks a process by a command. Suspends until the answer is there. Master; BASE: worker 0.
---@param name string of an added command
---@param process_id integer worker, or index of a task worker, from 0 on; no matter for master and manager
---@param process_type integer COMMAND_MASTER, COMMAND_EVENT_WORKER, COMMAND_TASK_WORKER or COMMAND_MANAGER
---@param data any what the callback gets; for the manager less than 8 KiB
---@param json_decode? boolean default true: the answer is JSON and is returned as a value; false: the text itself
---@return any answer, string? message, integer? code  505, 507, 509, 1202, 9003 (the process died), 9012, 10001
function Server:command(name, process_id, process_type, data, json_decode) end

--- A listening socket. Any process, any time.
---@param port_number? integer of an INET port; default: the primary port
---@return srvlua.ListenSocket|false socket, string? message, integer? code
function Server:getSocket(port_number) end

return Server
