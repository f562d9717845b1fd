/* Writes: many commits in one transaction, each in a savepoint, answered after the fsync. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "core/uuid.h"
#include "store/sqlite.h"
#include "store/val.h"

struct target {
    int64_t rid;
    bson_t *doc;
};

static int no_code(struct kt_error *err) {
    return -(int)err->code;
}

/* ---- collections and indexes ---- */

static int make_coll(struct sq_conn *c, const char *name, struct kt_error *err) {
    char sql[400];
    snprintf(sql, sizeof sql,
             "CREATE TABLE \"c_%s\"(rid INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, doc BLOB NOT "
             "NULL);"
             "INSERT INTO kt_catalog VALUES('%s', '', '', 0)",
             name, name);
    int rc = sq_exec(c, sql, err);
    c->schema = -1;
    return rc;
}

static struct sq_coll *need_coll(struct sq_conn *c, const char *name, struct kt_error *err) {
    int rc;
    struct sq_coll *coll = sq_coll(c, name, &rc, err);
    if (coll == NULL && rc == 0 && (rc = make_coll(c, name, err)) == 0)
        coll = sq_coll(c, name, &rc, err);
    return coll;
}

static int ensure_index(struct sq_conn *c, struct kt_commit *commit, struct kt_write *w,
                        struct kt_error *err) {
    struct kt_buf keys = KT_BUF_INIT, sql = KT_BUF_INIT;
    int rc = 0;
    struct sq_coll *coll = need_coll(c, w->coll, err);
    if (coll == NULL)
        return no_code(err);
    for (int i = 0; i < w->keys.count; i++)
        kt_buf_addf(&keys, "%c%s\n", w->keys.keys[i].desc ? '-' : '+', w->keys.keys[i].path);
    for (struct sq_index *i = coll->indexes; i != NULL; i = i->next)
        if (strcmp(i->name, w->index) == 0) {
            if (strcmp(i->keys, kt_buf_cstr(&keys)) != 0 || i->unique != w->unique) {
                commit->number = 86;
                rc = kt_fail(err, KT_CONFLICT, "index %s of %s is there with other keys", w->index,
                             w->coll);
            }
            goto out;
        }
    kt_buf_addf(&sql, "CREATE %sINDEX \"i_%s__%s\" ON \"c_%s\"(", w->unique ? "UNIQUE " : "",
                w->coll, w->index, w->coll);
    for (int i = 0; i < w->keys.count; i++) {
        const struct kt_sort_key *k = &w->keys.keys[i];
        kt_buf_adds(&sql, i > 0 ? "," : "");
        if (strcmp(k->path, "_id") == 0)
            kt_buf_adds(&sql, "id");
        else
            kt_buf_addf(&sql, "kt_key1(doc,'%s')", k->path);
        kt_buf_adds(&sql, k->desc ? " DESC" : "");
    }
    kt_buf_addc(&sql, ')');
    rc = sq_exec(c, kt_buf_cstr(&sql), err);
    c->schema = -1;
    if (rc == -KT_ALREADY_EXISTS)
        commit->number = 11000;
    if (rc == 0) {
        sqlite3_stmt *s = sq_prepare(c, "INSERT INTO kt_catalog VALUES(?,?,?,?)", err);
        if (s == NULL) {
            rc = no_code(err);
            goto out;
        }
        sqlite3_bind_text(s, 1, w->coll, -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 2, w->index, -1, SQLITE_STATIC);
        sqlite3_bind_text(s, 3, kt_buf_cstr(&keys), -1, SQLITE_STATIC);
        sqlite3_bind_int(s, 4, w->unique);
        int step = sqlite3_step(s);
        if (step != SQLITE_DONE)
            rc = sq_fail(c, step, err);
        sq_done(s);
    }
out:
    kt_buf_free(&keys);
    kt_buf_free(&sql);
    return rc;
}

/* ---- documents ---- */

/* "UNIQUE constraint failed: index 'i_<coll>__<name>'" or "…: c_<coll>.id" */
static void name_key(struct sq_conn *c, struct kt_commit *commit, const char *coll,
                     struct kt_error *err) {
    char start[KT_NAME_MAX + 8];
    snprintf(start, sizeof start, "'i_%s__", coll);
    const char *text = sqlite3_errmsg(c->db), *at = strstr(text, start);
    if (at != NULL) {
        at += strlen(start);
        snprintf(commit->failed_key, sizeof commit->failed_key, "%.*s", (int)strcspn(at, "'"), at);
    } else
        memcpy(commit->failed_key, "_id", 4);
    commit->number = 11000;
    kt_fail(err, KT_ALREADY_EXISTS, "%s has such a document already (%s)", coll,
            commit->failed_key);
}

