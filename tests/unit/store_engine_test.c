/* The SQLite engine without a loop: batches, isolation, damage, handles, two programs on one file.
 */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/fault.h"
#include "store/sqlite.h"

static char dir[64];
static struct kt_engine *engine;

static struct kt_engine *open_engine(int open_max) {
    struct kt_store_config config = {.dir = dir, .open_max = open_max};
    struct kt_error err;
    struct kt_engine *e = kt_engine_sqlite.open(&config, &err);
    if (e == NULL)
        fail_msg("%s", err.message);
    return e;
}

static int setup(void **state) {
    (void)state;
    strcpy(dir, "/tmp/kt-engine-XXXXXX");
    assert_non_null(mkdtemp(dir));
    engine = open_engine(0);
    assert_int_equal(engine->class->create(engine, "db", NULL), 0);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state) {
    (void)state;
    kt_fault_clear();
    engine->class->close(engine);
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void set_utf8(bson_value_t *v, const char *text) {
    v->value_type = BSON_TYPE_UTF8;
    v->value.v_utf8.str = (char *)text;
    v->value.v_utf8.len = (uint32_t)strlen(text);
}

static void add_doc(struct kt_write *w, const char *coll, const char *json) {
    bson_error_t error;
    bson_t *doc = bson_new_from_json((const uint8_t *)json, -1, &error);
    if (doc == NULL)
        fail_msg("%s: %s", json, error.message);
    w->kind = KT_INSERT;
    strcpy(w->coll, coll);
    kt_buf_add(&w->docs, bson_get_data(doc), doc->len);
    bson_destroy(doc);
}

struct list {
    struct kt_commit *commits;
    int n, at;
};

static struct kt_commit *next(void *ud) {
    struct list *l = ud;
    return l->at < l->n ? &l->commits[l->at++] : NULL;
}

static int insert(struct kt_engine *e, const char *db, const char *coll, const char *json) {
    struct kt_commit c = {.count = 1};
    struct list l = {&c, 1, 0};
    c.writes = calloc(1, sizeof *c.writes);
    add_doc(c.writes, coll, json);
    e->class->write(e, db, next, &l);
    kt_commit_free(&c);
    return c.rc;
}

static int64_t count_all(struct kt_engine *e, const char *db, const char *coll) {
    struct kt_read r = {.kind = KT_COUNT};
    struct kt_error err;
    strcpy(r.coll, coll);
    int rc = e->class->read(e, db, &r, &err);
    kt_read_free(&r);
    return rc == 0 ? r.count : rc;
}

static void clean(struct kt_engine *e, const char *db) {
    struct kt_buf report = KT_BUF_INIT;
    bson_t *summary = bson_new();
    assert_int_equal(e->class->check(e, db, &report, summary, NULL), 0);
    if (report.len > 0)
        fail_msg("%s", kt_buf_cstr(&report));
    bson_destroy(summary);
    kt_buf_free(&report);
}

static int index_on(struct kt_engine *e, const char *coll, const char *name, const char *path,
                    const char *second, bool unique) {
    struct kt_commit c = {.count = 1};
    struct list l = {&c, 1, 0};
    c.writes = calloc(1, sizeof *c.writes);
    c.writes->kind = KT_ENSURE_INDEX;
    c.writes->unique = unique;
    strcpy(c.writes->coll, coll);
    strcpy(c.writes->index, name);
    kt_sort_add(&c.writes->keys, path, strlen(path), false, NULL);
    if (second != NULL)
        kt_sort_add(&c.writes->keys, second, strlen(second), true, NULL);
    e->class->write(e, "db", next, &l);
    kt_commit_free(&c);
    return c.rc;
}

/* Ten commits in one batch, some of which fail in the middle of what they do. */
static void batch_isolates(void **state) {
    struct kt_commit commits[10] = {0};
    struct list l = {commits, 10, 0};
    (void)state;
    for (int i = 0; i < 10; i++) {
        char json[100];
        commits[i].count = 3;
        commits[i].writes = calloc(3, sizeof *commits[i].writes);
        for (int k = 0; k < 3; k++) {
            /* every third commit repeats an id of the one before it in its last write, after it
             * made a collection of its own */
            int id = i % 3 == 2 && k == 2 ? (i - 1) * 3 : i * 3 + k;
            snprintf(json, sizeof json, "{\"_id\":\"d%02d\"}", id);
            add_doc(&commits[i].writes[k], k == 0 && i % 3 == 2 ? "other" : "things", json);
        }
    }
    while (l.at < l.n) /* a slow machine makes more than one batch of them */
        assert_true(engine->class->write(engine, "db", next, &l) > 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(commits[i].rc, i % 3 == 2 ? -KT_ALREADY_EXISTS : 0);
        assert_int_equal(commits[i].failed_at, i % 3 == 2 ? 2 : -1);
        kt_commit_free(&commits[i]);
    }
    assert_int_equal(count_all(engine, "db", "things"), 21);
    assert_int_equal(count_all(engine, "db", "other"), 0);
    clean(engine, "db");
}

/* A failed COMMIT: an error that undoes nothing more than itself, or everybody's unknown outcome.
 */
static void failed_fsync(void **state) {
    struct kt_commit commits[3] = {0};
    struct list l = {commits, 3, 0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        char json[40];
        commits[i].count = 1;
        commits[i].writes = calloc(1, sizeof *commits[i].writes);
        snprintf(json, sizeof json, "{\"_id\":\"%d\"}", i);
        add_doc(commits[i].writes, "things", json);
    }
    kt_fault_arm("store.fsync", 1);
    int together = engine->class->write(engine, "db", next, &l);
    assert_true(together > 0);
    while (l.at < l.n)
        engine->class->write(engine, "db", next, &l);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(commits[i].rc, i < together ? -KT_OUTCOME_UNKNOWN : 0);
        assert_true(commits[i].outcome_unknown == (i < together));
        kt_commit_free(&commits[i]);
    }
    assert_int_equal(insert(engine, "db", "things", "{\"_id\":\"0\"}"), 0);
    clean(engine, "db");
}

