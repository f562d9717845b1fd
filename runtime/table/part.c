#include "table/part.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct kt_part {
    int fd;
    long long size;
    EVP_MD_CTX *hash;
    char path[];
};

static int failed(const char *path, struct kt_error *err) {
    return kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
}

/* An open and locked descriptor of the file that has the name now. */
static int open_locked(const char *path, struct kt_error *err) {
    for (;;) {
        struct stat held, named;
        int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return failed(path, err);
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int rc = errno == EWOULDBLOCK ? kt_fail(err, KT_CONFLICT, "%s is being written", path)
                                          : failed(path, err);
            close(fd);
            return rc;
        }
        if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino &&
            held.st_dev == named.st_dev)
            return fd;
        close(fd); /* it was removed between the two */
    }
}

struct kt_part *kt_part_open(const char *path, bool hash, struct kt_error *err) {
    size_t n = strlen(path) + 1;
    struct kt_part *part = calloc(1, sizeof *part + n);
    struct stat st;
    if (part == NULL) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    memcpy(part->path, path, n);
    part->fd = -1;
    part->hash = hash ? EVP_MD_CTX_new() : NULL;
    if (hash && (part->hash == NULL || EVP_DigestInit_ex(part->hash, EVP_sha256(), NULL) != 1)) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        goto fail;
    }
    if ((part->fd = open_locked(path, err)) < 0)
        goto fail;
    if (fstat(part->fd, &st) != 0) {
        failed(path, err);
        goto fail;
    }
    part->size = st.st_size;
    return part;
fail:
    kt_part_close(part);
    return NULL;
}

long long kt_part_size(const struct kt_part *part) {
    return part->size;
}

int kt_part_write(struct kt_part *part, const char *data, size_t n, struct kt_error *err) {
    if (part->hash != NULL)
        EVP_DigestUpdate(part->hash, data, n);
    while (n > 0) {
        ssize_t w = write(part->fd, data, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return failed(part->path, err);
        part->size += w;
        data += w;
        n -= (size_t)w;
    }
    return 0;
}

int kt_part_sync(struct kt_part *part, struct kt_part_state *out, struct kt_error *err) {
    unsigned char md[32];
    EVP_MD_CTX *so_far = part->hash != NULL ? EVP_MD_CTX_new() : NULL;
    int rc = 0;
    out->sha256[0] = '\0';
    out->size = part->size;
    if (part->hash != NULL && (so_far == NULL || EVP_MD_CTX_copy_ex(so_far, part->hash) != 1))
        rc = kt_fail(err, KT_NO_MEMORY, "out of memory");
    if (rc == 0 && fsync(part->fd) != 0)
        rc = failed(part->path, err);
    if (rc == 0 && so_far != NULL) {
        EVP_DigestFinal_ex(so_far, md, NULL);
        for (int i = 0; i < 32; i++)
            snprintf(out->sha256 + 2 * i, 3, "%02x", md[i]);
    }
    EVP_MD_CTX_free(so_far);
    return rc;
}

int kt_part_cut(struct kt_part *part, long long size, struct kt_error *err) {
    if (ftruncate(part->fd, size) != 0)
        return failed(part->path, err);
    part->size = size;
    return 0;
}

int kt_part_remove(struct kt_part *part, struct kt_error *err) {
    return unlink(part->path) == 0 || errno == ENOENT ? 0 : failed(part->path, err);
}

void kt_part_close(struct kt_part *part) {
    if (part == NULL)
        return;
    if (part->fd >= 0)
        close(part->fd);
    EVP_MD_CTX_free(part->hash);
    free(part);
}
