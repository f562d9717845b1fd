/* Rows in order within groups: what does not fit is said, nothing else is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "table/series.h"

static const int32_t one_group[] = {0, 3}, in_order[] = {2, 0, 1};

static void mean_of_what_does_not_fit(void **state) {
    (void)state;
    kt_i128 v[] = {1, 5, 3};
    const int32_t other[] = {7, 8, 6};
    int64_t out[3];
    assert_int_equal(kt_k_trailing_mean(out, one_group, in_order, 1, v, 0, other, 5, 1), 0);
    assert_true(out[2] == KT_NULL64 && out[0] == 3000000 && out[1] == 2000000);
    v[0] = v[2] = (kt_i128)1 << 126;
    assert_int_equal(kt_k_trailing_mean(out, one_group, in_order, 1, v, 0, other, 5, 1), -1);
    v[0] = v[2] = INT64_MAX; /* the mean has six digits more */
    assert_int_equal(kt_k_trailing_mean(out, one_group, in_order, 1, v, 0, other, 5, 1), -1);
}

static void windows_of_what_does_not_fit(void **state) {
    (void)state;
    const int32_t date[] = {2, 3, 1};
    const uint8_t each[] = {1, 1, 1};
    const int64_t limit[] = {30, KT_NULL64, 30};
    kt_i128 v[] = {20, 20, 5};
    int32_t out[3];
    assert_int_equal(kt_k_windows(out, one_group, in_order, 1, date, 1, each, v, 0, limit, 0), 1);
    assert_true(out[2] == KT_NULL32 && out[0] == 0 && out[1] == 0);
    /* A limit of another scale, and days that reach beyond the last day there is. */
    assert_int_equal(
        kt_k_windows(out, one_group, in_order, 1, date, INT32_MAX, each, v, 1, limit, 0), 0);
    v[0] = v[1] = v[2] = (kt_i128)1 << 126;
    assert_int_equal(kt_k_windows(out, one_group, in_order, 1, date, 9, each, v, 0, limit, 0), -1);
}

static void valid_rows(void **state) {
    (void)state;
    const int32_t from[] = {KT_NULL32, 5, 9}, until[] = {KT_NULL32, 6, 9};
    const int32_t ids[] = {0, 0, 0, 0, -1}, at[] = {9, 7, 5, KT_NULL32, 9};
    const int32_t newest[] = {2, 1, 0};
    int32_t out[5];
    kt_k_as_of(out, ids, one_group, newest, from, until, at, 5);
    const int32_t want[] = {2, 0, 1, -1, -1};
    for (int i = 0; i < 5; i++)
        assert_int_equal(out[i], want[i]);
    kt_k_as_of(out, ids, one_group, newest, NULL, NULL, at, 5);
    assert_true(out[0] == 2 && out[1] == 2 && out[3] == -1);
}

static void quotients_and_steps(void **state) {
    (void)state;
    const int64_t a[] = {7, KT_NULL64, INT64_MAX}, b[] = {-2, 1, 1}, unit[] = {100, 100, 100};
    int64_t out[3];
    assert_int_equal(kt_k_quotient(out, a, 8, 0, b, 8, 0, 0, 2), 0);
    assert_true(out[0] == -4 && out[1] == KT_NULL64);
    assert_int_equal(kt_k_quotient(out, a, 8, 0, b, 8, 0, 6, 3), -1);
    assert_int_equal(kt_k_round_to(out, a, 8, 2, unit, 2), 0); /* 0.07 to a multiple of 0.01 */
    assert_true(out[0] == 700 && out[1] == KT_NULL64);
    assert_int_equal(kt_k_round_to(out, a, 8, 0, unit, 3), -1);
    assert_int_equal(kt_k_round_to(out, a, 8, 0, b, 1), -1); /* a step below 0 */
    const int32_t ids[] = {0, 1, 0};
    const int64_t num[] = {10, 0}, den[] = {1, 0};
    assert_int_equal(kt_k_unit_price(out, a, NULL, ids, num, den, 3), 0);
    assert_true(out[0] == 1 && out[1] == KT_NULL64 && out[2] == 922337203685477581);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_of_what_does_not_fit),
        cmocka_unit_test(windows_of_what_does_not_fit),
        cmocka_unit_test(valid_rows),
        cmocka_unit_test(quotients_and_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
