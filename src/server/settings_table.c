/* settings_table.c: the one list of settings, in the order of docs/settings.md. runs in: anywhere; constant.
 *
 * A row that names a field of settings.h begins with SERVER or PORT. Nothing uses the settings of SERVER_CHECKED and
 * PORT_CHECKED yet (or ever: SV_SETTING_NO_EFFECT), so there is no field for them. LATER says what a setting waits for;
 * building that ends with deleting the LATER. */
#include "server/settings_table.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

#include "server/settings_check.h"

#define MOST_BYTES SV_SETTING_MOST_BYTES
#define MOST_SECONDS SV_SETTING_MOST_SECONDS
#define MOST_PATH (PATH_MAX - 32) /* room for a suffix */
#define TASK_TMPDIR_MOST 187 /* 255 bytes with a name as in ipc/task_file.h */
#define UINT32_MOST 4294967295.0
#define INT32_MOST 2147483647.0
#define KIB 1024.0
#define MIB 1048576.0
#define GIB 1073741824.0

#define SERVER(in, field)                                                                                              \
    .name = #field, .group = SV_GROUP_##in, .scope = SV_SCOPE_SERVER,                                                  \
    .offset = offsetof(struct sv_server_settings, field)
#define PORT(in, field)                                                                                                \
    .name = #field, .group = SV_GROUP_##in, .scope = SV_SCOPE_PORT, .offset = offsetof(struct sv_port_settings, field)
#define SERVER_CHECKED(in, setting)                                                                                    \
    .name = #setting, .group = SV_GROUP_##in, .scope = SV_SCOPE_SERVER, .offset = SV_SETTING_NOT_STORED
#define PORT_CHECKED(in, setting)                                                                                      \
    .name = #setting, .group = SV_GROUP_##in, .scope = SV_SCOPE_PORT, .offset = SV_SETTING_NOT_STORED

#define BOOL(value) .type = SV_SETTING_BOOL, .number = value
#define INT(low, high) .type = SV_SETTING_INT, .min = low, .max = high
#define NUMBER(low, high) .type = SV_SETTING_NUMBER, .min = low, .max = high
#define SECONDS(low, high) .type = SV_SETTING_SECONDS, .min = low, .max = high
#define ANY_SECONDS SECONDS(0, MOST_SECONDS)
#define MILLISECONDS(low, high) .type = SV_SETTING_MILLISECONDS, .min = low, .max = high
#define SIZE(low, high) .type = SV_SETTING_SIZE, .min = low, .max = high
#define CHOICE(list) .type = SV_SETTING_ENUM, .choices = list
#define STRING .type = SV_SETTING_STRING
#define PATH(most) .type = SV_SETTING_PATH, .max = most
#define BYTES(low, high) .min = low, .max = high
#define IS(value) .number = value
#define IS_TEXT(value) .text = value
#define DERIVED(how) .number = SV_DERIVE, .default_doc = how
#define LATER(what) .later = what
#define DOC(line) .doc = line
#define FLAGS(set) .flags = set
#define OFF SV_SETTING_ZERO_IS_OFF
#define OR_ZERO (SV_SETTING_OR_ZERO | SV_SETTING_ZERO_IS_OFF)
#define IN_PROCESS SV_SETTING_ONLY_PROCESS
#define NO_EFFECT SV_SETTING_NO_EFFECT

static const struct sv_setting_choice dispatch_modes[] = {
    {"round", SV_DISPATCH_ROUND, NULL},
    {"fd", SV_DISPATCH_FD, NULL},
    {"idle", SV_DISPATCH_IDLE, NULL},
    {"ip", SV_DISPATCH_IP, NULL},
    {"uid", SV_DISPATCH_UID, NULL},
    {"stream", SV_DISPATCH_STREAM, NULL},
    {"co_conn", SV_DISPATCH_CO_CONN, NULL},
    {"co_req", SV_DISPATCH_CO_REQ, NULL},
    {"concurrent", SV_DISPATCH_CONCURRENT, NULL},
    {"least_latency", SV_DISPATCH_LEAST_LATENCY, NULL},
    {NULL, 0, NULL},
};

static const struct sv_setting_choice task_ways[] = {
    {"ring", 1, NULL}, {"unixsock", 1, NULL}, {"queue", 2, NULL}, {"queue_any", 3, NULL}, {NULL, 0, NULL},
};

static const struct sv_setting_choice log_levels[] = {
    {"debug", SRVLUA_LOG_DEBUG, NULL},     {"trace", SRVLUA_LOG_TRACE, NULL},
    {"info", SRVLUA_LOG_INFO, NULL},       {"notice", SRVLUA_LOG_NOTICE, NULL},
    {"warning", SRVLUA_LOG_WARNING, NULL}, {"error", SRVLUA_LOG_ERROR, NULL},
    {"none", SRVLUA_LOG_NONE, NULL},       {NULL, 0, NULL},
};

static const struct sv_setting_choice log_rotations[] = {
    {"single", SV_LOG_SINGLE, NULL}, {"monthly", SV_LOG_MONTHLY, NULL},           {"daily", SV_LOG_DAILY, NULL},
    {"hourly", SV_LOG_HOURLY, NULL}, {"every_minute", SV_LOG_EVERY_MINUTE, NULL}, {NULL, 0, NULL},
};

static const struct sv_setting_choice log_formats[] = {
    {"text", SV_LOG_TEXT, NULL},
    {"json", SV_LOG_JSON, NULL},
    {NULL, 0, NULL},
};

static const struct sv_setting_choice lost_requests[] = {
    {"keep", SV_LOST_KEEP, NULL},
    {"close", SV_LOST_CLOSE, NULL},
    {"redeliver", SV_LOST_REDELIVER, NULL},
    {NULL, 0, NULL},
};

