/* Group: one pass over the matching documents, sums in a hash table, as $match, $group, $sort,
 * $limit give them: a missing key is left out of the row, sums skip what is no number, integers
 * become double when they overflow, min and max pass over null, no rows for no input. */
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"
#include "store/val.h"

struct sum {
    int64_t whole;
    double real;
    bool is_real;
    bool owns; /* value is a copy */
    bson_value_t value;
};

struct row {
    uint64_t hash;
    size_t key_len;
    char *key;
    bson_t *keys; /* {alias: value} */
    struct sum *sums;
};

/* The fields that a group reads, each once, found in one pass over a document. */
struct fields {
    int count;
    struct {
        const char *path;
        size_t len;
        bool dotted;
        bool there;
        bson_value_t value; /* points into the document */
    } at[KT_GROUP_KEYS + KT_GROUP_VALUES];
    int keys[KT_GROUP_KEYS], values[KT_GROUP_VALUES]; /* places in `at`; -1: none */
};

struct table {
    struct row *rows;
    int count, cap;
    int *slots; /* index + 1 into rows */
    size_t slot_count;
};

static uint64_t hash_of(const char *p, size_t n) {
    uint64_t h = 14695981039346656037ULL;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 1099511628211ULL;
    return h ^ h >> 29;
}

static bool grow(struct table *t) {
    if (t->count == t->cap) {
        int cap = t->cap ? t->cap * 2 : 32;
        struct row *rows = realloc(t->rows, (size_t)cap * sizeof *rows);
        if (rows == NULL)
            return false;
        t->rows = rows;
        t->cap = cap;
    }
    if ((size_t)t->count * 2 >= t->slot_count) {
        size_t n = t->slot_count ? t->slot_count * 2 : 64;
        int *slots = calloc(n, sizeof *slots);
        if (slots == NULL)
            return false;
        for (int i = 0; i < t->count; i++) {
            size_t at = t->rows[i].hash & (n - 1);
            while (slots[at] != 0)
                at = (at + 1) & (n - 1);
            slots[at] = i + 1;
        }
        free(t->slots);
        t->slots = slots;
        t->slot_count = n;
    }
    return true;
}

static void add_sum(struct sum *s, const bson_value_t *v) {
    int64_t whole = v->value_type == BSON_TYPE_INT32 ? v->value.v_int32 : v->value.v_int64;
    if (v->value_type == BSON_TYPE_DOUBLE || s->is_real) {
        double real = v->value_type == BSON_TYPE_DOUBLE ? v->value.v_double : (double)whole;
        if (!s->is_real)
            s->real = (double)s->whole;
        s->is_real = true;
        s->real += real;
    } else if (__builtin_add_overflow(s->whole, whole, &s->whole)) {
        /* the sum before, in the wider type, and the operand */
        s->real = (double)(int64_t)((uint64_t)s->whole - (uint64_t)whole) + (double)whole;
        s->is_real = true;
    }
}

static void fold(struct sum *s, enum kt_fold how, const bson_value_t *v) {
    if (how == KT_COUNT_ROWS)
        s->whole++;
    else if (how == KT_SUM) {
        if (v != NULL && kt_val_is_number(v))
            add_sum(s, v);
    } else if (!kt_val_is_null(v)) {
        int order = s->owns ? kt_val_cmp(v, &s->value) : 0;
        if (s->owns && (how == KT_LEAST ? order >= 0 : order <= 0))
            return;
        if (s->owns)
            bson_value_destroy(&s->value);
        bson_value_copy(v, &s->value);
        s->owns = true;
    }
}

static int place(struct fields *f, const char *path) {
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->at[i].path, path) == 0)
            return i;
    f->at[f->count].path = path;
    f->at[f->count].len = strlen(path);
    f->at[f->count].dotted = strchr(path, '.') != NULL;
    return f->count++;
}

static void plan(struct fields *f, const struct kt_group *g) {
    f->count = 0;
    for (int i = 0; i < g->key_count; i++)
        f->keys[i] = place(f, g->keys[i].path);
    for (int i = 0; i < g->value_count; i++)
        f->values[i] = g->values[i].fold == KT_COUNT_ROWS ? -1 : place(f, g->values[i].path);
}

static void read_fields(struct fields *f, const bson_t *doc) {
    bson_iter_t it;
    int left = 0;
    for (int i = 0; i < f->count; i++) {
        const bson_value_t *v;
        bool array;
        f->at[i].there = false;
        if (!f->at[i].dotted)
            left++;
        else if ((f->at[i].there = kt_doc_get(doc, f->at[i].path, &it, &v, &array)))
            f->at[i].value = *v;
    }
    if (left == 0 || !bson_iter_init(&it, doc))
        return;
    while (left > 0 && bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        size_t len = bson_iter_key_len(&it);
        for (int i = 0; i < f->count; i++)
            if (f->at[i].len == len && f->at[i].path[0] == key[0] && !f->at[i].dotted &&
                !f->at[i].there && memcmp(f->at[i].path, key, len) == 0) {
                f->at[i].value = *bson_iter_value(&it);
                f->at[i].there = true;
                left--;
                break;
            }
    }
}

