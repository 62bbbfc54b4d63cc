/* door.h: which clients come in: the limits per address, and who may send a PROXY header (settings.md 2.3).
 *
 * A port without PROXY headers asks as soon as it has a session for the client, one with them when the header has told the address.
 * Nothing is ever given back here: sv_session_free() does that.
 * runs in: acceptors (accept.c) and reactors. */
#ifndef SV_REACTOR_DOOR_H
#define SV_REACTOR_DOOR_H

#include "reactor/reactor.h"

/* The client at `address` (the header's; NULL: the peer itself) comes within the limits; its session counts for the address from now on.
 * False: it was logged and counted as refused, the caller closes it without any event. */
bool sv_door_admit(struct sv_reactor *reactor, const struct sv_port_rules *rules, struct sv_session *session, const char *address);
/* The same for those who have no reactor. */
bool sv_door_pass(struct sv_session_table *sessions, struct sv_counters *counters, const struct sv_log *log,
                  const struct sv_port_rules *rules, struct sv_session *session, const char *address);
/* The peer may send a PROXY header. Asks nobody and logs nothing. */
bool sv_door_trusts(const struct sv_port_rules *rules, const struct sv_session *session);

#endif
