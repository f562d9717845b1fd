/* Module kt.sandbox: the second step of an analyst's sandbox (proc/limits.h). Nothing here yields.
 *
 *   sandbox.close()    from now on nothing can be opened; raises when the kernel refuses. Without
 *                      effect in a process that is no analyst */
#include "bind/bind.h"
#include "proc/limits.h"

static int l_close(lua_State *L) {
    struct kt_error err;
    if (kt_limits_no_files(&err) != 0)
        return kt_raise(L, &err);
    return 0;
}

static const luaL_Reg functions[] = {{"close", l_close}, {NULL, NULL}};

int luaopen_kt_sandbox(lua_State *L) {
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
