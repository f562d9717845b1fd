/* Building filters, updates and sorts. */
#include "store/ast.h"

#include <stdlib.h>
#include <string.h>

#include "store/val.h"

static const char *const cmp_names[] = {"eq",  "ne", "in",  "nin",    "gt",
                                        "gte", "lt", "lte", "exists", "prefix"};
static const char *const change_names[] = {"set",           "unset", "inc",        "min", "max",
                                           "set_on_insert", "push",  "add_to_set", "pull"};

static int index_of(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

int kt_cmp_of_name(const char *name) {
    return index_of(cmp_names, sizeof cmp_names / sizeof *cmp_names, name);
}

int kt_change_of_name(const char *name) {
    return index_of(change_names, sizeof change_names / sizeof *change_names, name);
}

/* Room for one more of `size` bytes in an array of `count`. */
static bool grow(void **items, int count, int *cap, size_t size) {
    if (count < *cap)
        return true;
    int more = *cap ? *cap * 2 : 4;
    void *bigger = realloc(*items, (size_t)more * size);
    if (bigger == NULL)
        return false;
    *items = bigger;
    *cap = more;
    return true;
}

static int array_count(const bson_value_t *v) {
    bson_iter_t it;
    int n = 0;
    if (v->value_type != BSON_TYPE_ARRAY ||
        !bson_iter_init_from_data(&it, v->value.v_doc.data, v->value.v_doc.data_len))
        return -1;
    while (bson_iter_next(&it))
        n++;
    return n;
}

int kt_filter_add(struct kt_filter *f, const char *path, size_t path_len, enum kt_cmp op,
                  const bson_value_t *value, struct kt_error *err) {
    int rc = kt_path_check(path, path_len, err);
    if (rc != 0)
        return rc;
    switch (op) {
    case KT_IN:
    case KT_NIN: {
        int n = array_count(value);
        if (n < 0 || n > KT_IN_MAX)
            return kt_fail(err, KT_INVALID_ARGUMENT, "%s: %s wants an array of at most %d values",
                           path, cmp_names[op], KT_IN_MAX);
        break;
    }
    case KT_GT:
    case KT_GTE:
    case KT_LT:
    case KT_LTE:
        if (kt_val_is_null(value))
            return kt_fail(err, KT_INVALID_ARGUMENT, "%s: %s null is no range", path,
                           cmp_names[op]);
        break;
    case KT_EXISTS:
        if (value->value_type != BSON_TYPE_BOOL || memchr(path, '.', path_len) != NULL)
            return kt_fail(err, KT_INVALID_ARGUMENT, "%s: exists wants a top-level path and a bool",
                           path);
        break;
    case KT_PREFIX:
        if (value->value_type != BSON_TYPE_UTF8)
            return kt_fail(err, KT_INVALID_ARGUMENT, "%s: prefix wants a string", path);
        break;
    default:
        break;
    }
    if (!grow((void **)&f->conds, f->count, &f->cap, sizeof *f->conds))
        return kt_fail(err, KT_NO_MEMORY, "filter");
    struct kt_cond *c = &f->conds[f->count];
    memcpy(c->path, path, path_len);
    c->path[path_len] = '\0';
    c->op = op;
    bson_value_copy(value, &c->value);
    f->count++;
    return 0;
}

struct kt_filter *kt_filter_or(struct kt_filter *f, struct kt_error *err) {
    if (f->branches == NULL) {
        f->branches = calloc(KT_OR_MAX, sizeof *f->branches);
        if (f->branches == NULL) {
            kt_fail(err, KT_NO_MEMORY, "filter");
            return NULL;
        }
    }
    if (f->branch_count == KT_OR_MAX) {
        kt_fail(err, KT_INVALID_ARGUMENT, "more than %d branches in an or", KT_OR_MAX);
        return NULL;
    }
    return &f->branches[f->branch_count++];
}

void kt_filter_free(struct kt_filter *f) {
    for (int i = 0; i < f->count; i++)
        bson_value_destroy(&f->conds[i].value);
    free(f->conds);
    for (int i = 0; i < f->branch_count; i++)
        kt_filter_free(&f->branches[i]);
    free(f->branches);
    memset(f, 0, sizeof *f);
}

/* Is one path the other, or a part of it? */
static bool overlap(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > m)
        return overlap(b, a);
    return memcmp(a, b, n) == 0 && (b[n] == '\0' || b[n] == '.');
}

