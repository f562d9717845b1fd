/* A connection to one database file: settings, our functions, statements, catalog, errors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/sqlite.h"
#include "store/val.h"

bool sq_doc(sqlite3_stmt *s, int column, bson_t *doc) {
    const void *bytes = sqlite3_column_blob(s, column);
    int n = sqlite3_column_bytes(s, column);
    return bytes != NULL && bson_init_static(doc, bytes, (size_t)n);
}

/* ---- functions ---- */

static void give_key(sqlite3_context *ctx, struct kt_buf *key) {
    if (key->failed) {
        kt_buf_free(key);
        sqlite3_result_error_nomem(ctx);
        return;
    }
    sqlite3_result_blob64(ctx, key->data, key->len, free);
}

/* kt_key1(doc, path) -> key of the field; never NULL. An indexed field is a scalar: an array there,
 * or on the way, is an error and so cannot be stored. Deterministic: indexes are made of it. */
static void fn_key(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
    struct sq_conn *c = sqlite3_user_data(ctx);
    const void *bytes = sqlite3_value_blob(argv[0]);
    int n = sqlite3_value_bytes(argv[0]);
    const char *path = (const char *)sqlite3_value_text(argv[1]);
    const bson_value_t *v = NULL;
    bool array = false;
    bson_t doc;
    bson_iter_t it;
    struct kt_buf key = KT_BUF_INIT;
    (void)argc;
    if (bytes == NULL || path == NULL || !bson_init_static(&doc, bytes, (size_t)n)) {
        sqlite3_result_error(ctx, "not a BSON document", -1);
        return;
    }
    if (!kt_doc_get(&doc, path, &it, &v, &array))
        v = NULL;
    if (array || (v != NULL && v->value_type == BSON_TYPE_ARRAY)) {
        kt_fail(&c->fn_error, KT_INVALID_ARGUMENT, "%s is indexed and must not hold an array",
                path);
        sqlite3_result_error(ctx, c->fn_error.message, -1);
        return;
    }
    kt_key_add(&key, v);
    give_key(ctx, &key);
}

/* kt_sort1(doc, path, desc) -> key for sorting by a field that no index holds. */
static void fn_sort(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
    const void *bytes = sqlite3_value_blob(argv[0]);
    int n = sqlite3_value_bytes(argv[0]);
    const char *path = (const char *)sqlite3_value_text(argv[1]);
    const bson_value_t *v = NULL;
    bool array;
    bson_t doc;
    bson_iter_t it;
    struct kt_buf key = KT_BUF_INIT;
    (void)argc;
    if (bytes == NULL || path == NULL || !bson_init_static(&doc, bytes, (size_t)n)) {
        sqlite3_result_error(ctx, "not a BSON document", -1);
        return;
    }
    if (!kt_doc_get(&doc, path, &it, &v, &array))
        v = NULL;
    kt_key_add_sort(&key, v, sqlite3_value_int(argv[2]) != 0);
    give_key(ctx, &key);
}

/* kt_match(filter, doc) -> does it match? Also where a long scan notices that it must end. */
static void fn_match(sqlite3_context *ctx, int argc, sqlite3_value **argv) {
    struct sq_conn *c = sqlite3_user_data(ctx);
    const struct kt_filter *f = sqlite3_value_pointer(argv[0], "kt_filter");
    const void *bytes = sqlite3_value_blob(argv[1]);
    int n = sqlite3_value_bytes(argv[1]);
    bson_t doc;
    (void)argc;
    if ((c->rows++ & 255) == 255 && kt_limit_check(c->limit, &c->fn_error) != 0) {
        sqlite3_result_error(ctx, c->fn_error.message, -1);
        return;
    }
    if (f == NULL || bytes == NULL || !bson_init_static(&doc, bytes, (size_t)n)) {
        sqlite3_result_error(ctx, "not a BSON document", -1);
        return;
    }
    sqlite3_result_int(ctx, kt_filter_match(f, &doc));
}

