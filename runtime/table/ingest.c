#include "table/ingest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>
#include <zlib.h>

#include "table/text.h"

struct kt_ingest {
    struct kt_rows *rows;
    struct kt_cell_errors errors;
    EVP_MD_CTX *hash;
    z_stream z;
    bool gzip, z_open, z_between; /* between two members of a gzip file */
    bool z_any;                   /* some input came */
    int fd;
    bool done, feeding;
    char *path;
    long long bytes, max_bytes;
    char fed[65];
    char out[65536];
};

static int on_column(void *ud, int index, const char *name, size_t n) {
    (void)ud, (void)index, (void)name, (void)n;
    return 0;
}

/* Nothing is kept of a row; its texts are checked so that the answer names what is wrong. */
static int on_row(void *ud, long long line, const struct kt_slice *cells, int n) {
    struct kt_ingest *in = ud;
    for (int i = 0; i < n; i++) {
        const char *why = cells[i].p == NULL ? NULL : kt_text_check(cells[i].p, cells[i].n);
        if (why == NULL)
            continue;
        const char *name = kt_rows_column(in->rows, i);
        kt_cell_error_add(&in->errors, line, name, strlen(name), why, "%s",
                          strcmp(why, "nul_byte") == 0 ? "a NUL byte in a text"
                                                       : "bytes that are not UTF-8");
    }
    return 0;
}

struct kt_ingest *kt_ingest_open(const char *path, enum kt_format format, bool gzip,
                                 long long max_bytes, struct kt_error *err) {
    struct kt_ingest *in = calloc(1, sizeof(*in));
    if (in == NULL) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    in->fd = -1;
    in->gzip = gzip;
    in->max_bytes = max_bytes;
    struct kt_row_sink sink = {on_column, on_row, in};
    in->rows = kt_rows_new(format, &sink, &in->errors);
    in->hash = EVP_MD_CTX_new();
    in->path = path != NULL ? strdup(path) : NULL;
    if (in->rows == NULL || in->hash == NULL || (path != NULL && in->path == NULL) ||
        EVP_DigestInit_ex(in->hash, EVP_sha256(), NULL) != 1 ||
        (gzip && inflateInit2(&in->z, 16 + MAX_WBITS) != Z_OK)) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        kt_ingest_free(in);
        return NULL;
    }
    in->z_open = gzip;
    if (path == NULL)
        return in;
    in->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (in->fd < 0) {
        kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
        free(in->path);
        in->path = NULL; /* not ours to remove */
        kt_ingest_free(in);
        return NULL;
    }
    return in;
}

static int decoded(struct kt_ingest *in, const char *data, size_t n, struct kt_error *err) {
    in->bytes += (long long)n;
    if (in->max_bytes > 0 && in->bytes > in->max_bytes) {
        return kt_fail(err, KT_BODY_TOO_LARGE, "the table is larger than %lld bytes",
                       in->max_bytes);
    }
    EVP_DigestUpdate(in->hash, data, n);
    for (size_t at = 0; at < n && in->fd >= 0;) {
        ssize_t w = write(in->fd, data + at, n - at);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return kt_fail(err, kt_code_of_errno(errno), "upload: %s", strerror(errno));
        at += (size_t)w;
    }
    return kt_rows_feed(in->rows, data, n, err);
}

static int inflate_some(struct kt_ingest *in, const char *data, size_t n, struct kt_error *err) {
    in->z_any |= n > 0;
    in->z.next_in = (Bytef *)(uintptr_t)data;
    in->z.avail_in = (uInt)n;
    while (in->z.avail_in > 0) {
        if (in->z_between) {
            inflateReset(&in->z);
            in->z_between = false;
        }
        int z;
        do {
            in->z.next_out = (Bytef *)in->out;
            in->z.avail_out = sizeof(in->out);
            z = inflate(&in->z, Z_NO_FLUSH);
            if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR) {
                return kt_fail(err, KT_DATA_REJECTED, "the gzip data are damaged: %s",
                               in->z.msg == NULL ? "unexpected bytes" : in->z.msg);
            }
            size_t got = sizeof(in->out) - in->z.avail_out;
            int rc = got > 0 ? decoded(in, in->out, got, err) : 0;
            if (rc < 0)
                return rc;
        } while (z == Z_OK && in->z.avail_out == 0);
        in->z_between = z == Z_STREAM_END;
        if (z == Z_BUF_ERROR)
            break;
    }
    return 0;
}

