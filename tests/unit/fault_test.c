/* Arming and passing fault points. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "core/fault.h"

static void fires_at_the_pass_it_was_armed_for(void **state) {
    (void)state;
    assert_false(kt_fault("a"));
    assert_int_equal(kt_fault_arm_text("a:3,b:*", NULL), 0);
    assert_false(kt_fault("a"));
    assert_false(kt_fault("a"));
    assert_true(kt_fault("a"));
    assert_false(kt_fault("a"));
    assert_true(kt_fault("b"));
    assert_true(kt_fault("b"));
    assert_false(kt_fault("c"));
    kt_fault_arm("b", -1);
    assert_false(kt_fault("b"));
    kt_fault_arm("a", 0);
    kt_fault_clear();
    assert_false(kt_fault("a"));
}

static void refuses_bad_text_whole(void **state) {
    (void)state;
    static const char *const bad[] = {"a", "a:", "a:0", "a:-1", "a:x", "ok:*,b", ":1", "a:1x",
        "a:1,,b:1", "a:99999999999"};
    struct kt_error err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(kt_fault_arm_text(bad[i], &err), -KT_INVALID_ARGUMENT);
        assert_non_null(strstr(err.message, bad[i]));
    }
    assert_false(kt_fault("ok"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_at_the_pass_it_was_armed_for),
        cmocka_unit_test(refuses_bad_text_whole),
    };
    return cmocka_run_group_tests_name("fault", tests, NULL, NULL);
}
