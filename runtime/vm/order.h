/* Iteration in a defined order, for scripts and rules: stock pairs follows addresses and hashes,
 * which differ from process to process, and a replay must not. Numbers ascending, then texts
 * bytewise, then false and true; other keys (tables, functions) have no order and are refused. */
#pragma once

#include <lua.h>

/* C functions to give to Lua:
 * keys(t) -> array of all keys in order, their number
 * next(t, k?) -> k, v | nil; the order of one walk is settled when it begins */
int kt_order_keys(lua_State *L);
int kt_order_next(lua_State *L);
