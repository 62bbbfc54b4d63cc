---@meta

--- The class of processes (`require 'srvlua.Process'`): `srvlua.Process(fn)` makes one, `server:addProcess(process)`
--- has a server run it, `process:start()` the calling process. Raises if `fn` is not callable, with `code` 509 in the
--- running master, and with an errno if there are no descriptors for the pipe.
---
--- The child runs `fn(process)`; then its loop, until there are no timers, watches and waiting coroutines left. With
--- `enable_coroutine` (`co`) the function itself runs in a coroutine. With `redirect` the pipe, which is a stream then,
--- is also the child's stdin, stdout and stderr. An uncaught error ends the child with status 255.
---@alias srvlua.ProcessFunction fun(process: srvlua.Process)
---@alias srvlua.ProcessEnd { pid: integer, code: integer, signal: integer }
---@class srvlua.ProcessClass
---@overload fun(fn: srvlua.ProcessFunction, redirect?: boolean, pipe_type?: integer, co?: boolean): srvlua.Process
local ProcessClass = {}

--- Sends a signal. Signal 0 only looks whether the process is there.
---@param pid integer
---@param signo? integer SIGTERM
---@return boolean ok, string? message, integer? code  errno of kill
function ProcessClass.kill(pid, signo) end

--- Waits for a child of this process to end. Blocks the process. Not in master and manager.
---@param is_blocking? boolean true
---@return srvlua.ProcessEnd|false ended, string? message, integer? code  10: there are none; 11: none has ended; 509
function ProcessClass.wait(is_blocking) end

--- Handles a signal in this process, from its loop; nil takes the handler away, `srvlua.SIG_IGN` ignores the signal.
---@param signo integer
---@param handler fun(signo: integer)|integer|nil
---@return boolean ok, string? message, integer? code  505: there was no handler; 509: the server's own here, or no loop
function ProcessClass.signal(signo, handler) end

--- Has an interval timer of the system send signals, with no regard to srvlua's timers.
---@param microseconds integer negative: no more
---@param kind? integer 0: SIGALRM in real time; 1: SIGVTALRM, of the process; 2: SIGPROF, of process and system
---@return boolean ok, string? message, integer? code  505
function ProcessClass.alarm(microseconds, kind) end

--- Goes on in the background, in a process of its own. Not in processes of a server.
---@param keeps_directory? boolean true
---@param keeps_streams? boolean true
---@param descriptors? (integer|nil)[] what 0, 1 and 2 become
---@return boolean ok, string? message, integer? code  509, errno
function ProcessClass.daemon(keeps_directory, keeps_streams, descriptors) end

--- Restricts this process to some processors.
---@param cpus integer[] from 0 on
---@return boolean ok, string? message, integer? code  505, 22
function ProcessClass.setAffinity(cpus) end

---@return integer[]|false cpus, string? message, integer? code
function ProcessClass.getAffinity() end

--- A program in a process of its own. Every process that was forked after it was made has a copy of the object. The
--- child uses one end of its pipe, all others use the other one. The fields are read-only.
---@class srvlua.Process
---@field pid integer 0: not started; of a server's user process only in itself
---@field id integer counts from 1; inside a server the process number of an added one
---@field pipe integer descriptor of this side's end, -1 without one
---@field msgQueueId integer -1 without a queue
---@field msgQueueKey integer
---@field callback function
local Process = {}

--- Forks the child. Not for processes that a server runs, and not in its master and manager.
---@return integer|false pid, string? message, integer? code  509: it is running already, or not here; errno of fork
function Process:start() end

--- Writes to the other side; with a datagram pipe (the default) one call is one message. Blocks until there is room,
--- unless setBlocking(false) was called: then what does not fit waits for the loop.
---@param data string
---@return integer|false bytes, string? message, integer? code  550: ''; 507: no pipe; 110, 11; 90: too long; 32
function Process:write(data) end

--- Reads from the other side. '' at the end, which a process has whose other side was closed by all.
---@param size? integer 8192; what does not fit of a datagram is lost
---@return string|false data, string? message, integer? code  505: size below 1; 507, 110, 11
function Process:read(size) end

