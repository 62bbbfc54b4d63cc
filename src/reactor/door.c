/* door.c: see door.h. */
#include "reactor/door.h"

#include <stdio.h>

#include "base/clock.h"

static void log_refusal(struct sv_visitors *visitors, const struct sv_log *log, const struct sv_port_rules *rules, const char *address,
                        enum sv_visit result, int64_t now_ns) {
    uint32_t suppressed;
    if (!sv_visitors_may_log(visitors, result, now_ns, &suppressed)) return;
    char before[64] = "";
    if (suppressed) snprintf(before, sizeof before, " (and %u more before)", suppressed);
    if (result == SV_VISIT_TOO_MANY)
        sv_log_about(log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_TOO_MANY_SOCKET,
                     "a connection is refused: %s has max_connection_per_ip of %lld on %s%s", address, (long long)rules->visitor_limit,
                     rules->name, before);
    else
        sv_log_about(log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_TOO_MANY_SOCKET,
                     "a connection is refused: %s is over connection_rate_per_ip of %.10g on %s%s", address, rules->visitor_rate, rules->name,
                     before);
}

bool sv_door_pass(struct sv_session_table *sessions, struct sv_counters *counters, const struct sv_log *log,
                  const struct sv_port_rules *rules, struct sv_session *session, const char *address) {
    if (rules->visitor_limit == 0 && rules->visitor_rate == 0) return true;
    if (!address && sv_type_is_unix(rules->type)) return true;
    if (!address) address = session->peer_text;
    if (sv_networks_contain(rules->visitor_exempt, address)) return true;
    int64_t now_ns = sv_now_ns();
    enum sv_visit result = sv_visitors_enter(&sessions->visitors, address, rules->index, rules->visitor_limit, rules->visitor_rate, now_ns,
                                             &session->visit);
    if (result == SV_VISIT_WELCOME) return true;
    sv_count(counters, SV_COUNT_ABORTED, 1);
    log_refusal(&sessions->visitors, log, rules, address, result, now_ns);
    return false;
}

bool sv_door_admit(struct sv_reactor *reactor, const struct sv_port_rules *rules, struct sv_session *session, const char *address) {
    return sv_door_pass(reactor->sessions, reactor->counters, &reactor->log, rules, session, address);
}

bool sv_door_trusts(const struct sv_port_rules *rules, const struct sv_session *session) {
    return sv_type_is_unix(rules->type) || sv_networks_contain(rules->trusted, session->peer_text);
}
