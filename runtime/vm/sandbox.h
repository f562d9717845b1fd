/* What code in a state may see. Called by vm.c while a state is made, protected. */
#pragma once

#include <lua.h>
#include <stdbool.h>

/* After luaL_openlibs: coroutine.resume and wrap that let an op's yield pass through a coroutine
 * made inside a task. analyst: ordered pairs and next for rule environments too. Returns 0. */
int kt_sandbox_open_host(lua_State *L, bool analyst);
/* The allow-listed libraries of a script VM and the guards around them. Returns 0. */
int kt_sandbox_open_script(lua_State *L);
/* Push the chunk of an embedded source; raises when it does not compile. */
void kt_sandbox_load(lua_State *L, const unsigned char *source, size_t len, const char *name);
