/* Memory of script VMs: the cap, collection before failing, host entries at the cap; a thousand
 * parked runs beside hostile ones. KT_FIGURES=1 prints what a run and a collection cost. */
#include "lua_unit.h"

#include <lauxlib.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bind/bind.h"
#include "vm/value.h"

#define HEAD                                                                                       \
    "local script, clock = require 'kt.script', require 'kt.clock' "                               \
    "local function W(body) return 'workflow{name=\"w\", run=function(run, input) ' .. body .. ' " \
    "end}' end "                                                                                   \
    "local function start(vm, path, o) o = o or {} o.path = path o.seed = 's' o.now = 1 return "   \
    "assert(vm:start(o)) end "

/* Live data at 60 % of the cap and ten million allocations of garbage: no run may fail. */
LUA_TEST(
    garbage_is_collected_before_failing, HEAD
    "local vm = assert(script.vm{files={['w.lua']=W[[ "
    "  local keep = {} for i = 1, 60000 do keep[i] = {i, 'k' .. i} end "
    "  local n = 0 for i = 1, 2000000 do local t = {i} local s = 'x' .. i n = n + #s + t[1] end "
    "  for i = 1, 60 do local big = ('y'):rep(300000 + i) n = n + #big end return #keep ]]}, "
    "cap=16 * 2^20}) "
    "local ev = start(vm, 'w.lua'):next() if ev.status ~= 'done' then error(ev.error) end "
    "same(value.json(ev.value), '60000') "
    "check(vm:stats().peak <= 16 * 2^20) check(vm:stats().peak > 9 * 2^20, 'the test keeps too "
    "little: ' .. vm:stats().peak) vm:close()")

/* What a run at the cap leaves behind is gone after it: the next one has all the memory again. */
LUA_TEST(memory_comes_back, HEAD "local vm = assert(script.vm{files={['hog.lua']=W[[ local t = {} "
                                 "while true do t[#t + 1] = ('x'):rep(10000) .. #t end ]],"
                                 "  ['big.lua']=W[[ local t = {} for i = 1, 500 do t[i] = "
                                 "('x'):rep(10000) .. i end return #t ]]}, cap=8 * 2^20}) "
                                 "for i = 1, 20 do local r = start(vm, 'hog.lua') local ev = "
                                 "r:next() same(ev.error.code, 'memory_limit') r:close() "
                                 "  r = start(vm, 'big.lua') ev = r:next() same(ev.status == "
                                 "'done' and value.json(ev.value), '500') r:close() end "
                                 "vm:close() same(task.counts().vms, 1)")

/* A hoarder that waits with most of the memory has to go when others need it, not they. */
LUA_TEST(
    the_hoarder_goes, HEAD
    "local vm = assert(script.vm{files={['hoard.lua']=W[[ local t = {} for i = 1, 500 do t[i] = "
    "('x'):rep(10000) .. i end time.sleep(1) return #t ]],"
    "  ['work.lua']=W[[ local t = {} for i = 1, 400 do t[i] = ('y'):rep(10000) .. i end return #t "
    "]]}, cap=8 * 2^20}) "
    "local hoard = start(vm, 'hoard.lua') same(#hoard:next().calls, 1) "
    "local work = start(vm, 'work.lua') local ev = work:next() if ev.status ~= 'done' then "
    "error(ev.error) end "
    "local last = hoard:next() same(last.status, 'error') same(last.error.code, 'memory_limit') "
    "local ok, err = hoard:answer(1, true, value.encode(1)) same(err.code, 'invalid_argument') "
    "vm:close()")

/* Memory runs out at every possible place: the ballast leaves a little less each time. A run ends
 * well or with memory_limit, its neighbour and the host go on, nothing is lost. */
