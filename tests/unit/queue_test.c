/* Who goes on next: projects in turn, whatever number of VMs and runs each has; the host first. */
#include "lua_unit.h"

#include "vm/hook.h"
#include "vm/script.h"

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

/* A service that always has something to do leaves scripts their time. */
LUA_TEST(
    a_busy_host_owes, HEAD
    "local v = vm('p') local all, over = {}, false "
    "for i = 1, 3 do all[i] = burn(v, 'run', 1e6) end "
    "local busy = task.spawn(function() while not over do task.yield() end return true end) "
    "for _, t in ipairs(all) do assert(t:join()) end over = true assert(busy:join()) v:close()")

/* What slices others get while a run waits, is answered by an event of the loop, and goes on. */

#define GREEDY 20
#define CALLS 10
#define SLICE 20000 /* instructions */

struct modest {
    struct kt_run *run;
    uv_async_t async; /* the store's answer */
    bool ended;
};

static const struct kt_source sources[] = {
#define SOURCE(path, text)                                                                         \
    { path, text, sizeof text - 1 }
    SOURCE("burn.lua", "workflow{name='burn', run=function() while true do end end}"),
    SOURCE("ask.lua", "workflow{name='ask', run=function(run, input) "
                      "for i = 1, 10 do tool.call('t', {}) end end}")};

static struct kt_script *new_script(struct kt_host *host, const char *share) {
    struct kt_script_error why;
    struct kt_error err;
    struct kt_script *script = kt_script_new(&host->loop, 32u << 20, sources, 2, NULL, &why);
    assert_non_null(script);
    assert_int_equal(kt_vm_set_share(script->vm, share, &err), 0);
    return script;
}

static struct kt_run *start(struct kt_script *script, const char *path, uint64_t steps,
                            void (*changed)(struct kt_run *, void *), void *ud) {
    struct kt_run_options options = {
        .path = path, .mode = "run", .seed = {1}, .now_ms = 1, .max_steps = steps};
    struct kt_error err;
    struct kt_run *run = kt_run_start(script, &options, changed, ud, &err);
    assert_non_null(run);
    return run;
}

static void nothing(struct kt_run *run, void *ud) {
    (void)run;
    (void)ud;
}

static void modest_changed(struct kt_run *run, void *ud) {
    struct modest *modest = ud;
    modest->ended = run->status == KT_RUN_DONE;
    assert_int_not_equal(run->status, KT_RUN_FAILED);
    uv_async_send(&modest->async);
}

static void answer(uv_async_t *async) {
    struct modest *modest = async->data;
    struct kt_error err;
    for (struct kt_door_call *call = kt_run_take_calls(modest->run), *next; call != NULL;
         call = next) {
        next = call->next;
        call->next = NULL;
        assert_int_equal(
            kt_run_answer(modest->run, call->id, true, call->args.data, call->args.len, 0, &err),
            0);
        kt_door_calls_free(call);
    }
}

/* The instructions that the greedy ones are given until the modest run has ended. `every`: as of
 * kt_hook_slice_every, from when each of them is known to burn. */
static uint64_t given_to_others(const char *share, const char *greedy_share, int every) {
    struct kt_host host;
    struct kt_error err;
    assert_int_equal(kt_host_open(&host, NULL, &err), 0);
    struct kt_script *burning = new_script(&host, greedy_share), *asking = new_script(&host, share);
    struct kt_run *greedy[GREEDY];
    uint64_t before = 0, spent = 0;
    for (int i = 0; i < GREEDY; i++)
        greedy[i] = start(burning, "burn.lua", every > 0 ? KT_EXACT_MAX_STEPS : 0, nothing, NULL);
    kt_hook_slice_every(SLICE);
    for (int i = 0; i < GREEDY; i++)
        while (greedy[i]->task->spent == 0)
            uv_run(&host.loop, UV_RUN_NOWAIT);
    kt_hook_slice_every(every);
    for (int i = 0; i < GREEDY; i++)
        before += greedy[i]->task->spent;
    struct modest modest = {.ended = false};
    assert_int_equal(uv_async_init(&host.loop, &modest.async, answer), 0);
    modest.async.data = &modest;
    modest.run = start(asking, "ask.lua", 0, modest_changed, &modest);
    while (!modest.ended)
        uv_run(&host.loop, UV_RUN_NOWAIT);
    kt_hook_slice_every(0);
    for (int i = 0; i < GREEDY; i++)
        spent += greedy[i]->task->spent;
    for (int i = 0; i < GREEDY; i++)
        kt_run_free(greedy[i]);
    kt_run_free(modest.run);
    kt_script_free(burning);
    kt_script_free(asking);
    uv_close((uv_handle_t *)&modest.async, NULL);
    assert_int_equal(kt_host_close(&host), 0);
    lua_unit_no_leftovers();
    return spent - before;
}

/* One slice each time it waits, however many burn. */
static void who_waited_goes_first(void **state) {
    (void)state;
    assert_true(given_to_others("modest", "greedy", SLICE) <= (CALLS + 2) * SLICE);
    assert_true(given_to_others("same", "same", SLICE) <= (CALLS + 2) * SLICE);
}

/* Without an end of their own: each has to be cut by the answer that has come. */
static void an_event_cuts_a_slice(void **state) {
    (void)state;
    given_to_others("modest", "greedy", KT_HOOK_UNTIL_CUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_take_turns),     cmocka_unit_test(shares_come_and_go),
        cmocka_unit_test(the_host_goes_on),      cmocka_unit_test(a_busy_host_owes),
        cmocka_unit_test(who_waited_goes_first), cmocka_unit_test(an_event_cuts_a_slice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