static int progress(void *ud) {
    struct sq_conn *c = ud; /* an interrupted write would undo the whole transaction */
    return !c->writer && kt_limit_check(c->limit, &c->fn_error) != 0;
}

static int committed(void *ud, sqlite3 *db, const char *name, int pages) {
    struct sq_conn *c = ud;
    (void)db;
    (void)name;
    c->file->wal_bytes = (int64_t)pages * 4120; /* a page and its frame header */
    return SQLITE_OK;
}

/* ---- errors ---- */

int sq_fail(struct sq_conn *c, int rc, struct kt_error *err) {
    int extended = c->db ? sqlite3_extended_errcode(c->db) : rc;
    const char *text = c->db ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
    if (c->fn_error.code != KT_OK && (rc & 0xFF) != SQLITE_CORRUPT) {
        int code = (int)c->fn_error.code;
        if (err != NULL)
            *err = c->fn_error;
        c->fn_error.code = KT_OK;
        return -code;
    }
    switch (rc & 0xFF) {
    case SQLITE_FULL:
        return kt_fail(err, KT_STORAGE_FULL, "no space left for database %s", c->file->name);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        c->file->broken = true;
        return kt_fail(err, KT_STORE_CORRUPT, "database %s is damaged: %s", c->file->name, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return kt_fail(err, KT_STORE_UNAVAILABLE, "database %s is locked", c->file->name);
    case SQLITE_INTERRUPT:
        return kt_fail(err, KT_DEADLINE_EXCEEDED, "the store did not answer in time");
    case SQLITE_TOOBIG:
        return kt_fail(err, KT_BODY_TOO_LARGE, "the document is too large");
    case SQLITE_NOMEM:
        return kt_fail(err, KT_NO_MEMORY, "no memory for the store");
    case SQLITE_CONSTRAINT:
        return kt_fail(err, KT_ALREADY_EXISTS, "%s", text);
    case SQLITE_CANTOPEN:
        return kt_fail(err, KT_STORE_UNAVAILABLE, "cannot open database %s: %s", c->file->name,
                       text);
    case SQLITE_IOERR: {
        int os = c->db ? sqlite3_system_errno(c->db) : 0;
        /* The shared-memory file cannot grow on a full disk: an I/O error, but this one. */
        if (os == ENOSPC || os == EDQUOT)
            return kt_fail(err, KT_STORAGE_FULL, "no space left for database %s", c->file->name);
        if (extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC)
            return kt_fail(err, KT_OUTCOME_UNKNOWN, "database %s: fsync failed", c->file->name);
        return kt_fail(err, KT_STORE_UNAVAILABLE, "database %s: %s (%d)", c->file->name, text,
                       extended);
    }
    default:
        return kt_fail(err, KT_INTERNAL, "database %s: %s (%d)", c->file->name, text, extended);
    }
}

/* ---- statements ---- */

void sq_done(sqlite3_stmt *s) {
    if (s == NULL)
        return;
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
}

sqlite3_stmt *sq_prepare(struct sq_conn *c, const char *sql, struct kt_error *err) {
    int slot = 0;
    sqlite3_stmt *stmt = NULL;
    c->fn_error.code = KT_OK;
    for (int i = 0; i < SQ_STATEMENTS; i++) {
        if (c->cache[i].sql == NULL) {
            slot = i;
            break;
        }
        if (strcmp(c->cache[i].sql, sql) == 0 && !sqlite3_stmt_busy(c->cache[i].stmt)) {
            c->cache[i].used = ++c->tick;
            return c->cache[i].stmt;
        }
        if (c->cache[i].used < c->cache[slot].used && !sqlite3_stmt_busy(c->cache[i].stmt))
            slot = i;
    }
    int rc = sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL);
    if (rc != SQLITE_OK) {
        sq_fail(c, rc, err);
        return NULL;
    }
    char *text = strdup(sql);
    if (text == NULL) {
        sqlite3_finalize(stmt);
        kt_fail(err, KT_NO_MEMORY, "statement");
        return NULL;
    }
    sqlite3_finalize(c->cache[slot].stmt);
    free(c->cache[slot].sql);
    c->cache[slot].sql = text;
    c->cache[slot].stmt = stmt;
    c->cache[slot].used = ++c->tick;
    return stmt;
}

