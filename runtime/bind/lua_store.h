/* What the files of kt.store share: a call begins, is filled, and ends by being submitted. */
#pragma once

#include "bind/store_answer.h"

/* A call to the database at index 1, which raises what it is when it is none. The op owns it. */
struct store_op *kt_store_begin(lua_State *L, enum kt_call_kind kind, enum answer answer);
/* Submit what was prepared and yield; rc: how the preparing went, not 0 with its error in *err. The
 * op is given away in any case. */
int kt_store_end(lua_State *L, struct store_op *s, int rc, struct kt_error *err);

/* Of a database, ended by NULL: blobs and files. */
extern const luaL_Reg kt_store_file_methods[];
