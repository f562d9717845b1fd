/* The data directory's lock, listening sockets, ids. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/datadir.h"
#include "core/listen.h"
#include "core/uuid.h"

static char dir[] = "/tmp/kontor-data-XXXXXX";

static int setup(void **state) {
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state) {
    (void)state;
    char path[100];
    static const char *const left[] = {"a/b/kontor.lock", "a/b/s.sock", "a/b", "a", ""};
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, left[i]);
        remove(path);
    }
    return access(dir, F_OK) == 0;
}

static void one_at_a_time(void **state) {
    (void)state;
    char path[100], pid[40];
    struct kt_error err;
    struct stat st;
    snprintf(path, sizeof path, "%s/a/b", dir);
    int lock = kt_datadir_lock(path, &err);
    assert_true(lock >= 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(kt_datadir_lock(path, &err), -KT_CONFLICT);
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_non_null(strstr(err.message, pid));
    assert_non_null(strstr(err.message, path));
    close(lock);
    lock = kt_datadir_lock(path, &err);
    assert_true(lock >= 0);
    close(lock);
}

/* The supervisor was killed, a worker that inherited the lock is just ending. */
static void waits_for_a_dying_service(void **state) {
    (void)state;
    char path[100];
    struct kt_error err;
    int up[2];
    assert_int_equal(pipe(up), 0);
    snprintf(path, sizeof path, "%s/a/b", dir);
    pid_t supervisor = fork();
    if (supervisor == 0) {
        if (kt_datadir_lock(path, &err) < 0)
            _exit(1);
        if (fork() == 0) {
            usleep(500000);
            _exit(0);
        }
        _exit(write(up[1], "x", 1) != 1);
    }
    char c;
    assert_int_equal(read(up[0], &c, 1), 1);
    assert_int_equal(waitpid(supervisor, NULL, 0), supervisor);
    int lock = kt_datadir_lock(path, &err);
    if (lock < 0)
        fail_msg("%s", err.message);
    close(lock);
    close(up[0]);
    close(up[1]);
}

static void says_what_it_cannot_make(void **state) {
    (void)state;
    struct kt_error err;
    assert_true(kt_datadir_lock("/proc/no/such", &err) < 0);
    assert_non_null(strstr(err.message, "/proc/no"));
    assert_true(kt_mkdirs("/etc/passwd", 0700, &err) < 0);
}

static void listens(void **state) {
    (void)state;
    struct kt_error err;
    char address[40], path[200];
    int fds[3], more[3], port, other;
    assert_int_equal(kt_listen_tcp("127.0.0.1:0", 3, fds, &port, &err), 0);
    assert_true(port > 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    /* SO_REUSEPORT would share it without a word. */
    assert_int_equal(kt_listen_tcp(address, 1, more, &other, &err), -KT_CONFLICT);
    assert_non_null(strstr(err.message, address));
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    assert_int_equal(kt_listen_tcp(address, 2, fds, &other, &err), 0);
    assert_int_equal(other, port);
    close(fds[0]);
    close(fds[1]);

    struct stat st;
    snprintf(path, sizeof path, "%s/a/b/s.sock", dir);
    for (int i = 0; i < 2; i++) { /* the second finds the file of the first */
        int fd = kt_listen_unix(path, &err);
        assert_true(fd >= 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        close(fd);
    }
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(kt_listen_unix(path, &err), -KT_INVALID_ARGUMENT);
}

static void ids_ascend(void **state) {
    (void)state;
    char last[KT_UUID_SIZE] = "", id[KT_UUID_SIZE];
    for (int i = 0; i < 20000; i++) {
        kt_uuid7(id);
        assert_int_equal(strlen(id), 32);
        assert_int_equal(id[12], '7');
        assert_non_null(strchr("89ab", id[16]));
        assert_true(strcmp(last, id) < 0);
        memcpy(last, id, sizeof last);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_at_a_time), cmocka_unit_test(waits_for_a_dying_service),
        cmocka_unit_test(says_what_it_cannot_make), cmocka_unit_test(listens),
        cmocka_unit_test(ids_ascend),
    };
    return cmocka_run_group_tests_name("datadir", tests, setup, teardown);
}
