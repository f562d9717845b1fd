/* Filters, updates and sorts as typed trees. They are built here and nowhere else, never from a
 * client's JSON, so no operator can be injected; each engine compiles them for itself.
 *
 * Every add function copies what it is given and checks it: a wrong path, operator or operand is
 * -KT_INVALID_ARGUMENT. Zero-initialised is empty. Not thread-safe; immutable once queued. */
#pragma once

#include <bson/bson.h>
#include <stdbool.h>

#include "core/err.h"
#include "store/names.h"

enum kt_cmp {
    KT_EQ,  /* by value; null also matches missing; an array field: whole, or any element */
    KT_NE,  /* exact negation of eq */
    KT_IN,  /* operand: array of at most KT_IN_MAX; empty matches nothing */
    KT_NIN, /* exact negation of in */
    KT_GT,  /* ranges match only values of the operand's class; null operand: error */
    KT_GTE,
    KT_LT,
    KT_LTE,
    KT_EXISTS, /* operand: bool; top-level paths only; present even if null */
    KT_PREFIX  /* operand: string; the field is a string that begins with it, bytewise */
};

#define KT_IN_MAX 1000
#define KT_OR_MAX 8
#define KT_SORT_MAX 4

struct kt_cond {
    char path[KT_PATH_MAX + 1];
    enum kt_cmp op;
    bson_value_t value;
};

/* All conditions, and, when there are branches, at least one of these. Branches have none. */
struct kt_filter {
    struct kt_cond *conds;
    int count, cap;
    struct kt_filter *branches; /* KT_OR_MAX of them once there is one */
    int branch_count;
};

int kt_filter_add(struct kt_filter *f, const char *path, size_t path_len, enum kt_cmp op,
                  const bson_value_t *value, struct kt_error *err);
/* A new, empty branch of the filter's one `or`; NULL and *err when it may not have another. */
struct kt_filter *kt_filter_or(struct kt_filter *f, struct kt_error *err);
void kt_filter_free(struct kt_filter *f);
/* "eq" -> KT_EQ … ; -1 when unknown. */
int kt_cmp_of_name(const char *name);
/* The matcher: does the document match? What every engine must agree with. */
bool kt_filter_match(const struct kt_filter *f, const bson_t *doc);

enum kt_change {
    KT_SET,
    KT_UNSET, /* operand ignored */
    KT_INC,   /* missing -> operand; int64 overflow and non-numbers are errors */
    KT_MIN,   /* BSON order; missing -> operand */
    KT_MAX,
    KT_SET_ON_INSERT, /* only when an upsert inserts */
    KT_PUSH,          /* operand: array of what is appended; missing -> new array */
    KT_ADD_TO_SET,    /* operand: array; only values not yet there */
    KT_PULL           /* operand: scalar; every element equal to it goes */
};

struct kt_update_entry {
    char path[KT_PATH_MAX + 1];
    enum kt_change op;
    bson_value_t value;
};

struct kt_update {
    struct kt_update_entry *entries;
    int count, cap;
};

/* Two entries on one path, or on a path and a part of it, are an error, as is _id. */
int kt_update_add(struct kt_update *u, enum kt_change op, const char *path, size_t path_len,
                  const bson_value_t *value, struct kt_error *err);
void kt_update_free(struct kt_update *u);
int kt_change_of_name(const char *name); /* "set", …; -1 when unknown */

/* doc with u applied, appended to out (initialised by the caller). `inserting`: an upsert makes a
 * new document. *number (may be NULL) gets MongoDB's code of an error: 14 wrong type, 2 bad value,
 * 28 path through a scalar. */
int kt_update_apply(const struct kt_update *u, const bson_t *doc, bool inserting, bson_t *out,
                    int *number, struct kt_error *err);
/* The document an upsert begins with: the filter's equalities (the filter may have nothing else).
 * A missing _id is left out. */
int kt_upsert_seed(const struct kt_filter *f, bson_t *out, struct kt_error *err);

struct kt_sort_key {
    char path[KT_PATH_MAX + 1];
    bool desc;
};
/* Ends with _id always: kt_sort_finish appends it, in the direction of the last key. */
struct kt_sort {
    struct kt_sort_key keys[KT_SORT_MAX + 1];
    int count;
};
int kt_sort_add(struct kt_sort *s, const char *path, size_t len, bool desc, struct kt_error *err);
void kt_sort_finish(struct kt_sort *s);

/* What a stored document must be: at most KT_DOC_MAX bytes, KT_VALUE_DEPTH levels, top-level names
 * without leading $ and without dot, _id (when there) neither null nor array. */
#define KT_DOC_MAX (8u << 20)
int kt_doc_check(const bson_t *doc, struct kt_error *err);
