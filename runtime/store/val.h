/* Comparing and encoding BSON values as MongoDB orders them.
 *
 * Values are bson_value_t as bson_iter_value gives them: borrowed from the document. NULL stands
 * for a missing field wherever it is allowed. */
#pragma once

#include <bson/bson.h>
#include <stdbool.h>

#include "core/buf.h"
#include "core/err.h"

/* Classes in the order of BSON comparison; also the first byte of a key. */
enum kt_class {
    KT_CLASS_MIN = 0x05,
    KT_CLASS_EMPTY_ARRAY = 0x0F, /* in sort keys only: [] sorts before null */
    KT_CLASS_NULL = 0x10,        /* null and missing */
    KT_CLASS_NUMBER = 0x20,
    KT_CLASS_STRING = 0x30,
    KT_CLASS_DOCUMENT = 0x40,
    KT_CLASS_ARRAY = 0x50,
    KT_CLASS_BINARY = 0x60,
    KT_CLASS_OID = 0x70,
    KT_CLASS_BOOL = 0x80,
    KT_CLASS_DATE = 0x90,
    KT_CLASS_TIMESTAMP = 0xA0,
    KT_CLASS_OTHER = 0xB0,
    KT_CLASS_MAX = 0xF0
};

enum kt_class kt_val_class(const bson_value_t *v); /* NULL: KT_CLASS_NULL */
bool kt_val_is_null(const bson_value_t *v);        /* null or missing */
bool kt_val_is_number(const bson_value_t *v);
/* <0, 0, >0. Numbers by value, exactly, across int32, int64 and double; NaN equals NaN and is below
 * every number; documents field by field, in order. */
int kt_val_cmp(const bson_value_t *a, const bson_value_t *b);

/* Bytes of a long string or binary that a key keeps; the rest is replaced by a hash of the whole,
 * so that keys stay short and equal keys still mean equal values. */
#define KT_KEY_PREFIX 480

/* Append the key of v: a byte string whose memcmp order is the order of kt_val_cmp (for strings and
 * binaries longer than KT_KEY_PREFIX: the order of their first KT_KEY_PREFIX bytes). Changing it
 * breaks every index: KT_KEY_VERSION then goes up. */
#define KT_KEY_VERSION 1
void kt_key_add(struct kt_buf *out, const bson_value_t *v);
/* The key under which a field sorts: arrays by their least (greatest when desc) element. */
void kt_key_add_sort(struct kt_buf *out, const bson_value_t *v, bool desc);
/* True when the key of v has its value's order exactly (see KT_KEY_PREFIX). */
bool kt_key_exact(const bson_value_t *v);

/* The value at a dotted path through sub-documents only. False: missing, or the path goes through
 * an array (then *array is set). The value points into doc; `it` must outlive it. */
bool kt_doc_get(const bson_t *doc, const char *path, bson_iter_t *it, const bson_value_t **value,
                bool *array);
