/* Tasks: joining, cancel, deadlines, structure, coroutines inside, closers, leftovers. */
#include "lua_unit.h"

LUA_TEST(join_gives_results,
         "local t = task.spawn(function(a, b) task.sleep(0.001) return a + b, nil, 'x' end, 1, 2)"
         "local n, none, x = t:join() same(n, 3) same(none, nil) same(x, 'x') same(select('#', "
         "t:join()), 3)"
         "check(t:done()) same(select('#', task.spawn(function() end):join()), 0)"
         "local ts, sum = {}, 0 for i = 1, 1000 do ts[i] = task.spawn(function() task.yield() "
         "return i end) end "
         "for i = 1, 1000 do sum = sum + ts[i]:join() end same(sum, 500500)")

LUA_TEST(failures_are_values, "local v, err = task.spawn(function() error('boom') end):join() "
                              "same(v, nil) same(err.code, 'internal')"
                              "check(err.message:find('boom', 1, true) and "
                              "err.message:find('traceback', 1, true), err.message)"
                              "v, err = task.spawn(function() error{code='not_found', message='m', "
                              "extra=7} end):join() same(err.code, 'not_found') same(err.extra, 7)"
                              "v, err = task.spawn(function() coroutine.yield() end):join() "
                              "check(err.message:find('outside a coroutine'))"
                              "v, err = task.spawn(function() local a, e = nil, {code='conflict', "
                              "message='m'} return a, e end):join() same(err.code, 'conflict')")

LUA_TEST(
    cancel_is_soft_then_unwinds,
    "local got, later local t = task.spawn(function() local ok, err = task.sleep(60) got = "
    "err.code "
    "  local ok2, err2 = pcall(task.sleep, 1) later = err2.code return 'end' end)"
    "task.yield() t:cancel() same(t:join(), 'end') same(got, 'cancelled') same(later, 'cancelled')"
    "local never = task.spawn(function() got = 'started' end) never:cancel() local v, err = "
    "never:join() same(err.code, 'cancelled') same(got, 'cancelled')")

LUA_TEST(a_cancelled_loop_unwinds,
         /* The loop catches what every later call raises; it ends because it asks cancelled(). */
         "local closed local t = task.spawn(function() task.defer(function() closed = true end)"
         "  while true do pcall(task.sleep, 60) if task.cancelled() then coroutine.wrap(function() "
         "end)() "
         "    local ev = task.event() pcall(ev.wait, ev) break end end return 1 end)"
         "task.yield() t:cancel() t:join() check(closed)")

LUA_TEST(
    deadline_reaches_children,
    "local t = task.spawn(function() task.deadline(0.02) check(task.time_left() <= 0.02)"
    "  local child = task.spawn(function() local ok, err = task.sleep(60) return err.code end) "
    "return child:join() end)"
    "local v, err = t:join() check(v == 'deadline_exceeded' or err.code == 'deadline_exceeded')"
    "same(task.time_left(), nil)"
    "local p = task.spawn(function() task.deadline(0) local ok, err = pcall(task.sleep, 1) return "
    "err.code end) same(p:join(), 'deadline_exceeded')"
    "local q = task.spawn(function() task.deadline(60) task.deadline(0.01) task.deadline(60) local "
    "_, err = task.sleep(50) return err.code end) same(q:join(), 'deadline_exceeded')")

LUA_TEST(children_end_with_their_parent,
         "local state, alone = 'running', false local parent = task.spawn(function() "
         "  task.spawn(function() local ok, err = task.sleep(60) state = err.code end)"
         "  task.detach(function() task.sleep(0.01) alone = true end) task.yield() end)"
         "parent:join() task.yield() task.yield() same(state, 'cancelled') task.sleep(0.05) "
         "check(alone)")

LUA_TEST(events,
         "local ev, woken = task.event(), 0 local ts = {} for i = 1, 10 do ts[i] = "
         "task.spawn(function() check(ev:wait() == true) woken = woken + 1 end) end "
         "task.yield() same(woken, 0) ev:signal() for i = 1, 10 do ts[i]:join() end same(woken, 10)"
         "local ok, err = ev:wait(0.01) same(ok, nil) same(err.code, 'deadline_exceeded')"
         "ev:signal() ok, err = ev:wait(0) same(err.code, 'deadline_exceeded')"
         "local late = task.spawn(function() return ev:wait(60) end) task.yield() ev:signal() ev = "
         "nil collectgarbage() same(late:join(), true)")

