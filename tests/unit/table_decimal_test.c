/* Decimals and days. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "table/calendar.h"
#include "table/decimal.h"

static struct kt_dec dec(const char *text) {
    struct kt_dec d;
    assert_int_equal(kt_dec_parse(text, strlen(text), &d), KT_CELL_OK);
    return d;
}

static void is(const struct kt_dec *d, const char *want) {
    char buf[64];
    kt_dec_text(d, 0, buf);
    assert_string_equal(buf, want);
}

static void parses(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int scale;
        enum kt_cell cell;
        int64_t value;
    } cases[] = {
        {"0", 4, KT_CELL_OK, 0},
        {"12.5", 4, KT_CELL_OK, 125000},
        {" -12.5 ", 4, KT_CELL_OK, -125000},
        {"+3", 4, KT_CELL_OK, 30000},
        {"100.00-", 4, KT_CELL_OK, -1000000},
        {".5", 4, KT_CELL_OK, 5000},
        {"5.", 4, KT_CELL_OK, 50000},
        {"1.5E+3", 4, KT_CELL_OK, 15000000},
        {"1e-4", 4, KT_CELL_OK, 1},
        {"1.23450000000", 4, KT_CELL_OK, 12345},
        {"922337203685477.5807", 4, KT_CELL_OK, INT64_MAX},
        {"-922337203685477.5807", 4, KT_CELL_OK, -INT64_MAX},
        {"922337203685477.5808", 4, KT_CELL_OUT_OF_RANGE, 0},
        {"-922337203685477.5808", 4, KT_CELL_OUT_OF_RANGE, 0},
        {"1e99", 4, KT_CELL_OUT_OF_RANGE, 0},
        {"0e99", 4, KT_CELL_OK, 0},
        {"99999999999999999999999999999999999999999999", 4, KT_CELL_OUT_OF_RANGE, 0},
        {"0.00001", 4, KT_CELL_TOO_PRECISE, 0},
        {"1e-9", 4, KT_CELL_TOO_PRECISE, 0},
        {"", 4, KT_CELL_BAD_NUMBER, 0},
        {"-", 4, KT_CELL_BAD_NUMBER, 0},
        {".", 4, KT_CELL_BAD_NUMBER, 0},
        {"--1", 4, KT_CELL_BAD_NUMBER, 0},
        {"-1-", 4, KT_CELL_BAD_NUMBER, 0},
        {"1,5", 4, KT_CELL_BAD_NUMBER, 0},
        {"1.2.3", 4, KT_CELL_BAD_NUMBER, 0},
        {"0x10", 4, KT_CELL_BAD_NUMBER, 0},
        {"inf", 4, KT_CELL_BAD_NUMBER, 0},
        {"nan", 4, KT_CELL_BAD_NUMBER, 0},
        {"1e", 4, KT_CELL_BAD_NUMBER, 0},
        {"1e1000", 4, KT_CELL_BAD_NUMBER, 0},
        {"1 2", 4, KT_CELL_BAD_NUMBER, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t v = 0;
        enum kt_cell cell =
            kt_dec_parse64(cases[i].text, strlen(cases[i].text), cases[i].scale, &v);
        if (cell != cases[i].cell || v != cases[i].value)
            fail_msg("\"%s\": %d %lld", cases[i].text, cell, (long long)v);
    }
}

static void computes(void **state) {
    (void)state;
    struct kt_dec a = dec("12.50"), b = dec("-0.125"), r;
    assert_int_equal(kt_dec_add(&a, &b, &r), 0);
    is(&r, "12.375");
    assert_int_equal(kt_dec_sub(&a, &b, &r), 0);
    is(&r, "12.625");
    assert_int_equal(kt_dec_mul(&a, &b, &r), 0);
    is(&r, "-1.5625");
    assert_int_equal(kt_dec_sign(&r), -1);
    /* Money times quantity times rate, all at their largest: 128 bits are needed and enough. */
    struct kt_dec m = dec("900000000000000.0001"), q = dec("99999.9999");
    assert_int_equal(kt_dec_mul(&m, &q, &r), 0);
    is(&r, "89999999910000000009.99999999");
    struct kt_dec big = dec("170141183460469231731687303715884105719"), ten = dec("10");
    assert_int_equal(kt_dec_add(&big, &ten, &r), -1);
    assert_int_equal(kt_dec_mul(&big, &a, &r), -1);
}

static void rounds_half_away_from_zero(void **state) {
    (void)state;
    static const struct {
        const char *a, *b, *want;
        int scale;
    } cases[] = {
        {"1", "3", "0.333333", 6},   {"2", "3", "0.666667", 6}, {"1", "-8", "-0.13", 2},
        {"-1", "8", "-0.13", 2},     {"0.005", "1", "0.01", 2}, {"-0.005", "1", "-0.01", 2},
        {"0.0049", "1", "0", 2},     {"1.5", "1", "2", 0},      {"-2.5", "1", "-3", 0},
        {"7", "0.0002", "35000", 6}, {"0", "5", "0", 6},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct kt_dec a = dec(cases[i].a), b = dec(cases[i].b), r;
        assert_int_equal(kt_dec_div(&a, &b, cases[i].scale, &r), 0);
        is(&r, cases[i].want);
    }
    struct kt_dec a = dec("1"), zero = dec("0"), r;
    assert_int_equal(kt_dec_div(&a, &zero, 6, &r), -1);
    a = dec("2.345");
    assert_int_equal(kt_dec_round(&a, 2, &r), 0);
    is(&r, "2.35");
    char buf[64];
    kt_dec_text(&r, 4, buf);
    assert_string_equal(buf, "2.3500");
    r = dec("-0.5");
    kt_dec_text(&r, 2, buf);
    assert_string_equal(buf, "-0.50");
}

