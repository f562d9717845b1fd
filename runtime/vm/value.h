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
 * An empty table without a mark is a document. NaN, infinity, functions, cdata, mixed keys, more
 * than KT_VALUE_DEPTH levels and bytes that are not UTF-8 are errors that name the path. Decoding
 * gives the same Lua types back; an int64 outside +-2^53 comes as value.int64. */
#pragma once

#include <bson/bson.h>
#include <lua.h>

#include "core/buf.h"
#include "core/err.h"

#define KT_VALUE_DEPTH 64

/* Lua value at idx -> BSON. kt_value_to_doc wants a table that is a map and appends its fields to
 * `out`; kt_value_encode appends the blob {"v": …} to `out`. Neither runs metamethods nor leaves
 * anything on the stack; both work in a capped VM (no allocation in the state). */
int kt_value_to_doc(lua_State *L, int idx, bson_t *out, struct kt_error *err);
int kt_value_encode(lua_State *L, int idx, struct kt_buf *out, struct kt_error *err);

/* BSON -> Lua, pushes one value. May raise "not enough memory" in a capped VM: call protected. */
void kt_value_push_doc(lua_State *L, const bson_t *doc);
void kt_value_push_blob(lua_State *L, const void *blob, size_t len);

/* What of a document goes into JSON, under which name, in which order. */
enum kt_view_as {
    KT_AS_IS,      /* by BSON type; date as RFC 3339 with ms, int64 beyond 2^53 as string */
    KT_AS_NANO_USD /* int64 nano-USD -> decimal string ("0.000001250" -> "0.00000125") */
};
struct kt_view_field {
    const char *from; /* field of the document */
    const char *to;   /* name in the answer */
    enum kt_view_as as;
    const struct kt_view *sub; /* for a sub-document or an array of them; NULL: whole */
};
/* All fields of a view are written, absent ones as null: an answer carries every field. */
struct kt_view {
    const struct kt_view_field *fields;
    int count;
};
/* view NULL: the document as it is. Appends to out. */
int kt_value_json(const bson_t *doc, const struct kt_view *view, struct kt_buf *out,
                  struct kt_error *err);
