/* Reading, writing, listing and removing files. */
#include "core/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/uuid.h"

static int failed(struct kt_error *err, const char *what, const char *path) {
    int saved = errno;
    return kt_fail(err, kt_code_of_errno(saved), "cannot %s %s: %s", what, path, strerror(saved));
}

int kt_file_read(const char *path, size_t max, struct kt_buf *out, struct kt_error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    size_t before = out->len;
    if (fd < 0)
        return failed(err, "open", path);
    for (;;) {
        char *to = kt_buf_reserve(out, 65536);
        if (to == NULL) {
            rc = kt_fail(err, KT_NO_MEMORY, "no memory to read %s", path);
            break;
        }
        ssize_t n = read(fd, to, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = failed(err, "read", path);
        if (n <= 0)
            break;
        out->len += (size_t)n;
        if (max != 0 && out->len - before > max) {
            rc = kt_fail(err, KT_BODY_TOO_LARGE, "%s is longer than %zu bytes", path, max);
            break;
        }
    }
    close(fd);
    return rc;
}

static int sync_folder(const char *path) {
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s", path);
    char *slash = strrchr(dir, '/');
    if (slash == NULL)
        strcpy(dir, ".");
    else
        slash[slash == dir] = '\0';
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    close(fd);
    return rc;
}

static int write_whole(const char *path, mode_t mode, const void *bytes, size_t len,
                       struct kt_error *err) {
    char beside[PATH_MAX], id[KT_UUID_SIZE];
    kt_uuid7(id);
    if (snprintf(beside, sizeof beside, "%s.%s.tmp", path, id) >= (int)sizeof beside)
        return kt_fail(err, KT_INVALID_ARGUMENT, "path too long");
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode), rc = 0;
    if (fd < 0)
        return failed(err, "make", beside);
    const char *at = bytes;
    while (len > 0 && rc == 0) {
        ssize_t n = kt_fault("file.write") ? (errno = ENOSPC, -1) : write(fd, at, len);
        if (n < 0 && errno != EINTR)
            rc = failed(err, "write", path);
        else if (n > 0) {
            at += n;
            len -= (size_t)n;
        }
    }
    if (rc == 0 && fsync(fd) != 0)
        rc = failed(err, "sync", path);
    close(fd);
    if (rc == 0 && (rename(beside, path) != 0 || sync_folder(path) != 0))
        rc = failed(err, "write", path);
    if (rc != 0)
        unlink(beside);
    return rc;
}

int kt_file_write(const char *path, const void *bytes, size_t len, struct kt_error *err) {
    return write_whole(path, 0640, bytes, len, err);
}

int kt_file_write_private(const char *path, const void *bytes, size_t len, struct kt_error *err) {
    return write_whole(path, 0600, bytes, len, err);
}

int kt_file_stat(const char *path, struct kt_file_stat *out, struct kt_error *err) {
    struct stat st;
    if (stat(path, &st) != 0)
        return failed(err, "find", path);
    out->kind = S_ISREG(st.st_mode) ? KT_FILE_PLAIN : S_ISDIR(st.st_mode) ? KT_FILE_DIR : KT_FILE_OTHER;
    out->size = st.st_size;
    out->mtime_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    return 0;
}

int kt_file_rename(const char *from, const char *to, struct kt_error *err) {
    if (rename(from, to) != 0)
        return failed(err, "rename", from);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int kt_file_remove(const char *path, struct kt_error *err) {
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
        return failed(err, "remove", path);
    return 0;
}

/* Not alphasort: it follows the locale. */
static int bytewise(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

int kt_file_list(const char *path, struct kt_buf *out, int *count, struct kt_error *err) {
    struct dirent **names;
    char full[PATH_MAX * 2];
    int n = scandir(path, &names, NULL, bytewise);
    if (n < 0)
        return failed(err, "list", path);
    *count = 0;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        struct stat st;
        snprintf(full, sizeof full, "%s/%s", path, name);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && stat(full, &st) == 0) {
            kt_buf_addc(out, S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : 'o');
            kt_buf_add(out, name, strlen(name) + 1);
            ++*count;
        }
        free(names[i]);
    }
    free(names);
    return out->failed ? kt_fail(err, KT_NO_MEMORY, "no memory to list %s", path) : 0;
}