static void compares_across_scales(void **state) {
    (void)state;
    struct kt_dec huge = dec("99999999999999999999999999999999999999"), tiny = dec("1e-38");
    struct kt_dec minus = dec("-99999999999999999999999999999999999999");
    assert_int_equal(kt_dec_cmp(&huge, &tiny), 1);
    assert_int_equal(kt_dec_cmp(&tiny, &huge), -1);
    assert_int_equal(kt_dec_cmp(&minus, &tiny), -1);
    assert_int_equal(kt_dec_cmp(&tiny, &minus), 1);
    struct kt_dec a = dec("1.10"), b = dec("1.1");
    assert_int_equal(kt_dec_cmp(&a, &b), 0);
}

static void knows_the_calendar(void **state) {
    (void)state;
    static const struct {
        const char *text, *iso, *week;
        enum kt_cell cell;
        int stamp;
    } cases[] = {
        {"2014-05-31", "2014-05-31", "2014-W22", KT_CELL_OK, 0},
        {"20140531", "2014-05-31", "2014-W22", KT_CELL_OK, 0},
        {"2014-05-31T23:59:59.123Z", "2014-05-31", "2014-W22", KT_CELL_OK, 1},
        {"2014-05-31 08:00", "2014-05-31", "2014-W22", KT_CELL_OK, 1},
        {"2014-05-31T08:00+02:00", "2014-05-31", "2014-W22", KT_CELL_OK, 1},
        {"2016-02-29", "2016-02-29", "2016-W09", KT_CELL_OK, 0},
        {"2000-02-29", "2000-02-29", "2000-W09", KT_CELL_OK, 0},
        {"2016-01-03", "2016-01-03", "2015-W53", KT_CELL_OK, 0},
        {"2018-12-31", "2018-12-31", "2019-W01", KT_CELL_OK, 0},
        {"2021-01-03", "2021-01-03", "2020-W53", KT_CELL_OK, 0},
        {"1969-12-29", "1969-12-29", "1970-W01", KT_CELL_OK, 0},
        {"0001-01-01", "0001-01-01", "0001-W01", KT_CELL_OK, 0},
        {"00000000", NULL, NULL, KT_CELL_OK, 0},
        {"99991231", NULL, NULL, KT_CELL_OK, 0},
        {"9999-12-31", NULL, NULL, KT_CELL_OK, 0},
        {"1900-02-29", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"2014-13-01", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"2014-04-31", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"31.05.2014", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"2014-05-31T", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"2014-05-31X08:00", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"2014-05-31T08:00 garbage", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"", NULL, NULL, KT_CELL_BAD_DATE, 0},
        {"12", NULL, NULL, KT_CELL_BAD_DATE, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int32_t day = 7;
        int stamp = 0;
        char buf[16];
        enum kt_cell cell = kt_day_parse(cases[i].text, strlen(cases[i].text), &day, &stamp);
        if (cell != cases[i].cell || stamp != cases[i].stamp)
            fail_msg("\"%s\": %d", cases[i].text, cell);
        if (cell != KT_CELL_OK)
            continue;
        if (cases[i].iso == NULL) {
            assert_int_equal(day, KT_NULL32);
            continue;
        }
        kt_day_text(day, buf);
        assert_string_equal(buf, cases[i].iso);
        kt_week_text(day, buf);
        assert_string_equal(buf, cases[i].week);
    }
    /* Every day of 800 years there and back, Mondays seven apart. */
    int y, m, d;
    for (int32_t day = kt_day_of(1700, 1, 1); day <= kt_day_of(2500, 12, 31); day++) {
        kt_day_civil(day, &y, &m, &d);
        assert_int_equal(kt_day_of(y, m, d), day);
        int32_t monday = kt_day_monday(day);
        assert_true(day - monday >= 0 && day - monday < 7 && (monday + 3) % 7 == 0);
    }
}

static void spreads_over_weeks(void **state) {
    (void)state;
    int32_t wed = kt_day_of(2014, 5, 28);
    int32_t start[] = {wed, wed, wed, KT_NULL32, wed + 9};
    int32_t finish[] = {wed + 9, KT_NULL32, wed - 1, wed, wed};
    int64_t hours[] = {100000, 50000, 10000, 10000, KT_NULL64};
    int32_t row[16], week[16];
    int64_t part[16];
    int64_t n = kt_k_spread(start, finish, hours, NULL, 5, wed + 5, 1, NULL, NULL, NULL);
    assert_int_equal(n, 2 + 2 + 1);
    assert_int_equal(kt_k_spread(start, finish, hours, NULL, 5, wed + 5, 1, row, week, part), n);
    /* Ten hours over ten days, five in the first week and five in the second. */
    assert_int_equal(part[0], 5000000);
    assert_int_equal(part[1], 5000000);
    assert_int_equal(week[0], wed - 2);
    assert_int_equal(week[1], wed + 5);
    /* No finish: up to the day given; six days, five of them in the first week. */
    assert_int_equal(row[2], 1);
    assert_int_equal(part[2], 4166667);
    assert_int_equal(part[3], 833333);
    /* A finish before the start is one day. */
    assert_int_equal(part[4], 1000000);
    assert_int_equal(kt_k_spread(start, finish, hours, NULL, 5, wed + 5, 0, row, week, part), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),
        cmocka_unit_test(computes),
        cmocka_unit_test(rounds_half_away_from_zero),
        cmocka_unit_test(compares_across_scales),
        cmocka_unit_test(knows_the_calendar),
        cmocka_unit_test(spreads_over_weeks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