/* Step a statement that writes a document, and take it back. */
static int put(struct sq_conn *c, struct kt_commit *commit, const char *coll, sqlite3_stmt *s,
               struct kt_error *err) {
    int step = sqlite3_step(s), rc = 0;
    if ((step & 0xFF) == SQLITE_CONSTRAINT && c->fn_error.code == KT_OK) {
        name_key(c, commit, coll, err);
        rc = no_code(err);
    } else if (step != SQLITE_DONE)
        rc = sq_fail(c, step, err);
    sq_done(s);
    return rc;
}

/* The document with an _id, first: its own, or a new UUIDv7 (an id is text wherever we make it). */
static bson_t *with_id(const bson_t *doc) {
    bson_iter_t it;
    if (bson_iter_init_find(&it, doc, "_id"))
        return bson_copy(doc);
    bson_t *out = bson_new();
    char id[33];
    kt_uuid7(id);
    bson_append_utf8(out, "_id", 3, id, -1);
    bson_concat(out, doc);
    return out;
}

static int insert_doc(struct sq_conn *c, struct kt_commit *commit, const char *coll,
                      const bson_t *doc, struct kt_error *err) {
    char sql[200];
    bson_iter_t it;
    struct kt_buf key = KT_BUF_INIT;
    int rc = kt_doc_check(doc, err);
    if (rc != 0)
        return rc;
    snprintf(sql, sizeof sql, "INSERT INTO \"c_%s\"(id, doc) VALUES(?,?)", coll);
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return no_code(err);
    if (!bson_iter_init_find(&it, doc, "_id"))
        return kt_fail(err, KT_INTERNAL, "document without _id");
    kt_key_add(&key, bson_iter_value(&it));
    if (key.failed) {
        kt_buf_free(&key);
        return kt_fail(err, KT_NO_MEMORY, "key");
    }
    sq_bind_key(s, 1, &key);
    sqlite3_bind_blob64(s, 2, bson_get_data(doc), doc->len, SQLITE_STATIC);
    return put(c, commit, coll, s, err);
}

static int insert(struct sq_conn *c, struct kt_commit *commit, struct kt_write *w,
                  struct kt_error *err) {
    size_t at = 0;
    if (need_coll(c, w->coll, err) == NULL)
        return no_code(err);
    while (at < w->docs.len) {
        bson_t doc;
        uint32_t len;
        if (w->docs.len - at < 5)
            return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
        memcpy(&len, w->docs.data + at, sizeof len);
        len = BSON_UINT32_FROM_LE(len);
        if (len > w->docs.len - at ||
            !bson_init_static(&doc, (const uint8_t *)w->docs.data + at, len))
            return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
        bson_t *whole = bson_has_field(&doc, "_id") ? NULL : with_id(&doc);
        int rc = insert_doc(c, commit, w->coll, whole != NULL ? whole : &doc, err);
        bson_destroy(whole);
        if (rc != 0)
            return rc;
        w->modified++;
        at += len;
    }
    return 0;
}

/* The rows a write is about: one with its document, or the ids of all. */
static int find_targets(struct sq_conn *c, const struct sq_coll *coll, struct kt_write *w,
                        struct target **out, int *n, struct kt_error *err) {
    struct sq_query q = {.what = w->many ? "rid" : "rid, doc",
                         .filter = &w->filter,
                         .sort = w->sort.count > 0 && !w->many ? &w->sort : NULL,
                         .limit = w->many ? 0 : 1};
    int rc = 0, step, cap = 0;
    sqlite3_stmt *s = sq_select(c, coll, &q, err);
    if (s == NULL)
        return no_code(err);
    while (rc == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        if (step != SQLITE_ROW) {
            rc = sq_fail(c, step, err);
            break;
        }
        if (*n == cap) {
            struct target *more = realloc(*out, (size_t)(cap = cap ? cap * 2 : 1) * sizeof *more);
            if (more == NULL) {
                rc = kt_fail(err, KT_NO_MEMORY, "write");
                break;
            }
            *out = more;
        }
        struct target *t = &(*out)[(*n)++];
        bson_t doc;
        t->rid = sqlite3_column_int64(s, 0);
        t->doc = !w->many && sq_doc(s, 1, &doc) ? bson_copy(&doc) : NULL;
        if (!w->many && t->doc == NULL)
            rc = kt_fail(err, KT_STORE_CORRUPT, "%s holds what is no document", w->coll);
    }
    sq_done(s);
    return rc;
}