static void damaged_file(void **state) {
    char path[128], junk[4096];
    (void)state;
    assert_int_equal(engine->class->create(engine, "bad", NULL), 0);
    for (int i = 0; i < 300; i++) {
        char json[300];
        snprintf(json, sizeof json, "{\"_id\":\"%d\",\"s\":\"%0200d\"}", i, i);
        assert_int_equal(insert(engine, "bad", "things", json), 0);
    }
    engine->class->close(engine);
    snprintf(path, sizeof path, "%s/bad.db", dir);
    int fd = open(path, O_WRONLY);
    memset(junk, 0x5a, sizeof junk);
    for (int page = 3; page < 12; page++)
        assert_int_equal(pwrite(fd, junk, sizeof junk, page * 4096), sizeof junk);
    close(fd);
    engine = open_engine(0);
    assert_int_equal(count_all(engine, "bad", "things"), -KT_STORE_CORRUPT);
    assert_int_equal(count_all(engine, "bad", "things"), -KT_STORE_CORRUPT); /* set aside now */
    assert_int_equal(insert(engine, "bad", "things", "{\"_id\":\"x\"}"), -KT_STORE_CORRUPT);
    struct kt_store_stats stats;
    engine->class->stats(engine, &stats);
    assert_int_equal(stats.quarantined, 1);
    assert_int_equal(insert(engine, "db", "things", "{\"_id\":\"x\"}"), 0); /* the others go on */
    struct kt_buf report = KT_BUF_INIT;
    bson_t *summary = bson_new();
    assert_int_equal(engine->class->check(engine, "bad", &report, summary, NULL), 0);
    assert_true(report.len > 0);
    bson_destroy(summary);
    kt_buf_free(&report);
    /* Another file under the name (a restored backup) is served again. */
    unlink(path);
    assert_int_equal(engine->class->create(engine, "bad", NULL), 0);
    assert_int_equal(count_all(engine, "bad", "things"), 0);
    /* A file that is no database at all. */
    assert_int_equal(engine->class->create(engine, "text", NULL), 0);
    snprintf(path, sizeof path, "%s/text.db", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 2000; i++)
        fputs("not a database ", f);
    fclose(f);
    assert_int_equal(count_all(engine, "text", "things"), -KT_STORE_CORRUPT);
}

