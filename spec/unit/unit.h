/* unit.h: tests in C. A file includes this once, has TEST(name) { ... CHECK(condition); ... }, and is a program then:
 * it runs every test of the file, prints a line for each check that failed and at last "N passed, N failed" (tests).
 * A test goes on after a failed check. */
#ifndef SV_SPEC_UNIT_H
#define SV_SPEC_UNIT_H

#include <stdbool.h>
#include <stdio.h>

#define UNIT_MOST_TESTS 256

static struct {
    const char *names[UNIT_MOST_TESTS];
    void (*tests[UNIT_MOST_TESTS])(void);
    int count;
    bool is_failing;
} unit;

#define TEST(name)                                                                                                     \
    static void test_##name(void);                                                                                     \
    __attribute__((constructor)) static void unit_add_##name(void) {                                                   \
        unit.names[unit.count] = #name;                                                                                \
        unit.tests[unit.count++] = test_##name;                                                                        \
    }                                                                                                                  \
    static void test_##name(void)

#define CHECK(condition) unit_check((condition), #condition, __FILE__, __LINE__)

static inline bool unit_check(bool holds, const char *condition, const char *file, int line) {
    if (!holds) {
        fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
        unit.is_failing = true;
    }
    return holds;
}

int main(void) {
    int failed = 0;
    for (int i = 0; i < unit.count; i++) {
        unit.is_failing = false;
        unit.tests[i]();
        if (unit.is_failing)
            fprintf(stderr, "failed: %s\n", unit.names[i]);
        failed += unit.is_failing;
    }
    printf("%d passed, %d failed\n", unit.count - failed, failed);
    return failed > 0;
}

#endif
