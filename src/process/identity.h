/* identity.h: user, group and root directory of event workers (settings.md 3.17), for servers that root starts.
 *
 * Looked up by the starting process before anything is forked, because inside another root the names are gone. Each worker
 * then changes itself before workerStart; master and manager stay what they are.
 * runs in: the starting process (look up), workers (apply). */
#ifndef SV_PROCESS_IDENTITY_H
#define SV_PROCESS_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/log.h"

struct sv_identity {
    bool has_user, has_group;
    uid_t user;
    gid_t group;
    gid_t *groups; /* supplementary ones of the user, `group` among them */
    int group_count;
    const char *root; /* NULL: the present one; the settings own it */
};

/* Names, or numbers as text; NULL: not given. 0, or -505 with nothing owned by *identity. */
int sv_identity_look_up(struct sv_identity *identity, const char *user, const char *group, const char *root,
                        struct srvlua_status *status);
void sv_identity_free(struct sv_identity *identity);
static inline bool sv_identity_is_given(const struct sv_identity *identity) {
    return identity->has_user || identity->has_group || identity->root;
}
/* Changes the calling process for good. 0, or -errno of the step that failed, which is in the log then; what was done before it
 * stays done, so the process must not go on. The kernel forgets the parent-death signal. */
int sv_identity_apply(const struct sv_identity *identity, const struct sv_log *log);

#endif
