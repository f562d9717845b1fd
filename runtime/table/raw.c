#include "table/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "table/decimal.h"
#include "table/text.h"

struct state {
    const char *text; /* of the row before: most columns repeat themselves */
    size_t n;
    int32_t code;
    bool same;     /* this row's text is the same */
    uint32_t hash; /* of this row's text, when it differs */
};

struct reader {
    struct kt_raw *raw;
    struct state *state; /* one a column */
    size_t cap;
    struct kt_rows *rows;
};

static int on_column(void *ud, int index, const char *name, size_t n) {
    struct reader *rd = ud;
    struct kt_raw_column *c = &rd->raw->column[index];
    c->name = strndup(name, n);
    c->dict = kt_dict_new();
    c->codes = malloc((rd->cap ? rd->cap : 1) * sizeof(int32_t));
    rd->raw->columns = index + 1; /* before it can fail: what was made is freed with the table */
    if (c->name == NULL || c->dict == NULL || c->codes == NULL)
        return -1;
    for (long long i = 0; i < rd->raw->rows; i++)
        c->codes[i] = KT_NULL32;
    return 0;
}

static int grow(struct reader *rd) {
    size_t cap = rd->cap == 0 ? 1024 : rd->cap * 2;
    if (cap > INT32_MAX)
        return -1;
    int32_t *p = realloc(rd->raw->lines, cap * sizeof(int32_t));
    if (p == NULL)
        return -1;
    rd->raw->lines = p;
    for (int i = 0; i < rd->raw->columns; i++) {
        p = realloc(rd->raw->column[i].codes, cap * sizeof(int32_t));
        if (p == NULL)
            return -1;
        rd->raw->column[i].codes = p;
    }
    rd->cap = cap;
    return 0;
}

static void bad_cell(struct kt_raw *raw, const struct kt_raw_column *c, long long line,
                     const char *why) {
    kt_cell_error_add(&raw->errors, line, c->name, strlen(c->name), why, "%s",
                      strcmp(why, "nul_byte") == 0 ? "a NUL byte in a text"
                                                   : "bytes that are not UTF-8");
}

static int on_row(void *ud, long long line, const struct kt_slice *cells, int n) {
    struct reader *rd = ud;
    struct kt_raw *raw = rd->raw;
    size_t row = (size_t)raw->rows;
    if (row == rd->cap && grow(rd) < 0)
        return -1;
    /* Twice over the cells: the slots of the whole row are fetched before the first is looked at.
     */
    for (int i = 0; i < raw->columns && i < n; i++) {
        struct state *st = &rd->state[i];
        if (cells[i].p == NULL)
            continue;
        st->same = st->n == cells[i].n && memcmp(st->text, cells[i].p, st->n) == 0;
        if (!st->same)
            st->hash = kt_dict_hash(raw->column[i].dict, cells[i].p, cells[i].n);
    }
    for (int i = 0; i < raw->columns; i++) {
        struct kt_raw_column *c = &raw->column[i];
        struct kt_slice cell = i < n ? cells[i] : (struct kt_slice){NULL, 0};
        int32_t code = KT_NULL32;
        if (cell.p != NULL) {
            struct state *st = &rd->state[i];
            if (st->same) {
                c->codes[row] = st->code;
                continue;
            }
            if ((code = kt_dict_find_hashed(c->dict, st->hash, cell.p, cell.n)) < 0) {
                const char *why = kt_text_check(cell.p, cell.n);
                if (why != NULL) {
                    bad_cell(raw, c, line, why);
                    c->codes[row] = KT_NULL32;
                    continue;
                }
                if ((code = kt_dict_intern_hashed(c->dict, st->hash, cell.p, cell.n)) < 0)
                    return -1;
            }
            st->code = code;
            st->text = kt_dict_text(c->dict, code, &st->n);
        }
        c->codes[row] = code;
    }
    raw->lines[row] = line < INT32_MAX ? (int32_t)line : INT32_MAX;
    raw->rows++;
    return 0;
}

struct kt_raw *kt_raw_parse(const char *data, size_t n, enum kt_format format,
                            struct kt_error *err) {
    struct reader rd = {.raw = calloc(1, sizeof(*rd.raw)),
                        .state = calloc(KT_ROWS_COLUMNS, sizeof(*rd.state))};
    struct kt_row_sink sink = {on_column, on_row, &rd};
    int rc = -KT_NO_MEMORY;
    if (rd.raw != NULL && rd.state != NULL) {
        rd.rows = kt_rows_new(format, &sink, &rd.raw->errors);
    }
    if (rd.rows == NULL) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
    } else {
        rc = kt_rows_feed(rd.rows, data, n, err);
        if (rc == 0)
            rc = kt_rows_finish(rd.rows, err);
        kt_rows_free(rd.rows);
    }
    free(rd.state);
    if (rc == 0) {
        rd.raw->bytes = (long long)n;
        return rd.raw;
    }
    kt_raw_free(rd.raw);
    return NULL;
}

struct kt_raw *kt_raw_read(const char *path, enum kt_format format, struct kt_error *err) {
    struct kt_raw *raw = NULL;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        kt_fail(err, KT_DATA_REJECTED, "%s is not a file", path);
    } else if (st.st_size == 0) {
        raw = kt_raw_parse("", 0, format, err);
    } else {
        void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED) {
            kt_fail(err, kt_code_of_errno(errno), "%s: %s", path, strerror(errno));
        } else {
            madvise(map, (size_t)st.st_size, MADV_SEQUENTIAL);
            raw = kt_raw_parse(map, (size_t)st.st_size, format, err);
            munmap(map, (size_t)st.st_size);
        }
    }
    if (fd >= 0)
        close(fd);
    return raw;
}

void kt_raw_release_cells(struct kt_raw *raw) {
    for (int i = 0; i < raw->columns; i++) {
        kt_dict_free(raw->column[i].dict);
        free(raw->column[i].codes);
        raw->column[i].dict = NULL;
        raw->column[i].codes = NULL;
    }
}

void kt_raw_free(struct kt_raw *raw) {
    if (raw == NULL)
        return;
    kt_raw_release_cells(raw);
    for (int i = 0; i < raw->columns; i++)
        free(raw->column[i].name);
    kt_cell_errors_clear(&raw->errors);
    free(raw->lines);
    free(raw);
}
