/* Applying an update: one pass that copies the document and changes what the entries name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "store/ast.h"
#include "store/val.h"

#define ENTRIES_MAX 256

struct apply {
    bool inserting;
    int number; /* MongoDB's code of the error */
    struct kt_error *err;
};

/* An entry and where in its path we are. */
struct at {
    const struct kt_update_entry *e;
    const char *rest;
};

static size_t head_len(const char *rest) {
    return strcspn(rest, ".");
}

static int fail(struct apply *a, int number, const char *path, const char *why) {
    a->number = number;
    return kt_fail(a->err, KT_INVALID_ARGUMENT, "%s: %s", path, why);
}

static int sum(struct apply *a, const struct kt_update_entry *e, const bson_value_t *old,
               bson_value_t *out) {
    const bson_value_t *by = &e->value;
    if (!kt_val_is_number(old))
        return fail(a, 14, e->path, "inc on what is no number");
    if (old->value_type == BSON_TYPE_DOUBLE || by->value_type == BSON_TYPE_DOUBLE) {
        double x = old->value_type == BSON_TYPE_DOUBLE  ? old->value.v_double
                   : old->value_type == BSON_TYPE_INT32 ? old->value.v_int32
                                                        : (double)old->value.v_int64;
        double y = by->value_type == BSON_TYPE_DOUBLE  ? by->value.v_double
                   : by->value_type == BSON_TYPE_INT32 ? by->value.v_int32
                                                       : (double)by->value.v_int64;
        out->value_type = BSON_TYPE_DOUBLE;
        out->value.v_double = x + y;
        return 0;
    }
    bool small = old->value_type == BSON_TYPE_INT32 && by->value_type == BSON_TYPE_INT32;
    int64_t x = old->value_type == BSON_TYPE_INT32 ? old->value.v_int32 : old->value.v_int64;
    int64_t y = by->value_type == BSON_TYPE_INT32 ? by->value.v_int32 : by->value.v_int64;
    int64_t z;
    if (__builtin_add_overflow(x, y, &z))
        return fail(a, 2, e->path, "inc overflows int64");
    if (small && z >= INT32_MIN && z <= INT32_MAX) {
        out->value_type = BSON_TYPE_INT32;
        out->value.v_int32 = (int32_t)z;
    } else {
        out->value_type = BSON_TYPE_INT64;
        out->value.v_int64 = z;
    }
    return 0;
}

/* Copies an array's elements that `keep` accepts, numbering them anew. */
static void copy_items(bson_t *to, uint32_t *n, const bson_value_t *array,
                       const bson_value_t *without) {
    bson_iter_t it;
    if (array == NULL ||
        !bson_iter_init_from_data(&it, array->value.v_doc.data, array->value.v_doc.data_len))
        return;
    while (bson_iter_next(&it)) {
        char text[16];
        const char *key;
        const bson_value_t *v = bson_iter_value(&it);
        if (without != NULL && kt_val_cmp(v, without) == 0)
            continue;
        size_t len = bson_uint32_to_string((*n)++, &key, text, sizeof text);
        bson_append_value(to, key, (int)len, v);
    }
}

static bool holds(const bson_t *array, const bson_value_t *v) {
    bson_iter_t it;
    if (bson_iter_init(&it, array))
        while (bson_iter_next(&it))
            if (kt_val_cmp(bson_iter_value(&it), v) == 0)
                return true;
    return false;
}

static int change_array(struct apply *a, const struct kt_update_entry *e, const bson_value_t *old,
                        const char *key, size_t key_len, bson_t *out) {
    uint32_t n = 0;
    bson_t items;
    bson_iter_t it;
    if (old != NULL && old->value_type != BSON_TYPE_ARRAY)
        return fail(a, 2, e->path, "not an array");
    bson_init(&items);
    copy_items(&items, &n, old, e->op == KT_PULL ? &e->value : NULL);
    if (e->op == KT_PUSH)
        copy_items(&items, &n, &e->value, NULL);
    if (e->op == KT_ADD_TO_SET &&
        bson_iter_init_from_data(&it, e->value.value.v_doc.data, e->value.value.v_doc.data_len))
        while (bson_iter_next(&it)) {
            char text[16];
            const char *name;
            if (holds(&items, bson_iter_value(&it)))
                continue;
            size_t len = bson_uint32_to_string(n++, &name, text, sizeof text);
            bson_append_value(&items, name, (int)len, bson_iter_value(&it));
        }
    bool ok = bson_append_array(out, key, (int)key_len, &items);
    bson_destroy(&items);
    return ok ? 0 : kt_fail(a->err, KT_BODY_TOO_LARGE, "%s: the document grows too large", e->path);
}

/* The field at the end of an entry's path; old NULL: it is missing. */
static int change_leaf(struct apply *a, const struct kt_update_entry *e, const bson_value_t *old,
                       const char *key, size_t key_len, bson_t *out) {
    const bson_value_t *now = old;
    bson_value_t total;
    int rc;
    switch (e->op) {
    case KT_SET:
        now = &e->value;
        break;
    case KT_SET_ON_INSERT:
        if (a->inserting)
            now = &e->value;
        break;
    case KT_UNSET:
        return 0;
    case KT_INC:
        now = &e->value;
        if (old != NULL) {
            if ((rc = sum(a, e, old, &total)) != 0)
                return rc;
            now = &total;
        }
        break;
    case KT_MIN:
        if (old == NULL || kt_val_cmp(&e->value, old) < 0)
            now = &e->value;
        break;
    case KT_MAX:
        if (old == NULL || kt_val_cmp(&e->value, old) > 0)
            now = &e->value;
        break;
    case KT_PULL:
        if (old == NULL)
            return 0;
        return change_array(a, e, old, key, key_len, out);
    default:
        return change_array(a, e, old, key, key_len, out);
    }
    if (now != NULL && !bson_append_value(out, key, (int)key_len, now))
        return kt_fail(a->err, KT_BODY_TOO_LARGE, "%s: the document grows too large", e->path);
    return 0;
}

