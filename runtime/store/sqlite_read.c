/* Reads: find, count, distinct. The answer is made in full before the statement is reset: no
 * snapshot is held while anybody waits. */
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"
#include "store/val.h"

static int find_row(struct kt_read *r, const bson_t *doc, struct kt_error *err) {
    int rc = 0;
    if (r->json) {
        if (!r->one && r->count > 0)
            kt_buf_addc(&r->out, ',');
        rc = kt_value_json(doc, r->view, &r->out, err);
    } else if (r->fields != NULL) {
        bson_t less;
        bson_init(&less);
        kt_doc_project(doc, r->fields, &less);
        kt_buf_add(&r->out, bson_get_data(&less), less.len);
        bson_destroy(&less);
    } else
        kt_buf_add(&r->out, bson_get_data(doc), doc->len);
    return rc == 0 && r->out.len > KT_RESULT_MAX ? kt_too_large(err) : rc;
}

static int find(struct sq_conn *c, const struct sq_coll *coll, struct kt_read *r,
                struct kt_error *err) {
    struct sq_query q = {.what = "doc",
                         .filter = &r->filter,
                         .sort = &r->sort,
                         .after = r->after,
                         .limit = r->limit};
    bson_t doc;
    int rc = 0, step;
    sqlite3_stmt *s = sq_select(c, coll, &q, err);
    if (s == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        if (step != SQLITE_ROW)
            rc = sq_fail(c, step, err);
        else if (!sq_doc(s, 0, &doc))
            rc = kt_fail(err, KT_STORE_CORRUPT, "%s holds what is no document", r->coll);
        else if ((rc = find_row(r, &doc, err)) == 0) {
            r->count++;
            if (r->count == r->limit && r->sort.count > 0)
                r->last = kt_sort_values(&r->sort, &doc);
        }
    }
    sq_done(s);
    return rc;
}

static int count(struct sq_conn *c, const struct sq_coll *coll, struct kt_read *r,
                 struct kt_error *err) {
    struct sq_query q = {.what = "1", .filter = &r->filter, .limit = r->limit};
    int rc = 0, step;
    sqlite3_stmt *s = sq_select(c, coll, &q, err);
    if (s == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        if (step == SQLITE_ROW)
            r->count++;
        else
            rc = sq_fail(c, step, err);
    }
    sq_done(s);
    return rc;
}

struct seen {
    struct kt_buf key;
    bson_value_t value;
};

static int by_key(const void *a, const void *b) {
    const struct seen *x = a, *y = b;
    size_t n = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = memcmp(x->key.data, y->key.data, n);
    return order ? order : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}

#define DISTINCT_MAX 10000

