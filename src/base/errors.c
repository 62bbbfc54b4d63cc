/* errors.c: the one table of srvlua's codes with their texts, and filling a srvlua_status. runs in: anywhere. */
#include "base/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIRST_OWN_CODE 500 /* below it codes are errno values */

static const struct srvlua_error_entry error_table[] = {
    {"MALLOC_FAIL", SRVLUA_ERROR_MALLOC_FAIL, "out of memory"},
    {"SYSTEM_CALL_FAIL", SRVLUA_ERROR_SYSTEM_CALL_FAIL, "a system call failed"},
    {"NAME_TOO_LONG", SRVLUA_ERROR_NAME_TOO_LONG, "name is too long"},
    {"INVALID_PARAMS", SRVLUA_ERROR_INVALID_PARAMS, "invalid argument"},
    {"QUEUE_FULL", SRVLUA_ERROR_QUEUE_FULL, "queue is full"},
    {"OPERATION_NOT_SUPPORT", SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "operation is not supported here"},
    {"PROTOCOL_ERROR", SRVLUA_ERROR_PROTOCOL_ERROR, "protocol error"},
    {"WRONG_OPERATION", SRVLUA_ERROR_WRONG_OPERATION, "wrong time or wrong process for this call"},
    {"NO_PAYLOAD", SRVLUA_ERROR_NO_PAYLOAD, "nothing to send"},
    {"FILE_EMPTY", SRVLUA_ERROR_FILE_EMPTY, "nothing in the file to send"},
    {"DNSLOOKUP_RESOLVE_FAILED", SRVLUA_ERROR_DNSLOOKUP_RESOLVE_FAILED, "host name could not be resolved"},
    {"DNSLOOKUP_RESOLVE_TIMEOUT", SRVLUA_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT, "resolving the host name took too long"},
    {"UNREGISTERED_SIGNAL", SRVLUA_ERROR_UNREGISTERED_SIGNAL, "signal without a handler"},
    {"BAD_HOST_ADDR", SRVLUA_ERROR_BAD_HOST_ADDR, "bad host address"},
    {"BAD_PORT", SRVLUA_ERROR_BAD_PORT, "bad port number"},
    {"BAD_SOCKET_TYPE", SRVLUA_ERROR_BAD_SOCKET_TYPE, "bad socket type"},
    {"SESSION_CLOSED_BY_SERVER", SRVLUA_ERROR_SESSION_CLOSED_BY_SERVER, "connection was closed by the server"},
    {"SESSION_CLOSED_BY_CLIENT", SRVLUA_ERROR_SESSION_CLOSED_BY_CLIENT, "connection was closed by the client"},
    {"SESSION_CLOSING", SRVLUA_ERROR_SESSION_CLOSING, "connection is inside its close callback"},
    {"SESSION_CLOSED", SRVLUA_ERROR_SESSION_CLOSED, "connection is closed"},
    {"SESSION_NOT_EXIST", SRVLUA_ERROR_SESSION_NOT_EXIST, "no such connection"},
    {"SESSION_INVALID_ID", SRVLUA_ERROR_SESSION_INVALID_ID, "session id is not positive"},
    {"SESSION_DISCARD_TIMEOUT_DATA", SRVLUA_ERROR_SESSION_DISCARD_TIMEOUT_DATA,
     "data of a connection that is gone was dropped"},
    {"OUTPUT_BUFFER_OVERFLOW", SRVLUA_ERROR_OUTPUT_BUFFER_OVERFLOW, "send queue of the connection is full"},
    {"OUTPUT_SEND_YIELD", SRVLUA_ERROR_OUTPUT_SEND_YIELD, "send has to wait"},
    {"PACKAGE_LENGTH_TOO_LARGE", SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE, "packet is larger than package_max_length"},
    {"DATA_LENGTH_TOO_LARGE", SRVLUA_ERROR_DATA_LENGTH_TOO_LARGE, "data is larger than output_buffer_size"},
    {"PACKAGE_LENGTH_NOT_FOUND", SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND, "packet tells no length"},
    {"PACKAGE_MALFORMED_DATA", SRVLUA_ERROR_PACKAGE_MALFORMED_DATA, "packet is malformed"},
    {"TASK_PACKAGE_TOO_BIG", SRVLUA_ERROR_TASK_PACKAGE_TOO_BIG, "task data is larger than package_max_length"},
    {"TASK_DISPATCH_FAIL", SRVLUA_ERROR_TASK_DISPATCH_FAIL, "task could not be delivered"},
    {"TASK_TIMEOUT", SRVLUA_ERROR_TASK_TIMEOUT, "task took too long"},
    {"HTTP_CONFLICT_HEADER", SRVLUA_ERROR_HTTP_CONFLICT_HEADER, "response head was already sent"},
    {"HTTP_CONTEXT_UNAVAILABLE", SRVLUA_ERROR_HTTP_CONTEXT_UNAVAILABLE, "response has already ended"},
    {"WEBSOCKET_BAD_OPCODE", SRVLUA_ERROR_WEBSOCKET_BAD_OPCODE, "bad WebSocket opcode"},
    {"WEBSOCKET_UNCONNECTED", SRVLUA_ERROR_WEBSOCKET_UNCONNECTED, "not a WebSocket connection, or not open any more"},
    {"WEBSOCKET_PACK_FAILED", SRVLUA_ERROR_WEBSOCKET_PACK_FAILED, "WebSocket frame could not be made"},
    {"SERVER_MUST_CREATED_BEFORE_CLIENT", SRVLUA_ERROR_SERVER_MUST_CREATED_BEFORE_CLIENT,
     "server must be made before its clients"},
    {"SERVER_TOO_MANY_SOCKET", SRVLUA_ERROR_SERVER_TOO_MANY_SOCKET, "more connections than max_connection"},
    {"SERVER_WORKER_TERMINATED", SRVLUA_ERROR_SERVER_WORKER_TERMINATED, "a process of the server ended unexpectedly"},
    {"SERVER_INVALID_LISTEN_PORT", SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT, "port number is outside 0..65535"},
    {"SERVER_TOO_MANY_LISTEN_PORT", SRVLUA_ERROR_SERVER_TOO_MANY_LISTEN_PORT, "too many listeners"},
    {"SERVER_PIPE_BUFFER_FULL", SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL, "too many messages are waiting"},
    {"SERVER_NO_IDLE_WORKER", SRVLUA_ERROR_SERVER_NO_IDLE_WORKER, "no worker is idle"},
    {"SERVER_ONLY_START_ONE", SRVLUA_ERROR_SERVER_ONLY_START_ONE, "only one server can run in a process"},
    {"SERVER_SEND_IN_MASTER", SRVLUA_ERROR_SERVER_SEND_IN_MASTER, "not possible in the master process"},
    {"SERVER_INVALID_COMMAND", SRVLUA_ERROR_SERVER_INVALID_COMMAND, "unknown command"},
    {"SERVER_IS_NOT_REGULAR_FILE", SRVLUA_ERROR_SERVER_IS_NOT_REGULAR_FILE, "not a regular file"},
    {"SERVER_SEND_TO_WORKER_TIMEOUT", SRVLUA_ERROR_SERVER_SEND_TO_WORKER_TIMEOUT, "worker took the result too late"},
    {"SERVER_INVALID_CALLBACK", SRVLUA_ERROR_SERVER_INVALID_CALLBACK, "a required callback is missing"},
    {"SERVER_WORKER_EXIT_TIMEOUT", SRVLUA_ERROR_SERVER_WORKER_EXIT_TIMEOUT, "leaving took longer than max_wait_time"},
    {"CO_OUT_OF_COROUTINE", SRVLUA_ERROR_CO_OUT_OF_COROUTINE, "possible only inside a coroutine"},
    {"CO_NOT_EXISTS", SRVLUA_ERROR_CO_NOT_EXISTS, "no such coroutine"},
    {NULL, 0, NULL},
};

const struct srvlua_error_entry *srvlua_error_table(void) { return error_table; }

const char *srvlua_strerror(int code) {
    if (code >= 0 && code < FIRST_OWN_CODE)
        return strerror(code);
    for (const struct srvlua_error_entry *entry = error_table; entry->name; entry++)
        if (entry->code == code)
            return entry->text;
    return "unknown error";
}

int sv_fail(struct srvlua_status *status, int code, const char *format, ...) {
    if (status) {
        va_list arguments;
        va_start(arguments, format);
        status->code = code;
        if (vsnprintf(status->message, sizeof status->message, format, arguments) < 0)
            status->message[0] = '\0';
        va_end(arguments);
    }
    return -code;
}

int sv_fail_errno(struct srvlua_status *status, int errno_value, const char *what) {
    char buffer[128];
    return sv_fail(status, errno_value, "%s: %s", what, strerror_r(errno_value, buffer, sizeof buffer));
}
