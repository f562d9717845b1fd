/* The table of Lua modules written in C. One line a module, sorted by name. */
#pragma once

#include <lua.h>

#define KT_MODULES(X)                                                                              \
    X("cjson", luaopen_json)                                                                       \
    X("json", luaopen_json)                                                                        \
    X("kt.clock", luaopen_kt_clock)                                                                \
    X("kt.crypto", luaopen_kt_crypto)                                                              \
    X("kt.http", luaopen_kt_http)                                                                  \
    X("kt.store", luaopen_kt_store)                                                                \
    X("kt.task", luaopen_kt_task)                                                                  \
    X("value", luaopen_value)

#define X(name, open) int open(lua_State *L);
KT_MODULES(X)
#undef X
