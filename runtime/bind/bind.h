/* What every binding uses. A bind/lua_X.c reads in one order: header comment, argument parsing and
 * op start, done, cancel, free, luaL_Reg, luaopen_. modules.h is the table of them. */
#pragma once

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "bind/modules.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/pool.h"
#include "vm/op.h"
#include "vm/task.h"
#include "vm/value.h"

/* Seconds >= 0 (at most a year); raises an argument error. */
double kt_check_duration(lua_State *L, int arg);
/* Integral number within +-2^53; raises. */
long long kt_check_int(lua_State *L, int arg);
/* opts.<name> of the table at arg (absent or nil table: the default); a wrong type raises. */
double kt_opt_number(lua_State *L, int arg, const char *name, double fallback);
bool kt_opt_bool(lua_State *L, int arg, const char *name, bool fallback);
const char *kt_opt_string(lua_State *L, int arg, const char *name, const char *fallback);

/* The view that value.view made; raises. It lives as long as the process: any thread may use it. */
const struct kt_view *kt_check_view(lua_State *L, int arg);

/* Make the metatable `name` with these methods, its own __index; pushes nothing. */
void kt_class(lua_State *L, const char *name, const luaL_Reg *methods);

/* The pool `name` of this host state: made with the first call, freed with the state. Raises when
 * it cannot be made. */
struct kt_pool *kt_bind_pool(lua_State *L, const char *name, int threads, int queue_max);

/* An empty buffer of the loop's thread, for text that is pushed before the function returns; what
 * raises in between loses nothing. */
struct kt_buf *kt_scratch(void);

/* Put every module of modules.h into package.preload of a host or analyst state. */
void kt_modules_preload(lua_State *L);