static int open_fds(void) {
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void few_handles(void **state) {
    struct kt_store_stats stats;
    char name[32];
    (void)state;
    engine->class->close(engine);
    int before = open_fds();
    engine = open_engine(4);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 40; i++) {
            snprintf(name, sizeof name, "t%02d", i);
            if (round == 0)
                assert_int_equal(engine->class->create(engine, name, NULL), 0);
            assert_int_equal(insert(engine, name, "c", round == 0 ? "{\"_id\":1}" : "{\"_id\":2}"),
                             0);
            assert_int_equal(count_all(engine, name, "c"), round + 1);
            engine->class->stats(engine, &stats);
            assert_true(stats.open_databases <= 4);
        }
    assert_true(open_fds() - before <= 4 * 8);
    engine->class->close(engine);
    assert_int_equal(open_fds(), before);
    engine = open_engine(0);
}

/* The other program dropped and made the database anew: nothing goes to the old file. */
static void replaced_below_us(void **state) {
    struct kt_engine *other = open_engine(0);
    (void)state;
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":1}"), 0);
    assert_int_equal(count_all(other, "db", "c"), 1);
    assert_int_equal(other->class->drop(other, "db", NULL), 0);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":2}"), -KT_NOT_FOUND);
    assert_int_equal(count_all(engine, "db", "c"), -KT_NOT_FOUND);
    assert_int_equal(other->class->create(other, "db", NULL), 0);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":3}"), 0);
    assert_int_equal(count_all(other, "db", "c"), 1);
    other->class->close(other);
    clean(engine, "db");
}

/* Two processes count one field up: every increment is there. */
static void two_processes(void **state) {
    (void)state;
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":\"n\",\"v\":0}"), 0);
    engine->class->close(engine);
    pid_t pid[2];
    for (int p = 0; p < 2; p++)
        if ((pid[p] = fork()) == 0) {
            engine = open_engine(0);
            for (int i = 0; i < 150; i++) {
                struct kt_commit c = {.count = 1};
                struct list l = {&c, 1, 0};
                bson_value_t one = {.value_type = BSON_TYPE_INT64, .value = {.v_int64 = 1}}, id;
                set_utf8(&id, "n");
                c.writes = calloc(1, sizeof *c.writes);
                c.writes->kind = KT_UPDATE;
                strcpy(c.writes->coll, "c");
                kt_filter_add(&c.writes->filter, "_id", 3, KT_EQ, &id, NULL);
                kt_update_add(&c.writes->update, KT_INC, "v", 1, &one, NULL);
                engine->class->write(engine, "db", next, &l);
                if (c.rc != 0 || c.writes->modified != 1)
                    _exit(1);
                kt_commit_free(&c);
            }
            engine->class->close(engine);
            _exit(0);
        }
    for (int p = 0; p < 2; p++) {
        int status;
        waitpid(pid[p], &status, 0);
        assert_int_equal(status, 0);
    }
    engine = open_engine(0);
    struct kt_read r = {.kind = KT_FIND, .coll = "c"};
    bson_t doc;
    bson_iter_t it;
    assert_int_equal(engine->class->read(engine, "db", &r, NULL), 0);
    assert_true(bson_init_static(&doc, (const uint8_t *)r.out.data, r.out.len));
    assert_true(bson_iter_init_find(&it, &doc, "v"));
    assert_int_equal(bson_iter_as_int64(&it), 300);
    kt_read_free(&r);
}

