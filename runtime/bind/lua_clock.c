/* Module kt.clock: time. Nothing here yields.
 *
 *   clock.now() -> ms since 1970 UTC    clock.monotonic() -> seconds, for intervals
 *   clock.set(ms) wall time goes on from there (tests); clock.set() the system's again
 *   clock.format(ms) -> RFC 3339 text in ms UTC */
#include "bind/bind.h"
#include "core/clock.h"

static int l_now(lua_State *L) {
    lua_pushnumber(L, (double)kt_now_ms());
    return 1;
}

static int l_monotonic(lua_State *L) {
    lua_pushnumber(L, kt_monotonic());
    return 1;
}

static int l_set(lua_State *L) {
    if (lua_isnoneornil(L, 1))
        kt_clock_reset();
    else
        kt_clock_set(kt_check_int(L, 1));
    return 0;
}

static int l_format(lua_State *L) {
    char text[KT_RFC3339_SIZE];
    luaL_argcheck(L, kt_time_format(kt_check_int(L, 1), text) != 0, 1, "a time in years 0 to 9999");
    lua_pushstring(L, text);
    return 1;
}

static const luaL_Reg functions[] = {
    {"now", l_now}, {"monotonic", l_monotonic}, {"set", l_set}, {"format", l_format}, {NULL, NULL}};

int luaopen_kt_clock(lua_State *L) {
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
