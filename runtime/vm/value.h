/* Values that cross a border: Lua <-> BSON <-> JSON.
 *
 * One encoding serves the door, the journal and the store: a BSON document. A door value (blob) is
 * the document {"v": value} with the keys of every map sorted bytewise, so equal values have equal
 * bytes and a hash. Types:
 *
 *   nil, json.null    null              boolean             bool
 *   integral number within +-2^53       int64               other finite number   double
 *   string (UTF-8)    string            table with array_mt or keys 1..n          array
 *   other table (string keys only)      document            value.date(ms)        date
 *   value.int64("9…") int64             value.binary(bytes) binary, subtype 0
 *
 * An empty table without a mark is a document. NaN, infinity, functions, cdata, mixed keys, holes,
 * more than KT_VALUE_DEPTH levels and bytes that are not UTF-8 are errors that name the path.
 * Decoding gives the same Lua types back (null as json.null, arrays with array_mt); an int64
 * outside +-2^53 comes as value.int64. BSON types that Kontor does not write are refused. */
#pragma once

#include <bson/bson.h>
#include <lua.h>
#include <stdbool.h>

#include "core/buf.h"
#include "core/err.h"

#define KT_VALUE_DEPTH 64
#define KT_VALUE_MAX (64u << 20)        /* bytes of one value */
#define KT_EXACT_MAX 9007199254740992.0 /* 2^53 */

/* Lua value at idx -> BSON. kt_value_to_doc wants a table that is a map and appends its fields to
 * `out`; kt_value_encode appends the blob {"v": …} to `out`. Neither runs metamethods, raises nor
 * leaves anything on the stack; both work in a capped VM (no allocation in the state). They need
 * KT_VALUE_STACK free slots: luaL_checkstack before. */
#define KT_VALUE_STACK (4 * KT_VALUE_DEPTH + 20)
int kt_value_to_doc(lua_State *L, int idx, bson_t *out, struct kt_error *err);
int kt_value_encode(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err);
/* The same with a bound of its own on the size (about `max` bytes): for what a script sends. */
int kt_value_encode_max(lua_State *L, int idx, size_t max, struct kt_buf *out,
                        struct kt_error *err);

/* BSON -> Lua, pushes one value. Raises on a type that is refused, and "not enough memory" in a
 * capped VM: call protected. */
void kt_value_push_doc(lua_State *L, const bson_t *doc);
void kt_value_push_blob(lua_State *L, const void *blob, size_t len);

/* Metatables of the boxed types and of arrays; once per state, vm.c does. */
void kt_value_open(lua_State *L);
void kt_value_push_null(lua_State *L);
void kt_value_push_int64(lua_State *L, int64_t i); /* a number within +-2^53, else boxed */
void kt_value_push_date(lua_State *L, int64_t ms);
void kt_value_push_binary(lua_State *L, const void *bytes, size_t len);
void kt_value_mark_array(lua_State *L, int idx);     /* setmetatable(t, json.array_mt) */
bool kt_value_is_empty_array(lua_State *L, int idx); /* json.empty_array */
void kt_value_push_empty_array(lua_State *L);
/* The boxed value at idx, or false/NULL when it is none. */
bool kt_value_get_date(lua_State *L, int idx, int64_t *ms);
bool kt_value_get_int64(lua_State *L, int idx, int64_t *i); /* also an integral number */
const char *kt_value_get_binary(lua_State *L, int idx, size_t *len);

/* Array, map, or neither (then err says why, without the path). idx absolute; n: items or keys. */
enum kt_shape { KT_SHAPE_BAD, KT_SHAPE_ARRAY, KT_SHAPE_MAP };
enum kt_shape kt_value_shape(lua_State *L, int idx, size_t *n, struct kt_error *err);
/* The keys of the map at idx, sorted bytewise; they point into the state's strings, which live as
 * long as the table holds them. free() it. NULL: no memory. */
struct kt_key {
    const char *s;
    size_t len;
};
struct kt_key *kt_value_keys(lua_State *L, int idx, size_t n);

/* What of a document goes into JSON, under which name, in which order. */
enum kt_view_as {
    KT_AS_IS,      /* by BSON type; date as RFC 3339 with ms, int64 beyond 2^53 as string */
    KT_AS_NANO_USD /* int64 nano-USD -> decimal string ("0.000001250" -> "0.00000125") */
};
struct kt_view_field {
    const char *from; /* field of the document, may be a dotted path */
    const char *to;   /* name in the answer */
    enum kt_view_as as;
    const struct kt_view *sub; /* for a sub-document or an array of them; NULL: whole */
    /* A string put together, `from` is not used: literal, name of a string field, literal, …, NULL.
     * null where one of the fields is no string. */
    const char *const *text;
};
/* All fields of a view are written, absent ones as null: an answer carries every field. */
struct kt_view {
    const struct kt_view_field *fields;
    int count;
};
/* view NULL: the document as it is. Appends to out. Any thread. */
int kt_value_json(const bson_t *doc, const struct kt_view *view, struct kt_buf *out,
                  struct kt_error *err);
/* The v of a blob as JSON. Any thread. */
int kt_value_blob_json(const void *blob, size_t len, struct kt_buf *out, struct kt_error *err);