int sq_exec(struct sq_conn *c, const char *sql, struct kt_error *err) {
    c->fn_error.code = KT_OK;
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : sq_fail(c, rc, err);
}

void sq_bind_key(sqlite3_stmt *s, int at, struct kt_buf *key) {
    sqlite3_bind_blob64(s, at, key->data, key->len, free);
    *key = (struct kt_buf)KT_BUF_INIT;
}

/* ---- catalog ---- */

static void free_catalog(struct sq_conn *c) {
    while (c->colls != NULL) {
        struct sq_coll *coll = c->colls;
        c->colls = coll->next;
        while (coll->indexes != NULL) {
            struct sq_index *i = coll->indexes;
            coll->indexes = i->next;
            free(i->keys);
            free(i);
        }
        free(coll);
    }
    c->schema = -1;
}

/* Rows come by collection, its own row (idx '') first. */
static int load_catalog(struct sq_conn *c, struct kt_error *err) {
    free_catalog(c);
    sqlite3_stmt *s =
        sq_prepare(c, "SELECT coll, idx, keys, uniq FROM kt_catalog ORDER BY coll DESC, idx", err);
    if (s == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    int rc;
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(s, 0);
        const char *idx = (const char *)sqlite3_column_text(s, 1);
        if (idx[0] == '\0') {
            struct sq_coll *coll = calloc(1, sizeof *coll);
            if (coll == NULL)
                break;
            snprintf(coll->name, sizeof coll->name, "%s", name);
            coll->next = c->colls;
            c->colls = coll;
        } else if (c->colls != NULL) {
            struct sq_index *i = calloc(1, sizeof *i);
            if (i == NULL)
                break;
            snprintf(i->name, sizeof i->name, "%s", idx);
            i->keys = strdup((const char *)sqlite3_column_text(s, 2));
            i->unique = sqlite3_column_int(s, 3) != 0;
            i->next = c->colls->indexes;
            c->colls->indexes = i;
        }
    }
    if (rc != SQLITE_DONE) {
        int code = rc == SQLITE_ROW ? kt_fail(err, KT_NO_MEMORY, "catalog") : sq_fail(c, rc, err);
        sq_done(s);
        return code;
    }
    sq_done(s);
    return 0;
}

struct sq_coll *sq_coll(struct sq_conn *c, const char *name, int *rc, struct kt_error *err) {
    int version;
    sqlite3_stmt *s = sq_prepare(c, "PRAGMA schema_version", err);
    *rc = -KT_INTERNAL;
    if (s == NULL)
        return NULL;
    int got = sqlite3_step(s);
    if (got != SQLITE_ROW) {
        *rc = sq_fail(c, got, err);
        sq_done(s);
        return NULL;
    }
    version = sqlite3_column_int(s, 0);
    sq_done(s);
    if (version != c->schema) {
        if ((*rc = load_catalog(c, err)) != 0)
            return NULL;
        c->schema = version;
    }
    *rc = 0;
    for (struct sq_coll *coll = c->colls; coll != NULL; coll = coll->next)
        if (strcmp(coll->name, name) == 0)
            return coll;
    return NULL;
}

bool sq_indexed(const struct sq_coll *coll, const char *path) {
    size_t n = strlen(path);
    for (const struct sq_index *i = coll->indexes; i != NULL; i = i->next)
        for (const char *k = i->keys; *k != '\0'; k = strchr(k, '\n') + 1)
            if (strncmp(k + 1, path, n) == 0 && k[1 + n] == '\n')
                return true;
    return false;
}

/* ---- open and close ---- */

