---@meta

--- Client sockets in the shape of OpenResty's cosockets, in every process. In a coroutine they suspend it and
--- nothing else; elsewhere they block the process, with the same results and time limits.
---
--- They answer `nil, error[, partial]` with these words: `timeout`, `closed`, `connection refused`, `connection
--- reset by peer`, `broken pipe`, `no route to host`, `network is unreachable`, `host not found`, `address already
--- in use`, `too many open files`, `permission denied`, `no such file or directory`, `socket busy reading`
--- (`writing`, `connecting`), `connection in dubious state`, `too many waiting connect operations`, `handshake
--- failed: …`, `certificate verify failed: …`; other errors of the system are the C library's texts in lower
--- case. Wrong arguments raise a Lua error.
---
--- An object belongs to its process and does not survive fork; one that nobody refers to is closed by the
--- collector.
---@class srvlua.socket
---@field ca_file? string PEM file of the CA certificates for `verify`; nil: the system's bundle
local socket = {}

--- An unconnected stream object.
---@return srvlua.socket.tcp
function socket.tcp() end

--- The same; its `connect` takes a path.
---@return srvlua.socket.tcp
function socket.unix() end

--- A datagram object without a peer.
---@return srvlua.socket.udp
function socket.udp() end

--- `tcp()` and `connect`.
---@param host string
---@param port? integer|string|srvlua.socket.options
---@param options? srvlua.socket.options
---@return srvlua.socket.tcp? sock
---@return string? err
function socket.connect(host, port, options) end

---@class srvlua.socket.options
---@field pool? string name of the pool; default `host:port` or the path. TLS and plain connections need different ones
---@field pool_size? integer size of the pool if this call makes it, from 1 on; default 30
---@field backlog? integer `pool_size` limits open connections too; so many further connects wait for their turn

--- A stream. `timeout` of a receive leaves the connection usable; every other error, and a `timeout` of connect,
--- send or sslhandshake, closes it. One coroutine may read while another one writes.
---@class srvlua.socket.tcp
local tcp = {}

--- Takes a connection from the pool, or makes one: every address of the name in turn, within the connect timeout.
--- An open connection is closed first. Of `unix()`: `connect(path [, options])`.
---@param host string name, address, or `unix:/path`
---@param port? integer|string|srvlua.socket.options 1..65535; for a path the options
---@param options? srvlua.socket.options
---@return 1? ok
---@return string? err
function tcp:connect(host, port, options) end

--- Starts TLS (1.2 or newer). On a pooled connection that has it already, returns at once.
---@param session? srvlua.socket.session|boolean of an earlier handshake, to resume; false: none is returned
---@param name? string for SNI, and what the certificate must be for; without it only the chain is verified
---@param verify? boolean check the certificate by `srvlua.socket.ca_file`
---@return srvlua.socket.session|true? session
---@return string? err
function tcp:sslhandshake(session, name, verify) end

--- Gives the connection to the pool of this process. With unread input: `connection in dubious state`, and it stays
--- open.
---@param timeout_ms? number so long it may be idle; 0: for ever; default 60000
---@param size? integer of the pool if this call makes it; default 30
---@return 1? ok
---@return string? err
function tcp:setkeepalive(timeout_ms, size) end

--- How often the connection came from the pool.
---@return integer? count
---@return string? err
function tcp:getreusedtimes() end

--- Waiting reads and writes end with `closed`.
---@return 1? ok
---@return string? err
function tcp:close() end

--- Time limits of later calls in milliseconds; nil or 0: the settings socket_connect_timeout, socket_write_timeout
--- and socket_read_timeout. The one for reading and writing is per wait, not per call.
---@param ms? number
function tcp:settimeout(ms) end
---@param connect_ms? number
---@param send_ms? number
---@param read_ms? number
function tcp:settimeouts(connect_ms, send_ms, read_ms) end

---@param name 'keepalive'|'tcp-nodelay'|'reuseaddr'|'sndbuf'|'rcvbuf'
---@param value boolean|integer
---@return 1? ok
---@return string? err
function tcp:setoption(name, value) end

---@return integer? fd
---@return string? err
function tcp:getfd() end

--- ip, port; of a unix socket its path.
---@return string? ip
---@return integer|string? port or err
function tcp:getpeername() end
---@return string? ip
---@return integer|string? port or err
function tcp:getsockname() end

--- Sends all of it.
---@param data string|number|table string, number, or a sequence of these, nested
---@return integer? bytes
---@return string? err
function tcp:send(data) end

--- `'*l'`: a line without its LF and any CR; `'*a'`: all until the peer closes; a number: exactly so many bytes.
--- After an error `partial` is what had come; it is taken out of the stream.
---@param pattern? '*l'|'*a'|'l'|'a'|integer default `'*l'`
---@return string? data
---@return string? err
---@return string? partial
function tcp:receive(pattern) end

--- 1..max bytes, as soon as there are any.
---@param max integer
---@return string? data
---@return string? err
function tcp:receiveany(max) end

--- Makes an iterator over the parts between the patterns. With a size it returns at most so many bytes of a part
--- per call, and nil, nil, nil once when the pattern was reached.
---@param pattern string plain text, not empty
---@param options? { inclusive?: boolean } inclusive: the pattern belongs to its part
---@return fun(size?: integer): data: string?, err: string?, partial: string?
function tcp:receiveuntil(pattern, options) end

--- What a later handshake with the same server resumes.
---@class srvlua.socket.session

--- Datagrams to and from one peer. A peer that refuses: `connection refused` at the next call.
---@class srvlua.socket.udp
local udp = {}

---@param host string name, address, or `unix:/path`
---@param port? integer 1..65535
---@return 1? ok
---@return string? err
function udp:setpeername(host, port) end

---@param data string|number|table string, number, or a sequence of these, nested
---@return 1? ok
---@return string? err
function udp:send(data) end

--- One datagram, cut to `size`.
---@param size? integer default 65536
---@return string? data
---@return string? err
function udp:receive(size) end

--- Time limit of later calls in milliseconds; nil or 0: as the settings say.
---@param ms? number
function udp:settimeout(ms) end

---@return 1? ok
---@return string? err
function udp:close() end

---@return integer? fd
---@return string? err
function udp:getfd() end

return socket