/* A filter or sort that an index fits is not answered by reading everything. */
static void uses_indexes(void **state) {
    static const struct {
        const char *eq, *range, *sort;
        bool desc;
        int scan, sorted; /* expected: full scan steps, sorts */
    } cases[] = {
        {"day", NULL, NULL, false, 0, 0},   {NULL, "day", NULL, false, 0, 0},
        {"day", "at", "at", true, 0, 0},    {"_id", NULL, NULL, false, 0, 0},
        {NULL, NULL, "day", false, 0, 0},   {"other", NULL, NULL, false, 1, 0},
        {NULL, NULL, "other", false, 1, 1},
    };
    struct kt_error err;
    int rc;
    (void)state;
    assert_int_equal(index_on(engine, "u", "day", "day", "at", false), 0);
    for (int i = 0; i < 50; i++) {
        char json[100];
        snprintf(json, sizeof json, "{\"_id\":\"%d\",\"day\":\"d%d\",\"at\":%d,\"other\":%d}", i,
                 i % 5, i, i);
        assert_int_equal(insert(engine, "db", "u", json), 0);
    }
    struct sq_file *f = sq_file_acquire((struct sq_engine *)engine, "db", &err);
    struct sq_conn *c = sq_reader_get(f, &err);
    struct sq_coll *coll = sq_coll(c, "u", &rc, &err);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_filter filter = {0};
        struct kt_sort sort = {0};
        bson_value_t v;
        set_utf8(&v, "d1");
        if (cases[i].eq != NULL)
            kt_filter_add(&filter, cases[i].eq, strlen(cases[i].eq), KT_EQ, &v, NULL);
        if (cases[i].range != NULL)
            kt_filter_add(&filter, cases[i].range, strlen(cases[i].range), KT_LTE, &v, NULL);
        if (cases[i].sort != NULL)
            kt_sort_add(&sort, cases[i].sort, strlen(cases[i].sort), cases[i].desc, NULL);
        struct sq_query q = {.what = "doc", .filter = &filter, .sort = &sort};
        sqlite3_stmt *s = sq_select(c, coll, &q, &err);
        assert_non_null(s);
        sqlite3_stmt_status(s, SQLITE_STMTSTATUS_FULLSCAN_STEP, 1);
        sqlite3_stmt_status(s, SQLITE_STMTSTATUS_SORT, 1);
        while (sqlite3_step(s) == SQLITE_ROW)
            ;
        int scan = sqlite3_stmt_status(s, SQLITE_STMTSTATUS_FULLSCAN_STEP, 0) > 0;
        int sorts = sqlite3_stmt_status(s, SQLITE_STMTSTATUS_SORT, 0);
        if (cases[i].sort != NULL && cases[i].eq == NULL && !cases[i].scan)
            scan = 0; /* the whole index in order, on purpose */
        if (scan != cases[i].scan || sorts != cases[i].sorted)
            fail_msg("case %zu: scan %d, sorts %d: %s", i, scan, sorts, sqlite3_sql(s));
        sq_done(s);
        kt_filter_free(&filter);
    }
    sq_reader_put(c);
    sq_file_release(f);
}

/* Long strings that differ only behind the part that keys keep. */
static void long_keys(void **state) {
    char json[1400], text[1000];
    (void)state;
    assert_int_equal(index_on(engine, "l", "s", "s", NULL, true), 0);
    memset(text, 'k', sizeof text);
    text[999] = '\0';
    for (char tail = 'a'; tail <= 'e'; tail++) {
        text[998] = tail;
        snprintf(json, sizeof json, "{\"_id\":\"%c\",\"s\":\"%s\"}", tail, text);
        assert_int_equal(insert(engine, "db", "l", json), 0);
    }
    static const struct {
        enum kt_cmp op;
        int want;
    } cases[] = {{KT_GT, 2}, {KT_GTE, 3}, {KT_LT, 2}, {KT_LTE, 3}, {KT_EQ, 1}, {KT_PREFIX, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kt_read r = {.kind = KT_COUNT, .coll = "l"};
        bson_value_t v;
        text[998] = 'c';
        set_utf8(&v, text);
        kt_filter_add(&r.filter, "s", 1, cases[i].op, &v, NULL);
        assert_int_equal(engine->class->read(engine, "db", &r, NULL), 0);
        assert_int_equal(r.count, cases[i].want);
        kt_read_free(&r);
    }
}

static void deadline_and_cancel(void **state) {
    struct kt_error err;
    struct kt_commit c = {.count = 1};
    struct list l = {&c, 1, 0};
    (void)state;
    c.writes = calloc(1, sizeof *c.writes);
    for (int i = 0; i < 5000; i++) {
        char json[40];
        snprintf(json, sizeof json, "{\"_id\":%d}", i);
        add_doc(c.writes, "c", json);
    }
    engine->class->write(engine, "db", next, &l);
    assert_int_equal(c.rc, 0);
    kt_commit_free(&c);
    struct kt_read r = {.kind = KT_COUNT, .coll = "c"};
    r.limits.until_ns = 1;
    assert_int_equal(engine->class->read(engine, "db", &r, &err), -KT_DEADLINE_EXCEEDED);
    r.limits.until_ns = 0;
    r.limits.cancelled = true;
    assert_int_equal(engine->class->read(engine, "db", &r, &err), -KT_CANCELLED);
    /* in the middle of a scan: the matcher looks every 256 rows */
    struct kt_limit limit = {.until_ns = 1};
    struct sq_file *f = sq_file_acquire((struct sq_engine *)engine, "db", &err);
    struct sq_conn *conn = sq_reader_get(f, &err);
    int rc;
    struct sq_coll *coll = sq_coll(conn, "c", &rc, &err);
    bson_value_t one = {.value_type = BSON_TYPE_INT64, .value = {.v_int64 = 1}};
    kt_filter_add(&r.filter, "x", 1, KT_EQ, &one, NULL);
    struct sq_query q = {.what = "1", .filter = &r.filter};
    sqlite3_stmt *s = sq_select(conn, coll, &q, &err);
    conn->limit = &limit;
    int step = sqlite3_step(s);
    assert_int_not_equal(step, SQLITE_DONE);
    assert_int_equal(sq_fail(conn, step, &err), -KT_DEADLINE_EXCEEDED);
    sq_done(s);
    sq_reader_put(conn);
    sq_file_release(f);
    kt_read_free(&r);
}

/* The log is written back after a while without writes, and at once when it is large. */
static void checkpoints(void **state) {
    struct kt_store_stats stats;
    struct stat st;
    char path[128], json[61000], text[60000];
    (void)state;
    snprintf(path, sizeof path, "%s/db.db-wal", dir);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":1}"), 0);
    engine->class->tidy(engine); /* too early */
    engine->class->stats(engine, &stats);
    assert_true(stats.wal_bytes > 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size > 0);
    struct sq_file *f = sq_file_acquire((struct sq_engine *)engine, "db", NULL);
    f->last_write_ns = 0;
    sq_file_release(f);
    engine->class->tidy(engine);
    engine->class->stats(engine, &stats);
    assert_int_equal(stats.wal_bytes, 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    int64_t most = 0;
    for (int i = 0; i < 90; i++) {
        snprintf(json, sizeof json, "{\"_id\":\"%d\",\"t\":\"%s\"}", i, text);
        assert_int_equal(insert(engine, "db", "c", json), 0);
        assert_int_equal(stat(path, &st), 0);
        most = st.st_size > most ? st.st_size : most;
    }
    assert_true(most < SQ_WAL_MAX + 200000);
    assert_int_equal(count_all(engine, "db", "c"), 91);
    clean(engine, "db");
}

