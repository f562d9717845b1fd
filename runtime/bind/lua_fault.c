/* Module kt.fault: fault points for Lua code and for tests. Nothing here yields.
 *
 *   fault.hit(name) -> bool        true: this pass is to fail (core/fault.h)
 *   fault.arm(name, n)             the nth pass fires, once; 0: every pass
 *   fault.clear()                  disarm all
 *   fault.kill(name)               SIGKILL to this process when the point fires: a crash here */
#include <signal.h>

#include "bind/bind.h"
#include "core/fault.h"

static int l_hit(lua_State *L) {
    lua_pushboolean(L, kt_fault(luaL_checkstring(L, 1)));
    return 1;
}

static int l_arm(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    kt_fault_arm(name, (int)kt_check_int(L, 2));
    return 0;
}

static int l_clear(lua_State *L) {
    (void)L;
    kt_fault_clear();
    return 0;
}

static int l_kill(lua_State *L) {
    if (kt_fault(luaL_checkstring(L, 1)))
        raise(SIGKILL);
    return 0;
}

static const luaL_Reg functions[] = {
    {"hit", l_hit}, {"arm", l_arm}, {"clear", l_clear}, {"kill", l_kill}, {NULL, NULL},
};

int luaopen_kt_fault(lua_State *L) {
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
