/* Children: lines, bounds, every order of exit and end of file, no zombie, no descriptor of ours. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fault.h"
#include "proc/child.h"

static uv_loop_t loop;

struct seen {
    struct kt_child *child;
    int lines, errors, ends;
    size_t longest;
    char last[200], all[4000];
    struct kt_child_end end;
    int pause_after, pauses;
    uv_timer_t timer;
};

static void on_unpause(uv_timer_t *timer) {
    struct seen *s = timer->data;
    kt_child_pause(s->child, false);
    uv_close((uv_handle_t *)timer, NULL);
}

static void on_line(void *ud, int stream, char *line, size_t len) {
    struct seen *s = ud;
    if (stream == 2)
        s->errors++;
    else
        s->lines++;
    if (len > s->longest)
        s->longest = len;
    snprintf(s->last, sizeof s->last, "%s", line);
    if (strlen(s->all) + len + 2 < sizeof s->all)
        strcat(strcat(s->all, line), "\n");
    if (s->pause_after != 0 && s->lines == s->pause_after) {
        s->pause_after = 0;
        s->pauses++;
        kt_child_pause(s->child, true);
        uv_timer_init(&loop, &s->timer);
        s->timer.data = s;
        uv_timer_start(&s->timer, on_unpause, 1500, 0);
    }
}

static void on_end(void *ud, const struct kt_child_end *end) {
    struct seen *s = ud;
    s->ends++;
    s->end = *end;
}

static void start(struct seen *s, const char *script, size_t line_max) {
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    const char *env[] = {"PATH=/usr/bin:/bin", NULL};
    struct kt_child_options o = {.argv = argv, .env = env, .line_max = line_max,
                                 .line = on_line, .end = on_end, .ud = s};
    struct kt_error err;
    s->child = kt_child_spawn(&loop, &o, &err);
    if (s->child == NULL)
        fail_msg("%s", err.message);
}

static int open_fds(void) {
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static int fds_before;

static int setup(void **state) {
    (void)state;
    uv_loop_init(&loop);
    fds_before = open_fds();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(kt_child_count(), 0);
    assert_int_equal(open_fds() <= fds_before + 2, 1); /* libuv's signal pipe may have come */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(uv_loop_close(&loop), 0);
    return 0;
}

static void run(struct seen *s, const char *script, size_t line_max) {
    start(s, script, line_max);
    kt_child_close_stdin(s->child);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s->ends, 1);
    kt_child_free(s->child);
}

static void frames_lines(void **state) {
    (void)state;
    struct seen s = {0};
    run(&s, "printf 'a\\n\\nb'; sleep 0.1; printf 'c\\nlast'; echo oops >&2; exit 3", 0);
    assert_string_equal(strstr(s.all, "a\n\n") ? "found" : s.all, "found");
    assert_non_null(strstr(s.all, "bc\n"));
    assert_non_null(strstr(s.all, "last\n"));
    assert_int_equal(s.lines, 4);
    assert_int_equal(s.errors, 1);
    assert_int_equal(s.end.exit_code, 3);
    assert_int_equal(s.end.code, KT_OK);
}

static void has_only_three_descriptors(void **state) {
    (void)state;
    int leak = open("/dev/null", O_RDONLY); /* on purpose without O_CLOEXEC */
    int high = fcntl(leak, F_DUPFD, 200);
    struct seen s = {0};
    run(&s, "exec ls /proc/self/fd", 0);
    close(leak);
    close(high);
    assert_string_equal(s.all, "0\n1\n2\n3\n"); /* 3 is the folder that ls reads */
}

static void bounds_a_line(void **state) {
    (void)state;
    struct seen s = {0};
    run(&s, "echo short; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo never", 100000);
    assert_int_equal(s.end.code, KT_OUTPUT_LIMIT);
    assert_int_equal(s.end.signal, SIGKILL);
    assert_int_equal(s.lines, 1);
}

static void cuts_stderr(void **state) {
    (void)state;
    struct seen s = {0};
    run(&s, "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo after >&2", 0);
    assert_int_equal(s.errors, 2);
    assert_int_equal(s.longest, 4096);
    assert_string_equal(s.last, "after");
    assert_int_equal(s.end.exit_code, 0);
}

/* Gone, or dead and only not yet reaped by whoever is process 1 here. */
static bool dead(int pid) {
    char path[40], text[300] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return true;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *name_end = strrchr(text, ')');
    return name_end != NULL && name_end[2] == 'Z';
}