/* Insert into the sorted array; 0, or an error. */
static int add_distinct(struct seen **all, int *n, const bson_value_t *v, struct kt_error *err) {
    struct seen one = {0};
    int low = 0, high = *n;
    kt_key_add(&one.key, v);
    while (low < high && !one.key.failed) {
        int mid = (low + high) / 2, order = by_key(&one, &(*all)[mid]);
        if (order == 0) {
            kt_buf_free(&one.key);
            return 0;
        }
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    if (*n == DISTINCT_MAX || one.key.failed) {
        kt_buf_free(&one.key);
        return kt_fail(err, KT_BODY_TOO_LARGE, "more than %d distinct values", DISTINCT_MAX);
    }
    if ((*n & (*n - 1)) == 0) {
        struct seen *more = realloc(*all, (size_t)(*n ? 2 * *n : 1) * sizeof **all);
        if (more == NULL) {
            kt_buf_free(&one.key);
            return kt_fail(err, KT_NO_MEMORY, "distinct");
        }
        *all = more;
    }
    memmove(*all + low + 1, *all + low, (size_t)(*n - low) * sizeof **all);
    bson_value_copy(v, &one.value);
    (*all)[low] = one;
    ++*n;
    return 0;
}

static int distinct(struct sq_conn *c, const struct sq_coll *coll, struct kt_read *r,
                    struct kt_error *err) {
    struct sq_query q = {.what = "doc", .filter = &r->filter};
    struct seen *all = NULL;
    int n = 0, rc = 0, step;
    bson_t doc;
    sqlite3_stmt *s = sq_select(c, coll, &q, err);
    if (s == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        const bson_value_t *v;
        bson_iter_t it, item;
        bool array;
        if (step != SQLITE_ROW)
            rc = sq_fail(c, step, err);
        else if (!sq_doc(s, 0, &doc))
            rc = kt_fail(err, KT_STORE_CORRUPT, "%s holds what is no document", r->coll);
        else if (!kt_doc_get(&doc, r->field, &it, &v, &array))
            continue;
        else if (v->value_type != BSON_TYPE_ARRAY)
            rc = add_distinct(&all, &n, v, err);
        else if (bson_iter_recurse(&it, &item)) /* an array counts as its elements */
            while (rc == 0 && bson_iter_next(&item))
                rc = add_distinct(&all, &n, bson_iter_value(&item), err);
    }
    sq_done(s);
    bson_t list;
    bson_init(&list);
    for (int i = 0; i < n; i++) {
        char text[16];
        const char *key;
        size_t len = bson_uint32_to_string((uint32_t)i, &key, text, sizeof text);
        bson_append_value(&list, key, (int)len, &all[i].value);
        bson_value_destroy(&all[i].value);
        kt_buf_free(&all[i].key);
    }
    free(all);
    kt_buf_add(&r->out, bson_get_data(&list), list.len);
    bson_destroy(&list);
    r->count = n;
    return rc;
}

/* The answer over a collection that was never written to. */
static void nothing(struct kt_read *r) {
    bson_t list;
    if (r->kind != KT_DISTINCT)
        return;
    bson_init(&list);
    kt_buf_add(&r->out, bson_get_data(&list), list.len);
    bson_destroy(&list);
}

static int step_once(struct sq_conn *c, const char *sql, struct kt_error *err) {
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    int step = sqlite3_step(s), rc = step == SQLITE_DONE ? 0 : sq_fail(c, step, err);
    sq_done(s);
    return rc;
}

int sq_read(struct kt_engine *engine, const char *db, struct kt_read *r, struct kt_error *err) {
    struct sq_engine *e = (struct sq_engine *)engine;
    int rc = kt_limit_check(&r->limits, err);
    if (rc != 0)
        return rc;
    struct kt_error own;
    if (err == NULL)
        err = &own;
    struct sq_file *f = sq_file_acquire(e, db, err);
    if (f == NULL)
        return -(int)err->code;
    struct sq_conn *c = sq_reader_get(f, err);
    if (c == NULL) {
        rc = -(int)err->code;
        sq_file_release(f);
        return rc;
    }
    c->limit = &r->limits;
    /* One transaction: the catalog is that of the rows, and the file is locked once. */
    struct sq_coll *coll = NULL;
    rc = step_once(c, "BEGIN", err);
    if (rc == 0)
        coll = sq_coll(c, r->coll, &rc, err);
    bool array = r->kind == KT_FIND && r->json && !r->one;
    if (array)
        kt_buf_addc(&r->out, '[');
    if (rc == 0 && coll == NULL)
        nothing(r);
    else if (rc == 0)
        rc = r->kind == KT_FIND    ? find(c, coll, r, err)
             : r->kind == KT_COUNT ? count(c, coll, r, err)
             : r->kind == KT_GROUP ? sq_group(c, coll, r, err)
                                   : distinct(c, coll, r, err);
    if (array)
        kt_buf_addc(&r->out, ']');
    if (rc == 0 && r->out.failed)
        rc = kt_fail(err, KT_NO_MEMORY, "no memory for the answer");
    if (!sqlite3_get_autocommit(c->db)) {
        struct kt_error end;
        if (step_once(c, "COMMIT", &end) != 0 && rc == 0) {
            *err = end;
            rc = -(int)end.code;
        }
    }
    sq_reader_put(c);
    sq_file_release(f);
    return rc;
}
