/* Slices change nothing: every program of tests/fault/programs gives the same result when its time
 * slice ends after every 1 to 23 instructions as when it is never interrupted. */
#include "lua_unit.h"

#include <glob.h>
#include <lauxlib.h>
#include <stdio.h>

#include "vm/hook.h"

static char chunk[] =
    "local script = require 'kt.script' "
    "local function play(source) local vm = assert(script.vm{files={['p.lua']=source}}) "
    "  local r = assert(vm:start{path='p.lua', seed='s', now=1}) local ev "
    "  repeat ev = assert(r:next()) for _, c in ipairs(ev.calls or {}) do r:answer(c.id, true, "
    "c.args) end until ev.status ~= 'calls' "
    "  vm:close() return ev.status == 'done' and value.json(ev.value) or error(ev.error) end "
    "local path = ARGS.path local f = assert(io.open(path)) local source = f:read('*a') f:close() "
    "local got = play(source) if ARGS.want ~= '' then same(got, ARGS.want) end RESULT(got)";

static char want[65536], path_now[512];

static int l_result(lua_State *L) {
    snprintf(want, sizeof want, "%s", luaL_checkstring(L, 1));
    return 0;
}

static int arguments(lua_State *L, void *ud) {
    (void)ud;
    lua_newtable(L);
    lua_pushstring(L, path_now);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, want);
    lua_setfield(L, -2, "want");
    lua_setglobal(L, "ARGS");
    lua_pushcfunction(L, l_result);
    lua_setglobal(L, "RESULT");
    return 0;
}

static void play(void) {
    struct kt_host host;
    struct kt_error err = {0};
    int status;
    char source[sizeof lua_unit_head + sizeof chunk];
    snprintf(source, sizeof source, "%s%s", lua_unit_head, chunk);
    assert_int_equal(kt_host_open(&host, NULL, &err), 0);
    assert_int_equal(kt_vm_call(host.vm, arguments, NULL, &err), 0);
    int rc = kt_host_run(&host, source, "=play", 0, NULL, &status, &err);
    assert_int_equal(kt_host_close(&host), 0);
    if (rc != 0)
        fail_msg("%s: %s", path_now, err.message);
    lua_unit_no_leftovers();
}

static void slices_change_nothing(void **state) {
    glob_t files;
    (void)state;
    assert_int_equal(glob(KT_SOURCE_DIR "/tests/fault/programs/*.lua", 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= 18);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        snprintf(path_now, sizeof path_now, "%s", files.gl_pathv[i]);
        want[0] = '\0';
        kt_hook_slice_every(0);
        play();
        for (int count = 1; count <= 23; count++) {
            kt_hook_slice_every(count);
            play();
        }
    }
    kt_hook_slice_every(0);
    globfree(&files);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(slices_change_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
