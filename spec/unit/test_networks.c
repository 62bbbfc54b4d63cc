/* Lists of addresses and networks: what they contain, whatever form an address comes in. */
#include "net/networks.h"
#include "unit.h"

#define LIST(...) (char *[]){__VA_ARGS__}, sizeof((char *[]){__VA_ARGS__}) / sizeof(char *)

static struct sv_networks parse(char *const *texts, size_t count) {
    struct sv_networks networks;
    CHECK(sv_networks_parse(&networks, texts, count) == 0 && networks.count == count);
    return networks;
}

TEST(an_empty_list_contains_nobody) {
    struct sv_networks networks = parse(NULL, 0);
    CHECK(!sv_networks_contain(&networks, "127.0.0.1") && !sv_networks_contain(&networks, ""));
    sv_networks_free(&networks);
}

TEST(an_address_is_a_network_of_one) {
    struct sv_networks networks = parse(LIST("192.0.2.1", "::1"));
    CHECK(sv_networks_contain(&networks, "192.0.2.1") && sv_networks_contain(&networks, "::1"));
    CHECK(!sv_networks_contain(&networks, "192.0.2.2") && !sv_networks_contain(&networks, "::2"));
    CHECK(!sv_networks_contain(&networks, "0.0.0.1"));
    sv_networks_free(&networks);
}

TEST(networks_end_at_any_bit) {
    struct sv_networks networks = parse(LIST("10.0.0.0/8", "192.168.4.0/22", "198.51.100.129/25", "2001:db8::/33", "fe80::/10"));
    CHECK(sv_networks_contain(&networks, "10.255.0.1") && !sv_networks_contain(&networks, "11.0.0.0"));
    CHECK(sv_networks_contain(&networks, "192.168.7.255") && !sv_networks_contain(&networks, "192.168.8.0"));
    CHECK(!sv_networks_contain(&networks, "192.168.3.255"));
    CHECK(sv_networks_contain(&networks, "198.51.100.128") && !sv_networks_contain(&networks, "198.51.100.127"));
    CHECK(sv_networks_contain(&networks, "2001:db8:7fff::1") && !sv_networks_contain(&networks, "2001:db8:8000::1"));
    CHECK(sv_networks_contain(&networks, "febf::1") && !sv_networks_contain(&networks, "fec0::1"));
    sv_networks_free(&networks);
}

TEST(everybody_of_one_family) {
    struct sv_networks all_v4 = parse(LIST("0.0.0.0/0")), all = parse(LIST("::/0"));
    CHECK(sv_networks_contain(&all_v4, "203.0.113.9") && !sv_networks_contain(&all_v4, "2001:db8::1"));
    CHECK(sv_networks_contain(&all, "2001:db8::1") && sv_networks_contain(&all, "203.0.113.9"));
    sv_networks_free(&all_v4);
    sv_networks_free(&all);
}

TEST(an_ipv4_client_of_an_ipv6_socket_counts_as_ipv4) {
    struct sv_networks networks = parse(LIST("10.0.0.0/8")), mapped = parse(LIST("::ffff:10.0.0.0/104"));
    CHECK(sv_networks_contain(&networks, "::ffff:10.1.2.3") && !sv_networks_contain(&networks, "::ffff:11.1.2.3"));
    CHECK(sv_networks_contain(&mapped, "10.1.2.3") && !sv_networks_contain(&mapped, "11.1.2.3"));
    sv_networks_free(&networks);
    sv_networks_free(&mapped);
}

TEST(an_interface_is_no_part_of_the_address) {
    struct sv_networks networks = parse(LIST("fe80::1"));
    CHECK(sv_networks_contain(&networks, "fe80::1%2") && !sv_networks_contain(&networks, "fe80::2%2"));
    sv_networks_free(&networks);
}

TEST(what_is_no_address_is_in_no_network) {
    struct sv_networks networks = parse(LIST("0.0.0.0/0", "::/0"));
    CHECK(!sv_networks_contain(&networks, "") && !sv_networks_contain(&networks, "/run/x.sock"));
    CHECK(!sv_networks_contain(&networks, "127.0.0.1 ") && !sv_networks_contain(&networks, "127.1"));
    CHECK(!sv_networks_contain(&networks, "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"));
    sv_networks_free(&networks);
}
