/* event_table.c: the one list of events. */
#include <string.h>
#include <strings.h>

#include "srvlua.h"

static const struct event_entry {
    const char *name;
    int is_port_level;
} events[SRVLUA_EVENT_COUNT] = {
    [SRVLUA_ON_START] = {"start", 0},
    [SRVLUA_ON_SHUTDOWN] = {"shutdown", 0},
    [SRVLUA_ON_BEFORE_SHUTDOWN] = {"beforeShutdown", 0},
    [SRVLUA_ON_MANAGER_START] = {"managerStart", 0},
    [SRVLUA_ON_MANAGER_STOP] = {"managerStop", 0},
    [SRVLUA_ON_WORKER_START] = {"workerStart", 0},
    [SRVLUA_ON_WORKER_STOP] = {"workerStop", 0},
    [SRVLUA_ON_WORKER_EXIT] = {"workerExit", 0},
    [SRVLUA_ON_WORKER_ERROR] = {"workerError", 0},
    [SRVLUA_ON_BEFORE_RELOAD] = {"beforeReload", 0},
    [SRVLUA_ON_AFTER_RELOAD] = {"afterReload", 0},
    [SRVLUA_ON_TASK] = {"task", 0},
    [SRVLUA_ON_FINISH] = {"finish", 0},
    [SRVLUA_ON_PIPE_MESSAGE] = {"pipeMessage", 0},
    [SRVLUA_ON_CONNECT] = {"connect", 1},
    [SRVLUA_ON_RECEIVE] = {"receive", 1},
    [SRVLUA_ON_PACKET] = {"packet", 1},
    [SRVLUA_ON_CLOSE] = {"close", 1},
    [SRVLUA_ON_BUFFER_FULL] = {"bufferFull", 1},
    [SRVLUA_ON_BUFFER_EMPTY] = {"bufferEmpty", 1},
    [SRVLUA_ON_REQUEST] = {"request", 1},
    [SRVLUA_ON_HANDSHAKE] = {"handshake", 1},
    [SRVLUA_ON_BEFORE_HANDSHAKE_RESPONSE] = {"beforeHandshakeResponse", 1},
    [SRVLUA_ON_OPEN] = {"open", 1},
    [SRVLUA_ON_MESSAGE] = {"message", 1},
    [SRVLUA_ON_DISCONNECT] = {"disconnect", 1},
};

int srvlua_event_from_name(const char *name) {
    for (int i = 0; i < SRVLUA_EVENT_COUNT; i++)
        if (strcasecmp(events[i].name, name) == 0) return i;
    return -1;
}

const char *srvlua_event_name(enum srvlua_event event) {
    return (unsigned)event < SRVLUA_EVENT_COUNT ? events[event].name : "?";
}

int srvlua_event_is_port_level(enum srvlua_event event) {
    return (unsigned)event < SRVLUA_EVENT_COUNT && events[event].is_port_level;
}
