/* Puts the modules of modules.h where require finds them. */
#include "bind/bind.h"

static const luaL_Reg modules[] = {
#define X(name, open) {name, open},
    KT_MODULES(X)
#undef X
        {NULL, NULL}};

void kt_modules_preload(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (const luaL_Reg *m = modules; m->name != NULL; m++) {
        lua_pushcfunction(L, m->func);
        lua_setfield(L, -2, m->name);
    }
    lua_pop(L, 2);
}
