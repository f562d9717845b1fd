/* The table of Lua modules written in C. One line a module, sorted by name. */
#include "bind/bind.h"

#define MODULES(X)                                                                                 \
    X("json", luaopen_json)

#define X(name, open) int open(lua_State *L);
MODULES(X)
#undef X

static const luaL_Reg modules[] = {
#define X(name, open) {name, open},
    MODULES(X)
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
