/* What code in a state may see. The openers are called by vm.c while a state is made, protected. */
#pragma once

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

/* After luaL_openlibs: coroutine.resume and wrap that let an op's yield pass through a coroutine
 * made inside a task. analyst: the sandbox tables for rules too. Returns 0. */
int kt_sandbox_open_host(lua_State *L, bool analyst);
/* The allow-listed libraries of a script VM and the guards around them. Returns 0. */
int kt_sandbox_open_script(lua_State *L);

/* What an environment is made of, shared and never given out: push `base` (name -> function) or
 * `libs` (name -> template table, to be copied into each environment). */
void kt_sandbox_push_base(lua_State *L);
void kt_sandbox_push_libs(lua_State *L);
/* Push a shallow copy of the table at idx, with the same metatable. */
void kt_sandbox_push_copy(lua_State *L, int idx);
/* Push a new environment with everything in it (an analyst's rules). Call it from a C function
 * without arguments: what is on the stack may be dropped. */
void kt_sandbox_push_env(lua_State *L);

/* Push the chunk of an embedded source; raises when it does not compile. */
void kt_sandbox_load(lua_State *L, const unsigned char *source, size_t len, const char *name);

/* Lua function: true when the yield just seen was a slice's end. See coroutine.lua. */
int kt_sandbox_sliced(lua_State *L);