/* clang-format off: one setting per paragraph */
const struct sv_setting_row sv_setting_rows[] = {
    /* ---------------------------------------------------------------------------------- processes and threads */
    {SERVER(PROCESSES, reactor_num), INT(0, 65535), DERIVED("CPUs, at most 8"), FLAGS(IN_PROCESS | SV_SETTING_DERIVED),
     DOC("Reactor threads of the master. 0 = one per CPU. At most 4 per CPU and not more than `worker_num`: adjusted "
         "at "
         "start. BASE: each worker is its own reactor.")},
    {SERVER(PROCESSES, worker_num), INT(0, 65535), DERIVED("PROCESS: CPUs, BASE: 1"), FLAGS(SV_SETTING_DERIVED),
     DOC("Event workers. 0 = one per CPU. At most 1000 per CPU: adjusted at start.")},
    {SERVER(PROCESSES, task_worker_num), INT(0, 65535), IS(0), FLAGS(OFF),
     DOC("Task workers; more than 0 needs a `task` callback. At most 1000 per CPU: adjusted at start.")},
    {SERVER(PROCESSES, single_thread), BOOL(false), FLAGS(IN_PROCESS),
     DOC("One reactor only, on the loop of the master's main thread: no reactor threads.")},
    {SERVER(PROCESSES, open_cpu_affinity), BOOL(false),
     DOC("Pins reactor i and worker i to CPU i modulo the number of allowed CPUs.")},
    {SERVER(PROCESSES, cpu_affinity_ignore), .type = SV_SETTING_INT_LIST, .min = 0, .max = 4095,
     .check = sv_check_cpus_left,
     DOC("CPU numbers that `open_cpu_affinity` leaves out; at least one must be left.")},

    /* ----------------------------------------------------------------------------------------------- dispatch */
    {SERVER(DISPATCH, dispatch_mode), CHOICE(dispatch_modes), IS(SV_DISPATCH_FD), FLAGS(IN_PROCESS),
     DOC("Which worker gets a packet: the next one (`round`), the one of the descriptor (`fd`), an idle one (`idle`), "
         "the "
         "one of the client's address (`ip`) or of the bound uid (`uid`), or one chosen by load.")},
    {SERVER(DISPATCH, dispatch_func), .type = SV_SETTING_FUNCTION, FLAGS(IN_PROCESS),
     DOC("Function `(server, fd, type [, data])` that picks the worker per event; runs in the reactor and may have no "
         "upvalues. With it `send_yield` is off.")},
    {SERVER(DISPATCH, discard_timeout_request), BOOL(true), FLAGS(IN_PROCESS),
     DOC("In the dispatch modes without close order (`round`, `idle`, `stream`, `co_req`, `concurrent`), data of a "
         "connection that is gone is dropped; false delivers it.")},
    {SERVER(DISPATCH, enable_unsafe_event), BOOL(false), FLAGS(IN_PROCESS),
     DOC("Keeps connect, close, bufferFull and bufferEmpty in those modes, in any worker and any order.")},
    {SERVER(DISPATCH, enable_delay_receive), BOOL(false),
     DOC("An accepted connection is not read until `server:confirm(fd)`. Needs a connect callback.")},
    {SERVER(DISPATCH, enable_reuse_port), BOOL(false), LATER("listeners of each reactor's own"),
     DOC("A listener with SO_REUSEPORT for each reactor (BASE: worker), and other servers may share the port.")},
    {SERVER(DISPATCH, start_session_id), INT(0, UINT32_MOST), IS(0), DOC("First session id minus one.")},

    /* ------------------------------------------------------------------------------ connections and heartbeat */
    {SERVER(CONNECTIONS, max_connection), .aliases = {"max_conn"}, INT(0, 1048576), IS(0),
     .default_doc = "the descriptor limit, at most 100000", FLAGS(OFF),
     DOC("Live stream connections of the whole server; one more is closed at once. Above the descriptor limit, that is "
         "raised if the system allows, else the setting is adjusted at start.")},
    {PORT(CONNECTIONS, backlog), INT(1, 65535), IS(512),
     DOC("Length of the accept queue; the kernel cuts it to net.core.somaxconn.")},
    {SERVER(CONNECTIONS, heartbeat_check_interval), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("How often idle connections are looked for. Without `heartbeat_idle_time`, idle means twice as long.")},
    {PORT(CONNECTIONS, heartbeat_idle_time), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("A connection that sent nothing for so long is closed. Without `heartbeat_check_interval` the check runs "
         "every "
         "half of it.")},
    {PORT(CONNECTIONS, max_idle_time), SECONDS(0.001, MOST_SECONDS), IS(0), FLAGS(OR_ZERO),
     DOC("A connection that moved no byte in either direction for so long is closed. 0 = off.")},

    /* ------------------------------------------------------------------------------- buffers and backpressure */
    {SERVER(BUFFERS, output_buffer_size), .aliases = {"buffer_output_size"}, SIZE(1, UINT32_MOST), IS(2 * MIB),
     DOC("Most bytes of one `send`; more is refused with 1202.")},
    {PORT(BUFFERS, socket_buffer_size), SIZE(4096, MOST_BYTES), IS(MIB), FLAGS(OR_ZERO),
     DOC("Bytes that one connection may have queued for its client. 0 = no limit of its own.")},
    {PORT(BUFFERS, buffer_high_watermark), SIZE(0, MOST_BYTES), IS(0), FLAGS(OFF),
     .default_doc = "80 % of socket_buffer_size", DOC("bufferFull fires when the queue reaches it.")},
    {PORT(BUFFERS, buffer_low_watermark), SIZE(0, MOST_BYTES), IS(0), FLAGS(OFF),
     DOC("bufferEmpty fires when the queue has fallen to it. Must not be above the high one.")},
    {SERVER(BUFFERS, send_yield), BOOL(false), .default_doc = "enable_coroutine", FLAGS(SV_SETTING_DERIVED),
     DOC("`send` to a full connection suspends the coroutine instead of failing. PROCESS: only in the dispatch modes "
         "`fd`, "
         "`ip` and `co_conn`, else adjusted to false at start.")},
    {SERVER(BUFFERS, send_timeout), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("Longest suspension under `send_yield`. 0 = no limit; less than a millisecond counts as one.")},
    {SERVER(BUFFERS, max_queued_bytes), SIZE(0, UINT32_MOST), IS(0), FLAGS(OFF | IN_PROCESS),
     DOC("Bytes of one connection that were read but not yet given to a callback; above it the socket is not read. 0 = "
         "off.")},
    {SERVER_CHECKED(BUFFERS, input_buffer_size), .aliases = {"buffer_input_size"}, SIZE(0, MOST_BYTES), IS(2 * MIB),
     FLAGS(OFF | NO_EFFECT), DOC("No effect; see `package_max_length` and `max_queued_bytes`.")},
    {PORT(BUFFERS, kernel_socket_send_buffer_size), SIZE(0, INT32_MOST), IS(0), FLAGS(OFF),
     .default_doc = "the kernel's", DOC("SO_SNDBUF of each accepted connection and of datagram sockets.")},
    {PORT(BUFFERS, kernel_socket_recv_buffer_size), SIZE(0, INT32_MOST), IS(0), FLAGS(OFF),
     .default_doc = "the kernel's",
     DOC("SO_RCVBUF of the listener, and so of each accepted connection, and of datagram sockets.")},

    /* ------------------------------------------------------------------------------------- tasks and messages */
    {SERVER(TASKS, task_ipc_mode), CHOICE(task_ways), IS(1), .check = sv_check_task_way,
     DOC("Way to the task workers: rings in shared memory (`ring`), or a SysV message queue (`queue`, `queue_any`).")},
    {SERVER(TASKS, message_queue_key), INT(0, INT32_MOST), IS(0), FLAGS(OFF),
     DOC("Key of the SysV queue; 0 = a private one. A queue with a key outlives the server.")},
    {SERVER(TASKS, task_max_request), INT(0, UINT32_MOST), IS(0), FLAGS(OFF),
     DOC("A task worker leaves after so many tasks. 0 = never.")},
    {SERVER(TASKS, task_max_request_grace), INT(0, UINT32_MOST),
     DERIVED("half of task_max_request if that is above 10, else 0"), FLAGS(OFF | SV_SETTING_DERIVED),
     DOC("A random 1..grace is added per process.")},
    {SERVER(TASKS, task_tmpdir), PATH(TASK_TMPDIR_MOST), IS_TEXT("/tmp"), .check = sv_check_made_directory,
     DOC("Directory for payloads over 8 KiB when `task_ipc_mode` is a queue. Made if it is not there.")},
    {SERVER(TASKS, task_enable_coroutine), BOOL(false),
     DOC("Task workers run an event loop, each task in its own coroutine.")},
    {SERVER(TASKS, task_object), .aliases = {"task_use_object"}, BOOL(false),
     DOC("The task callback gets `(server, task)`.")},
    {SERVER(TASKS, event_object), BOOL(false),
     DOC("Callbacks get one table instead of several arguments; implies `task_object`.")},

    /* ---------------------------------------------------------------------------------- life cycle and reload */
    {SERVER(LIFE_CYCLE, max_request), INT(0, UINT32_MOST), IS(0), FLAGS(OFF),
     DOC("An event worker is replaced after so many requests. 0 = never.")},
    {SERVER(LIFE_CYCLE, max_request_grace), INT(0, UINT32_MOST),
     DERIVED("half of max_request if that is above 10, else 0"), FLAGS(OFF | SV_SETTING_DERIVED),
     DOC("A random 1..grace is added per process, so that they do not leave together.")},
    {SERVER(LIFE_CYCLE, reload_async), BOOL(true),
     DOC("A leaving worker finishes what it was given while its successor already runs; false: one after the other. "
         "`enable_coroutine` forces true.")},
    {SERVER(LIFE_CYCLE, max_wait_time), ANY_SECONDS, IS(3), FLAGS(OFF),
     DOC("Longest stay of a process that was told to leave.")},

    /* ------------------------------------------------------------------------------ coroutines, clients, names */
    {SERVER(COROUTINES, enable_coroutine), BOOL(true), DOC("Callbacks run in pooled coroutines; false: plain calls.")},
    {SERVER(COROUTINES, max_coroutine), .aliases = {"max_coro_num"}, INT(0, INT32_MOST), IS(0), .default_doc = "100000",
     FLAGS(OFF), DOC("Live coroutines per process; an event beyond it is refused.")},
    {SERVER_CHECKED(COROUTINES, max_concurrency), INT(0, UINT32_MOST), IS(0), FLAGS(OFF), LATER("HTTP"),
     DOC("Requests being worked on in the whole server; one more gets 503. 0 = no limit.")},
    {SERVER_CHECKED(COROUTINES, worker_max_concurrency), INT(0, UINT32_MOST), IS(0), FLAGS(OFF),
     .default_doc = "max_concurrency", LATER("HTTP"),
     DOC("Requests being worked on in one worker; more wait in its queue.")},
    {SERVER(COROUTINES, socket_connect_timeout), ANY_SECONDS, IS(10), FLAGS(OFF),
     DOC("Default connect timeout of client sockets. 0 = no limit.")},
    {SERVER(COROUTINES, socket_read_timeout), .aliases = {"socket_recv_timeout"}, ANY_SECONDS, IS(60),
     FLAGS(OFF), DOC("Default timeout of receiving on client sockets. 0 = no limit.")},
    {SERVER(COROUTINES, socket_write_timeout), .aliases = {"socket_send_timeout"}, ANY_SECONDS, IS(60),
     FLAGS(OFF), DOC("Default timeout of sending on client sockets. 0 = no limit.")},
    {SERVER(COROUTINES, socket_timeout), ANY_SECONDS, IS(60), FLAGS(OFF),
     DOC("Sets `socket_read_timeout` and `socket_write_timeout`.")},
    {SERVER(COROUTINES, socket_dns_timeout), ANY_SECONDS, IS(60), FLAGS(OFF),
     DOC("Longest name look-up of a client. 0 = as long as the resolver tries.")},
    {SERVER(COROUTINES, dns_server), STRING, .default_doc = "the system's", .check = sv_check_address_and_port,
     DOC("Server that the resolver asks, `ip[:port]`.")},
    {SERVER(COROUTINES, dns_cache_expire), ANY_SECONDS, IS(60), FLAGS(OFF),
     DOC("Longest life of a cached answer. 0 = no cache.")},
    {SERVER(COROUTINES, dns_cache_capacity), INT(0, 1048576), IS(1000), FLAGS(OFF),
     DOC("Names that the cache of one process holds.")},
    {SERVER(COROUTINES, enable_deadlock_check), BOOL(true),
     DOC("Warns, with their stacks, of coroutines that are suspended when a user process has nothing left to do.")},
    {SERVER_CHECKED(COROUTINES, aio_core_worker_num), INT(0, INT32_MOST), IS(0), FLAGS(OFF | NO_EFFECT),
     DOC("No effect: there is no pool of threads for blocking calls.")},
    {SERVER_CHECKED(COROUTINES, aio_worker_num), INT(0, INT32_MOST), IS(0), FLAGS(OFF | NO_EFFECT), DOC("No effect.")},
    {SERVER_CHECKED(COROUTINES, aio_max_wait_time), ANY_SECONDS, IS(0), FLAGS(OFF | NO_EFFECT), DOC("No effect.")},
    {SERVER_CHECKED(COROUTINES, aio_max_idle_time), ANY_SECONDS, IS(0), FLAGS(OFF | NO_EFFECT), DOC("No effect.")},

    /* -------------------------------------------------------------------------------------- log, daemon, user */
    {SERVER(LOG, log_file), PATH(MOST_PATH), .default_doc = "stderr",
     DOC("Log of all processes; opened for appending.")},
    {SERVER(LOG, log_level), CHOICE(log_levels), IS(SRVLUA_LOG_INFO), DOC("Lines below it are not written.")},
    {SERVER(LOG, log_date_format), STRING, IS_TEXT("%Y-%m-%d %H:%M:%S"), .check = sv_check_date_format,
     DOC("strftime format of the time, giving 1..64 bytes. Not for `log_format = 'json'`.")},
    {SERVER(LOG, log_date_with_microseconds), BOOL(false), DOC("Microseconds after the time.")},
    {SERVER(LOG, log_rotation), CHOICE(log_rotations), IS(SV_LOG_SINGLE), FLAGS(OFF),
     DOC("A new file, named with a suffix by date, for each period. Old files stay.")},
    {SERVER(LOG, log_format), CHOICE(log_formats), IS(SV_LOG_TEXT),
     DOC("`text`: time, level, pid, role, message; `json`: one object per line.")},
    {SERVER(LOG, display_errors), BOOL(true),
     DOC("Errors go to stderr as well when there is a `log_file`; never after `daemonize`.")},
    {SERVER(LOG, daemonize), BOOL(false), DOC("Runs in the background. Not under systemd, containers, supervisors.")},
    {SERVER(LOG, pid_file), PATH(MOST_PATH),
     DOC("File that holds the pid of the starting process while the server runs.")},
    {SERVER(LOG, user), STRING, .check = sv_check_user,
     DOC("User of event and task workers (name or number as text), if started as root.")},
    {SERVER(LOG, group), STRING, .check = sv_check_group, .default_doc = "the user's",
     DOC("Group of event and task workers, if started as root.")},
    {SERVER(LOG, chroot), PATH(MOST_PATH), .check = sv_check_directory,
     DOC("Root directory of event and task workers, if started as root.")},

    /* -------------------------------------------------------------------------------------------- TCP options */
    {PORT(TCP, open_tcp_nodelay), BOOL(true), DOC("TCP_NODELAY on each connection.")},
    {PORT(TCP, open_tcp_keepalive), BOOL(false), DOC("SO_KEEPALIVE, with the three values below.")},
    {PORT(TCP, tcp_keepidle), INT(1, 32767), IS(3600), DOC("Seconds of silence before the first probe.")},
    {PORT(TCP, tcp_keepinterval), INT(1, 32767), IS(60), DOC("Seconds between probes.")},
    {PORT(TCP, tcp_keepcount), INT(1, 127), IS(5), DOC("Unanswered probes until the kernel gives the connection up.")},
    {PORT(TCP, tcp_user_timeout), MILLISECONDS(0, INT32_MOST), IS(0), FLAGS(OFF), .default_doc = "the kernel's",
     DOC("Longest time that sent data may stay unacknowledged.")},
    {PORT(TCP, tcp_defer_accept), INT(0, 3600), IS(0), FLAGS(OFF), .if_true = 1,
     DOC("A client is accepted when its first data came or so many seconds have passed. `true` = 1.")},
    {PORT(TCP, tcp_fastopen), INT(0, 65535), IS(0), FLAGS(OFF), .if_true = 256,
     DOC("Queue length of TCP_FASTOPEN on the listener. `true` = 256, 0 = off.")},

    /* ------------------------------------------------------------------------------------------------ framing */
    {PORT(FRAMING, open_eof_check), BOOL(false),
     DOC("Data is handed over when what was read ends with `package_eof`; may be several packets.")},
    {PORT(FRAMING, open_eof_split), BOOL(false), DOC("One packet per receive, each ending with `package_eof`, which is part of it.")},
    {PORT(FRAMING, package_eof), STRING, BYTES(1, 8), IS_TEXT("\r\n\r\n"), FLAGS(SV_SETTING_BINARY),
     .default_doc = "'\\r\\n\\r\\n'", DOC("End mark of a packet; may hold any byte.")},
    {PORT(FRAMING, open_length_check), BOOL(false),
     DOC("Packets begin with their length; one per receive, header and all. Of several framings that are on the first of eof, length, "
         "MQTT and redis decides, and a warning says so.")},
    {PORT(FRAMING, package_length_type), STRING, BYTES(1, 1), IS_TEXT("N"), .check = sv_check_length_type,
     DOC("Type of the length field, one letter of c C s S l L n N v V q Q J P: lower c s l q are signed; n N J "
         "are big-endian, v V P little-endian, the others in host order.")},
    {PORT(FRAMING, package_length_offset), INT(0, 8180), IS(0), FLAGS(OFF), DOC("Position of the length field.")},
    {PORT(FRAMING, package_body_offset), .aliases = {"package_body_start"}, INT(0, 8180), IS(4), FLAGS(OFF),
     DOC("Added to the length field's value to get the length of the whole packet: the header's length, or 0 if the field counts it.")},
    {PORT(FRAMING, package_length_func), .type = SV_SETTING_FUNCTION,
     DOC("Function `(data)` that returns the length of the packet, 0 for more data, or less for an error; `data` is what "
         "has come of it, at most 64 KiB. Needs `open_length_check`. Runs in the reactor, in a Lua state of its own: no upvalues, "
         "no globals of the program, no `require`.")},
    {PORT(FRAMING, package_max_length), SIZE(0, UINT32_MOST), IS(2 * MIB),
     DOC("Largest inbound packet; a larger one closes the connection. Less than 64 KiB is adjusted to that.")},
    {PORT_CHECKED(FRAMING, open_http_protocol), BOOL(false), LATER("HTTP"),
     DOC("HTTP/1: `request` instead of `receive`.")},
    {PORT_CHECKED(FRAMING, open_http2_protocol), BOOL(false), LATER("HTTP/2"),
     DOC("HTTP/2; implies `open_http_protocol`.")},
    {PORT_CHECKED(FRAMING, open_websocket_protocol), BOOL(false), LATER("WebSocket"),
     DOC("WebSocket; implies `open_http_protocol`.")},
    {PORT(FRAMING, open_mqtt_protocol), BOOL(false), DOC("One MQTT control packet per receive.")},
    {PORT(FRAMING, open_redis_protocol), BOOL(false), DOC("One RESP command per receive.")},
    {PORT(FRAMING, package_timeout), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("Longest time from the first byte of a packet to its last; then the connection is closed. 0 = off.")},

    /* ---------------------------------------------------------------------------------------------------- TLS */
    {PORT(TLS, ssl_cert_file), PATH(MOST_PATH),
     DOC("PEM file of the certificate chain, leaf first.")},
    {PORT(TLS, ssl_key_file), PATH(MOST_PATH), DOC("PEM file of the private key.")},
    {PORT(TLS, ssl_passphrase), STRING, DOC("Passphrase of `ssl_key_file`, if that is encrypted.")},
    {PORT(TLS, ssl_sni_certs), .type = SV_SETTING_CERTIFICATES,
     DOC("More certificates by server name (SNI), which may begin with `*.`: each a table with `ssl_cert_file`, `ssl_key_file` and perhaps "
         "`ssl_passphrase`. Other names get `ssl_cert_file`.")},
    {PORT(TLS, ssl_protocols), .type = SV_SETTING_TLS_VERSIONS, .check = sv_check_tls_versions, IS(0), FLAGS(OFF),
     .default_doc = "1.2, and 1.3 where the library has it", DOC("Versions that are offered.")},
    {PORT(TLS, ssl_ciphers), .type = SV_SETTING_STRING_OR_LIST, .check = sv_check_ciphers,
     .default_doc = "the library's modern set",
     DOC("Suites for TLS 1.2, separated by `:` or as a list.")},
    {PORT(TLS, ssl_ecdh_curve), STRING, .check = sv_check_curves, IS_TEXT("auto"),
     DOC("Curves in order of preference, separated by `:`.")},
    {PORT_CHECKED(TLS, ssl_dhparam), PATH(MOST_PATH), FLAGS(NO_EFFECT),
     DOC("No effect: no finite-field suites are offered.")},
    {PORT(TLS, ssl_prefer_server_ciphers), BOOL(true),
     DOC("The server's order of suites decides.")},
    {PORT_CHECKED(TLS, ssl_compress), BOOL(false), FLAGS(NO_EFFECT),
     DOC("No effect: TLS compression is unsafe and never on.")},
    {PORT_CHECKED(TLS, ssl_disable_compression), BOOL(true), FLAGS(NO_EFFECT), DOC("No effect.")},
    {PORT(TLS, ssl_verify_peer), BOOL(false), DOC("A client without a certificate that is valid and signed by one of the CAs is refused. Needs `ssl_client_cert_file`, "
         "`ssl_cafile` or `ssl_capath`.")},
    {PORT(TLS, ssl_allow_self_signed), BOOL(false),
     DOC("With `ssl_verify_peer`, a self-signed certificate will do.")},
    {PORT(TLS, ssl_client_cert_file), PATH(MOST_PATH),
     DOC("PEM file of the CAs that sign client certificates. Clients are asked for one; without `ssl_verify_peer` nobody needs "
         "one and none is checked.")},
    {PORT(TLS, ssl_cafile), PATH(MOST_PATH), DOC("PEM file of more CAs, for `ssl_verify_peer`.")},
    {PORT(TLS, ssl_capath), PATH(MOST_PATH), DOC("Directory of more CAs, for `ssl_verify_peer`.")},
    {PORT(TLS, ssl_verify_depth), INT(0, 255), IS(0), FLAGS(OFF), .default_doc = "the library's",
     DOC("Most intermediate certificates of a client. 0 = the library's limit.")},
    {PORT(TLS, ssl_session_tickets), BOOL(true), DOC("Clients may resume their session with a ticket, in any worker; reloads do not end that.")},
    {PORT(TLS, ssl_session_timeout), SECONDS(1, 604800), IS(3600), DOC("Life of a ticket. Who resumes by one shows no certificate again: with `ssl_verify_peer` it also lets in a client whose certificate "
         "has run out meanwhile, or whose CA has been taken away by `reloadCertificates`.")},
    {PORT(TLS, ssl_alpn), .type = SV_SETTING_STRING_LIST, .check = sv_check_alpn, DOC("Names of protocols, best first. A client that offers some and none of these is refused.")},
    {PORT(TLS, ssl_ktls), BOOL(false), DOC("No effect yet: encryption stays in the process.")},
    {PORT(TLS, ssl_handshake_timeout), ANY_SECONDS, IS(10), FLAGS(OFF),
     DOC("From accept, PROXY header included, to the end of the handshake. 0 = no limit.")},
    {PORT(TLS, ssl_handshake_limit), INT(0, 1048576), IS(1000), FLAGS(OFF),
     DOC("Unfinished handshakes of the port per reactor; further clients wait. 0 = no limit.")},

    /* --------------------------------------------------------------------------------------------------- HTTP */
    {SERVER_CHECKED(HTTP, http_parse_cookie), BOOL(true), LATER("HTTP"), DOC("Fills `request.cookie`.")},
    {SERVER_CHECKED(HTTP, http_parse_post), BOOL(true), LATER("HTTP"),
     DOC("Parses urlencoded bodies into `request.post`.")},
    {SERVER_CHECKED(HTTP, http_parse_files), BOOL(true), LATER("HTTP"),
     DOC("Parses multipart bodies into `request.files` and `request.post`.")},
    {SERVER_CHECKED(HTTP, upload_tmp_dir), PATH(220), IS_TEXT("/tmp"), LATER("HTTP"),
     DOC("Where uploaded files are written.")},
    {SERVER_CHECKED(HTTP, upload_max_filesize), SIZE(0, MOST_BYTES), IS(0), FLAGS(OFF), LATER("HTTP"),
     DOC("Larger uploads than `package_max_length` are streamed to `upload_tmp_dir`, each file up to this. 0 = off.")},
    {SERVER_CHECKED(HTTP, http_compression), BOOL(true), LATER("HTTP"),
     DOC("Responses are compressed by Accept-Encoding.")},
    {SERVER_CHECKED(HTTP, http_compression_level), .aliases = {"compression_level", "http_gzip_level"}, INT(0, 11),
     IS(1), FLAGS(OFF), LATER("HTTP"), DOC("How hard compression tries.")},
    {SERVER_CHECKED(HTTP, http_compression_min_length), .aliases = {"compression_min_length"}, SIZE(0, MOST_BYTES),
     IS(20), FLAGS(OFF), LATER("HTTP"), DOC("Shorter bodies stay plain.")},
    {SERVER_CHECKED(HTTP, http_compression_types), .aliases = {"compression_types"}, .type = SV_SETTING_STRING_LIST,
     .default_doc = "every type", LATER("HTTP"), DOC("Only these content types are compressed.")},
    {SERVER_CHECKED(HTTP, enable_static_handler), BOOL(false), LATER("HTTP"),
     DOC("Serves files under `document_root` before `request`.")},
    {SERVER_CHECKED(HTTP, document_root), PATH(MOST_PATH), .check = sv_check_directory, LATER("HTTP"),
     DOC("Directory of the static files.")},
    {SERVER_CHECKED(HTTP, static_handler_locations), .type = SV_SETTING_STRING_LIST, .check = sv_check_locations,
     .default_doc = "all paths", LATER("HTTP"), DOC("Only paths with these prefixes are static.")},
    {SERVER_CHECKED(HTTP, http_index_files), .type = SV_SETTING_STRING_LIST, LATER("HTTP"),
     DOC("Files that are tried, in this order, for a directory.")},
    {SERVER_CHECKED(HTTP, http_autoindex), BOOL(false), LATER("HTTP"),
     DOC("Lists a directory that has no index file.")},
    {SERVER_CHECKED(HTTP, url_rewrite_rules), .type = SV_SETTING_PAIR_LIST, LATER("HTTP"),
     DOC("Pairs of pattern and replacement for static files; the first that matches wins.")},
    {PORT_CHECKED(HTTP, http_header_timeout), ANY_SECONDS, IS(10), FLAGS(OFF), LATER("HTTP"),
     DOC("Longest time to the end of a request's headers. 0 = no limit.")},
    {PORT_CHECKED(HTTP, http_body_timeout), ANY_SECONDS, IS(30), FLAGS(OFF), LATER("HTTP"),
     DOC("Longest time between two reads of a body. 0 = no limit.")},
    {PORT_CHECKED(HTTP, http_send_timeout), ANY_SECONDS, IS(60), FLAGS(OFF), LATER("HTTP"),
     DOC("Longest time in which a client takes no byte of waiting output. 0 = no limit.")},
    {PORT_CHECKED(HTTP, http_keepalive_timeout), ANY_SECONDS, IS(75), FLAGS(OFF), LATER("HTTP"),
     DOC("Longest silence between two requests. 0 = no limit.")},
    {PORT_CHECKED(HTTP, http_max_header_size), SIZE(KIB, MIB), IS(64 * KIB), LATER("HTTP"),
     DOC("Request line and headers together; more gets 431.")},

    /* ---------------------------------------------------------------------------------------------- WebSocket */
    {PORT_CHECKED(WEBSOCKET, websocket_subprotocol), .type = SV_SETTING_STRING_OR_LIST, LATER("WebSocket"),
     DOC("Sent back if the client offered it; of a list the first one offered.")},
    {PORT_CHECKED(WEBSOCKET, open_websocket_close_frame), BOOL(false), LATER("WebSocket"),
     DOC("Close frames also reach `message`.")},
    {PORT_CHECKED(WEBSOCKET, open_websocket_ping_frame), BOOL(false), LATER("WebSocket"),
     DOC("Ping frames reach `message` and are not answered by themselves.")},
    {PORT_CHECKED(WEBSOCKET, open_websocket_pong_frame), BOOL(false), LATER("WebSocket"),
     DOC("Pong frames reach `message`.")},
    {SERVER_CHECKED(WEBSOCKET, websocket_compression), BOOL(false), LATER("WebSocket"),
     DOC("Offers permessage-deflate.")},
    {PORT_CHECKED(WEBSOCKET, websocket_ping_interval), ANY_SECONDS, IS(0), FLAGS(OFF), LATER("WebSocket"),
     DOC("Pings a client that was silent for so long. 0 = off.")},
    {PORT_CHECKED(WEBSOCKET, websocket_pong_timeout), ANY_SECONDS, IS(10), FLAGS(OFF), LATER("WebSocket"),
     DOC("A client that sends nothing for so long after such a ping is closed.")},
    {PORT_CHECKED(WEBSOCKET, websocket_mask), BOOL(false), .check = sv_check_never_masked,
     DOC("Always false: RFC 6455 forbids servers to mask.")},

    /* ------------------------------------------------------------------------------------------------- HTTP/2 */
    {SERVER_CHECKED(HTTP2, http2_header_table_size), SIZE(0, UINT32_MOST), IS(4096), LATER("HTTP/2"),
     DOC("SETTINGS_HEADER_TABLE_SIZE.")},
    {SERVER_CHECKED(HTTP2, http2_max_concurrent_streams), INT(0, INT32_MOST), IS(128), LATER("HTTP/2"),
     DOC("Streams per connection.")},
    {SERVER_CHECKED(HTTP2, http2_init_window_size), SIZE(0, INT32_MOST), IS(65535), LATER("HTTP/2"),
     DOC("Flow-control window that a stream begins with.")},
    {SERVER_CHECKED(HTTP2, http2_max_frame_size), SIZE(16384, 16777215), IS(16384), LATER("HTTP/2"),
     DOC("Largest frame that is accepted.")},
    {SERVER_CHECKED(HTTP2, http2_max_header_list_size), SIZE(0, MOST_BYTES), IS(0), FLAGS(OFF), LATER("HTTP/2"),
     DOC("Largest header list; more gets 431. 0 = no limit.")},
    {SERVER_CHECKED(HTTP2, http2_max_headers), INT(1, 65535), IS(1000), LATER("HTTP/2"),
     DOC("Header fields per request.")},
    {SERVER_CHECKED(HTTP2, http2_enable_push), INT(0, 1), IS(0), FLAGS(OFF | NO_EFFECT), .if_true = 1,
     DOC("No effect: server push is not supported.")},

    /* ------------------------------------------------------------------------------------ statistics, tracing */
    {SERVER(STATISTICS, stats_file), PATH(MOST_PATH),
     DOC("Worker 0 writes `server:stats()` there: as JSON, as Lua table, or as `key: value` lines, by its ending.")},
    {SERVER(STATISTICS, stats_timer_interval), MILLISECONDS(1, 86400000), IS(1000), DOC("How often.")},
    {SERVER(STATISTICS, debug_mode), BOOL(false), DOC("true = `log_level = 'debug'`.")},
    {SERVER_CHECKED(STATISTICS, trace_flags), INT(0, INT32_MOST), IS(0), FLAGS(OFF | NO_EFFECT),
     DOC("No effect: `log_level` chooses.")},
    {SERVER(STATISTICS, print_backtrace_on_error), BOOL(false), LATER("C call stacks in the log"),
     DOC("Adds the C call stack to ERROR lines.")},

    /* ----------------------------------------------------------------------------------- faults, supervision */
    {SERVER(FAULTS, exit_on_error), BOOL(false),
     DOC("An uncaught error in an event worker's callback ends the worker with status 255; false: it is logged and the "
         "worker goes on.")},
    {SERVER(FAULTS, on_lost_request), CHOICE(lost_requests), IS(SV_LOST_KEEP),
     DOC("What becomes of the request that a dead worker was running: its connection is kept or closed, or the packet "
         "is given once more to the successor (up to 1 MiB; a second death closes the connection).")},
    {SERVER(FAULTS, hang_warning), ANY_SECONDS, IS(1), FLAGS(OFF),
     DOC("A callback that runs so long without yielding is reported with its Lua stack, and again whenever its age has "
         "doubled. 0 = off. Needs a manager: not in BASE mode with a single process.")},
    {SERVER(FAULTS, task_hang_warning), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("The same for task workers without coroutines.")},
    {SERVER(FAULTS, hang_timeout), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("After so long the process is killed and replaced. Not less than `hang_warning`. 0 = off. Needs a manager: not "
         "in BASE mode with a single process.")},
    {SERVER(FAULTS, task_hang_timeout), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("The same for task workers without coroutines.")},
    {SERVER(FAULTS, respawn_burst), INT(0, 1000), IS(5), FLAGS(OFF),
     DOC("A process that ends within `respawn_window` of its start is replaced at once this many times in a row.")},
    {SERVER(FAULTS, respawn_window), ANY_SECONDS, IS(1), FLAGS(OFF), DOC("A longer life resets that count.")},
    {SERVER(FAULTS, respawn_delay_max), ANY_SECONDS, IS(5), FLAGS(OFF),
     DOC("After that burst it is replaced after 0.1 s, doubling up to this. 0 = always at once.")},
    {SERVER(FAULTS, start_timeout), ANY_SECONDS, IS(30), FLAGS(OFF),
     DOC("A process that has not finished workerStart by then is killed. 0 = no limit.")},
    {SERVER(FAULTS, reload_parallel), INT(0, 65535), IS(0), FLAGS(OFF), .default_doc = "all",
     DOC("How many workers a reload replaces at the same time.")},
    {SERVER(FAULTS, reload_jitter), ANY_SECONDS, IS(0), FLAGS(OFF),
     DOC("A worker that is due by `max_request` waits a random 0..jitter before it leaves.")},

    /* ---------------------------------------------------------------------------------------- memory and rings */
    {SERVER(MEMORY, output_memory_limit), SIZE(MIB, MOST_BYTES), IS(0), FLAGS(OR_ZERO),
     .default_doc = "a quarter of the memory, at least 64 MiB", DOC("All output queues of the server together.")},
    {SERVER(MEMORY, worker_ring_size), SIZE(64 * KIB, GIB), IS(MIB), FLAGS(IN_PROCESS),
     DOC("Each ring between a reactor and a worker; a power of two. With `on_lost_request = 'redeliver'` at least "
         "4 MiB.")},
    {SERVER(MEMORY, task_ring_size), SIZE(64 * KIB, GIB), IS(256 * KIB),
     DOC("Each ring between a worker and a task worker; a power of two.")},
    {SERVER(MEMORY, message_ring_size), SIZE(16 * KIB, GIB), IS(64 * KIB),
     DOC("Each ring for messages between processes; a power of two.")},
    {SERVER(MEMORY, message_stash_size), SIZE(0, MOST_BYTES), IS(8 * MIB), FLAGS(OFF),
     DOC("Messages that one process may hold for peers whose ring is full.")},
    {SERVER(MEMORY, session_table_size), INT(1024, 16777216), IS(0), FLAGS(OR_ZERO),
     .default_doc = "1048576, or the power of two from 2 × max_connection if that is more",
     DOC("Slots for sessions; a power of two. How long a closed session's reason is remembered depends on it.")},
    {SERVER(MEMORY, spin_limit), INT(0, 1000), IS(20), FLAGS(OFF),
     DOC("Longest busy wait, in microseconds, of a process that expects records at once. Always 0 on one CPU.")},

    /* ------------------------------------------------------------------------------------- defence at the door */
    {PORT(DEFENCE, max_connection_per_ip), INT(0, 1048576), IS(0), FLAGS(OFF),
     DOC("Live connections of one client address (IPv6: of one /64); one more is closed at once, before any event. 0 = no limit.")},
    {PORT(DEFENCE, connection_rate_per_ip), NUMBER(0, 100000), IS(0), FLAGS(OFF),
     DOC("New connections per second and address; more are closed at once, before any event. 0 = no limit.")},
    {PORT(DEFENCE, connection_limit_exempt), .type = SV_SETTING_STRING_LIST, .check = sv_check_networks,
     DOC("Addresses and networks that those two limits do not bind.")},
    {PORT(DEFENCE, open_proxy_protocol), BOOL(false),
     DOC("Every connection begins with a PROXY header (version 1 or 2), which tells the client's address; without one it is closed. Of TLS "
         "connections it comes before the handshake.")},
    {PORT(DEFENCE, proxy_protocol_trusted), .type = SV_SETTING_STRING_LIST, .check = sv_check_networks,
     DOC("Addresses and networks that may send that header; others are closed. Needed with it, but for unix sockets.")},
    {PORT(DEFENCE, proxy_protocol_timeout), ANY_SECONDS, IS(3), FLAGS(OFF),
     DOC("Longest time until the header is there.")},

    /* ------------------------------------------------------------------------------------------ administration */
    {SERVER_CHECKED(ADMINISTRATION, control_socket), PATH(107), LATER("the control socket"),
     DOC("Unix socket that takes one JSON request per line.")},
    {SERVER_CHECKED(ADMINISTRATION, control_socket_mode), .type = SV_SETTING_FILE_MODE, IS(0600),
     .default_doc = "'0600'", LATER("the control socket"), DOC("Its file mode.")},

    {.name = NULL},
};
/* clang-format on */

