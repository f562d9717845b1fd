/* A full disk: the store says so, loses nothing, goes on reading, and writes again when there is
 * room. On a small tmpfs in a mount namespace of its own; skipped where none may be made. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "store/sqlite.h"

static char dir[64];
static struct kt_engine *engine;

struct list {
    struct kt_commit commits[3];
    int n, at;
};

static struct kt_commit *next(void *ud) {
    struct list *l = ud;
    return l->at < l->n ? &l->commits[l->at++] : NULL;
}

static void add(struct list *l, const char *id, size_t size) {
    struct kt_commit *c = &l->commits[l->n++];
    char *text = malloc(size + 1);
    bson_t *doc = bson_new();
    memset(text, 't', size);
    c->count = 1;
    c->writes = calloc(1, sizeof *c->writes);
    c->writes->kind = KT_INSERT;
    strcpy(c->writes->coll, "c");
    bson_append_utf8(doc, "_id", 3, id, -1);
    bson_append_utf8(doc, "t", 1, text, (int)size);
    kt_buf_add(&c->writes->docs, bson_get_data(doc), doc->len);
    bson_destroy(doc);
    free(text);
}

static int write_one(const char *id, size_t size) {
    struct list l = {.n = 0};
    add(&l, id, size);
    engine->class->write(engine, "db", next, &l);
    kt_commit_free(&l.commits[0]);
    return l.commits[0].rc;
}

static int64_t count(void) {
    struct kt_read r = {.kind = KT_COUNT, .coll = "c"};
    int rc = engine->class->read(engine, "db", &r, NULL);
    kt_read_free(&r);
    return rc == 0 ? r.count : rc;
}

#define MUST(what)                                                                                 \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what);                                     \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int clean(void) {
    struct kt_buf report = KT_BUF_INIT;
    bson_t *summary = bson_new();
    int rc = engine->class->check(engine, "db", &report, summary, NULL);
    if (report.len > 0)
        fprintf(stderr, "%s", kt_buf_cstr(&report));
    rc = rc != 0 || report.len > 0;
    bson_destroy(summary);
    kt_buf_free(&report);
    return !rc;
}

/* In the namespace. `ballast` is a file whose end makes room. */
static int fill(void) {
    struct kt_store_config config = {.dir = dir};
    char ballast[128], rest[128], id[16];
    struct kt_error err;
    int kept = 0, rc = 0;
    snprintf(ballast, sizeof ballast, "%s/ballast", dir);
    int fd = open(ballast, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0 && posix_fallocate(fd, 0, 2 << 20) == 0);
    close(fd);
    engine = kt_engine_sqlite.open(&config, &err);
    MUST(engine != NULL);
    MUST(engine->class->create(engine, "db", NULL) == 0);
    while (kept < 1000 && (snprintf(id, sizeof id, "k%d", kept), rc = write_one(id, 20000)) == 0)
        kept++;
    MUST(kept > 10 && kept < 1000);
    MUST(rc == -KT_STORAGE_FULL);
    MUST(write_one("again", 20000) == -KT_STORAGE_FULL);
    MUST(count() == kept); /* reads go on */

    /* A batch of which one does not fit: the others are not hurt by it. */
    MUST(truncate(ballast, (2 << 20) - 400000) == 0);
    struct list l = {.n = 0};
    add(&l, "small1", 100);
    add(&l, "large", 3 << 20);
    add(&l, "small2", 100);
    while (l.at < l.n)
        engine->class->write(engine, "db", next, &l);
    MUST(l.commits[0].rc == 0 && l.commits[2].rc == 0);
    MUST(l.commits[1].rc == -KT_STORAGE_FULL);
    for (int i = 0; i < 3; i++)
        kt_commit_free(&l.commits[i]);
    MUST(count() == kept + 2);
    while ((snprintf(id, sizeof id, "f%d", kept), rc = write_one(id, 4000)) == 0)
        kept++;
    MUST(rc == -KT_STORAGE_FULL);

    /* Not a byte left: another database cannot be made, and nothing of it remains. */
    static char zeros[4096];
    bool there = true;
    snprintf(rest, sizeof rest, "%s/rest", dir);
    fd = open(rest, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        ;
    close(fd);
    rc = engine->class->create(engine, "more", &err);
    if (rc != -KT_STORAGE_FULL)
        fprintf(stderr, "%d: %s\n", rc, err.message);
    MUST(rc == -KT_STORAGE_FULL);
    MUST(engine->class->exists(engine, "more", &there, NULL) == 0 && !there);

    /* Closed and opened on the full disk. */
    engine->class->close(engine);
    engine = kt_engine_sqlite.open(&config, &err);
    MUST(engine != NULL);
    MUST(count() == kept + 2);
    MUST(unlink(ballast) == 0 && unlink(rest) == 0);
    MUST(write_one("room", 20000) == 0);
    MUST(count() == kept + 3);
    MUST(clean());
    engine->class->close(engine);
    return 0;
}

static int in_namespace(void) {
    char map[64];
    uid_t uid = geteuid();
    if (uid != 0) {
        if (unshare(CLONE_NEWUSER) != 0)
            return 77;
        int fd = open("/proc/self/uid_map", O_WRONLY);
        int n = snprintf(map, sizeof map, "0 %d 1", (int)uid);
        if (fd < 0 || write(fd, map, (size_t)n) != n)
            return 77;
        close(fd);
    }
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=0700") != 0)
        return 77;
    return fill();
}

static void full_disk(void **state) {
    int status;
    (void)state;
    strcpy(dir, "/tmp/kt-full-XXXXXX");
    assert_non_null(mkdtemp(dir));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(in_namespace());
    waitpid(pid, &status, 0);
    rmdir(dir);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("no tmpfs may be mounted here: not tested\n");
        skip();
    }
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(full_disk)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