LUA_TEST(memory_runs_out_anywhere, HEAD
         "local body = [[ local ballast = {} for i = 1, input.n do ballast[i] = ('x'):rep(1000) .. "
         "i end local json = require 'json' "
         "  local r = parallel{function() local a = tool.call('t', {x={1, 2, 3}, y='text'}) return "
         "json.decode(json.encode(a)) end, "
         "    function() local s = ('a b c'):gsub('%w', function(w) return w .. w end) log('info', "
         "s) return s:rep(20) end, "
         "    function() local co = coroutine.wrap(function() for i = 1, 5 do coroutine.yield({i}) "
         "end end) local t = {} for i = 1, 5 do t[i] = co() end table.sort(t, function(a, b) "
         "return a[1] > b[1] end) return t end} "
         "  local o = {} for k, v in pairs{b=1, a=2} do o[#o + 1] = k .. tostring(v) end local f = "
         "load('return 1 + 1') ballast = nil return {r, o, f()} ]] "
         "local vm = assert(script.vm{files={['w.lua']=W(body)}, cap=2^20}) local ends = {} "
         "for n = 600, 960, 2 do local r = start(vm, 'w.lua', {input={n=n}}) local ev "
         "  repeat ev = r:next() for _, c in ipairs(ev.calls or {}) do if not c.emit then "
         "r:answer(c.id, true, c.args) end end until ev.status ~= 'calls' "
         "  local code = ev.error and ev.error.code or 'done' ends[code] = (ends[code] or 0) + 1 "
         "r:close() end "
         "for code in pairs(ends) do check(code == 'done' or code == 'memory_limit', code) end "
         "check(ends.done and ends.memory_limit and ends.memory_limit > 20) same(vm:stats().runs, "
         "0) vm:close()")

#define PARKED                                                                                     \
    "local files = {['w.lua']=[[local lib = require 'lib' workflow{name='w', run=function(run, "   \
    "input) local messages = {} "                                                                  \
    "  for i = 1, 20 do messages[i] = {role='user', content='message ' .. i .. ' of ' .. "         \
    "input.i} end "                                                                                \
    "  local a = model.call{messages=messages} return {i=input.i, n=#messages, "                   \
    "last=messages[20].content, a=lib.f(a)} end}]], "                                              \
    "  ['lib.lua']='return {f=function(x) return x .. \"!\" end}', "                               \
    "  ['hog.lua']=W[[ local t = {} while true do t[#t + 1] = {('x'):rep(100) .. #t} end ]], "     \
    "  ['loop.lua']=W[[ while true do pcall(function() while true do end end) end ]], "            \
    "  ['sort.lua']=W[[ local t = {} for i = 1, 1000 do t[i] = i end table.sort(t, function() "    \
    "while true do end end) ]]} "

LUA_TEST(
    a_thousand_parked_runs_beside_hostile_ones, HEAD PARKED
    "local vm = assert(script.vm{files=files, cap=32 * 2^20}) local N, rs = 1000, {} "
    "local before, t0 = vm:stats().used, clock.monotonic() "
    "for i = 1, N do rs[i] = start(vm, 'w.lua', {input={i=i}}) local ev = rs[i]:next() "
    "same(#ev.calls, 1) end "
    "local t1, used = clock.monotonic(), vm:stats().used same(vm:stats().runs, N) "
    "local hostile = {} for i, path in ipairs{'hog.lua', 'loop.lua', 'sort.lua', 'hog.lua', "
    "'loop.lua'} do hostile[i] = start(vm, path, {max_instructions=path == 'hog.lua' and 4e9 or "
    "5e7}) end "
    "local codes = {} for i, r in ipairs(hostile) do codes[i] = r:next().error.code end "
    "same(table.concat(codes, ' '), 'memory_limit instruction_limit instruction_limit memory_limit "
    "instruction_limit') "
    "same(vm:stats().runs, N) check(vm:stats().peak <= 32 * 2^20) local t2 = clock.monotonic() "
    "for i = N, 1, -1 do assert(rs[i]:answer(1, true, value.encode('ok'))) end "
    "for i = 1, N do local ev = rs[i]:next() same(ev.status, 'done') "
    "  same(value.json(ev.value), '{\"a\":\"ok!\",\"i\":' .. i .. ',\"last\":\"message 20 of ' .. "
    "i .. '\",\"n\":20}') rs[i]:close() end "
    "local t3 = clock.monotonic() same(vm:stats().runs, 0) "
    "if os.getenv 'KT_FIGURES' then print(('run start to its first call %.1f us, answer to its end "
    "%.1f us, parked run %.2f KiB, VM with its bundle %.0f KiB'):format( "
    "  (t1 - t0) / N * 1e6, (t3 - t2) / N * 1e6, (used - before) / N / 1024, before / 1024)) end "
    "vm:close()")