#define PHP_HOOKS "it chooses PHP functions to replace; the clients here suspend by themselves"
#define NO_C_STACK "coroutines have no C stack of their own"
#define THREAD_MODE "it belongs to PHP's thread mode"
#define SLOW_LOG "long callbacks are reported by hang_warning"
#define FIXED_BACKEND "the event backend is fixed: epoll and signalfd"
#define CLIENT_OPTION "it is an option of clients: set it on the client"
#define POOL_OPTION "it is an option of process pools"
#define GLOBAL_OPTION "it is an option of Swoole's global or coroutine settings, not of a server"

const struct sv_refused_setting sv_refused_settings[] = {
    {"hook_flags", PHP_HOOKS},
    {"enable_preemptive_scheduler", "compiled Lua code cannot be preempted; use hang_warning and hang_timeout"},
    {"c_stack_size", NO_C_STACK},
    {"stack_size", NO_C_STACK},
    {"name_resolver", "it holds PHP objects; use dns_server"},
    {"bootstrap", THREAD_MODE},
    {"init_arguments", THREAD_MODE},
    {"request_slowlog_file", SLOW_LOG},
    {"request_slowlog_timeout", SLOW_LOG},
    {"ssl_method", "use ssl_protocols"},
    {"ssl_grease", "it is for clients with BoringSSL"},
    {"ssl_host_name", "it is for clients"},
    {"iouring_entries", FIXED_BACKEND},
    {"iouring_workers", FIXED_BACKEND},
    {"iouring_flag", FIXED_BACKEND},
    {"enable_kqueue", FIXED_BACKEND},
    {"enable_signalfd", FIXED_BACKEND},
    {"open_ssl", CLIENT_OPTION},
    {"open_fastcgi_protocol", CLIENT_OPTION},
    {"bind_address", CLIENT_OPTION},
    {"bind_port", CLIENT_OPTION},
    {"connect_timeout", CLIENT_OPTION},
    {"read_timeout", CLIENT_OPTION},
    {"write_timeout", CLIENT_OPTION},
    {"timeout", CLIENT_OPTION},
    {"socks5_host", CLIENT_OPTION},
    {"socks5_port", CLIENT_OPTION},
    {"socks5_username", CLIENT_OPTION},
    {"socks5_password", CLIENT_OPTION},
    {"http_proxy_host", CLIENT_OPTION},
    {"http_proxy_port", CLIENT_OPTION},
    {"http_proxy_username", CLIENT_OPTION},
    {"http_proxy_user", CLIENT_OPTION},
    {"http_proxy_password", CLIENT_OPTION},
    {"max_retries", CLIENT_OPTION},
    {"defer", CLIENT_OPTION},
    {"lowercase_header", CLIENT_OPTION},
    {"keep_alive", CLIENT_OPTION},
    {"body_decompression", CLIENT_OPTION},
    {"write_func", CLIENT_OPTION},
    {"enable_message_bus", POOL_OPTION},
    {"max_package_size", POOL_OPTION},
    {"wait_signal", GLOBAL_OPTION},
    {"thread_num", GLOBAL_OPTION},
    {"min_thread_num", GLOBAL_OPTION},
    {"max_thread_num", GLOBAL_OPTION},
    {"socket_dontwait", GLOBAL_OPTION},
    {"dns_lookup_random", GLOBAL_OPTION},
    {"use_async_resolver", GLOBAL_OPTION},
    {"dns_cache_refresh_time", GLOBAL_OPTION},
    {"exit_condition", GLOBAL_OPTION},
    {"deadlock_check_disable_trace", GLOBAL_OPTION},
    {"deadlock_check_limit", GLOBAL_OPTION},
    {"deadlock_check_depth", GLOBAL_OPTION},
    {"http_client_driver", GLOBAL_OPTION},
    {"admin_server", "it is the protocol of Swoole's dashboard; use control_socket"},
    {NULL, NULL},
};

