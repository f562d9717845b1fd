/* Watching a tree: what is told, once, also from folders that came later. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/watch.h"

static char dir[] = "/tmp/kontor-watch-XXXXXX";
static uv_loop_t loop;
static char told[2000];
static int calls;

static void changed(void *ud, const char *path) {
    (void)ud;
    strcat(strcat(told, path), "\n");
    calls++;
}

static void stop(uv_timer_t *timer) {
    uv_stop(timer->loop);
}

/* Turn the loop until `want` was told, at most ten seconds. */
static void until(const char *want) {
    uv_timer_t limit;
    uv_timer_init(&loop, &limit);
    uv_timer_start(&limit, stop, 100, 100);
    for (int i = 0; i < 100 && strstr(told, want) == NULL; i++)
        uv_run(&loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&limit, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
    if (strstr(told, want) == NULL)
        fail_msg("not told of \"%s\", but of:\n%s", want, told);
}

static void put(const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void folder(const char *name) {
    char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void tells_of_the_whole_tree(void **state) {
    (void)state;
    assert_non_null(mkdtemp(dir));
    uv_loop_init(&loop);
    folder("a");
    folder("a/b");
    put("a/b/old.lua", "1");
    struct kt_watch *w = kt_watch_open(&loop, dir, changed, NULL, NULL);
    assert_non_null(w);

    put("a/b/old.lua", "2");
    put("a/b/old.lua", "3");
    put("a/.swp", "x");
    put("a/x.lua~", "x");
    until("a/b/old.lua\n");
    assert_int_equal(calls, 1);

    folder("new");
    folder("new/deep");
    put("new/deep/r.lua", "1");
    until("new/deep/r.lua\n");

    char path[200];
    snprintf(path, sizeof path, "%s/a/b/old.lua", dir);
    told[0] = '\0';
    assert_int_equal(unlink(path), 0);
    until("a/b/old.lua\n");

    kt_watch_close(w);
    put("a/after.lua", "1");
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_null(strstr(told, "after"));
    assert_int_equal(kt_watch_count(), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    snprintf(path, sizeof path, "rm -r %s", dir);
    assert_int_equal(system(path), 0);
}

static void says_what_it_cannot_watch(void **state) {
    (void)state;
    struct kt_error err;
    uv_loop_init(&loop);
    assert_null(kt_watch_open(&loop, "/nonexistent/x", changed, NULL, &err));
    assert_int_equal(err.code, KT_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/x"));
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(kt_watch_count(), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tells_of_the_whole_tree),
                                       cmocka_unit_test(says_what_it_cannot_watch)};
    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