/* journal_mode=DELETE and back: the same data, no log beside it. */
static void without_wal(void **state) {
    struct kt_store_config config = {.dir = dir, .journal_delete = true};
    struct stat st;
    char path[128];
    (void)state;
    snprintf(path, sizeof path, "%s/db.db-wal", dir);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":1}"), 0);
    engine->class->close(engine);
    engine = kt_engine_sqlite.open(&config, NULL);
    assert_int_equal(count_all(engine, "db", "c"), 1);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":2}"), 0);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":2}"), -KT_ALREADY_EXISTS);
    assert_int_equal(count_all(engine, "db", "c"), 2);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(engine->class->create(engine, "new", NULL), 0);
    assert_int_equal(insert(engine, "new", "c", "{\"_id\":1}"), 0);
    engine->class->tidy(engine);
    clean(engine, "db");
    engine->class->close(engine);
    engine = open_engine(0);
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":3}"), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(count_all(engine, "db", "c"), 3);
}

static void files_are_ours_alone(void **state) {
    static const char *const names[] = {"db.db", "db.db-wal", "db.db-shm", "db.db.lock"};
    char path[128];
    struct stat st;
    (void)state;
    assert_int_equal(insert(engine, "db", "c", "{\"_id\":1}"), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 077, 0);
    }
}

static void symbolic_links(void **state) {
    char from[128], to[128];
    (void)state;
    snprintf(from, sizeof from, "%s/db.db", dir);
    snprintf(to, sizeof to, "%s/link.db", dir);
    assert_int_equal(symlink(from, to), 0);
    assert_int_equal(count_all(engine, "link", "c"), -KT_STORE_UNAVAILABLE);
    assert_int_equal(insert(engine, "link", "c", "{\"_id\":1}"), -KT_STORE_UNAVAILABLE);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(batch_isolates),      CASE(failed_fsync),  CASE(damaged_file), CASE(few_handles),
        CASE(replaced_below_us),   CASE(two_processes), CASE(uses_indexes), CASE(long_keys),
        CASE(deadline_and_cancel), CASE(checkpoints),   CASE(without_wal),  CASE(symbolic_links),
        CASE(files_are_ours_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