int kt_ingest_write(struct kt_ingest *in, const char *data, size_t n, struct kt_error *err) {
    while (in->gzip && n > 0) {
        size_t part = n < 1u << 30 ? n : 1u << 30;
        int rc = inflate_some(in, data, part, err);
        if (rc < 0)
            return rc;
        data += part;
        n -= part;
    }
    return n > 0 ? decoded(in, data, n, err) : 0;
}

static void hex(EVP_MD_CTX *hash, char out[65]) {
    unsigned char md[32];
    EVP_DigestFinal_ex(hash, md, NULL);
    for (int i = 0; i < 32; i++) {
        out[2 * i] = "0123456789abcdef"[md[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[md[i] & 15];
    }
    out[64] = 0;
}

int kt_ingest_feed(struct kt_ingest *in, const char *path, struct kt_error *err) {
    const size_t size = 1 << 18;
    char *piece = malloc(size);
    EVP_MD_CTX *hash = in->gzip ? EVP_MD_CTX_new() : NULL; /* else it is that of the data */
    int fd = -1, rc = 0;
    if (piece == NULL ||
        (in->gzip && (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)))
        rc = kt_fail(err, KT_NO_MEMORY, "out of memory");
    else if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0)
        rc = kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
    while (rc == 0) {
        ssize_t n = read(fd, piece, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
        if (n <= 0)
            break;
        if (hash != NULL)
            EVP_DigestUpdate(hash, piece, (size_t)n);
        rc = kt_ingest_write(in, piece, (size_t)n, err);
    }
    if (rc == 0 && hash != NULL)
        hex(hash, in->fed);
    in->feeding = true;
    if (fd >= 0)
        close(fd);
    EVP_MD_CTX_free(hash);
    free(piece);
    return rc;
}

int kt_ingest_finish(struct kt_ingest *in, struct kt_ingest_result *out, struct kt_error *err) {
    if (in->gzip && !in->z_between) {
        return kt_fail(err, KT_DATA_REJECTED, "the gzip data %s",
                       in->z_any ? "end too soon" : "are empty");
    }
    int rc = kt_rows_finish(in->rows, err);
    if (rc < 0)
        return rc;
    hex(in->hash, out->sha256);
    out->fed[0] = 0;
    if (in->feeding)
        memcpy(out->fed, in->gzip ? in->fed : out->sha256, sizeof out->fed);
    out->rows = kt_rows_count(in->rows);
    out->bytes = in->bytes;
    if (in->fd >= 0 && fsync(in->fd) < 0) {
        return kt_fail(err, kt_code_of_errno(errno), "upload: %s", strerror(errno));
    }
    in->done = true;
    return 0;
}

const struct kt_rows *kt_ingest_rows(const struct kt_ingest *in) {
    return in->rows;
}
const struct kt_cell_errors *kt_ingest_errors(const struct kt_ingest *in) {
    return &in->errors;
}

void kt_ingest_free(struct kt_ingest *in) {
    if (in == NULL)
        return;
    if (in->fd >= 0)
        close(in->fd);
    if (in->path != NULL && !in->done)
        unlink(in->path);
    free(in->path);
    if (in->z_open)
        inflateEnd(&in->z);
    EVP_MD_CTX_free(in->hash);
    kt_rows_free(in->rows);
    kt_cell_errors_clear(&in->errors);
    free(in);
}