LUA_TEST(waiting_crosses_coroutines,
         "local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1) "
         "check(task.sleep(0.001)) "
         "  local inner = coroutine.create(function(...) task.yield() return select('#', ...), "
         "coroutine.yield('y') end) "
         "  local ok, y = coroutine.resume(inner, nil, nil) same(y, 'y') local ok2, n, z = "
         "coroutine.resume(inner, 'z') return b, n, z end)"
         "same(co(1), 2) local b, n, z = co('b') same(b, 'b') same(n, 2) same(z, 'z')"
         "local ok, err = coroutine.resume(coroutine.create(function() task.yield() error('in') "
         "end)) check(not ok and err:find('in'))"
         "fails('cannot resume dead', co) fails('function expected', coroutine.wrap, 1)"
         "same(select('#', coroutine.wrap(function() coroutine.yield() end)()), 0)")

LUA_TEST(
    where_waiting_is_refused,
    "fails('not possible inside', string.gsub, 'a', 'a', function() task.sleep(0) end)"
    "fails('not possible inside', table.sort, {2, 1}, function() task.sleep(0) end)"
    "same(select(2, pcall(function() task.sleep(0) return 7 end)), 7)"
    "local t = setmetatable({}, {__index=function(_, k) task.sleep(0) return k end}) same(t.x, 'x')"
    "fails('seconds', task.sleep, -1) fails('seconds', task.sleep, 1e12) fails('seconds', "
    "task.sleep, 0/0)"
    "local self self = task.spawn(function() return pcall(self.join, self) end) local ok, err = "
    "self:join() same(ok, false) check(err:find('itself'))")

LUA_TEST(closers_run_last_first,
         "local order = {} local t = task.spawn(function() task.defer(function() order[#order + 1] "
         "= 'a' end)"
         "  task.defer(function() error('closer') end) task.defer(function() order[#order + 1] = "
         "'b' end) error('x') end)"
         "t:join() same(table.concat(order), 'ba')")

LUA_TEST(
    counts,
    "local before = task.counts() same(before.tasks, 1) same(before.vms, 1) same(before.ops, 0)"
    "local ts = {} for i = 1, 50 do ts[i] = task.spawn(function() task.sleep(60) end) end "
    "task.yield()"
    "local now = task.counts() same(now.tasks, 51) same(now.ops, 50) check(now.handles >= "
    "before.handles + 50)"
    "for i = 1, 50 do ts[i]:cancel() end for i = 1, 50 do ts[i]:join() end "
    "local after = task.counts() same(after.tasks, 1) same(after.ops, 0) same(after.handles, "
    "before.handles)")

LUA_TEST(closing_with_tasks_alive, "for i = 1, 20 do task.spawn(function() task.sleep(60) end) "
                                   "task.detach(function() task.event():wait() end) "
                                   "task.detach(function() task.spawn(function() task.sleep(60) "
                                   "end):join() end) end task.yield() task.yield()")

static void nothing_can_happen(void **state) {
    struct kt_host host;
    struct kt_error err;
    int status;
    (void)state;
    assert_int_equal(kt_host_open(&host, NULL, &err), 0);
    assert_int_not_equal(
        kt_host_run(&host, "require 'kt.task'.event():wait()", "=dead", 0, NULL, &status, &err), 0);
    assert_non_null(strstr(err.message, "never happen"));
    assert_int_not_equal(kt_host_run(&host, "return +", "=syntax", 0, NULL, &status, &err), 0);
    char *args[] = {"3", "4"};
    assert_int_equal(
        kt_host_run(&host, "local a, b = ... return a * b", "=args", 2, args, &status, &err), 0);
    assert_int_equal(status, 12);
    assert_int_equal(kt_host_run(&host, "return false", "=no", 0, NULL, &status, &err), 0);
    assert_int_equal(status, 1);
    assert_int_equal(kt_host_close(&host), 0);
    lua_unit_no_leftovers();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(join_gives_results),
                                       cmocka_unit_test(failures_are_values),
                                       cmocka_unit_test(cancel_is_soft_then_unwinds),
                                       cmocka_unit_test(a_cancelled_loop_unwinds),
                                       cmocka_unit_test(deadline_reaches_children),
                                       cmocka_unit_test(children_end_with_their_parent),
                                       cmocka_unit_test(events),
                                       cmocka_unit_test(waiting_crosses_coroutines),
                                       cmocka_unit_test(where_waiting_is_refused),
                                       cmocka_unit_test(closers_run_last_first),
                                       cmocka_unit_test(counts),
                                       cmocka_unit_test(closing_with_tasks_alive),
                                       cmocka_unit_test(nothing_can_happen)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
