/* Is a database what it should be? Indexes agree with the documents, every document is one. */
#include <stdio.h>
#include <string.h>

#include "store/sqlite.h"
#include "store/val.h"

static int integrity(struct sq_conn *c, struct kt_buf *report, struct kt_error *err) {
    int rc = 0, step;
    sqlite3_stmt *s = sq_prepare(c, "PRAGMA integrity_check(100)", err);
    if (s == NULL)
        return -(int)err->code;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        if (strcmp(text, "ok") != 0)
            kt_buf_addf(report, "%s\n", text);
    }
    if (step != SQLITE_DONE)
        rc = sq_fail(c, step, err);
    sq_done(s);
    return rc;
}

static int64_t number(struct sq_conn *c, const char *sql, struct kt_error *err) {
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return -1;
    int step = sqlite3_step(s);
    int64_t n = step == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
    if (step != SQLITE_ROW)
        sq_fail(c, step, err);
    sq_done(s);
    return n;
}

static int check_coll(struct sq_conn *c, const struct sq_coll *coll, struct kt_buf *report,
                      int64_t *rows, struct kt_error *err) {
    char sql[400];
    int step, rc = 0;
    *rows = 0;
    snprintf(sql, sizeof sql, "SELECT rid, id, doc FROM \"c_%s\" NOT INDEXED", coll->name);
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return -(int)err->code;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        bson_t doc;
        bson_iter_t it;
        struct kt_buf key = KT_BUF_INIT;
        long long rid = sqlite3_column_int64(s, 0);
        ++*rows;
        if (!sq_doc(s, 2, &doc) ||
            !bson_validate(&doc, BSON_VALIDATE_UTF8 | BSON_VALIDATE_UTF8_ALLOW_NULL, NULL)) {
            kt_buf_addf(report, "%s: row %lld is no document\n", coll->name, rid);
            continue;
        }
        if (!bson_iter_init_find(&it, &doc, "_id"))
            kt_buf_addf(report, "%s: row %lld has no _id\n", coll->name, rid);
        else {
            kt_key_add(&key, bson_iter_value(&it));
            if (key.failed || (int)key.len != sqlite3_column_bytes(s, 1) ||
                memcmp(key.data, sqlite3_column_blob(s, 1), key.len) != 0)
                kt_buf_addf(report, "%s: row %lld has another id than its document\n", coll->name,
                            rid);
        }
        kt_buf_free(&key);
    }
    if (step != SQLITE_DONE)
        rc = sq_fail(c, step, err);
    sq_done(s);
    for (const struct sq_index *i = coll->indexes; rc == 0 && i != NULL; i = i->next) {
        snprintf(sql, sizeof sql, "SELECT count(*) FROM \"c_%s\" INDEXED BY \"i_%s__%s\"",
                 coll->name, coll->name, i->name);
        int64_t n = number(c, sql, err);
        if (n < 0)
            rc = -(int)err->code;
        else if (n != *rows)
            kt_buf_addf(report, "%s: index %s has %lld entries, the scan %lld\n", coll->name,
                        i->name, (long long)n, (long long)*rows);
    }
    return rc;
}

int sq_check(struct kt_engine *engine, const char *db, struct kt_buf *report, bson_t *summary,
             struct kt_error *err) {
    struct sq_engine *e = (struct sq_engine *)engine;
    struct kt_error own;
    int rc = 0;
    if (err == NULL)
        err = &own;
    struct sq_file *f = sq_file_acquire(e, db, err);
    if (f == NULL && err->code == KT_STORE_CORRUPT) {
        kt_buf_addf(report, "%s\n", err->message);
        return 0;
    }
    if (f == NULL)
        return -(int)err->code;
    struct sq_conn *c = sq_conn_open(f, f->path, false, err);
    if (c == NULL)
        rc = -(int)err->code;
    else if ((rc = sq_exec(c, "BEGIN", err)) == 0) {
        sq_coll(c, "", &rc, err);
        if (rc == 0)
            rc = integrity(c, report, err);
        for (const struct sq_coll *coll = c->colls; rc == 0 && coll != NULL; coll = coll->next) {
            int64_t rows;
            rc = check_coll(c, coll, report, &rows, err);
            if (rc == 0)
                bson_append_int64(summary, coll->name, -1, rows);
        }
    }
    sq_conn_close(c);
    sq_file_release(f);
    if (rc == -KT_STORE_CORRUPT) { /* that is the finding, not a failure to look */
        kt_buf_addf(report, "%s\n", err->message);
        rc = 0;
    }
    return rc;
}
