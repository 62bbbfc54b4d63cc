/* Packets with a length field, and those whose length a function tells (protocols.md 1.4, 1.5). */
#include "framing.h"

#define LIMIT 65536u

static struct sv_framer_rules rules_of(char letter, uint32_t length_offset, uint32_t body_offset) {
    return (struct sv_framer_rules){.next = sv_frame_length, .max_length = LIMIT, .length_type = letter,
                                    .length_offset = length_offset, .body_offset = body_offset};
}

TEST(widths) {
    const char *letters = "cCsSnvlLNVqQJP";
    const unsigned widths[] = {1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8};
    for (size_t i = 0; letters[i]; i++)
        CHECK(sv_length_width(letters[i]) == widths[i]);
    CHECK(sv_length_width('i') == 0 && sv_length_width('I') == 0 && sv_length_width('x') == 0 && sv_length_width('\0') == 0);
}

TEST(the_examples_of_the_contract) {
    struct {
        struct sv_framer_rules rules;
        const unsigned char *data;
        size_t length;
        const char *expected;
    } examples[] = {
        {rules_of('N', 0, 4), BYTES("\0\0\0\3abc"), "7"},
        {rules_of('N', 0, 0), BYTES("\0\0\0\7abc"), "7"},
        {rules_of('n', 0, 0), BYTES("\0\2\0\2"), "2 2"},
        {rules_of('N', 8, 16), BYTES("12345678\0\0\0\5abcdhello"), "21"},
        {rules_of('v', 2, 4), BYTES("\xab\xcd\2\0hi"), "6"},
        {rules_of('c', 0, 1), BYTES("\xff..."), "1204"},
        {rules_of('N', 0, 4), BYTES("\xff\xff\xff\xff"), "1201"},
        {rules_of('N', 0, 0), BYTES("\0\0\0\2"), "1204"},
        {rules_of('N', 0, 0), BYTES("\0\0\0\0"), "1203"},
        {rules_of('N', 0, 4), BYTES("\0\0\0\0"), "4"},
        {rules_of('P', 0, 8), BYTES("\3\0\0\0\0\0\0\0abc"), "11"},
        {rules_of('n', 0, 2), BYTES("\0\1a\0\0\0\2bc\0\3d"), "3 2 4"},
    };
    for (size_t i = 0; i < sizeof examples / sizeof examples[0]; i++)
        if (!CHECK(gives(&examples[i].rules, examples[i].data, examples[i].length, examples[i].expected)))
            fprintf(stderr, "example %zu\n", i);
    struct sv_framer_rules byte = rules_of('C', 0, 1);
    unsigned char *data = filled(256, 0xff);
    CHECK(gives(&byte, data, 256, "256"));
    free(data);
}

static void write_field(unsigned char *at, char letter, uint64_t value) {
    unsigned width = sv_length_width(letter);
    bool is_big_endian = strchr("nNJ", letter) || (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ && !strchr("vVP", letter));
    for (unsigned i = 0; i < width; i++)
        at[is_big_endian ? width - 1 - i : i] = (unsigned char)(value >> (8 * i));
}

TEST(each_letter_in_its_width_sign_and_order) {
    for (const char *letter = "cCsSnvlLNVqQJP"; *letter; letter++) {
        unsigned width = sv_length_width(*letter);
        struct sv_framer_rules rules = rules_of(*letter, 0, width);
        unsigned char data[400] = {0};
        size_t value = width == 1 ? 100 : 300;
        write_field(data, *letter, value);
        char expected[16];
        snprintf(expected, sizeof expected, "%zu", width + value);
        CHECK(gives(&rules, data, width + value, expected));
        write_field(data, *letter, (uint64_t)-1); /* all ones: negative, or the most */
        bool is_negative = strchr("cslqQJP", *letter) != NULL;
        CHECK(judge(&rules, data, width) == (is_negative  ? SRVLUA_ERROR_PACKAGE_MALFORMED_DATA
                                             : width >= 2 ? SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE
                                                          : 0));
        write_field(data, *letter, UINT64_C(1) << (8 * width - 1)); /* the sign alone */
        CHECK(judge(&rules, data, width) == (is_negative  ? SRVLUA_ERROR_PACKAGE_MALFORMED_DATA
                                             : width >= 4 ? SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE
                                                          : 0));
        write_field(data, *letter, (UINT64_C(1) << (8 * width - 1)) - 1); /* the most that is positive */
        CHECK(judge(&rules, data, width) == (width > 2 ? SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE : 0));
    }
}

