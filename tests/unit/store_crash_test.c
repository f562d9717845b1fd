/* kill -9 of writers at random moments, over and over: what was answered is there, nothing is there
 * by half, every index agrees with the documents.
 *
 * Two processes write to one database in batches and say through a pipe what was answered; each is
 * killed after a random time, also while it opens, recovers or checkpoints. Then the parent opens
 * the database and looks. STORE_KILLS: how many kills (60); STORE_SEED: repeat a run. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "store/sqlite.h"

#define EXECS 6
#define JOBS 40
#define RENEW 150 /* rounds until a new database */

static char dir[64];
static uint64_t seed;

static uint64_t rnd(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static struct kt_engine *open_engine(void) {
    struct kt_store_config config = {.dir = dir, .wal_max = 200000};
    struct kt_error err;
    struct kt_engine *e = kt_engine_sqlite.open(&config, &err);
    if (e == NULL)
        fail_msg("%s", err.message);
    return e;
}

/* ---- building commits ---- */

static void utf8(bson_value_t *v, const char *text) {
    v->value_type = BSON_TYPE_UTF8;
    v->value.v_utf8.str = (char *)text;
    v->value.v_utf8.len = (uint32_t)strlen(text);
}

static void int64(bson_value_t *v, int64_t i) {
    v->value_type = BSON_TYPE_INT64;
    v->value.v_int64 = i;
}

static void where(struct kt_write *w, const char *path, const bson_value_t *v) {
    kt_filter_add(&w->filter, path, strlen(path), KT_EQ, v, NULL);
}

static void change(struct kt_write *w, enum kt_change op, const char *path, const bson_value_t *v) {
    kt_update_add(&w->update, op, path, strlen(path), v, NULL);
}

static void insert(struct kt_write *w, const char *coll, bson_t *doc) {
    w->kind = KT_INSERT;
    strcpy(w->coll, coll);
    kt_buf_add(&w->docs, bson_get_data(doc), doc->len);
    bson_destroy(doc);
}

struct note {
    char id[32];
};

/* One unit: the execution's counter goes from `from` to `from + n`, its chunk of events and a
 * marker with a unique text come with it; sometimes a job is claimed too. */
static void build(struct kt_commit *c, const char *id, int exec, int64_t from, int64_t n) {
    static char padding[24000];
    char name[48];
    bson_value_t v;
    c->writes = calloc(5, sizeof *c->writes);
    c->count = 3;
    memset(padding, 'p', sizeof padding - 1);
    struct kt_write *w = &c->writes[0];
    w->kind = KT_UPDATE;
    w->must_match = true;
    strcpy(w->coll, "execs");
    snprintf(name, sizeof name, "e%d", exec);
    utf8(&v, name);
    where(w, "_id", &v);
    int64(&v, from);
    where(w, "next", &v);
    int64(&v, n);
    change(w, KT_INC, "next", &v);

    bson_t *doc = bson_new();
    snprintf(name, sizeof name, "e%d:%lld", exec, (long long)from);
    bson_append_utf8(doc, "_id", 3, name, -1);
    bson_append_int32(doc, "exec", 4, exec);
    bson_append_int64(doc, "first", 5, from);
    bson_append_int64(doc, "n", 1, n);
    bson_append_utf8(doc, "pad", 3, padding, (int)(rnd() % sizeof padding));
    insert(&c->writes[1], "events", doc);

    doc = bson_new();
    bson_append_utf8(doc, "_id", 3, id, -1);
    bson_append_utf8(doc, "chunk", 5, name, -1);
    bson_append_utf8(doc, "u", 1, id, -1);
    insert(&c->writes[2], "marks", doc);

    if (rnd() % 3 == 0) { /* claim a job */
        char job[16];
        snprintf(job, sizeof job, "j%d", (int)(rnd() % JOBS));
        w = &c->writes[c->count++];
        w->kind = KT_UPDATE;
        w->must_match = true;
        strcpy(w->coll, "jobs");
        utf8(&v, job);
        where(w, "_id", &v);
        v.value_type = BSON_TYPE_NULL;
        where(w, "owner", &v);
        utf8(&v, id);
        change(w, KT_SET, "owner", &v);
        doc = bson_new();
        bson_append_utf8(doc, "_id", 3, job, -1);
        bson_append_utf8(doc, "owner", 5, id, -1);
        insert(&c->writes[c->count++], "claims", doc);
    }
}

struct list {
    struct kt_commit commits[24];
    int n, at;
};

static struct kt_commit *next(void *ud) {
    struct list *l = ud;
    return l->at < l->n ? &l->commits[l->at++] : NULL;
}

static int64_t counter(struct kt_engine *e, int exec) {
    struct kt_read r = {.kind = KT_FIND, .coll = "execs"};
    char name[16];
    bson_value_t v;
    bson_t doc;
    bson_iter_t it;
    int64_t at = -1;
    snprintf(name, sizeof name, "e%d", exec);
    utf8(&v, name);
    kt_filter_add(&r.filter, "_id", 3, KT_EQ, &v, NULL);
    if (e->class->read(e, "crash", &r, NULL) == 0 &&
        bson_init_static(&doc, (const uint8_t *)r.out.data, r.out.len) &&
        bson_iter_init_find(&it, &doc, "next"))
        at = bson_iter_as_int64(&it);
    kt_read_free(&r);
    return at;
}

/* Writes until it is killed. Nothing but answers goes to the pipe. */
static void writer(int fd, int who, int round) {
    struct kt_engine *e = open_engine();
    for (int serial = 0;;) {
        struct list l = {.n = 1 + (int)(rnd() % 24)};
        struct note notes[24];
        int64_t at[EXECS];
        for (int i = 0; i < EXECS; i++)
            if ((at[i] = counter(e, i)) < 0)
                _exit(3);
        for (int i = 0; i < l.n; i++) {
            int exec = (int)(rnd() % EXECS);
            int64_t n = 1 + (int64_t)(rnd() % 5);
            snprintf(notes[i].id, sizeof notes[i].id, "%d.%d.%d", round, who, serial++);
            build(&l.commits[i], notes[i].id, exec, at[exec], n);
            at[exec] += n; /* as if all before it succeed; else must_match refuses it */
        }
        while (l.at < l.n)
            e->class->write(e, "crash", next, &l);
        for (int i = 0; i < l.n; i++) {
            if (l.commits[i].rc == 0 &&
                write(fd, &notes[i], sizeof notes[i]) != (ssize_t)sizeof notes[i])
                _exit(4);
            if (l.commits[i].rc != 0 && l.commits[i].rc != -KT_CONFLICT &&
                l.commits[i].rc != -KT_ALREADY_EXISTS) {
                fprintf(stderr, "writer: %s\n", l.commits[i].error.message);
                _exit(5);
            }
            kt_commit_free(&l.commits[i]);
        }
    }
}

/* ---- looking ---- */

static struct kt_read read_all(struct kt_engine *e, const char *coll, const char *sort) {
    struct kt_read r = {.kind = KT_FIND};
    struct kt_error err;
    strcpy(r.coll, coll);
    if (sort != NULL) {
        kt_sort_add(&r.sort, sort, strlen(sort), false, NULL);
        if (strcmp(sort, "exec") == 0)
            kt_sort_add(&r.sort, "first", 5, false, NULL);
        kt_sort_finish(&r.sort);
    }
    if (strcmp(coll, "events") == 0)
        r.fields = memcpy(calloc(1, 16), "exec\0first\0n\0", 14);
    if (e->class->read(e, "crash", &r, &err) != 0)
        fail_msg("%s: %s", coll, err.message);
    return r;
}

static bool each(struct kt_read *r, size_t *at, bson_t *doc) {
    uint32_t len;
    if (*at >= r->out.len)
        return false;
    memcpy(&len, r->out.data + *at, 4);
    assert_true(bson_init_static(doc, (const uint8_t *)r->out.data + *at, len));
    *at += len;
    return true;
}

static int64_t field(const bson_t *doc, const char *name) {
    bson_iter_t it;
    assert_true(bson_iter_init_find(&it, doc, name));
    return bson_iter_as_int64(&it);
}

static int64_t count(struct kt_engine *e, const char *coll, const char *path, const char *text) {
    struct kt_read r = {.kind = KT_COUNT};
    struct kt_error err;
    bson_value_t v;
    strcpy(r.coll, coll);
    if (path != NULL) {
        v.value_type = BSON_TYPE_NULL;
        if (text != NULL)
            utf8(&v, text);
        kt_filter_add(&r.filter, path, strlen(path), KT_EQ, &v, NULL);
    }
    if (e->class->read(e, "crash", &r, &err) != 0)
        fail_msg("%s: %s", coll, err.message);
    kt_read_free(&r);
    return r.count;
}

static void look(struct kt_engine *e, const struct note *notes, int n, bool fully) {
    int64_t at[EXECS] = {0};
    size_t pos = 0;
    bson_t doc;
    for (int i = 0; i < n; i++)
        if (count(e, "marks", "_id", notes[i].id) != 1 || count(e, "marks", "u", notes[i].id) != 1)
            fail_msg("answered and lost: %s", notes[i].id);
    struct kt_read events = read_all(e, "events", "exec");
    while (each(&events, &pos, &doc)) {
        int64_t exec = field(&doc, "exec"), first = field(&doc, "first");
        if (first != at[exec])
            fail_msg("execution %d: events go on at %d, not at %d", (int)exec, (int)first,
                     (int)at[exec]);
        at[exec] += field(&doc, "n");
    }
    for (int i = 0; i < EXECS; i++)
        assert_int_equal(counter(e, i), at[i]);
    assert_int_equal(count(e, "marks", NULL, NULL), events.count); /* one marker a chunk */
    kt_read_free(&events);
    struct kt_read claims = read_all(e, "claims", NULL);
    pos = 0;
    while (each(&claims, &pos, &doc)) {
        bson_iter_t it;
        assert_true(bson_iter_init_find(&it, &doc, "owner"));
        if (count(e, "jobs", "owner", bson_iter_utf8(&it, NULL)) != 1)
            fail_msg("a claim without its job");
    }
    assert_int_equal(claims.count, JOBS - count(e, "jobs", "owner", NULL));
    kt_read_free(&claims);
    if (!fully)
        return;
    struct kt_buf report = KT_BUF_INIT;
    bson_t *summary = bson_new();
    assert_int_equal(e->class->check(e, "crash", &report, summary, NULL), 0);
    if (report.len > 0)
        fail_msg("%s", kt_buf_cstr(&report));
    bson_destroy(summary);
    kt_buf_free(&report);
}

static void run_one(struct kt_engine *e, struct kt_commit *c) {
    struct list l = {.n = 1};
    l.commits[0] = *c;
    e->class->write(e, "crash", next, &l);
    if (l.commits[0].rc != 0)
        fail_msg("%s", l.commits[0].error.message);
    kt_commit_free(&l.commits[0]);
}

static void make(void) {
    static const struct {
        const char *coll, *name, *a, *b;
        bool unique;
    } indexes[] = {{"events", "order", "exec", "first", true},
                   {"marks", "u", "u", NULL, true},
                   {"jobs", "owner", "owner", NULL, false}};
    struct kt_engine *e = open_engine();
    bool there;
    assert_int_equal(e->class->exists(e, "crash", &there, NULL), 0);
    if (there)
        assert_int_equal(e->class->drop(e, "crash", NULL), 0);
    assert_int_equal(e->class->create(e, "crash", NULL), 0);
    for (size_t i = 0; i < 3; i++) {
        struct kt_commit c = {.count = 1, .writes = calloc(1, sizeof *c.writes)};
        c.writes->kind = KT_ENSURE_INDEX;
        c.writes->unique = indexes[i].unique;
        strcpy(c.writes->coll, indexes[i].coll);
        strcpy(c.writes->index, indexes[i].name);
        kt_sort_add(&c.writes->keys, indexes[i].a, strlen(indexes[i].a), false, NULL);
        if (indexes[i].b != NULL)
            kt_sort_add(&c.writes->keys, indexes[i].b, strlen(indexes[i].b), false, NULL);
        run_one(e, &c);
    }
    struct kt_commit c = {.count = EXECS + JOBS, .writes = calloc(EXECS + JOBS, sizeof *c.writes)};
    for (int i = 0; i < EXECS + JOBS; i++) {
        char id[16];
        bson_t *doc = bson_new();
        snprintf(id, sizeof id, "%c%d", i < EXECS ? 'e' : 'j', i < EXECS ? i : i - EXECS);
        bson_append_utf8(doc, "_id", 3, id, -1);
        if (i < EXECS)
            bson_append_int64(doc, "next", 4, 0);
        else
            bson_append_null(doc, "owner", 5);
        insert(&c.writes[i], i < EXECS ? "execs" : "jobs", doc);
    }
    run_one(e, &c);
    e->class->close(e);
}

static void sleep_us(uint64_t us) {
    struct timespec t = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    nanosleep(&t, NULL);
}

static int kills_wanted(void) {
    const char *text = getenv("STORE_KILLS");
    return text != NULL ? atoi(text) : 60;
}

static void killed_writers(void **state) {
    int kills = 0, answered = 0, wanted = kills_wanted();
    (void)state;
    for (int round = 0; kills < wanted; round++) {
        static struct note notes[65536 / sizeof(struct note)];
        int fd[2], n = 0;
        pid_t pid[2];
        if (round % RENEW == 0)
            make();
        assert_int_equal(pipe(fd), 0); /* 64 KiB: more answers than a round gives */
        for (int who = 0; who < 2; who++) {
            uint64_t child_seed = rnd();
            if ((pid[who] = fork()) == 0) {
                close(fd[0]);
                seed = child_seed | 1;
                writer(fd[1], who, round);
            }
            assert_true(pid[who] > 0);
        }
        close(fd[1]);
        for (int who = 0; who < 2; who++) {
            int status;
            sleep_us(rnd() % (who == 0 ? 60000 : 20000));
            kill(pid[who], SIGKILL);
            waitpid(pid[who], &status, 0);
            if (!WIFSIGNALED(status))
                fail_msg("a writer ended by itself with %d", WEXITSTATUS(status));
            kills++;
        }
        for (ssize_t got; (got = read(fd[0], &notes[n], sizeof notes[0])) != 0;) {
            if (got < 0 && errno == EINTR)
                continue;
            assert_int_equal(got, sizeof notes[0]); /* writes of one note are atomic */
            n++;
        }
        close(fd[0]);
        answered += n;
        struct kt_engine *e = open_engine();
        look(e, notes, n, round % 15 == 14 || kills >= wanted);
        e->class->close(e);
    }
    assert_true(answered > 0);
    printf("%d kills, %d commits answered\n", kills, answered);
}

static int setup(void **state) {
    const char *text = getenv("STORE_SEED");
    (void)state;
    seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) * 2654435761u | 1;
    printf("STORE_SEED=%llu\n", (unsigned long long)seed);
    strcpy(dir, "/tmp/kt-crash-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) {
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state) {
    (void)state;
    return nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_writers, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
