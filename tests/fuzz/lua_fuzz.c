/* Targets written in Lua (FUZZ_SCRIPT: a file that returns function(bytes), which raises when
 * something does not hold), run in a host VM. Lines of Lua count as coverage, so that the fuzzer
 * finds its way through code that is not instrumented. */
#include "fuzz.h"

#include <lauxlib.h>
#include <luajit.h>

#include "bind/host.h"

/* One counter for some (chunk, line) pairs; libFuzzer reads this section. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t lines[1 << 14];

static struct kt_host host;
static int target;

static void on_line(lua_State *L, lua_Debug *at) {
    lua_getinfo(L, "S", at);
    uint32_t hash = (uint32_t)at->currentline * 2654435761u;
    for (const char *s = at->short_src; *s != '\0'; s++)
        hash = (hash ^ (uint8_t)*s) * 16777619u;
    uint8_t *counter = &lines[hash >> 18];
    *counter += *counter < 255;
}

static int load(lua_State *L, void *ud) {
    (void)ud;
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    if (luaL_loadfile(L, FUZZ_SCRIPT) != 0)
        return lua_error(L);
    lua_call(L, 0, 1);
    target = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    struct kt_error err;
    FUZZ_CHECK(kt_host_open(&host, KT_SOURCE_DIR, &err) == 0, "%s", err.message);
    FUZZ_CHECK(kt_vm_call(host.vm, load, NULL, &err) == 0, "%s: %s", FUZZ_SCRIPT, err.message);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lua_State *L = host.vm->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, target);
    lua_pushlstring(L, (const char *)data, size);
    int rc = lua_pcall(L, 1, 0, 0);
    if (rc != 0 && lua_istable(L, -1))
        lua_getfield(L, -1, "message");
    FUZZ_CHECK(rc == 0, "%s", lua_tostring(L, -1));
    return 0;
}
