/* A host's end: what is on its way out is waited for, what stays is counted. */
#include "lua_unit.h"

/* The kernel takes its time to end a child and its pipes; the command that killed it is already over. */
LUA_TEST(children_may_be_dying,
         "local proc = require 'kt.proc' "
         "for _ = 1, 20 do check(proc.spawn { argv = { '/bin/sleep', '100' }, env = {} }):close() end")

static void what_stays_is_counted(void **state) {
    (void)state;
    struct kt_host host;
    struct kt_error err = {0};
    uv_timer_t timer;
    assert_int_equal(kt_host_open(&host, NULL, &err), 0);
    uv_timer_init(&host.loop, &timer);
    assert_int_equal(kt_host_close(&host), 1);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&host.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&host.loop), 0);
    lua_unit_no_leftovers();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_may_be_dying),
        cmocka_unit_test(what_stays_is_counted),
    };
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
