/* Wall time, its injection, RFC 3339. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

static int64_t parsed(const char *text) {
    int64_t ms = -1;
    assert_true(kt_time_parse(text, strlen(text), &ms));
    return ms;
}

static void parses(void **state) {
    (void)state;
    assert_int_equal(parsed("1970-01-01T00:00:00Z"), 0);
    assert_int_equal(parsed("2024-06-30"), 1719705600000);
    assert_int_equal(parsed("2024-06-30T12:00:00.5Z"), 1719748800500);
    assert_int_equal(parsed("2024-06-30T12:00:00.123999Z"), 1719748800123);
    assert_int_equal(parsed("2024-06-30T14:00:00+02:00"), 1719748800000);
    assert_int_equal(parsed("1969-12-31T23:59:59.999Z"), -1);
    assert_int_equal(parsed("2000-02-29"), 951782400000);
}

static void refuses(void **state) {
    (void)state;
    static const char *const bad[] = {"", "2024", "2024-13-01", "2023-02-29", "1900-02-29",
        "2024-06-31", "2024-06-30T", "2024-06-30T24:00:00Z", "2024-06-30T12:00:00", "2024-6-30",
        "2024-06-30T12:00:00.Z", "2024-06-30T12:00:00Zx", "2024-06-30T12:00:00+2:00", " 2024-06-30"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t ms;
        if (kt_time_parse(bad[i], strlen(bad[i]), &ms))
            fail_msg("accepted \"%s\"", bad[i]);
    }
}

static void formats_what_it_parses(void **state) {
    (void)state;
    char text[KT_RFC3339_SIZE];
    /* Uneven steps over ten thousand years meet every month and leap rule. */
    for (int64_t ms = parsed("0000-01-01"); ms < parsed("9999-12-31"); ms += 7777777777777) {
        assert_int_equal(kt_time_format(ms, text), 24);
        assert_int_equal(parsed(text), ms);
    }
    assert_int_equal(kt_time_format(INT64_MAX, text), 0);
    kt_time_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void is_injectable(void **state) {
    (void)state;
    int64_t real = kt_now_ms();
    kt_clock_set(1000);
    assert_in_range(kt_now_ms(), 1000, 60000);
    kt_clock_reset();
    assert_true(kt_now_ms() >= real);

    setenv("KONTOR_TEST_CLOCK", "2024-06-30", 1);
    assert_true(kt_clock_from_env());
    assert_in_range(kt_now_ms(), 1719705600000, 1719705660000);
    setenv("KONTOR_TEST_CLOCK", "yesterday", 1);
    assert_false(kt_clock_from_env());
    unsetenv("KONTOR_TEST_CLOCK");
    assert_true(kt_clock_from_env());
    kt_clock_reset();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(refuses),
        cmocka_unit_test(formats_what_it_parses),
        cmocka_unit_test(is_injectable),
    };
    return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
