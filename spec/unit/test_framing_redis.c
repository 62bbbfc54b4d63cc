/* Requests of Redis clients, RESP2 and inline (protocols.md 1.7). */
#include "framing.h"

#define LIMIT 65536u

static const struct sv_framer_rules rules = {.next = sv_frame_redis, .max_length = LIMIT};

static int judge_text(const char *text) { return judge(&rules, (const unsigned char *)text, strlen(text)); }

TEST(commands_come_one_by_one) {
    CHECK(gives(&rules, BYTES("*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), "14 20"));
    CHECK(gives(&rules, BYTES("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\na\r\nb\0\n\r\n"), "32"));
    CHECK(gives(&rules, BYTES("*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"), "20"));
    CHECK(gives(&rules, BYTES("*3\r\n$4\r\nINCR\r\n:42\r\n:-7\r\n"), "24"));
    CHECK(gives(&rules, BYTES("*2\r\n$3\r\nGET\r\n$1\r\n"), ""));
}

TEST(inline_commands_and_what_is_swallowed) {
    CHECK(gives(&rules, BYTES("\r\n*0\r\nPING\r\n*-1\r\nSET k \"a b\"\n*1\r\n$4\r\nPING\r\n"), "skip2 skip4 6 skip5 12 14"));
    CHECK(gives(&rules, BYTES("\n\r\n\na\n"), "skip1 skip2 skip1 2"));
    CHECK(gives(&rules, BYTES("\r\r\n \n"), "3 2"));
    CHECK(gives(&rules, BYTES("+OK\r\n$3\r\nabc"), "5 4"));
    CHECK(gives(&rules, BYTES("*-2147483648\r\nPING\n"), "skip14 5"));
    CHECK(gives(&rules, BYTES("a\0b\n"), "4"));
}

TEST(malformed) {
    static const char *const bad[] = {
        "*x\r\n",           "*99999999999\r\n",          "*2147483648\r\n", "*-2147483649\r\n",    "*1048577\r\n",
        "*\r\n",            "*-\r\n",                    "*+1\r\n",         "* 1\r\n",             "*1 \r\n",
        "*1\n",             "*1\r\r\n",                  "*1\r\n$-5\r\n",   "*1\r\n$-1\r\n",       "*1\r\n+OK\r\n",
        "*1\r\n*1\r\n",     "*1\r\nPING\r\n",            "*1\r\n\r\n",      "*1\r\n$3\r\nabcdef",  "*1\r\n$3\r\nabc\rx",
        "*1\r\n$3\r\nabc\n", "*1\r\n$x\r\n",             "*1\r\n$\r\n",     "*1\r\n$2147483648",   "*1\r\n:\r\n",
        "*1\r\n:x\r\n",     "*1\r\n:9223372036854775808", "*1\r\n:1.5\r\n", "*1\r\n$1111111111111111111111111111111111111111",
        "*0000000000000000000000000000001\r\n", "*2\r\n$1\r\na\r\nx",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (!CHECK(judge_text(bad[i]) == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA) ||
            !CHECK(gives(&rules, (const unsigned char *)bad[i], strlen(bad[i]), "1204")))
            fprintf(stderr, "%s\n", bad[i]);
    }
    CHECK(gives(&rules, BYTES("*1\r\n$4\r\nPING\r\n*1\r\n$-5\r\n"), "14 1204"));
}

TEST(judged_with_the_first_byte_that_is_wrong) {
    CHECK(judge_text("*1\r") == 0 && judge_text("*1\rx") == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    CHECK(judge_text("*214748364") == 0 && judge_text("*2147483648") == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    CHECK(judge_text("*1\r\n$3\r\nabc") == 0 && judge_text("*1\r\n$3\r\nabcd") == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    CHECK(judge_text("*1\r\n:9223372036854775807") == 0 && judge_text("*1\r\n:-9223372036854775808") == 0);
    CHECK(judge_text("*1048576\r\n") == 0);
}

TEST(lines_of_up_to_32_bytes) {
    CHECK(gives(&rules, BYTES("*00000000000000000000000000001\r\n$4\r\nPING\r\n"), "42"));
    CHECK(judge_text("*0000000000000000000000000000001") == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    CHECK(judge_text("*000000000000000000000000000000") == 0);
}

TEST(a_bulk_over_the_limit_is_judged_with_its_length) {
    CHECK(judge_text("*1\r\n$70000\r\n") == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    CHECK(judge_text("*1\r\n$2147483647\r\n") == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    CHECK(judge_text("*1\r\n$65522\r\n") == 0); /* 4 + 8 + 65522 + 2 */
    CHECK(judge_text("*1\r\n$65523\r\n") == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    unsigned char *data = filled(LIMIT + 12, 'v');
    put(data, "*1\r\n$65522\r\n", 12);
    put(data + LIMIT - 2, "\r\n*1\r\n$65523\r\n", 14);
    CHECK(gives(&rules, data, LIMIT, "65536"));
    CHECK(gives(&rules, data, LIMIT + 12, "65536 1201"));
    free(data);
}

TEST(elements_over_the_limit) {
    struct stream stream = {0};
    append(&stream, "*1048576\r\n", 10);
    while (stream.length + 4 <= LIMIT)
        append(&stream, ":1\r\n", 4);
    CHECK(judge(&rules, stream.data, stream.length) == 0); /* 65534 bytes */
    append(&stream, ":1", 2);
    CHECK(gives(&rules, stream.data, stream.length, "1201"));
    append(&stream, "x", 1); /* malformed, but beyond what is looked at */
    CHECK(gives(&rules, stream.data, stream.length, "1201"));
    free(stream.data);
}

TEST(as_many_elements_as_are_allowed) {
    struct sv_framer_rules large = {.next = sv_frame_redis, .max_length = 16u << 20};
    struct stream stream = {0};
    append(&stream, "*1048576\r\n", 10);
    for (int i = 0; i < 1048576; i++)
        append(&stream, ":1\r\n", 4);
    struct stream_end end = stream_read(&large, stream.data, stream.length, stream_at_once, NULL);
    CHECK(!end.fault && end.count == 1 && end.used == stream.length && end.code == 0);
    stream_free(&end);
    free(stream.data);
}

TEST(inline_limit) {
    struct sv_framer_rules large = {.next = sv_frame_redis, .max_length = 3 * LIMIT};
    unsigned char *data = filled(2 * LIMIT, 'a');
    CHECK(judge(&large, data, LIMIT - 1) == 0);
    CHECK(judge(&large, data, LIMIT) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    data[LIMIT] = '\n';
    CHECK(gives(&large, data, LIMIT + 1, "1201"));
    data[LIMIT - 1] = '\n';
    CHECK(gives(&large, data, LIMIT, "65536"));
    free(data);
}

TEST(the_total_is_known_with_the_last_length) {
    struct sv_framer_state state = {0};
    CHECK(rules.next(&rules, &state, BYTES("*2\r\n$3\r\nGET\r\n$100\r\n")).result == SV_FRAME_MORE && state.total == 121);
    state = (struct sv_framer_state){0};
    CHECK(rules.next(&rules, &state, BYTES("*2\r\n$100\r\n")).result == SV_FRAME_MORE && state.total == 0);
}

TEST(each_byte_is_looked_at_a_few_times_at_most) {
    struct stream stream = {0};
    append(&stream, "*10000\r\n", 8);
    while (stream.length + 7 < LIMIT)
        append(&stream, "$1\r\na\r\n", 7);
    CHECK(bytes_looked_at(&rules, stream.data, stream.length) < 16 * (uint64_t)stream.length);
    free(stream.data);
    unsigned char *data = filled(LIMIT - 1, 'a');
    CHECK(bytes_looked_at(&rules, data, LIMIT - 1) == LIMIT - 1);
    free(data);
}

TEST(random_commands_in_any_reads) {
    uint32_t numbers = 6379;
    struct stream stream = {0};
    size_t lengths[300];
    for (size_t i = 0; i < 300; i++) {
        size_t begin = stream.length, elements = 1 + stream_random(&numbers) % 6;
        char line[40];
        append(&stream, line, (size_t)snprintf(line, sizeof line, "*%zu\r\n", elements));
        for (size_t k = 0; k < elements; k++) {
            uint32_t number = stream_random(&numbers);
            if (number % 5 == 0) {
                append(&stream, line, (size_t)snprintf(line, sizeof line, ":%d\r\n", (int)(number >> 3) - 1000000));
                continue;
            }
            size_t length = (number >> 4) % (number % 64 ? 30 : 5000);
            append(&stream, line, (size_t)snprintf(line, sizeof line, "$%zu\r\n", length));
            for (size_t b = 0; b < length; b++)
                append(&stream, &"\r\n$*:1a"[stream_random(&numbers) % 8], 1); /* its NUL included */
            append(&stream, "\r\n", 2);
        }
        lengths[i] = stream.length - begin;
    }
    CHECK(gives_lengths(&rules, &stream, lengths, 300));
    free(stream.data);
}