static bool makes_fields(const struct apply *a, const struct kt_update_entry *e) {
    return e->op != KT_UNSET && e->op != KT_PULL && (e->op != KT_SET_ON_INSERT || a->inserting);
}

static int by_rest(const void *x, const void *y) {
    return strcmp(((const struct at *)x)->rest, ((const struct at *)y)->rest);
}

static int level(struct apply *a, struct at *entries, int count, bson_iter_t *in, bson_t *out);

/* The entries of one sub-document; `in` NULL: it is missing and is made. */
static int inside(struct apply *a, struct at *entries, int count, bson_iter_t *in, const char *key,
                  size_t key_len, bson_t *out) {
    bson_t child;
    if (!bson_append_document_begin(out, key, (int)key_len, &child))
        return kt_fail(a->err, KT_BODY_TOO_LARGE, "the document grows too large");
    for (int i = 0; i < count; i++)
        entries[i].rest += key_len + 1;
    int rc = level(a, entries, count, in, &child);
    bson_append_document_end(out, &child);
    return rc;
}

/* entries are sorted by rest, so those of one field lie side by side (no path is a part of
 * another). */
static int level(struct apply *a, struct at *entries, int count, bson_iter_t *in, bson_t *out) {
    bool seen[ENTRIES_MAX] = {false};
    int rc = 0;
    while (rc == 0 && in != NULL && bson_iter_next(in)) {
        const char *key = bson_iter_key(in);
        size_t len = strlen(key);
        int first = 0, n = 0;
        while (first < count && !(head_len(entries[first].rest) == len &&
                                  memcmp(entries[first].rest, key, len) == 0))
            first++;
        while (first + n < count && head_len(entries[first + n].rest) == len &&
               memcmp(entries[first + n].rest, key, len) == 0)
            seen[first + n++] = true;
        const bson_value_t *v = bson_iter_value(in);
        bson_iter_t child;
        if (n == 0)
            rc = bson_append_value(out, key, (int)len, v)
                     ? 0
                     : kt_fail(a->err, KT_BODY_TOO_LARGE, "the document grows too large");
        else if (entries[first].rest[len] == '\0')
            rc = change_leaf(a, entries[first].e, v, key, len, out);
        else if (BSON_ITER_HOLDS_DOCUMENT(in) && bson_iter_recurse(in, &child))
            rc = inside(a, entries + first, n, &child, key, len, out);
        else {
            bool through = false;
            for (int i = first; i < first + n; i++)
                through = through || makes_fields(a, entries[i].e);
            if (through)
                rc = fail(a, 28, entries[first].e->path,
                          "the path goes through what is no document");
            else
                bson_append_value(out, key, (int)len, v);
        }
    }
    for (int i = 0; rc == 0 && i < count;) {
        const char *rest = entries[i].rest;
        size_t len = head_len(rest);
        int n = 0, make = 0;
        struct at wanted[ENTRIES_MAX];
        for (; i + n < count && head_len(entries[i + n].rest) == len &&
               memcmp(entries[i + n].rest, rest, len) == 0;
             n++)
            if (!seen[i + n] && makes_fields(a, entries[i + n].e))
                wanted[make++] = entries[i + n];
        if (make > 0 && rest[len] == '\0')
            rc = change_leaf(a, wanted[0].e, NULL, rest, len, out);
        else if (make > 0)
            rc = inside(a, wanted, make, NULL, rest, len, out);
        i += n;
    }
    return rc;
}

int kt_update_apply(const struct kt_update *u, const bson_t *doc, bool inserting, bson_t *out,
                    int *number, struct kt_error *err) {
    struct apply a = {.inserting = inserting, .err = err};
    struct at entries[ENTRIES_MAX];
    bson_iter_t it;
    int rc;
    if (u->count > ENTRIES_MAX)
        return kt_fail(err, KT_INVALID_ARGUMENT, "more than %d changes in one update", ENTRIES_MAX);
    if (!bson_iter_init(&it, doc))
        return kt_fail(err, KT_STORE_CORRUPT, "not a BSON document");
    for (int i = 0; i < u->count; i++)
        entries[i] = (struct at){&u->entries[i], u->entries[i].path};
    qsort(entries, (size_t)u->count, sizeof *entries, by_rest);
    rc = level(&a, entries, u->count, &it, out);
    if (number != NULL)
        *number = a.number;
    return rc;
}

int kt_upsert_seed(const struct kt_filter *f, bson_t *out, struct kt_error *err) {
    struct kt_update set = {0};
    bson_t head;
    int rc = 0;
    if (f->branch_count > 0)
        return kt_fail(err, KT_INVALID_ARGUMENT, "an upsert's filter has no or");
    bson_init(&head);
    for (int i = 0; rc == 0 && i < f->count; i++) {
        const struct kt_cond *c = &f->conds[i];
        if (c->op != KT_EQ)
            rc = kt_fail(err, KT_INVALID_ARGUMENT, "%s: an upsert's filter has equalities alone",
                         c->path);
        else if (strcmp(c->path, "_id") == 0)
            bson_append_value(&head, "_id", 3, &c->value);
        else
            rc = kt_update_add(&set, KT_SET, c->path, strlen(c->path), &c->value, err);
    }
    if (rc == 0)
        rc = kt_update_apply(&set, &head, true, out, NULL, err);
    kt_update_free(&set);
    bson_destroy(&head);
    return rc;
}