TEST(order_of_judgement) {
    struct sv_framer_rules signed_field = rules_of('s', 0, 8180), whole = rules_of('q', 0, 0), late = rules_of('n', 100, 50);
    unsigned char data[128] = {0};
    write_field(data, 's', (uint64_t)-8180); /* a total of 0, but by a negative value */
    CHECK(judge(&signed_field, data, 2) == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    write_field(data, 'q', 0);
    CHECK(judge(&whole, data, 8) == SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND);
    write_field(data, 'q', 7);
    CHECK(judge(&whole, data, 8) == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    write_field(data, 'q', 8);
    CHECK(gives(&whole, data, 8, "8"));
    memset(data, 0, sizeof data);
    CHECK(judge(&late, data, 101) == 0);
    CHECK(judge(&late, data, 102) == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA); /* 50 < 102 */
    write_field(data + 100, 'n', 52);
    CHECK(gives(&late, data, 102, "102"));
}

TEST(limit_is_judged_with_the_header) {
    struct sv_framer_rules rules = rules_of('N', 0, 4);
    unsigned char *data = filled(2 * LIMIT, 'b');
    write_field(data, 'N', LIMIT - 3);
    CHECK(judge(&rules, data, 3) == 0);
    CHECK(judge(&rules, data, 4) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    write_field(data, 'N', LIMIT - 4);
    write_field(data + LIMIT, 'N', LIMIT - 3);
    CHECK(gives(&rules, data, LIMIT, "65536"));
    CHECK(gives(&rules, data, LIMIT + 4, "65536 1201"));
    free(data);
    rules.max_length = UINT32_MAX;
    CHECK(judge(&rules, BYTES("\xff\xff\xff\xfb")) == 0);
    CHECK(judge(&rules, BYTES("\xff\xff\xff\xfc")) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
}

TEST(the_total_is_known_with_the_header) {
    struct sv_framer_rules rules = rules_of('n', 1, 3);
    struct sv_framer_state state = {0};
    CHECK(rules.next(&rules, &state, BYTES("T\x10")).result == SV_FRAME_MORE && state.total == 0);
    CHECK(rules.next(&rules, &state, BYTES("T\x10\0")).result == SV_FRAME_MORE && state.total == 4099);
}

TEST(random_packets_in_any_reads) {
    const char letters[] = "CSnvLNVQJP";
    uint32_t numbers = 815;
    for (size_t i = 0; letters[i]; i++) {
        unsigned width = sv_length_width(letters[i]);
        uint32_t offset = stream_random(&numbers) % 12, body = offset + width + stream_random(&numbers) % 5;
        struct sv_framer_rules rules = rules_of(letters[i], offset, body);
        struct stream stream = {0};
        size_t lengths[300];
        unsigned char packet[5000];
        memset(packet, '#', sizeof packet);
        for (size_t k = 0; k < 300; k++) {
            size_t value = stream_random(&numbers) % (width == 1 ? 256 : k % 60 ? 60 : 4000);
            write_field(packet + offset, letters[i], value);
            lengths[k] = body + value;
            append(&stream, packet, lengths[k]);
        }
        CHECK(gives_lengths(&rules, &stream, lengths, 300));
        free(stream.data);
    }
}

/* ---------------------------------------------------------------------------------------------------- a function */

struct function {
    int64_t result;
    const char *reason;
    size_t asked, seen;
};

static int64_t constant(void *context, const unsigned char *data, size_t length, const char **reason) {
    struct function *function = context;
    (void)data;
    function->asked++;
    function->seen = length;
    if (function->reason)
        *reason = function->reason;
    return function->result;
}

/* "12:": so many bytes follow. */
static int64_t netstring(void *context, const unsigned char *data, size_t length, const char **reason) {
    (void)context;
    int64_t value = 0;
    for (size_t i = 0; i < length && i < 8; i++) {
        if (data[i] == ':' && i > 0)
            return value + (int64_t)i + 1;
        if (data[i] < '0' || data[i] > '9')
            break;
        value = value * 10 + data[i] - '0';
        if (i + 1 == length)
            return 0;
    }
    *reason = "no digits";
    return -1;
}

static struct sv_framer_rules asks(sv_length_function function, void *context) {
    return (struct sv_framer_rules){.next = sv_frame_function, .max_length = LIMIT, .length_function = function,
                                    .length_context = context};
}

TEST(a_function_cuts) {
    struct function function = {.result = 3};
    struct sv_framer_rules three = asks(constant, &function), digits = asks(netstring, NULL);
    CHECK(gives(&three, BYTES("ABCABCABCABCABCABCABCABCABCABCABCABC"), "3 3 3 3 3 3 3 3 3 3 3 3"));
    CHECK(gives(&digits, BYTES("5:hello2:hi0:3:abc12"), "7 4 2 5"));
    CHECK(gives(&digits, BYTES("1:aoops"), "3 1204"));
    CHECK(gives(&digits, BYTES("65530:"), ""));
    CHECK(gives(&digits, BYTES("65531:"), "1201"));
}

TEST(a_function_that_knows_is_not_asked_again) {
    struct function function = {.result = 10};
    struct sv_framer_rules rules = asks(constant, &function);
    struct sv_framer_state state = {0};
    CHECK(rules.next(&rules, &state, BYTES("abc")).result == SV_FRAME_MORE && state.total == 10);
    CHECK(rules.next(&rules, &state, BYTES("abcdef")).result == SV_FRAME_MORE);
    CHECK(rules.next(&rules, &state, BYTES("abcdefghijk")).length == 10);
    CHECK(function.asked == 1);
}

TEST(a_function_sees_64_kib_at_most) {
    struct function function = {0};
    struct sv_framer_rules rules = asks(constant, &function);
    rules.max_length = 3 * LIMIT;
    unsigned char *data = filled(2 * LIMIT, 'x');
    CHECK(judge(&rules, data, LIMIT - 1) == 0);
    CHECK(function.seen == LIMIT - 1);
    CHECK(judge(&rules, data, LIMIT) == SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND);
    CHECK(judge(&rules, data, 2 * LIMIT) == SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND);
    CHECK(function.seen == LIMIT);
    rules.max_length = 100;
    CHECK(judge(&rules, data, 99) == 0);
    CHECK(judge(&rules, data, 100) == SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND);
    free(data);
}

TEST(a_function_gives_reasons) {
    struct function function = {.result = -5, .reason = "the application's own"};
    struct sv_framer_rules rules = asks(constant, &function);
    struct sv_framer_state state = {0};
    struct sv_frame frame = rules.next(&rules, &state, BYTES("x"));
    CHECK(frame.code == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA && frame.reason == function.reason);
    function = (struct function){.result = INT64_MIN};
    frame = rules.next(&rules, &state, BYTES("x"));
    CHECK(frame.code == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA && frame.reason != NULL);
    function.result = INT64_MAX;
    CHECK(judge(&rules, BYTES("x")) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
}
