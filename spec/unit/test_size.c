/* Sizes as people write them, and rounding. */
#include <stdint.h>
#include <string.h>

#include "base/size.h"
#include "unit.h"

static int64_t parsed(const char *text) {
    int64_t bytes = -2;
    return sv_size_parse(text, strlen(text), &bytes) == 0 ? bytes : -1;
}

static bool shows(int64_t bytes, const char *expected) {
    char text[32];
    sv_size_format(bytes, text, sizeof text);
    return strcmp(text, expected) == 0;
}

TEST(reads_numbers_with_and_without_unit) {
    CHECK(parsed("0") == 0);
    CHECK(parsed("8") == 8);
    CHECK(parsed("64k") == 65536);
    CHECK(parsed("64K") == 65536);
    CHECK(parsed("8M") == 8 << 20);
    CHECK(parsed("8mb") == 8 << 20);
    CHECK(parsed("2GB") == INT64_C(2) << 30);
}

TEST(refuses_everything_else) {
    const char *const texts[] = {"", "k", "-1", "+1", " 1", "1 ", "1.5M", "1t", "1kk", "1B", "0x10", "1kBB", "eight"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        CHECK(parsed(texts[i]) == -1);
}

TEST(refuses_what_does_not_fit) {
    CHECK(parsed("9223372036854775807") == INT64_MAX);
    CHECK(parsed("9223372036854775808") == -1);
    CHECK(parsed("99999999999999999999") == -1);
    CHECK(parsed("8589934591g") == INT64_C(8589934591) << 30);
    CHECK(parsed("8589934592g") == -1);
}

TEST(reads_no_further_than_the_length) {
    int64_t bytes = 0;
    CHECK(sv_size_parse("12345", 2, &bytes) == 0 && bytes == 12);
    CHECK(sv_size_parse("8Mxyz", 2, &bytes) == 0 && bytes == 8 << 20);
}

TEST(shows_the_largest_unit_that_divides) {
    CHECK(shows(0, "0 bytes"));
    CHECK(shows(1, "1 bytes"));
    CHECK(shows(65536, "64 KiB"));
    CHECK(shows(65537, "65537 bytes"));
    CHECK(shows(2 << 20, "2 MiB"));
    CHECK(shows(INT64_C(5) << 30, "5 GiB"));
}

TEST(rounds_up_to_powers_of_two) {
    CHECK(sv_power_of_two_from(-5) == 1);
    CHECK(sv_power_of_two_from(0) == 1);
    CHECK(sv_power_of_two_from(1) == 1);
    CHECK(sv_power_of_two_from(3) == 4);
    CHECK(sv_power_of_two_from(65536) == 65536);
    CHECK(sv_power_of_two_from(65537) == 131072);
    CHECK(sv_power_of_two_from(INT64_MAX) == INT64_C(1) << 62);
}