static int load(struct sq_conn *c, const char *coll, struct target *t, struct kt_error *err) {
    char sql[200];
    bson_t doc;
    int rc = 0;
    snprintf(sql, sizeof sql, "SELECT doc FROM \"c_%s\" WHERE rid=?", coll);
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return no_code(err);
    sqlite3_bind_int64(s, 1, t->rid);
    int step = sqlite3_step(s);
    if (step == SQLITE_ROW && sq_doc(s, 0, &doc))
        t->doc = bson_copy(&doc);
    else
        rc = step == SQLITE_ROW || step == SQLITE_DONE
                 ? kt_fail(err, KT_STORE_CORRUPT, "%s holds what is no document", coll)
                 : sq_fail(c, step, err);
    sq_done(s);
    return rc;
}

/* What the document becomes, or NULL. */
static bson_t *changed(struct kt_commit *commit, struct kt_write *w, const bson_t *old,
                       struct kt_error *err) {
    bson_t *out = bson_new();
    if (w->kind == KT_UPDATE) {
        if (kt_update_apply(&w->update, old, false, out, &commit->number, err) == 0)
            return out;
    } else {
        bson_t doc;
        bson_iter_t mine, theirs;
        bson_iter_init_find(&mine, old, "_id");
        if (!bson_init_static(&doc, (const uint8_t *)w->docs.data, w->docs.len))
            kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
        else if (bson_iter_init_find(&theirs, &doc, "_id") &&
                 kt_val_cmp(bson_iter_value(&theirs), bson_iter_value(&mine)) != 0) {
            commit->number = 66;
            kt_fail(err, KT_INVALID_ARGUMENT, "_id never changes");
        } else {
            bson_append_iter(out, NULL, 0, &mine);
            bson_copy_to_excluding_noinit(&doc, out, "_id", NULL);
            return out;
        }
    }
    bson_destroy(out);
    return NULL;
}

static bson_t *shown(const struct kt_write *w, const bson_t *doc) {
    if (w->fields == NULL)
        return bson_copy(doc);
    bson_t *out = bson_new();
    kt_doc_project(doc, w->fields, out);
    return out;
}

static int change_one(struct sq_conn *c, struct kt_commit *commit, struct kt_write *w,
                      struct target *t, struct kt_error *err) {
    char sql[200];
    int rc = t->doc == NULL ? load(c, w->coll, t, err) : 0;
    if (rc != 0)
        return rc;
    bson_t *now = changed(commit, w, t->doc, err);
    if (now == NULL)
        return no_code(err);
    w->matched++;
    if (now->len != t->doc->len ||
        memcmp(bson_get_data(now), bson_get_data(t->doc), now->len) != 0) {
        rc = kt_doc_check(now, err);
        snprintf(sql, sizeof sql, "UPDATE \"c_%s\" SET doc=? WHERE rid=?", w->coll);
        sqlite3_stmt *s = rc == 0 ? sq_prepare(c, sql, err) : NULL;
        if (s == NULL)
            rc = no_code(err);
        else {
            sqlite3_bind_blob64(s, 1, bson_get_data(now), now->len, SQLITE_STATIC);
            sqlite3_bind_int64(s, 2, t->rid);
            rc = put(c, commit, w->coll, s, err);
            w->modified += rc == 0;
        }
    }
    if (rc == 0 && w->want_doc)
        w->doc = shown(w, w->want_new ? now : t->doc);
    bson_destroy(now);
    return rc;
}

static int delete_one(struct sq_conn *c, struct kt_commit *commit, struct kt_write *w,
                      struct target *t, struct kt_error *err) {
    char sql[200];
    snprintf(sql, sizeof sql, "DELETE FROM \"c_%s\" WHERE rid=?", w->coll);
    sqlite3_stmt *s = sq_prepare(c, sql, err);
    if (s == NULL)
        return no_code(err);
    sqlite3_bind_int64(s, 1, t->rid);
    int rc = put(c, commit, w->coll, s, err);
    if (rc == 0) {
        w->matched++;
        w->modified++;
        if (w->want_doc)
            w->doc = shown(w, t->doc);
    }
    return rc;
}