/* Figures of collection: steps and a full one, with a thousand parked runs. */
static void cost_of_collection(void **state) {
    struct kt_error err = {0};
    (void)state;
    struct kt_vm *vm = kt_vm_new(NULL, KT_VM_SCRIPT, 32u << 20, &err);
    assert_non_null(vm);
    lua_State *L = vm->L;
    lua_newtable(L);
    for (int i = 1; i <= 1000; i++) { /* what a parked run holds, about */
        lua_State *co = lua_newthread(L);
        lua_newtable(co);
        for (int k = 1; k <= 20; k++) {
            lua_createtable(co, 0, 2);
            lua_pushfstring(co, "message %d of %d", k, i);
            lua_setfield(co, -2, "content");
            lua_rawseti(co, -2, k);
        }
        lua_rawseti(L, -2, i);
    }
    uint64_t worst = 0, total = 0, steps = 0;
    for (bool over = false; !over; steps++) {
        uint64_t t = uv_hrtime();
        over = kt_vm_gc_step(vm, 64);
        t = uv_hrtime() - t;
        total += t;
        worst = t > worst ? t : worst;
        assert_true(steps < 100000); /* a cycle ends */
    }
    uint64_t t = uv_hrtime();
    lua_gc(L, LUA_GCCOLLECT, 0);
    t = uv_hrtime() - t;
    if (getenv("KT_FIGURES") != NULL)
        print_message("collection at %zu KiB: %llu steps of 64 KiB, mean %.1f us, worst %.1f us; "
                      "full %.1f us\n",
                      vm->used / 1024, (unsigned long long)steps,
                      (double)total / (double)steps / 1e3, (double)worst / 1e3, (double)t / 1e3);
    kt_vm_free(vm);
    lua_unit_no_leftovers();
}

/* At the cap every push of the host would end the process, were it not for kt_vm_call. */
static int push_much(lua_State *L, void *ud) {
    (void)ud;
    lua_newtable(L);
    for (int i = 0; i < 1000; i++) {
        lua_pushfstring(L, "text %d", i);
        lua_rawseti(L, -2, i + 1);
        lua_newthread(L);
        lua_pop(L, 1);
    }
    kt_value_push_date(L, 1);
    luaL_loadstring(L, "return 1");
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

static int raise_it(lua_State *L, void *ud) {
    return luaL_error(L, "%s", (const char *)ud);
}

static void host_entries_at_the_cap(void **state) {
    (void)state;
    pid_t child = fork();
    if (child == 0) { /* a panic would be an exit of the process */
        struct kt_error err = {0};
        struct kt_vm *vm = kt_vm_new(NULL, KT_VM_SCRIPT, 1 << 20, &err);
        if (vm == NULL)
            _exit(10);
        vm->cap = vm->used; /* full */
        vm->enforce = true;
        if (kt_vm_call(vm, push_much, NULL, &err) != 0)
            _exit(11);
        if (!vm->enforce)
            _exit(12);
        if (kt_vm_call(vm, raise_it, "not enough memory", &err) != -(int)KT_NO_MEMORY)
            _exit(13);
        vm->enforce = false;
        kt_vm_free(vm);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(garbage_is_collected_before_failing),
                                       cmocka_unit_test(memory_comes_back),
                                       cmocka_unit_test(the_hoarder_goes),
                                       cmocka_unit_test(memory_runs_out_anywhere),
                                       cmocka_unit_test(a_thousand_parked_runs_beside_hostile_ones),
                                       cmocka_unit_test(cost_of_collection),
                                       cmocka_unit_test(host_entries_at_the_cap)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