/* ------------------------------------------------------------------------------------------------------- looking up */

const struct sv_setting_row *sv_setting_find(const char *name) {
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        if (strcmp(row->name, name) == 0)
            return row;
        for (int i = 0; i < SV_SETTING_ALIASES && row->aliases[i]; i++)
            if (strcmp(row->aliases[i], name) == 0)
                return row;
    }
    return NULL;
}

const char *sv_setting_refusal(const char *name) {
    for (const struct sv_refused_setting *refused = sv_refused_settings; refused->name; refused++)
        if (strcmp(refused->name, name) == 0)
            return refused->reason;
    return NULL;
}

#define LONGEST_NAME 64
#define NEAR 3

static int least(int one, int two, int three) {
    int least_of_two = one < two ? one : two;
    return least_of_two < three ? least_of_two : three;
}

/* Insertions, deletions and substitutions between two names, case ignored. */
static int edit_distance(const char *one, size_t length, const char *other, size_t other_length) {
    int row[LONGEST_NAME + 1];

    for (size_t j = 0; j <= other_length; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= length; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= other_length; j++) {
            int above = row[j];
            bool differs = tolower((unsigned char)one[i - 1]) != tolower((unsigned char)other[j - 1]);
            row[j] = least(above + 1, row[j - 1] + 1, diagonal + differs);
            diagonal = above;
        }
    }
    return row[other_length];
}

