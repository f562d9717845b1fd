/* From a filter and a sort to SQL. Conditions on indexed fields become key ranges that an index can
 * narrow by; the matcher decides on every row all the same, so a range may be too wide, never too
 * narrow. The text depends on shape alone (values are bound), so that statements are used again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"
#include "store/val.h"

#define BINDS_MAX 4096
#define BINDS_FEW 16

struct build {
    const struct sq_coll *coll;
    struct kt_buf sql;
    struct kt_buf *keys; /* what is bound behind ?1 (the filter), in order; those behind are zero */
    int key_count, key_cap;
    bool full, failed;
    struct kt_buf few[BINDS_FEW]; /* nearly every query has few */
};

static bool grow(struct build *b) {
    int cap = b->key_cap * 4 < BINDS_MAX ? b->key_cap * 4 : BINDS_MAX;
    struct kt_buf *more = calloc((size_t)cap, sizeof *more);
    if (more == NULL)
        return false;
    memcpy(more, b->keys, (size_t)b->key_count * sizeof *more);
    if (b->keys != b->few)
        free(b->keys);
    b->keys = more;
    b->key_cap = cap;
    return true;
}

/* The next key, to be filled before the one after it is asked for. */
static struct kt_buf *bind(struct build *b) {
    kt_buf_adds(&b->sql, "?");
    if (b->key_count == BINDS_MAX)
        b->full = true;
    else if (b->key_count == b->key_cap && !grow(b))
        b->failed = true;
    if (b->full || b->failed)
        return &b->keys[0];
    return &b->keys[b->key_count++];
}

static void add_expr(struct kt_buf *sql, const char *path) {
    if (strcmp(path, "_id") == 0)
        kt_buf_adds(sql, "id");
    else
        kt_buf_addf(sql, "kt_key1(doc,'%s')", path);
}

static void compare(struct build *b, const char *path, const char *op, const bson_value_t *v) {
    add_expr(&b->sql, path);
    kt_buf_adds(&b->sql, op);
    kt_key_add(bind(b), v);
}

static void compare_byte(struct build *b, const char *path, const char *op, int byte) {
    add_expr(&b->sql, path);
    kt_buf_adds(&b->sql, op);
    kt_buf_addc(bind(b), (char)byte);
}

static bool is_nan(const bson_value_t *v) {
    return v->value_type == BSON_TYPE_DOUBLE && v->value.v_double != v->value.v_double;
}

static bool goes_up(enum kt_cmp op) {
    return op == KT_GT || op == KT_GTE;
}

static bool is_range(enum kt_cmp op) {
    return op == KT_GT || op == KT_GTE || op == KT_LT || op == KT_LTE;
}

/* Does another condition of the filter close the range of c? SQLite takes one bound a side for its
 * index range, and not the tighter one: so a range that is closed gets no bound of its class. */
static bool closed(const struct kt_filter *f, const struct kt_cond *c) {
    for (int i = 0; i < f->count; i++) {
        const struct kt_cond *o = &f->conds[i];
        if (is_range(o->op) && goes_up(o->op) != goes_up(c->op) && strcmp(o->path, c->path) == 0 &&
            kt_val_class(&o->value) == kt_val_class(&c->value) && !is_nan(&o->value))
            return true;
    }
    return false;
}