void sq_cache(struct sq_conn *c, int kib) {
    const char *main_db = c->file->engine->config.main_db;
    struct kt_error ignored; /* what is left is slower, not wrong */
    char sql[60];
    if (kib == 0)
        kib = main_db != NULL && strcmp(c->file->name, main_db) == 0 ? 8192 : 512;
    snprintf(sql, sizeof sql, "PRAGMA cache_size=-%d", kib);
    sq_exec(c, sql, &ignored);
}

static int settle(struct sq_conn *c, bool create, struct kt_error *err) {
    const struct kt_store_config *config = &c->file->engine->config;
    char sql[400];
    int defensive = 0, rc;
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, 5000);
    sqlite3_limit(c->db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, &defensive);
    const int pure = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
    sqlite3_create_function_v2(c->db, "kt_key1", 2, pure, c, fn_key, NULL, NULL, NULL);
    sqlite3_create_function_v2(c->db, "kt_sort1", 3, pure, c, fn_sort, NULL, NULL, NULL);
    sqlite3_create_function_v2(c->db, "kt_match", 2, SQLITE_UTF8 | SQLITE_DIRECTONLY, c, fn_match,
                               NULL, NULL, NULL);
    if (create &&
        (rc = sq_exec(c, "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL", err)) != 0)
        return rc;
    snprintf(sql, sizeof sql,
             "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
             "PRAGMA mmap_size=0; PRAGMA journal_mode=%s; PRAGMA synchronous=%s;"
             "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=67108864",
             config->journal_delete ? "DELETE" : "WAL", config->sync_normal ? "NORMAL" : "FULL");
    if ((rc = sq_exec(c, sql, err)) != 0)
        return rc;
    sq_cache(c, 0);
    sqlite3_wal_hook(c->db, committed, c);
    return 0;
}

static int check_version(struct sq_conn *c, struct kt_error *err) {
    struct kt_error why;
    sqlite3_stmt *s = sq_prepare(c, "SELECT value FROM kt_meta WHERE key='keys'", &why);
    if (s == NULL && why.code == KT_INTERNAL) { /* the table comes with the file, by a rename */
        c->file->broken = true;
        return kt_fail(err, KT_STORE_CORRUPT,
                       "database %s is damaged: it is empty, or no database of kontor",
                       c->file->name);
    }
    if (s == NULL)
        return kt_fail(err, why.code, "%s", why.message);
    int rc = sqlite3_step(s), version = rc == SQLITE_ROW ? sqlite3_column_int(s, 0) : -1;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        rc = sq_fail(c, rc, err);
    else if (version != KT_KEY_VERSION)
        rc = kt_fail(err, KT_STORE_CORRUPT, "database %s has keys of version %d, this program %d",
                     c->file->name, version, KT_KEY_VERSION);
    else
        rc = 0;
    sq_done(s);
    return rc;
}

struct sq_conn *sq_conn_open(struct sq_file *f, const char *path, bool create,
                             struct kt_error *err) {
    struct sq_conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        kt_fail(err, KT_NO_MEMORY, "connection");
        return NULL;
    }
    c->file = f;
    c->schema = -1;
    f->engine->connections++;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                SQLITE_OPEN_NOFOLLOW | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(path, &c->db, flags, NULL);
    if (rc != SQLITE_OK) {
        sq_fail(c, rc, err);
        sq_conn_close(c);
        return NULL;
    }
    if (settle(c, create, err) != 0 || (!create && check_version(c, err) != 0)) {
        sq_conn_close(c);
        return NULL;
    }
    sqlite3_progress_handler(c->db, 20000, progress, c);
    return c;
}

void sq_conn_close(struct sq_conn *c) {
    if (c == NULL)
        return;
    for (int i = 0; i < SQ_STATEMENTS; i++) {
        sqlite3_finalize(c->cache[i].stmt);
        free(c->cache[i].sql);
    }
    free_catalog(c);
    sqlite3_close(c->db);
    c->file->engine->connections--;
    free(c);
}
