/* What code in a state may see. */
#include "vm/sandbox.h"

#include <lauxlib.h>
#include <lualib.h>

#include "vm/embed.h"
#include "vm/hook.h"
#include "vm/task.h"
#include "vm/value.h"

static int l_never(lua_State *L) {
    lua_pushboolean(L, false);
    return 1;
}

static int l_error_tostring(lua_State *L) {
    lua_getfield(L, 1, "code");
    lua_getfield(L, 1, "message");
    const char *code = lua_tostring(L, -2), *message = lua_tostring(L, -1);
    lua_pushfstring(L, "%s: %s", code != NULL ? code : "error", message != NULL ? message : "");
    return 1;
}

void kt_sandbox_load(lua_State *L, const unsigned char *source, size_t len, const char *name) {
    if (luaL_loadbuffer(L, (const char *)source, len, name) != 0)
        lua_error(L);
}

/* coroutine.resume and wrap replaced; sliced as in coroutine.lua. */
static void wrap_coroutines(lua_State *L, lua_CFunction sliced) {
    kt_sandbox_load(L, kt_lua_coroutine, kt_lua_coroutine_len, "=coroutine");
    kt_task_push_mark(L);
    lua_pushcfunction(L, sliced);
    lua_call(L, 2, 2);
    lua_getglobal(L, "coroutine");
    lua_insert(L, -3);
    lua_setfield(L, -3, "wrap");
    lua_setfield(L, -2, "resume");
    lua_pop(L, 1);
}

int kt_sandbox_open_host(lua_State *L, bool analyst) {
    (void)analyst;
    kt_value_open(L);
    luaL_newmetatable(L, "kt.error");
    lua_pushcfunction(L, l_error_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    wrap_coroutines(L, l_never);
    return 0;
}

int kt_sandbox_open_script(lua_State *L) {
    return luaL_error(L, "script VMs are not there yet");
}