static int upsert(struct sq_conn *c, struct kt_commit *commit, struct kt_write *w,
                  struct kt_error *err) {
    bson_t seed, made;
    bson_t *whole = NULL;
    bson_iter_t it;
    bson_init(&seed);
    bson_init(&made);
    int rc = kt_upsert_seed(&w->filter, &seed, err);
    if (rc == 0 && w->kind == KT_UPDATE)
        rc = kt_update_apply(&w->update, &seed, true, &made, &commit->number, err);
    else if (rc == 0) {
        bson_t doc;
        if (bson_iter_init_find(&it, &seed, "_id"))
            bson_append_iter(&made, NULL, 0, &it);
        if (!bson_init_static(&doc, (const uint8_t *)w->docs.data, w->docs.len))
            rc = kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
        else if (bson_has_field(&made, "_id"))
            bson_copy_to_excluding_noinit(&doc, &made, "_id", NULL);
        else
            bson_concat(&made, &doc);
    }
    if (rc == 0) {
        whole = with_id(&made);
        rc = insert_doc(c, commit, w->coll, whole, err);
    }
    if (rc == 0) {
        w->upserted = bson_new();
        bson_iter_init_find(&it, whole, "_id");
        bson_append_iter(w->upserted, NULL, 0, &it);
        if (w->want_doc && w->want_new)
            w->doc = shown(w, whole);
    }
    if (whole != NULL)
        bson_destroy(whole);
    bson_destroy(&seed);
    bson_destroy(&made);
    return rc;
}

static int change(struct sq_conn *c, struct kt_commit *commit, struct kt_write *w,
                  struct kt_error *err) {
    struct target *targets = NULL;
    int n = 0, rc;
    struct sq_coll *coll = w->upsert ? need_coll(c, w->coll, err) : sq_coll(c, w->coll, &rc, err);
    if (w->upsert && coll == NULL)
        return no_code(err);
    if (coll == NULL && rc != 0)
        return rc;
    rc = coll == NULL ? 0 : find_targets(c, coll, w, &targets, &n, err);
    for (int i = 0; rc == 0 && i < n; i++) {
        if ((rc = kt_limit_check(&commit->limits, err)) == 0)
            rc = w->kind == KT_DELETE ? delete_one(c, commit, w, &targets[i], err)
                                      : change_one(c, commit, w, &targets[i], err);
        if (targets[i].doc != NULL)
            bson_destroy(targets[i].doc);
        targets[i].doc = NULL;
    }
    for (int i = 0; i < n; i++)
        if (targets[i].doc != NULL)
            bson_destroy(targets[i].doc);
    free(targets);
    if (rc == 0 && w->matched == 0 && w->upsert)
        rc = upsert(c, commit, w, err);
    if (rc == 0 && w->must_match && w->matched == 0 && w->upserted == NULL)
        rc = kt_fail(err, KT_CONFLICT, "nothing in %s is as expected any more", w->coll);
    return rc;
}

/* ---- commits ---- */

static int run_writes(struct sq_conn *c, struct kt_commit *commit) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < commit->count; i++) {
        struct kt_write *w = &commit->writes[i];
        rc = w->kind == KT_INSERT         ? insert(c, commit, w, &commit->error)
             : w->kind == KT_ENSURE_COLLECTION
                 ? (need_coll(c, w->coll, &commit->error) ? 0 : no_code(&commit->error))
             : w->kind == KT_ENSURE_INDEX ? ensure_index(c, commit, w, &commit->error)
                                          : change(c, commit, w, &commit->error);
        if (rc == 0 && kt_fault("store.write"))
            rc = kt_fail(&commit->error, KT_STORAGE_FULL, "fault: store.write");
        if (rc != 0)
            commit->failed_at = i;
    }
    return rc;
}

/* False when the whole transaction is gone, and with it every commit of the batch. */
static bool run_commit(struct sq_conn *c, struct kt_commit *commit) {
    struct kt_error err;
    kt_commit_clear(commit);
    if ((commit->rc = kt_limit_check(&commit->limits, &commit->error)) != 0)
        return true;
    if ((commit->rc = sq_exec(c, "SAVEPOINT kt", &commit->error)) != 0)
        return !sqlite3_get_autocommit(c->db);
    c->limit = &commit->limits;
    commit->rc = run_writes(c, commit);
    c->limit = NULL;
    if (sqlite3_get_autocommit(c->db))
        return false;
    if (commit->rc != 0) {
        c->schema = -1; /* tables it made are gone */
        if (sq_exec(c, "ROLLBACK TO kt", &err) != 0)
            return false;
    }
    return sq_exec(c, "RELEASE kt", &err) == 0;
}

