/* The limits of an analyst process, each tried in a child of its own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proc/limits.h"

#define MEMORY (512u << 20)

/* The exit code of fn in a limited child; 128 + signal when one ended it. */
static int in_child(int (*fn)(void), int steps) {
    pid_t pid = fork();
    if (pid == 0) {
        struct kt_error err;
        if (kt_limits_apply(MEMORY, 1, getppid(), &err) != 0 || kt_limits_no_world(&err) != 0 ||
            (steps == 2 && kt_limits_no_files(&err) != 0)) {
            fprintf(stderr, "%s\n", err.message);
            _exit(99);
        }
        _exit(fn());
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int works(void) {
    /* What the JIT does, and reading a file that was open or may be opened. */
    char *code = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED || mprotect(code, 65536, PROT_READ | PROT_EXEC) != 0)
        return 1;
    FILE *file = fopen("/etc/passwd", "r");
    char line[100];
    if (file == NULL || fgets(line, sizeof line, file) == NULL)
        return 2;
    fclose(file);
    free(malloc(100 << 20));
    return 0;
}

static int takes_too_much(void) {
    return mmap(NULL, 2u * MEMORY, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 0 : 1;
}

static int burns(void) {
    for (volatile unsigned long i = 1; i != 0; i++)
        ;
    return 0;
}

static int file_ends = -1;
static int writes_a_file(void) {
    return write(file_ends, "x", 1) < 0 && errno == EFBIG ? 0 : 1;
}

static int opens_to_write(void) {
    return open("/dev/null", O_WRONLY) < 0 && errno == EPERM &&
                   open("/tmp/kontor-x", O_RDONLY | O_CREAT, 0600) < 0 && errno == EPERM &&
                   open("/tmp", O_TMPFILE | O_RDWR, 0600) < 0
               ? 0
               : 1;
}

static int reaches_out(void) {
    char *argv[] = {(char *)"/bin/true", NULL};
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM || socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
        return 1;
    execv(argv[0], argv);
    if (errno != EPERM || fork() >= 0)
        return 2;
    return kill(getppid(), 0) < 0 && errno == EPERM && unlink("/tmp/kontor-x") < 0 && errno == EPERM
               ? 0
               : 3;
}

static int opens(void) {
    return open("/etc/passwd", O_RDONLY) < 0 && errno == EPERM ? 0 : 1;
}

static void leaves_work_alone(void **state) {
    (void)state;
    assert_int_equal(in_child(works, 1), 0);
}

static void bounds_resources(void **state) {
    (void)state;
    assert_int_equal(in_child(burns, 1), 128 + SIGXCPU);
#ifndef KT_ASAN
    char path[] = "/tmp/kontor-limits-XXXXXX";
    file_ends = mkstemp(path);
    unlink(path);
    assert_int_equal(in_child(writes_a_file, 1), 0);
    close(file_ends);
    assert_int_equal(in_child(takes_too_much, 1), 0);
#endif
}

static void shuts_the_world_out(void **state) {
    (void)state;
#ifdef KT_ASAN
    skip();
#endif
    assert_int_equal(in_child(opens_to_write, 1), 0);
    assert_int_equal(in_child(reaches_out, 1), 0);
    assert_int_equal(in_child(opens, 2), 0);
}

int main(void) {
    (void)writes_a_file;
    (void)takes_too_much;
    (void)opens;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_work_alone),
        cmocka_unit_test(bounds_resources),
        cmocka_unit_test(shuts_the_world_out),
    };
    return cmocka_run_group_tests_name("limits", tests, NULL, NULL);
}
