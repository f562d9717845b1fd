/* Where tools may go (core/egress.h). */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "core/egress.h"

static bool allows(const char *list, const char *address, int port) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct kt_error err = {0};
    struct kt_egress *egress = kt_egress_parse(list, &err);
    if (egress == NULL)
        fail_msg("%s: %s", list, err.message);
    const struct sockaddr *given = (const struct sockaddr *)&in;
    if (inet_pton(AF_INET, address, &in.sin_addr) != 1) {
        assert_int_equal(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
        given = (const struct sockaddr *)&in6;
    }
    bool allowed = kt_egress_allows(egress, given);
    kt_egress_free(egress);
    return allowed;
}

static void only_public_addresses(void **state) {
    static const char *const closed[] = {
        "0.0.0.0",         "0.1.2.3",        "10.0.0.1",          "10.255.255.255",
        "100.64.0.1",      "100.127.255.255", "127.0.0.1",         "127.255.255.254",
        "169.254.169.254", "172.16.0.1",     "172.31.255.255",    "192.0.0.8",
        "192.0.2.1",       "192.88.99.1",    "192.168.1.1",       "198.18.0.1",
        "198.19.255.255",  "198.51.100.7",   "203.0.113.9",       "224.0.0.1",
        "239.255.255.255", "240.0.0.1",      "255.255.255.255",   "::",
        "::1",             "::127.0.0.1",    "::ffff:127.0.0.1",  "::ffff:10.1.1.1",
        "::ffff:0:10.1.1.1", "64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b:1::808:808",
        "100::1",          "2001::1",        "2001:0:4136:e378::", "2001:10::1",
        "2001:20::1",      "2001:db8::1",    "2002:a00:1::1",     "2002:7f00:1::",
        "2002:a9fe:a9fe::1", "3fff::1",      "4000::1",           "5f00::1",
        "fc00::1",         "fd12:3456::1",   "fe80::1",           "febf::1",
        "fec0::1",         "ff02::1"};
    static const char *const open[] = {
        "1.1.1.1",      "8.8.8.8",     "9.255.255.255", "11.0.0.0",      "100.63.255.255",
        "100.128.0.0",  "126.255.255.255", "128.0.0.0", "172.15.0.1",    "172.32.0.0",
        "192.0.1.1",    "192.167.0.1", "198.17.0.1",    "198.20.0.0",    "223.255.255.255",
        "2606:4700::1", "2a00::1",     "2001:200::1",   "2001:4860:4860::8888",
        "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"};
    (void)state;
    for (size_t i = 0; i < sizeof closed / sizeof *closed; i++)
        if (allows("", closed[i], 80))
            fail_msg("%s is open", closed[i]);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        if (!allows("", open[i], 80))
            fail_msg("%s is closed", open[i]);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct kt_egress *egress = kt_egress_parse("0.0.0.0/0,::/0", NULL);
    assert_false(kt_egress_allows(egress, (const struct sockaddr *)&un));
    kt_egress_free(egress);
}

static void what_the_list_names(void **state) {
    (void)state;
    assert_true(allows("10.0.0.0/8", "10.9.8.7", 80));
    assert_false(allows("10.0.0.0/8", "11.0.0.1", 80) != allows("", "11.0.0.1", 80));
    assert_false(allows("10.0.0.0/9", "10.128.0.0", 80));
    assert_true(allows("10.0.0.0/9", "10.127.255.255", 80));
    assert_true(allows("10.0.0.0/8", "::ffff:10.0.0.1", 80));
    assert_true(allows("127.0.0.1", "127.0.0.1", 1));
    assert_false(allows("127.0.0.1", "127.0.0.2", 1));
    assert_true(allows(" x.example , 127.0.0.1:81 ,", "127.0.0.1", 81));
    assert_false(allows("127.0.0.1:81", "127.0.0.1", 80));
    assert_true(allows("[::1]:81", "::1", 81));
    assert_false(allows("[::1]:81", "::1", 82));
    assert_true(allows("[::1]", "::1", 82));
    assert_true(allows("fd00::/8", "fd12::1", 443));
    assert_false(allows("localhost", "127.0.0.1", 80)); /* a name is no address */
    assert_true(allows("0.0.0.0/0", "10.0.0.1", 80));
    assert_false(allows("0.0.0.0/0", "::1", 80));
}

static void hosts(void **state) {
    struct kt_egress *egress = kt_egress_parse("Erp.lan, mcp-1.internal:8080,127.0.0.1", NULL);
    (void)state;
    assert_non_null(egress);
    assert_true(kt_egress_names(egress, "erp.LAN", 443));
    assert_true(kt_egress_names(egress, "erp.lan.", 80));
    assert_false(kt_egress_names(egress, "erp.lan.evil.example", 80));
    assert_false(kt_egress_names(egress, "xerp.lan", 80));
    assert_true(kt_egress_names(egress, "mcp-1.internal", 8080));
    assert_false(kt_egress_names(egress, "mcp-1.internal", 80));
    assert_false(kt_egress_names(egress, "127.0.0.1", 80)); /* that is an address */
    assert_false(kt_egress_names(egress, "", 80));
    assert_false(kt_egress_names(egress, ".", 80));
    kt_egress_free(egress);
}

static void faults(void **state) {
    static const char *const bad[] = {"10.0.0.0/33",   "10.0.0.0/",    "10.0.0/8",      "x/8",
                                      "::1/129",       "host:0",       "host:65536",    "host:",
                                      "host:80:90",    "[::1",         "[::1]80",       "[10.0.0.1]:80",
                                      "[::1]:",        "256.1.1.1",    "1.2.3",         "ho st",
                                      "http://x",      "*.example",    ".example",      "-x",
                                      "good.example,u@x", "10.0.0.0/8/8", "10.0.0.0/-1", "1.2.3.4:x"};
    struct kt_error err;
    char deep[400];
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (kt_egress_parse(bad[i], &err) != NULL)
            fail_msg("%s is taken", bad[i]);
        assert_int_equal(err.code, KT_INVALID_ARGUMENT);
        assert_non_null(kt_egress_fault(bad[i]));
    }
    memset(deep, 'a', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_non_null(kt_egress_fault(deep));
    assert_null(kt_egress_fault(""));
    assert_null(kt_egress_fault(" , ,a"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_public_addresses),
        cmocka_unit_test(what_the_list_names),
        cmocka_unit_test(hosts),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