static int end_batch(struct sq_conn *c, struct kt_error *err) {
    int rc;
    if (kt_fault("store.fsync"))
        rc = kt_fail(err, KT_OUTCOME_UNKNOWN, "fault: store.fsync");
    else
        rc = sq_exec(c, "COMMIT", err);
    if (rc != 0 && !sqlite3_get_autocommit(c->db)) {
        struct kt_error ignored; /* the first error is the one to tell */
        sq_exec(c, "ROLLBACK", &ignored);
    }
    if (rc != 0)
        c->schema = -1;
    return rc;
}

static void set_all(struct kt_commit **all, int n, int rc, const struct kt_error *err) {
    for (int i = 0; i < n; i++) {
        if (all[i]->rc != 0)
            continue; /* failed by itself before */
        kt_commit_clear(all[i]);
        all[i]->rc = rc;
        all[i]->error = *err;
        all[i]->outcome_unknown = err->code == KT_OUTCOME_UNKNOWN;
    }
}

/* One commit alone, when a transaction with others failed. */
static void run_alone(struct sq_conn *c, struct kt_commit *commit) {
    struct kt_error err;
    int rc = sq_exec(c, "BEGIN IMMEDIATE", &err);
    if (rc == 0) {
        if (!run_commit(c, commit)) {
            if (!sqlite3_get_autocommit(c->db))
                sq_exec(c, "ROLLBACK", &err);
            c->schema = -1;
            if (commit->rc == 0)
                commit->rc =
                    kt_fail(&commit->error, KT_STORE_UNAVAILABLE, "the transaction was undone");
            return;
        }
        rc = end_batch(c, &err);
    }
    if (rc != 0)
        set_all(&commit, 1, rc, &err);
}

/* A cache smaller than a commit writes the same pages to the log again and again, and reads them
 * back from there. */
static bool is_large(const struct kt_commit *commit) {
    size_t bytes = 0;
    for (int i = 0; i < commit->count; i++)
        bytes += commit->writes[i].docs.len;
    return bytes > SQ_LARGE || commit->writes[0].kind == KT_ENSURE_INDEX;
}

int sq_write(struct kt_engine *engine, const char *db, struct kt_commit *(*next)(void *),
             void *ud) {
    struct sq_engine *e = (struct sq_engine *)engine;
    struct kt_commit *batch[SQ_BATCH];
    struct kt_error err;
    int n = 0, rc = 0;
    bool whole = true, large;
    int64_t start = 0;
    if ((batch[0] = next(ud)) == NULL)
        return 0;
    kt_commit_clear(batch[n++]);
    struct sq_file *f = sq_file_acquire(e, db, &err);
    struct sq_conn *c = f != NULL ? sq_writer_lock(f, false, &err) : NULL;
    if (c == NULL) {
        set_all(batch, n, no_code(&err), &err);
        if (f != NULL)
            sq_file_release(f);
        return n;
    }
    if ((large = is_large(batch[0])))
        sq_cache(c, SQ_LARGE_CACHE);
    if ((rc = sq_exec(c, "BEGIN IMMEDIATE", &err)) != 0) {
        set_all(batch, n, rc, &err);
        goto out;
    }
    start = kt_now_ns();
    whole = run_commit(c, batch[0]);
    while (whole && n < SQ_BATCH && kt_now_ns() - start < SQ_BATCH_NS) {
        struct kt_commit *commit = next(ud);
        if (commit == NULL)
            break;
        batch[n++] = commit;
        whole = run_commit(c, commit);
    }
    rc = whole ? end_batch(c, &err) : -KT_INTERNAL;
    if (!whole && !sqlite3_get_autocommit(c->db)) {
        struct kt_error ignored;
        sq_exec(c, "ROLLBACK", &ignored);
    }
    if (!whole)
        c->schema = -1;
    if (rc != 0 && whole && (n == 1 || err.code == KT_OUTCOME_UNKNOWN || f->broken))
        set_all(batch, n, rc, &err);
    else if (rc != 0) /* one of them broke it: each shows by itself which */
        for (int i = 0; i < n; i++)
            run_alone(c, batch[i]);
    f->last_write_ns = kt_now_ns();
    if (!f->broken)
        sq_checkpoint(f, false);
out:
    if (large)
        sq_cache(c, 0);
    sq_writer_unlock(f);
    sq_file_release(f);
    return n;
}