--- Limits how long reading and writing may take in this process.
---@param seconds number 0: for ever
---@return boolean ok, string? message, integer? code  507
function Process:setTimeout(seconds) end

---@param is_blocking boolean
---@return boolean ok, string? message, integer? code  507
function Process:setBlocking(is_blocking) end

--- A socket on a duplicate of this side's end of the pipe, for coroutines; the same at each call.
---@return srvlua.ProcessSocket|false socket, string? message, integer? code  507
function Process:exportSocket() end

--- Closes this process's copies of the pipe, or shuts it down for all: 0: both ends, PIPE_MASTER, PIPE_WORKER: that of
--- the parent or child; PIPE_READ, PIPE_WRITE: one direction of this side's end.
---@param which? integer 0
---@return boolean ok, string? message, integer? code  507, 9: it is closed
function Process:close(which) end

--- Makes or opens a message queue of System V, which all users of the machine may use who know its key. It outlives the
--- program, unless freeQueue is called.
---@param key? integer 0 or less: derived from the script's file
---@param mode? integer MSGQUEUE_ORIENT: messages are for this process alone; MSGQUEUE_BALANCE; + IPC_NOWAIT
---@param capacity? integer bytes that may wait; -1: as the system has it
---@return boolean ok, string? message, integer? code  errno of msgget
function Process:useQueue(key, mode, capacity) end

--- Puts a message into the queue. Blocks until there is room.
---@param data string less than 64 KiB, and what the system allows (kernel.msgmax)
---@return boolean ok, string? message, integer? code  509: no queue; 550: ''; 1202: too long; 11: full
function Process:push(data) end

--- Takes a message out of the queue. Blocks until there is one.
---@param size? integer 65536
---@return string|false data, string? message, integer? code  509, 505; 7: the message is longer; 11: there is none
function Process:pop(size) end

---@return { queue_num: integer, queue_bytes: integer }|false info, string? message, integer? code  509
function Process:statQueue() end

--- Removes the queue from the system.
---@return boolean ok, string? message, integer? code  509
function Process:freeQueue() end

--- Becomes another program. In the child only; the pipe is closed then, unless it is redirected.
---@param path string absolute
---@param arguments? (string|number)[] without the program's own name
---@return false failed, string message, integer code  errno of exec; 509: not the child
function Process:exec(path, arguments) end

--- Ends the child at once, after what it sent or printed was handed over. In the child only.
---@param status? integer 0..255, else 1
---@return false failed, string message, integer code  509: not the child
function Process:exit(status) end

--- Names the calling process.
---@param title string
---@return boolean ok, string? message, integer? code
function Process:name(title) end

---@param which integer PRIO_PROCESS, PRIO_PGRP, PRIO_USER
---@param priority integer -20..19
---@param who? integer a pid, group or user; this object's process
---@return boolean ok, string? message, integer? code  errno of setpriority
function Process:setPriority(which, priority, who) end

---@param which integer PRIO_PROCESS, PRIO_PGRP, PRIO_USER
---@param who? integer
---@return integer|false priority, string? message, integer? code  errno of getpriority
function Process:getPriority(which, who) end

--- Changes `enable_coroutine`. Before the process is started.
---@param settings { enable_coroutine: boolean }
---@return boolean ok
function Process:set(settings) end

--- What `exportSocket` gives. In a coroutine its calls suspend that, elsewhere they block. Of several coroutines that
--- wait, the first to come is the first to be served.
---@class srvlua.ProcessSocket
---@field fd integer -1 when closed
local ProcessSocket = {}

---@param size? integer 65536
---@param timeout? number seconds, negative: for ever; -1
---@return string|false data '' at the end, string? message, integer? code  9: closed; 110, 505
function ProcessSocket:recv(size, timeout) end

---@param data string
---@return integer|false bytes, string? message, integer? code  9: closed; 550, 90, 32
function ProcessSocket:send(data) end

---@return boolean ok, string? message, integer? code  9: closed
function ProcessSocket:close() end

return ProcessClass
