/* The string functions of a script VM: patterns with a step budget, charged by size. */
#pragma once

#include <lua.h>

/* In the state's string and table libraries: replace find, match, rep, concat, insert and remove,
 * take dump away. The table on top of the stack gets `scan`, `gsub_text` and `format`, of which
 * sandbox.lua makes gmatch, gsub and format. */
void kt_strlib_open(lua_State *L);
