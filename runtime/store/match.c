/* The matcher: the meaning of a filter, written out. MongoDB's rules, including those for arrays
 * and for null, because a document may hold arrays even where the store's users never filter on
 * them. */
#include <string.h>

#include "store/ast.h"
#include "store/val.h"

typedef bool (*test_fn)(const struct kt_cond *c, const bson_value_t *v);

static bool test_eq(const struct kt_cond *c, const bson_value_t *v) {
    return kt_val_cmp(v, &c->value) == 0;
}

static bool test_in(const struct kt_cond *c, const bson_value_t *v) {
    bson_iter_t it;
    if (!bson_iter_init_from_data(&it, c->value.value.v_doc.data, c->value.value.v_doc.data_len))
        return false;
    while (bson_iter_next(&it))
        if (kt_val_cmp(v, bson_iter_value(&it)) == 0)
            return true;
    return false;
}

static bool test_range(const struct kt_cond *c, const bson_value_t *v) {
    if (kt_val_class(v) != kt_val_class(&c->value))
        return false;
    int order = kt_val_cmp(v, &c->value);
    if (kt_val_is_number(v)) { /* NaN is below every number, but equal only to NaN in a range */
        bool nan_v = v->value_type == BSON_TYPE_DOUBLE && v->value.v_double != v->value.v_double;
        bool nan_c = c->value.value_type == BSON_TYPE_DOUBLE &&
                     c->value.value.v_double != c->value.value.v_double;
        if (nan_v || nan_c)
            return nan_v && nan_c && (c->op == KT_GTE || c->op == KT_LTE);
    }
    switch (c->op) {
    case KT_GT:
        return order > 0;
    case KT_GTE:
        return order >= 0;
    case KT_LT:
        return order < 0;
    default:
        return order <= 0;
    }
}

static bool test_prefix(const struct kt_cond *c, const bson_value_t *v) {
    return v != NULL && v->value_type == BSON_TYPE_UTF8 &&
           v->value.v_utf8.len >= c->value.value.v_utf8.len &&
           memcmp(v->value.v_utf8.str, c->value.value.v_utf8.str, c->value.value.v_utf8.len) == 0;
}

/* A value at the end of the path: itself, or, for an array, any of its elements. */
static bool test_leaf(const struct kt_cond *c, test_fn test, const bson_value_t *v) {
    bson_iter_t it;
    if (test(c, v))
        return true;
    if (v->value_type != BSON_TYPE_ARRAY ||
        !bson_iter_init_from_data(&it, v->value.v_doc.data, v->value.v_doc.data_len))
        return false;
    while (bson_iter_next(&it))
        if (test(c, bson_iter_value(&it)))
            return true;
    return false;
}

/* `it` stands before the fields of a document. A path that ends early is a missing value; through
 * an array it goes into every element that is a document, and only there can be missing. */
static bool test_path(const struct kt_cond *c, test_fn test, bson_iter_t *it, const char *path) {
    const char *dot = strchr(path, '.');
    size_t n = dot ? (size_t)(dot - path) : strlen(path);
    bson_iter_t child, item;
    if (!bson_iter_find_w_len(it, path, (int)n))
        return test(c, NULL);
    if (dot == NULL)
        return test_leaf(c, test, bson_iter_value(it));
    if (BSON_ITER_HOLDS_DOCUMENT(it))
        return bson_iter_recurse(it, &child) && test_path(c, test, &child, dot + 1);
    if (!BSON_ITER_HOLDS_ARRAY(it))
        return test(c, NULL);
    if (!bson_iter_recurse(it, &child))
        return false;
    while (bson_iter_next(&child))
        if (BSON_ITER_HOLDS_DOCUMENT(&child) && bson_iter_recurse(&child, &item) &&
            test_path(c, test, &item, dot + 1))
            return true;
    return false;
}

static bool match_cond(const struct kt_cond *c, const bson_t *doc) {
    bson_iter_t it;
    if (c->op == KT_EXISTS)
        return bson_iter_init_find(&it, doc, c->path) == c->value.value.v_bool;
    if (!bson_iter_init(&it, doc))
        return false;
    switch (c->op) {
    case KT_EQ:
        return test_path(c, test_eq, &it, c->path);
    case KT_NE:
        return !test_path(c, test_eq, &it, c->path);
    case KT_IN:
        return test_path(c, test_in, &it, c->path);
    case KT_NIN:
        return !test_path(c, test_in, &it, c->path);
    case KT_PREFIX:
        return test_path(c, test_prefix, &it, c->path);
    default:
        return test_path(c, test_range, &it, c->path);
    }
}

bool kt_filter_match(const struct kt_filter *f, const bson_t *doc) {
    for (int i = 0; i < f->count; i++)
        if (!match_cond(&f->conds[i], doc))
            return false;
    for (int i = 0; i < f->branch_count; i++)
        if (kt_filter_match(&f->branches[i], doc))
            return true;
    return f->branch_count == 0;
}