static void ends_although_a_grandchild_holds_the_pipe(void **state) {
    (void)state;
    struct seen s = {0};
    run(&s, "sleep 1000 & echo $!; exit 0", 0);
    assert_int_equal(s.end.exit_code, 0);
    int pid = atoi(s.last), tries = 0; /* killed with its group; a signal takes its time */
    while (!dead(pid) && tries++ < 500)
        usleep(10000);
    assert_true(dead(pid));
}

static void kills_what_ignores_term(void **state) {
    (void)state;
    struct seen s = {0};
    start(&s, "trap '' TERM; echo up; while :; do sleep 0.1; done", 0);
    while (s.lines == 0)
        uv_run(&loop, UV_RUN_ONCE);
    kt_child_stop(s.child, 0.2);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.end.signal, SIGKILL);
    kt_child_free(s.child);
}

static void takes_default_signals(void **state) {
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    struct seen s = {0};
    start(&s, "echo up; while :; do sleep 0.1; done", 0);
    while (s.lines == 0)
        uv_run(&loop, UV_RUN_ONCE);
    kill(kt_child_pid(s.child), SIGPIPE);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s.end.signal, SIGPIPE);
    kt_child_free(s.child);
}

static void may_be_freed_at_any_time(void **state) {
    (void)state;
    struct seen s[3] = {0};
    start(&s[0], "sleep 1000", 0);
    start(&s[1], "echo x; exit 0", 0);
    start(&s[2], "exit 0", 0);
    kt_child_free(s[0].child);
    usleep(100000);
    kt_child_free(s[1].child);
    uv_run(&loop, UV_RUN_NOWAIT);
    kt_child_free(s[2].child);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(s[0].ends + s[1].ends, 0);
}

static int written = 1;
static void on_written(void *ud, int status) {
    (void)ud;
    written = status;
}

static void writes_to_stdin(void **state) {
    (void)state;
    struct seen s = {0};
    start(&s, "read a; read b; echo \"$b$a\"; cat >/dev/null", 0);
    assert_int_equal(kt_child_write(s.child, "one\ntwo\n", 8, on_written, NULL, NULL), 0);
    kt_child_close_stdin(s.child);
    struct kt_error err;
    assert_int_equal(kt_child_write(s.child, "x", 1, NULL, NULL, &err), -KT_INVALID_STATE);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_string_equal(s.last, "twoone");
    assert_int_equal(written, 0);
    kt_child_free(s.child);
}

static void a_child_that_never_reads_is_an_error_of_the_write(void **state) {
    (void)state;
    struct seen s = {0};
    static char big[1 << 20];
    written = 1;
    start(&s, "exec 0<&-; sleep 0.1; exit 0", 0);
    usleep(50000);
    assert_int_equal(kt_child_write(s.child, big, sizeof big, on_written, NULL, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(written < 0);
    kt_child_free(s.child);
}

static void a_paused_reader_loses_nothing(void **state) {
    (void)state;
    struct seen s = {.pause_after = 10};
    run(&s, "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done", 0);
    assert_int_equal(s.pauses, 1);
    assert_int_equal(s.lines, 20000);
    assert_string_equal(s.last, "19999");
}

static void says_why_it_cannot_start(void **state) {
    (void)state;
    struct seen s = {0};
    struct kt_error err;
    const char *argv[] = {"/nonexistent/program", NULL}, *env[] = {NULL};
    struct kt_child_options o = {.argv = argv, .env = env, .line = on_line, .end = on_end, .ud = &s};
    assert_null(kt_child_spawn(&loop, &o, &err));
    assert_int_equal(err.code, KT_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/program"));
    kt_fault_arm("child.spawn", 1);
    argv[0] = "/bin/true";
    assert_null(kt_child_spawn(&loop, &o, &err));
    assert_int_equal(kt_child_count(), 0);
}

int main(void) {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(frames_lines), T(has_only_three_descriptors), T(bounds_a_line), T(cuts_stderr),
        T(ends_although_a_grandchild_holds_the_pipe), T(kills_what_ignores_term),
        T(takes_default_signals), T(may_be_freed_at_any_time), T(writes_to_stdin),
        T(a_child_that_never_reads_is_an_error_of_the_write), T(a_paused_reader_loses_nothing),
        T(says_why_it_cannot_start),
    };
    return cmocka_run_group_tests_name("child", tests, NULL, NULL);
}
