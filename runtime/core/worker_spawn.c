/* posix_spawn of a worker: descriptors 3..6, a clean signal state, its name in the environment. */
#include "core/worker_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/home.h"
#include "core/uuid.h"
#include "core/worker.h"

extern char **environ;

/* environ with `entry` added; the strings stay shared. */
static char **with(char *entry) {
    size_t n = 0;
    while (environ[n] != NULL)
        n++;
    char **copy = calloc(n + 2, sizeof *copy);
    if (copy != NULL) {
        memcpy(copy, environ, n * sizeof *copy);
        copy[n] = entry;
    }
    return copy;
}

int kt_worker_spawn(int slot, int listen_fd, int admin_fd, int lock_fd, int *control,
                    struct kt_error *err) {
    char epoch[KT_UUID_SIZE], entry[96];
    char *argv[] = {(char *)"kontor", (char *)"worker", NULL};
    int pair[2] = {-1, -1}, from[4], rc, pid = -1;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, defaults;

    kt_uuid7(epoch);
    snprintf(entry, sizeof entry, "KONTOR_WORKER=%d:%s:%ld", slot, epoch, (long)getpid());
    char **env = with(entry);
    if (env == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory");
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    for (int i = 0; i < 4; i++)
        from[i] = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        rc = errno;
        goto out;
    }
    /* Copies above the targets, so that no dup2 hits a source that is still needed. */
    const int source[4] = {listen_fd, pair[1], admin_fd, lock_fd};
    for (int i = 0; i < 4; i++) {
        if (source[i] < 0)
            continue;
        from[i] = fcntl(source[i], F_DUPFD_CLOEXEC, 20);
        if (from[i] < 0) {
            rc = errno;
            goto out;
        }
        posix_spawn_file_actions_adddup2(&actions, from[i], KT_FD_LISTEN + i);
    }
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    sigemptyset(&none);
    sigfillset(&defaults);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &defaults);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    rc = posix_spawn(&pid, kt_program(), &actions, &attr, argv, env);
out:
    for (int i = 0; i < 4; i++)
        if (from[i] >= 0)
            close(from[i]);
    if (pair[1] >= 0)
        close(pair[1]);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    free(env);
    if (rc != 0) {
        if (pair[0] >= 0)
            close(pair[0]);
        return kt_fail(err, kt_code_of_errno(rc), "cannot start a worker: %s", strerror(rc));
    }
    *control = pair[0];
    return pid;
}
