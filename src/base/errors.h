/* errors.h: filling a srvlua_status; the table of codes is public (srvlua_error_table).
 * runs in: anywhere, any thread. Allocates nothing. */
#ifndef SV_BASE_ERRORS_H
#define SV_BASE_ERRORS_H

#include "srvlua.h"

/* Fills *status (NULL is fine) and returns -code. */
int sv_fail(struct srvlua_status *status, int code, const char *format, ...) SRVLUA_PRINTF(3, 4);
/* For a failed system call: "what: text of errno". Returns -errno_value. */
int sv_fail_errno(struct srvlua_status *status, int errno_value, const char *what);

#endif
