/* The hostile corpus: each script of tests/fault/hostile ends as its first line says, in its
 * budget, while a neighbour in the same VM goes on, and leaves nothing. KT_FIGURES=1 prints what
 * each cost. */
#include "lua_unit.h"

#include <glob.h>
#include <lauxlib.h>
#include <stdio.h>

static const char chunk[] =
    "local script, clock = require 'kt.script', require 'kt.clock' "
    "local path = ... local f = assert(io.open(path)) local source = f:read('*a') f:close() "
    "local want = assert(source:match('^%-%- ends: ([%w_]+)'), 'no first line') "
    "local neighbour = [[workflow{name='n', run=function() local keep = {} for i = 1, 400 do "
    "keep[i] = 'text ' .. i end "
    "  while tool.call('tick', {}).more do local s = 0 for i = 1, 100 do s = s + #keep[i] end end "
    "return #keep end}]] "
    "local function play(limit) "
    "  local vm = assert(script.vm{files={['attack.lua']=source, ['neighbour.lua']=neighbour}, "
    "cap=8 * 2^20}) "
    "  local n = assert(vm:start{path='neighbour.lua', seed='n', now=1}) local ticks, worst, stop "
    "= 0, 0, false "
    "  local beside = task.spawn(function() local last = clock.monotonic() while true do local ev "
    "= assert(n:next()) "
    "    if ev.status ~= 'calls' then return ev end "
    "    for _, c in ipairs(ev.calls) do n:answer(c.id, true, value.encode{more=not stop}) end "
    "ticks = ticks + 1 "
    "    local now = clock.monotonic() worst = math.max(worst, now - last) last = now end end) "
    "  local r = assert(vm:start{path='attack.lua', seed='a', now=1, max_instructions=limit}) "
    "local ev "
    "  repeat ev = assert(r:next()) for _, c in ipairs(ev.calls or {}) do if not c.emit then "
    "r:answer(c.id, true, c.args) end end until ev.status ~= 'calls' "
    "  local got = ev.status == 'done' and 'done' or ev.error.code "
    "  if got ~= want then error(got .. ' instead of ' .. want .. ' at ' .. limit .. ': ' .. "
    "tostring(ev.error)) end "
    "  stop = true local last = beside:join() if last.status ~= 'done' then error('the neighbour "
    "ended: ' .. tostring(last.error)) end "
    "  check(ticks > 0) same(value.json(last.value), '400') local peak = vm:stats().peak "
    "check(peak <= 8 * 2^20 + 65536, peak) vm:close() "
    "  if os.getenv 'KT_FIGURES' then print(('%-28s %-18s budget %11d spent %11d peak %7d KiB "
    "worst stall %6.1f ms'):format(path:match('[^/]*$'), got, limit, ev.steps, peak / 1024, worst "
    "* 1e3)) end "
    "  return ev.steps end "
    "if want == 'instruction_limit' then "
    /* exactly counted: nothing runs on by more than one call of a C helper is charged */
    "  local steps = play(500000) check(steps <= 500000 + 200000, 'spent ' .. steps) "
    "play(20000000) "
    "else play(40000000000) end";

static void hostile_scripts_end(void **state) {
    glob_t files;
    char source[sizeof lua_unit_head + sizeof chunk];
    (void)state;
    snprintf(source, sizeof source, "%s%s", lua_unit_head, chunk);
    assert_int_equal(glob(KT_SOURCE_DIR "/tests/fault/hostile/*.lua", 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= 60);
    int failed = 0;
    for (size_t i = 0; i < files.gl_pathc; i++) {
        struct kt_host host;
        struct kt_error err = {0};
        int status;
        assert_int_equal(kt_host_open(&host, NULL, &err), 0);
        if (kt_host_run(&host, source, "=kill", 1, &files.gl_pathv[i], &status, &err) != 0) {
            print_error("%s: %s\n", files.gl_pathv[i], err.message);
            failed++;
        }
        assert_int_equal(kt_host_close(&host), 0);
        lua_unit_no_leftovers();
    }
    globfree(&files);
    assert_int_equal(failed, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(hostile_scripts_end)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