/* The key range of one condition, or nothing when it has none. True when something was added. */
static bool add_cond(struct build *b, const struct kt_filter *f, const struct kt_cond *c) {
    const bson_value_t *v = &c->value;
    int class = kt_val_class(v);
    if (strcmp(c->path, "_id") != 0 && !sq_indexed(b->coll, c->path))
        return false;
    switch (c->op) {
    case KT_EQ:
        if (class == KT_CLASS_ARRAY || class == KT_CLASS_OTHER)
            return false;
        compare(b, c->path, "=", v);
        return true;
    case KT_IN: {
        bson_iter_t it;
        int n = 0, padded = 1;
        bson_value_t last;
        if (!bson_iter_init_from_data(&it, v->value.v_doc.data, v->value.v_doc.data_len))
            return false;
        while (bson_iter_next(&it)) {
            int kind = kt_val_class(bson_iter_value(&it));
            if (kind == KT_CLASS_ARRAY || kind == KT_CLASS_OTHER)
                return false;
            n++;
        }
        if (n == 0) {
            kt_buf_adds(&b->sql, "0");
            return true;
        }
        while (padded < n)
            padded *= 2;
        add_expr(&b->sql, c->path);
        kt_buf_adds(&b->sql, " IN (");
        bson_iter_init_from_data(&it, v->value.v_doc.data, v->value.v_doc.data_len);
        for (int i = 0; i < padded; i++) {
            if (i < n && bson_iter_next(&it))
                last = *bson_iter_value(&it);
            if (i > 0)
                kt_buf_addc(&b->sql, ',');
            kt_key_add(bind(b), &last);
        }
        kt_buf_addc(&b->sql, ')');
        return true;
    }
    case KT_GT:
    case KT_GTE:
    case KT_LT:
    case KT_LTE: {
        bool above = goes_up(c->op);
        if (class == KT_CLASS_ARRAY || class == KT_CLASS_OTHER || class == KT_CLASS_BINARY ||
            is_nan(v))
            return false;
        if (kt_key_exact(v))
            compare(b, c->path,
                    c->op == KT_GT    ? ">"
                    : c->op == KT_GTE ? ">="
                    : c->op == KT_LT  ? "<"
                                      : "<=",
                    v);
        else { /* a long string: from or up to everything that begins like it */
            add_expr(&b->sql, c->path);
            kt_buf_adds(&b->sql, above ? ">=" : "<=");
            struct kt_buf *key = bind(b);
            kt_buf_addc(key, (char)class);
            kt_buf_add(key, v->value.v_utf8.str, KT_KEY_PREFIX);
            for (int i = 0; !above && i < 33; i++)
                kt_buf_addc(key, (char)0xFF);
        }
        if (closed(f, c))
            return true;
        kt_buf_adds(&b->sql, " AND ");
        compare_byte(b, c->path, above ? "<" : ">=", above ? class + 1 : class);
        return true;
    }
    case KT_PREFIX: {
        size_t n = v->value.v_utf8.len < KT_KEY_PREFIX ? v->value.v_utf8.len : KT_KEY_PREFIX;
        add_expr(&b->sql, c->path);
        kt_buf_adds(&b->sql, ">=");
        struct kt_buf *key = bind(b);
        kt_buf_addc(key, KT_CLASS_STRING);
        kt_buf_add(key, v->value.v_utf8.str, n);
        kt_buf_adds(&b->sql, " AND ");
        add_expr(&b->sql, c->path);
        kt_buf_adds(&b->sql, "<");
        key = bind(b);
        kt_buf_addc(key, KT_CLASS_STRING);
        kt_buf_add(key, v->value.v_utf8.str, n);
        kt_buf_addc(key, (char)0xFF); /* no UTF-8 has this byte */
        return true;
    }
    default:
        return false;
    }
}

static bool add_conds(struct build *b, const struct kt_filter *f, bool first) {
    bool any = false;
    for (int i = 0; i < f->count; i++) {
        size_t before = b->sql.len;
        int binds = b->key_count;
        if (!first || any)
            kt_buf_adds(&b->sql, " AND ");
        if (add_cond(b, f, &f->conds[i]))
            any = true;
        else {
            b->sql.len = before;
            while (b->key_count > binds)
                kt_buf_free(&b->keys[--b->key_count]);
        }
    }
    return any;
}

/* An `or` narrows only when each branch does. */
static bool add_branches(struct build *b, const struct kt_filter *f, bool first) {
    size_t before = b->sql.len;
    int binds = b->key_count;
    if (f->branch_count == 0)
        return false;
    kt_buf_adds(&b->sql, first ? "(" : " AND (");
    for (int i = 0; i < f->branch_count; i++) {
        kt_buf_adds(&b->sql, i == 0 ? "(" : " OR (");
        if (!add_conds(b, &f->branches[i], true)) {
            b->sql.len = before;
            while (b->key_count > binds)
                kt_buf_free(&b->keys[--b->key_count]);
            return false;
        }
        kt_buf_addc(&b->sql, ')');
    }
    kt_buf_addc(&b->sql, ')');
    return true;
}

static void add_sort_expr(struct build *b, const struct kt_sort_key *k) {
    if (strcmp(k->path, "_id") == 0 || sq_indexed(b->coll, k->path))
        add_expr(&b->sql, k->path);
    else
        kt_buf_addf(&b->sql, "kt_sort1(doc,'%s',%d)", k->path, k->desc);
}

/* Behind the sort values of `after`: a >= x AND (a > x OR (a = x AND (b > y OR …))). The first
 * bound is what an index can seek by; a row value would say the same, but SQLite does not use one
 * whose columns are expressions. */
