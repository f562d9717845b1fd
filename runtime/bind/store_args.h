/* From Lua tables to the store's requests. Nothing here raises; every function reports the first
 * mistake in *err with the place of it, and what was filled so far stays to be freed by the owner
 * of the request. They need STORE_ARGS_STACK free slots. */
#pragma once

#include "bind/bind.h"
#include "store/store.h"

#define STORE_ARGS_STACK (KT_VALUE_STACK + 40)

/* A filter as plan: {status="queued", {"created_at","gte",v}, {"or", {…}, {…}}}; nil: everything.
 */
int kt_arg_filter(lua_State *L, int idx, struct kt_filter *f, struct kt_error *err);
/* {set={…}, unset={"a"}, inc={…}, …} */
int kt_arg_update(lua_State *L, int idx, struct kt_update *u, struct kt_error *err);
/* {{"created_at",-1},{"_id",-1}}; nil: nothing. */
int kt_arg_sort(lua_State *L, int idx, struct kt_sort *s, struct kt_error *err);
/* {"a","b"} -> names each with its NUL, ended by an empty one; nil: NULL. */
int kt_arg_fields(lua_State *L, int idx, char **fields, struct kt_error *err);
/* One document, or a list of them, appended to out. */
int kt_arg_docs(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err);
int kt_arg_doc(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err);
/* A list of values as a BSON array; nil: NULL. */
int kt_arg_values(lua_State *L, int idx, bson_t **out, struct kt_error *err);
int kt_arg_coll(lua_State *L, int idx, char out[KT_NAME_MAX + 1], struct kt_error *err);
/* {filter=, keys={alias="path"}, values={alias={"sum","path"}}, sort=, limit=} */
int kt_arg_group(lua_State *L, int idx, struct kt_read *r, struct kt_error *err);
/* {op="insert"|"update"|"replace"|"delete", coll=, …} */
int kt_arg_write(lua_State *L, int idx, struct kt_write *w, struct kt_error *err);
