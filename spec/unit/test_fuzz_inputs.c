/* Replays, without a fuzzer, the inputs that are kept of each target: those that found something, and those that it begins
 * with. A new one goes to spec/fuzz/regressions/TARGET/. */
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../fuzz/fuzz.h"
#include "unit.h"

#define INPUT_MAX 65536

static bool replay(fuzz_target *target, const char *path) {
    unsigned char *data = malloc(INPUT_MAX);
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(data, 1, INPUT_MAX, file) : 0;
    const char *fault = file ? target(data, size) : "cannot be read";
    if (file)
        fclose(file);
    free(data);
    if (fault)
        fprintf(stderr, "%s: %s\n", path, fault);
    return !fault;
}

/* All inputs of a folder, which need not be there; returns how many there were. */
static int replay_folder(fuzz_target *target, const char *kind, const char *name) {
    char folder[64], path[sizeof folder + NAME_MAX + 2];
    snprintf(folder, sizeof folder, "spec/fuzz/%s/%s", kind, name);
    DIR *entries = opendir(folder);
    int count = 0;
    for (struct dirent *entry; entries && (entry = readdir(entries));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        CHECK(replay(target, path));
        count++;
    }
    if (entries)
        closedir(entries);
    return count;
}

static void replay_all(fuzz_target *target, const char *name) {
    replay_folder(target, "regressions", name);
    CHECK(replay_folder(target, "corpus", name) > 0); /* else this does not run in the tree's root */
}

TEST(eof) { replay_all(fuzz_eof, "eof"); }
TEST(length) { replay_all(fuzz_length, "length"); }
TEST(mqtt) { replay_all(fuzz_mqtt, "mqtt"); }
TEST(redis) { replay_all(fuzz_redis, "redis"); }
TEST(proxy) { replay_all(fuzz_proxy, "proxy"); }