int kt_update_add(struct kt_update *u, enum kt_change op, const char *path, size_t path_len,
                  const bson_value_t *value, struct kt_error *err) {
    static const bson_value_t nothing = {.value_type = BSON_TYPE_NULL};
    char text[KT_PATH_MAX + 1];
    int rc = kt_path_check(path, path_len, err);
    if (rc != 0)
        return rc;
    memcpy(text, path, path_len);
    text[path_len] = '\0';
    if (overlap(text, "_id"))
        return kt_fail(err, KT_INVALID_ARGUMENT, "_id never changes");
    for (int i = 0; i < u->count; i++)
        if (overlap(text, u->entries[i].path))
            return kt_fail(err, KT_INVALID_ARGUMENT, "%s and %s are in one update", text,
                           u->entries[i].path);
    if ((op == KT_PUSH || op == KT_ADD_TO_SET) && array_count(value) < 0)
        return kt_fail(err, KT_INVALID_ARGUMENT, "%s: %s wants an array", text, change_names[op]);
    if (op == KT_INC && !kt_val_is_number(value))
        return kt_fail(err, KT_INVALID_ARGUMENT, "%s: inc wants a number", text);
    if (op == KT_PULL &&
        (value->value_type == BSON_TYPE_ARRAY || value->value_type == BSON_TYPE_DOCUMENT))
        return kt_fail(err, KT_INVALID_ARGUMENT, "%s: pull wants a scalar", text);
    if (!grow((void **)&u->entries, u->count, &u->cap, sizeof *u->entries))
        return kt_fail(err, KT_NO_MEMORY, "update");
    struct kt_update_entry *e = &u->entries[u->count];
    memcpy(e->path, text, path_len + 1);
    e->op = op;
    bson_value_copy(op == KT_UNSET ? &nothing : value, &e->value);
    u->count++;
    return 0;
}

void kt_update_free(struct kt_update *u) {
    for (int i = 0; i < u->count; i++)
        bson_value_destroy(&u->entries[i].value);
    free(u->entries);
    memset(u, 0, sizeof *u);
}

int kt_sort_add(struct kt_sort *s, const char *path, size_t len, bool desc, struct kt_error *err) {
    int rc = kt_path_check(path, len, err);
    if (rc != 0)
        return rc;
    if (s->count == KT_SORT_MAX)
        return kt_fail(err, KT_INVALID_ARGUMENT, "more than %d sort keys", KT_SORT_MAX);
    struct kt_sort_key *k = &s->keys[s->count];
    memcpy(k->path, path, len);
    k->path[len] = '\0';
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->keys[i].path, k->path) == 0)
            return kt_fail(err, KT_INVALID_ARGUMENT, "two sort keys %s", k->path);
    k->desc = desc;
    s->count++;
    return 0;
}

void kt_sort_finish(struct kt_sort *s) {
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->keys[i].path, "_id") == 0)
            return;
    bool desc = s->count > 0 && s->keys[s->count - 1].desc;
    struct kt_sort_key *k = &s->keys[s->count++];
    memcpy(k->path, "_id", 4);
    k->desc = desc;
}

static int depth_check(bson_iter_t *it, int level) {
    if (level > 64)
        return -1;
    while (bson_iter_next(it)) {
        bson_iter_t child;
        if (!BSON_ITER_HOLDS_DOCUMENT(it) && !BSON_ITER_HOLDS_ARRAY(it))
            continue;
        if (!bson_iter_recurse(it, &child) || depth_check(&child, level + 1) != 0)
            return -1;
    }
    return it->err_off ? -1 : 0;
}

int kt_doc_check(const bson_t *doc, struct kt_error *err) {
    bson_iter_t it;
    if (doc->len > KT_DOC_MAX)
        return kt_fail(err, KT_BODY_TOO_LARGE, "a document of %u bytes is above the limit of %u",
                       doc->len, KT_DOC_MAX);
    if (!bson_iter_init(&it, doc))
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        if (key[0] == '$' || strchr(key, '.') != NULL || key[0] == '\0')
            return kt_fail(err, KT_INVALID_ARGUMENT, "not a field name: \"%.80s\"", key);
        if (strcmp(key, "_id") == 0 &&
            (kt_val_is_null(bson_iter_value(&it)) || BSON_ITER_HOLDS_ARRAY(&it)))
            return kt_fail(err, KT_INVALID_ARGUMENT, "_id is null or an array");
    }
    if (!bson_iter_init(&it, doc) || depth_check(&it, 1) != 0)
        return kt_fail(err, KT_INVALID_ARGUMENT, "broken, or deeper than 64 levels");
    return 0;
}
