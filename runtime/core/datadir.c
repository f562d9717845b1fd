/* Making and locking the data directory. */
#include "core/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"

int kt_mkdirs(const char *path, int mode, struct kt_error *err) {
    char copy[PATH_MAX];
    if (strlen(path) >= sizeof copy)
        return kt_fail(err, KT_INVALID_ARGUMENT, "path too long");
    strcpy(copy, path);
    for (char *at = copy + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        if (mkdir(copy, (mode_t)mode) != 0 && errno != EEXIST)
            return kt_fail(err, kt_code_of_errno(errno), "cannot make %s: %s", copy, strerror(errno));
        *at = end;
        if (end == '\0')
            break;
    }
    struct stat st;
    if (stat(copy, &st) != 0 || !S_ISDIR(st.st_mode))
        return kt_fail(err, KT_INTERNAL, "%s is not a folder", copy);
    return 0;
}

static long holder(int fd) {
    char text[24] = {0};
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    return n > 0 ? strtol(text, NULL, 10) : 0;
}

int kt_datadir_lock(const char *dir, struct kt_error *err) {
    char path[PATH_MAX + 16], pid[24];
    int rc = kt_mkdirs(dir, 0700, err);
    if (rc != 0)
        return rc;
    snprintf(path, sizeof path, "%s/kontor.lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return kt_fail(err, kt_code_of_errno(errno), "cannot open %s: %s", path, strerror(errno));
    double give_up = kt_monotonic() + 5;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        long other = holder(fd);
        bool alive = other <= 0 || kill((pid_t)other, 0) == 0 || errno != ESRCH;
        if ((alive && errno != EINTR) || kt_monotonic() > give_up) {
            close(fd);
            return kt_fail(err, KT_CONFLICT, "data directory %s is in use by process %ld", dir, other);
        }
        usleep(50000);
    }
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)len, 0) != len) {
        rc = kt_fail(err, kt_code_of_errno(errno), "cannot write %s: %s", path, strerror(errno));
        close(fd);
        return rc;
    }
    return fd;
}