/* Keeps the candidate if it is nearer than what was found before. */
static void consider(const char *candidate, const char *name, size_t length, int *distance, const char **nearest) {
    size_t candidate_length = strlen(candidate);
    if (candidate_length > LONGEST_NAME)
        return;
    int this_distance = edit_distance(name, length, candidate, candidate_length);
    if (this_distance < *distance) {
        *distance = this_distance;
        *nearest = candidate;
    }
}

const char *sv_setting_nearest(const char *name, bool only_port) {
    size_t length = strlen(name);
    const char *nearest = NULL;
    int distance = NEAR + 1;

    if (length > LONGEST_NAME)
        return NULL;
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        if (only_port && row->scope != SV_SCOPE_PORT)
            continue;
        consider(row->name, name, length, &distance, &nearest);
        for (int i = 0; i < SV_SETTING_ALIASES && row->aliases[i]; i++)
            consider(row->aliases[i], name, length, &distance, &nearest);
    }
    return nearest;
}

const char *sv_setting_group_title(enum sv_setting_group group) {
    static const char *const titles[SV_GROUP_COUNT] = {
        [SV_GROUP_PROCESSES] = "Processes and threads",
        [SV_GROUP_DISPATCH] = "Dispatch",
        [SV_GROUP_CONNECTIONS] = "Connections and heartbeat",
        [SV_GROUP_BUFFERS] = "Buffers and backpressure",
        [SV_GROUP_TASKS] = "Tasks and forms of callbacks",
        [SV_GROUP_LIFE_CYCLE] = "Life cycle and reload",
        [SV_GROUP_COROUTINES] = "Coroutines, clients, names",
        [SV_GROUP_LOG] = "Log, daemon, user",
        [SV_GROUP_TCP] = "TCP options",
        [SV_GROUP_FRAMING] = "Framing",
        [SV_GROUP_TLS] = "TLS",
        [SV_GROUP_HTTP] = "HTTP and static files",
        [SV_GROUP_WEBSOCKET] = "WebSocket",
        [SV_GROUP_HTTP2] = "HTTP/2",
        [SV_GROUP_STATISTICS] = "Statistics and tracing",
        [SV_GROUP_FAULTS] = "Faults and supervision",
        [SV_GROUP_MEMORY] = "Memory and rings",
        [SV_GROUP_DEFENCE] = "Defence at the door",
        [SV_GROUP_ADMINISTRATION] = "Administration",
    };
    return titles[group];
}
