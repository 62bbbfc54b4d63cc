/* identity.c: see identity.h. */
#include "process/identity.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errors.h"

/* ------------------------------------------------------------------------------------------------------ looking up */

/* A number as text. The largest one is left out: to the system calls it means "leave it as it is". */
static bool read_number(const char *text, uint32_t *number) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 10 || text[digits]) return false;
    unsigned long long value = strtoull(text, NULL, 10);
    *number = (uint32_t)value;
    return value < UINT32_MAX;
}

static int look_up_user(struct sv_identity *identity, const char *user, const char **name, struct srvlua_status *status) {
    uint32_t number;
    const struct passwd *entry = getpwnam(user);
    bool is_number = !entry && read_number(user, &number);
    if (is_number) entry = getpwuid(number);
    if (!entry && !is_number) return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is no user '%s'", user);
    if (!entry && !identity->has_group)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "user '%s' has no account, so 'group' must be given as well", user);
    identity->has_user = true;
    identity->user = entry ? entry->pw_uid : number;
    if (!identity->has_group) identity->group = entry->pw_gid;
    identity->has_group = true;
    *name = entry ? entry->pw_name : NULL;
    return 0;
}

static int look_up_group(struct sv_identity *identity, const char *group, struct srvlua_status *status) {
    uint32_t number;
    const struct group *entry = getgrnam(group);
    if (!entry && !read_number(group, &number)) return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is no group '%s'", group);
    identity->has_group = true;
    identity->group = entry ? entry->gr_gid : number;
    return 0;
}

/* The groups that `name` is in (NULL: an unknown user is in none), and the one that was chosen. */
static int list_groups(struct sv_identity *identity, const char *name, struct srvlua_status *status) {
    int room = 1;
    if (name) getgrouplist(name, identity->group, &(gid_t){0}, &room); /* sets how many there are */
    identity->groups = malloc((size_t)room * sizeof *identity->groups);
    if (!identity->groups) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    identity->groups[0] = identity->group;
    identity->group_count = room;
    if (name && getgrouplist(name, identity->group, identity->groups, &identity->group_count) < 0)
        identity->group_count = room; /* the list has just grown: its beginning */
    return 0;
}

int sv_identity_look_up(struct sv_identity *identity, const char *user, const char *group, const char *root,
                        struct srvlua_status *status) {
    const char *name = NULL;
    *identity = (struct sv_identity){.root = root};
    int result = group ? look_up_group(identity, group, status) : 0;
    if (result == 0 && user) result = look_up_user(identity, user, &name, status);
    if (result == 0 && user) result = list_groups(identity, name, status);
    if (result) sv_identity_free(identity);
    return result;
}

void sv_identity_free(struct sv_identity *identity) {
    free(identity->groups);
    *identity = (struct sv_identity){0};
}

/* -------------------------------------------------------------------------------------------------------- applying */

static int fail_step(const struct sv_log *log, const char *step) {
    int error = errno;
    sv_log_about(log, SRVLUA_LOG_ERROR, 0, error, "the worker cannot become what its settings say: %s: %s", step, strerror(error));
    return -error;
}

int sv_identity_apply(const struct sv_identity *identity, const struct sv_log *log) {
    if (identity->root && (chroot(identity->root) || chdir("/"))) return fail_step(log, "chroot");
    if (identity->groups && setgroups((size_t)identity->group_count, identity->groups)) return fail_step(log, "the user's groups");
    if (identity->has_group && setresgid(identity->group, identity->group, identity->group)) return fail_step(log, "group");
    if (identity->has_user && setresuid(identity->user, identity->user, identity->user)) return fail_step(log, "user");
    return 0;
}