static struct row *row_for(struct table *t, const struct kt_group *g, const struct fields *f,
                           struct kt_buf *key, struct kt_error *err) {
    kt_buf_clear(key);
    for (int i = 0; i < g->key_count; i++) {
        size_t start = key->len;
        kt_buf_add(key, "\0\0\0\0", 4);
        if (f->at[f->keys[i]].there)
            kt_key_add(key, &f->at[f->keys[i]].value);
        uint32_t n = (uint32_t)(key->len - start - 4); /* 0: missing, another group than null */
        if (!key->failed)
            memcpy(key->data + start, &n, sizeof n);
    }
    if (key->failed || !grow(t)) {
        kt_fail(err, KT_NO_MEMORY, "group");
        return NULL;
    }
    uint64_t hash = hash_of(key->data, key->len);
    size_t at = hash & (t->slot_count - 1);
    for (; t->slots[at] != 0; at = (at + 1) & (t->slot_count - 1)) {
        struct row *r = &t->rows[t->slots[at] - 1];
        if (r->hash == hash && r->key_len == key->len &&
            (key->len == 0 || memcmp(r->key, key->data, key->len) == 0))
            return r;
    }
    if (t->count == KT_GROUP_ROWS) {
        kt_fail(err, KT_BODY_TOO_LARGE, "more than %d groups", KT_GROUP_ROWS);
        return NULL;
    }
    struct row *r = &t->rows[t->count];
    r->hash = hash;
    r->key_len = key->len;
    r->key = malloc(key->len ? key->len : 1);
    r->sums = calloc((size_t)g->value_count + 1, sizeof *r->sums);
    if (r->key == NULL || r->sums == NULL) {
        free(r->key);
        free(r->sums);
        kt_fail(err, KT_NO_MEMORY, "group");
        return NULL;
    }
    if (key->len > 0)
        memcpy(r->key, key->data, key->len);
    r->keys = bson_new();
    for (int i = 0; i < g->key_count; i++)
        if (f->at[f->keys[i]].there)
            bson_append_value(r->keys, g->keys[i].alias, -1, &f->at[f->keys[i]].value);
    t->slots[at] = ++t->count;
    return r;
}

static bson_t *finish(const struct kt_group *g, struct row *r) {
    bson_t *doc = bson_copy(r->keys);
    for (int i = 0; i < g->value_count; i++) {
        const struct sum *s = &r->sums[i];
        const char *name = g->values[i].alias;
        if (g->values[i].fold == KT_LEAST || g->values[i].fold == KT_GREATEST) {
            if (s->owns)
                bson_append_value(doc, name, -1, &s->value);
            else
                bson_append_null(doc, name, -1);
        } else if (s->is_real)
            bson_append_double(doc, name, -1, s->real);
        else
            bson_append_int64(doc, name, -1, s->whole);
    }
    return doc;
}

static _Thread_local const struct kt_sort *order_by; /* qsort has no argument for it */

static int by_sort(const void *a, const void *b) {
    const bson_t *x = *(bson_t *const *)a, *y = *(bson_t *const *)b;
    for (int i = 0; i < order_by->count; i++) {
        const struct kt_sort_key *k = &order_by->keys[i];
        bson_iter_t ix, iy;
        const bson_value_t *vx = NULL, *vy = NULL;
        if (bson_iter_init_find(&ix, x, k->path))
            vx = bson_iter_value(&ix);
        if (bson_iter_init_find(&iy, y, k->path))
            vy = bson_iter_value(&iy);
        int order = kt_val_cmp(vx, vy);
        if (order != 0)
            return k->desc ? -order : order;
    }
    return 0;
}

static int write_rows(struct table *t, struct kt_read *r, struct kt_error *err) {
    bson_t **docs = calloc((size_t)t->count + 1, sizeof *docs);
    if (docs == NULL)
        return kt_fail(err, KT_NO_MEMORY, "group");
    for (int i = 0; i < t->count; i++)
        docs[i] = finish(r->group, &t->rows[i]);
    order_by = &r->sort;
    if (r->sort.count > 0)
        qsort(docs, (size_t)t->count, sizeof *docs, by_sort);
    for (int i = 0; i < t->count; i++) {
        if (r->limit == 0 || i < r->limit) {
            kt_buf_add(&r->out, bson_get_data(docs[i]), docs[i]->len);
            r->count++;
        }
        bson_destroy(docs[i]);
    }
    free(docs);
    return 0;
}

int sq_group(struct sq_conn *c, const struct sq_coll *coll, struct kt_read *r,
             struct kt_error *err) {
    struct sq_query q = {.what = "doc", .filter = &r->filter};
    const struct kt_group *g = r->group;
    struct table t = {0};
    struct fields f;
    struct kt_buf key = KT_BUF_INIT;
    int rc = 0, step;
    bson_t doc;
    plan(&f, g);
    sqlite3_stmt *s = sq_select(c, coll, &q, err);
    if (s == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        struct row *row;
        if (step != SQLITE_ROW)
            rc = sq_fail(c, step, err);
        else if (!sq_doc(s, 0, &doc))
            rc = kt_fail(err, KT_STORE_CORRUPT, "%s holds what is no document", r->coll);
        else {
            read_fields(&f, &doc);
            if ((row = row_for(&t, g, &f, &key, err)) == NULL)
                rc = -(int)err->code;
            for (int i = 0; rc == 0 && i < g->value_count; i++) {
                int at = f.values[i];
                fold(&row->sums[i], g->values[i].fold,
                     at >= 0 && f.at[at].there ? &f.at[at].value : NULL);
            }
        }
    }
    sq_done(s);
    if (rc == 0)
        rc = write_rows(&t, r, err);
    for (int i = 0; i < t.count; i++) {
        for (int j = 0; j < g->value_count; j++)
            if (t.rows[i].sums[j].owns)
                bson_value_destroy(&t.rows[i].sums[j].value);
        free(t.rows[i].sums);
        free(t.rows[i].key);
        bson_destroy(t.rows[i].keys);
    }
    free(t.rows);
    free(t.slots);
    kt_buf_free(&key);
    return rc;
}
