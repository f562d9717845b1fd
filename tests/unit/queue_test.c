/* Who goes on next: projects in turn, whatever number of VMs and runs each has; the host first. */
#include "lua_unit.h"

#define HEAD                                                                                       \
    "local script, clock = require 'kt.script', require 'kt.clock' "                               \
    "local files = {['w.lua']=[[ workflow{name='w', run=function(run, input) local x = 0 "         \
    "for i = 1, input do x = (x * 31 + i) % 1000003 end return x end} ]]} "                        \
    "local order = {} "                                                                            \
    "local function burn(vm, name, n) return task.spawn(function() "                               \
    "local r = assert(vm:start{path='w.lua', seed='s', now=1, input=n}) local ev = r:next() "      \
    "if not ev or ev.status ~= 'done' then return nil, ev and ev.error or 'gone' end "             \
    "order[#order + 1] = name r:close() return true end) end "                                     \
    "local function vm(share) return assert(script.vm{files=files, share=share}) end "

/* Twelve runs of equal length in three VMs of one project came first, yet the other's one ends
 * first: it gets as much as all of them. */
LUA_TEST(shares_take_turns,
         HEAD "local mine, all = {vm('greedy'), vm('greedy'), vm('greedy'), vm('modest')}, {} "
              "for i = 1, 12 do all[i] = burn(mine[i % 3 + 1], 'greedy', 5e6) end "
              "all[13] = burn(mine[4], 'modest', 5e6) "
              "for _, t in ipairs(all) do assert(t:join()) end "
              "same(order[1], 'modest') same(#order, 13) for _, v in ipairs(mine) do v:close() end")

/* VMs without a name are each on their own; closing one of a share leaves the others theirs. */
LUA_TEST(shares_come_and_go,
         HEAD "local a, b, c = vm('p'), vm('p'), vm() b:close() "
              "local t, u = burn(a, 'a', 1e5), burn(c, 'c', 1e5) assert(t:join()) assert(u:join()) "
              "a:close() local d = vm('p') assert(burn(d, 'd', 1e5):join()) d:close() c:close() "
              "table.sort(order) same(table.concat(order), 'acd') "
              "check(not pcall(script.vm, {files=files, share=('x'):rep(64)}))")

/* A hundred turns of the host while a run burns through a few: it waits one slice for each, not for
 * the run's end. */
LUA_TEST(the_host_goes_on, HEAD
         "local v = vm('p') local t = burn(v, 'run', 3e8) local turns = 0 "
         "local host = task.spawn(function() for i = 1, 50 do task.sleep(0) turns = turns + 1 end "
         "order[#order + 1] = 'host' return true end) "
         "assert(host:join()) same(turns, 50) t:cancel() t:join() v:close() same(order[1], 'host')")

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_take_turns),
        cmocka_unit_test(shares_come_and_go),
        cmocka_unit_test(the_host_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
