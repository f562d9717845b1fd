/* The string functions of a script VM: patterns with a step budget, charged by size. */
#pragma once

#include <lua.h>

/* In the state's string and table libraries: replace find, match, rep, format and concat, take dump
 * away. The table on top of the stack has our `tostring`, and gets `scan` and `gsub_text`, of which
 * sandbox.lua makes gmatch and gsub. */
void kt_strlib_open(lua_State *L);
