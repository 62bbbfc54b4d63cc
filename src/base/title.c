/* title.c: the name that ps shows. The kernel tells where a process's arguments lie (proc(5), stat fields 48 and 49); that memory
 * is the process's own and may be overwritten. Nothing is remembered here. runs in: any process. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "srvlua.h"

#define TITLE_MAX 127
#define FIELDS_BEFORE_ARGUMENTS 45 /* between the state, which follows the name in parentheses, and arg_start */

static int find_arguments(char **start, char **end) {
    char line[2048];
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) return -errno;
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = '\0';
    const char *at = strrchr(line, ')');
    for (int field = 0; at && field <= FIELDS_BEFORE_ARGUMENTS; field++) at = strchr(at + 1, ' ');
    uintptr_t first, last;
    if (!at || sscanf(at, "%lu %lu", &first, &last) != 2 || !first || last <= first) return -ENOTSUP;
    *start = (char *)first;
    *end = (char *)last;
    return 0;
}

int srvlua_set_process_name(const char *name) {
    prctl(PR_SET_NAME, name);
    char *start, *end;
    int result = find_arguments(&start, &end);
    if (result) return result;
    size_t area = (size_t)(end - start), length = strlen(name);
    if (length > TITLE_MAX) length = TITLE_MAX;
    if (length > area - 1) length = area - 1;
    memset(start, 0, area);
    memcpy(start, name, length);
    return 0;
}