static int add_after(struct build *b, const struct kt_sort *s, const bson_t *after,
                     struct kt_error *err) {
    bson_iter_t it;
    bson_value_t values[KT_SORT_MAX + 1];
    int n = 0;
    if (bson_iter_init(&it, after))
        while (n <= KT_SORT_MAX && bson_iter_next(&it))
            values[n++] = *bson_iter_value(&it); /* points into `after` */
    if (n != s->count || n == 0)
        return kt_fail(err, KT_INVALID_ARGUMENT, "after has %d values, the sort %d keys", n,
                       s->count);
    kt_buf_adds(&b->sql, " AND ");
    add_sort_expr(b, &s->keys[0]);
    kt_buf_adds(&b->sql, s->keys[0].desc ? "<=" : ">=");
    kt_key_add_sort(bind(b), &values[0], s->keys[0].desc);
    kt_buf_adds(&b->sql, " AND ");
    for (int i = 0; i < n; i++) {
        kt_buf_addc(&b->sql, '(');
        add_sort_expr(b, &s->keys[i]);
        kt_buf_adds(&b->sql, s->keys[i].desc ? "<" : ">");
        kt_key_add_sort(bind(b), &values[i], s->keys[i].desc);
        if (i == n - 1)
            break;
        kt_buf_adds(&b->sql, " OR (");
        add_sort_expr(b, &s->keys[i]);
        kt_buf_addc(&b->sql, '=');
        kt_key_add_sort(bind(b), &values[i], s->keys[i].desc);
        kt_buf_adds(&b->sql, " AND ");
    }
    for (int i = 0; i < n; i++)
        kt_buf_adds(&b->sql, i == 0 ? ")" : "))");
    return 0;
}

sqlite3_stmt *sq_select(struct sq_conn *c, const struct sq_coll *coll, const struct sq_query *q,
                        struct kt_error *err) {
    struct build b = {.coll = coll};
    sqlite3_stmt *stmt = NULL;
    int rc = 0;
    b.keys = b.few;
    b.key_cap = BINDS_FEW;
    kt_buf_addf(&b.sql, "SELECT %s FROM \"c_%s\" WHERE ", q->what, coll->name);
    bool any = add_conds(&b, q->filter, true);
    any = add_branches(&b, q->filter, !any) || any;
    bool all = q->filter->count == 0 && q->filter->branch_count == 0;
    kt_buf_adds(&b.sql, any ? " AND " : "");
    kt_buf_adds(&b.sql, all ? "1" : "kt_match(?,doc)");
    int match_at = all ? 0 : b.key_count + 1;
    int before = b.key_count;
    if (q->after != NULL)
        rc = add_after(&b, q->sort, q->after, err);
    if (q->sort != NULL && q->sort->count > 0)
        for (int i = 0; i < q->sort->count; i++) {
            kt_buf_adds(&b.sql, i == 0 ? " ORDER BY " : ",");
            add_sort_expr(&b, &q->sort->keys[i]);
            kt_buf_adds(&b.sql, q->sort->keys[i].desc ? " DESC" : "");
        }
    if (q->limit > 0)
        kt_buf_adds(&b.sql, " LIMIT ?");
    const char *sql = kt_buf_cstr(&b.sql);
    bool failed = b.sql.failed || b.failed;
    for (int i = 0; i < b.key_count; i++)
        failed = failed || b.keys[i].failed;
    if (rc == 0 && (failed || b.full))
        rc = failed
                 ? kt_fail(err, KT_NO_MEMORY, "query")
                 : kt_fail(err, KT_INVALID_ARGUMENT, "more than %d values in a filter", BINDS_MAX);
    if (rc == 0 && (stmt = sq_prepare(c, sql, err)) != NULL) {
        int at = 1;
        for (int i = 0; i < b.key_count; i++) {
            if (i == before && match_at)
                at++;
            sq_bind_key(stmt, at++, &b.keys[i]);
        }
        if (match_at)
            sqlite3_bind_pointer(stmt, match_at, (void *)q->filter, "kt_filter", NULL);
        if (b.key_count == before && match_at)
            at++;
        if (q->limit > 0)
            sqlite3_bind_int64(stmt, at, q->limit);
    }
    for (int i = 0; i < b.key_count; i++)
        kt_buf_free(&b.keys[i]);
    if (b.keys != b.few)
        free(b.keys);
    kt_buf_free(&b.sql);
    return stmt;
}
