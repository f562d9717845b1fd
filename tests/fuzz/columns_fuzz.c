/* Columns and their index: dictionary codes, groups of rows by key, and probing them from another
 * table, against a slow comparison of every row with every other. */
#include "fuzz.h"

#include <stdbool.h>

#include "table/decimal.h"
#include "table/dict.h"
#include "table/group.h"
#include "table/kernels.h"

enum { ROWS = 64, COLUMNS = 3, TEXTS = 32 };

struct columns {
    int32_t narrow[COLUMNS][ROWS];
    int64_t wide[COLUMNS][ROWS];
    struct kt_keycol key[COLUMNS];
    int count, rows;
};

static int64_t value64(struct fuzz_in *in) {
    switch (fuzz_below(in, 6)) {
    case 0:
        return KT_NULL64;
    case 1:
        return (int64_t)fuzz_u64(in);
    case 2:
        return INT64_MAX - fuzz_below(in, 3);
    case 3:
        return INT64_MIN + 1 + fuzz_below(in, 3);
    default:
        return fuzz_below(in, 5) - 2;
    }
}

static int32_t value32(struct fuzz_in *in) {
    switch (fuzz_below(in, 6)) {
    case 0:
        return KT_NULL32;
    case 1:
        return (int32_t)fuzz_u64(in);
    case 2:
        return INT32_MAX - fuzz_below(in, 3);
    default:
        return fuzz_below(in, 5) - 2;
    }
}

/* The same widths in both tables, as a join has them. */
static void make(struct columns *c, struct fuzz_in *in, int count, const int *width, int rows) {
    c->count = count;
    c->rows = rows;
    for (int k = 0; k < count; k++) {
        for (int i = 0; i < rows; i++) {
            if (width[k] == 4)
                c->narrow[k][i] = value32(in);
            else
                c->wide[k][i] = value64(in);
        }
        c->key[k] = (struct kt_keycol){width[k] == 4 ? (void *)c->narrow[k] : (void *)c->wide[k],
                                       width[k], 0, NULL};
    }
}

static bool cell(const struct columns *c, int k, int i, int64_t *v) {
    if (c->key[k].width == 4) {
        *v = c->narrow[k][i];
        return c->narrow[k][i] != KT_NULL32;
    }
    *v = c->wide[k][i];
    return c->wide[k][i] != KT_NULL64;
}

static bool equal(const struct columns *a, int i, const struct columns *b, int j) {
    for (int k = 0; k < a->count; k++) {
        int64_t x, y;
        bool has_x = cell(a, k, i, &x), has_y = cell(b, k, j, &y);
        if (has_x != has_y || (has_x && x != y))
            return false;
    }
    return true;
}

static bool has_null(const struct columns *c, int i) {
    int64_t v;
    for (int k = 0; k < c->count; k++)
        if (!cell(c, k, i, &v))
            return true;
    return false;
}

static int row_of(const int32_t *sel, int i) {
    return sel != NULL ? sel[i] : i;
}

static void check_groups(const struct columns *c, const int32_t *sel, int n, bool null_skips,
                         const struct kt_group *g, const int32_t *ids) {
    int groups = kt_group_count(g), seen = 0;
    const int32_t *first = kt_group_first(g);
    for (int i = 0; i < n; i++) {
        int expected = -1, row = row_of(sel, i);
        if (!(null_skips && has_null(c, row))) {
            for (int j = 0; j < i && expected < 0; j++)
                if (ids[j] >= 0 && equal(c, row_of(sel, j), c, row))
                    expected = ids[j];
            if (expected < 0) {
                expected = seen++;
                FUZZ_CHECK(expected < groups && first[expected] == i, "first of %d", expected);
            }
        }
        FUZZ_CHECK(ids[i] == expected, "row %d: group %d, not %d", i, ids[i], expected);
    }
    FUZZ_CHECK(seen == groups, "%d groups, not %d", groups, seen);
    int32_t start[ROWS + 1], members[ROWS];
    kt_k_members(ids, n, groups, start, members);
    int at = 0;
    for (int k = 0; k < groups; k++) {
        FUZZ_CHECK(start[k] == at, "start of %d", k);
        for (int i = 0; i < n; i++)
            if (ids[i] == k)
                FUZZ_CHECK(members[at++] == i, "member %d of %d", i, k);
    }
    FUZZ_CHECK(start[groups] == at, "end");
}

static void check_dict(struct fuzz_in *in) {
    struct kt_dict *d = kt_dict_new();
    struct {
        char s[20]; /* longer than what lies in an entry */
        size_t n;
        int32_t code;
    } text[TEXTS];
    int count = fuzz_below(in, TEXTS), distinct = 0;
    for (int i = 0; i < count; i++) {
        text[i].n = (size_t)fuzz_below(in, 20);
        for (size_t k = 0; k < text[i].n; k++)
            text[i].s[k] = (char)(fuzz_below(in, 3) == 0 ? fuzz_byte(in) : 'a');
        int32_t before = kt_dict_find(d, text[i].s, text[i].n), expected = -1;
        for (int j = 0; j < i && expected < 0; j++)
            if (text[j].n == text[i].n && memcmp(text[j].s, text[i].s, text[i].n) == 0)
                expected = text[j].code;
        FUZZ_CHECK(before == expected, "text %d is found as %d, not %d", i, before, expected);
        text[i].code = kt_dict_intern(d, text[i].s, text[i].n);
        FUZZ_CHECK(text[i].code == (expected >= 0 ? expected : distinct), "code of text %d", i);
        distinct += expected < 0;
    }
    FUZZ_CHECK(kt_dict_count(d) == distinct, "count");
    for (int i = 0; i < count; i++) {
        size_t n;
        const char *s = kt_dict_text(d, text[i].code, &n);
        FUZZ_CHECK(n == text[i].n && memcmp(s, text[i].s, n) == 0, "text of code %d", text[i].code);
    }
    kt_dict_free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct columns a, b;
    struct fuzz_in in = {data, data + size};
    int count = 1 + fuzz_below(&in, COLUMNS), width[COLUMNS];
    for (int k = 0; k < count; k++)
        width[k] = fuzz_byte(&in) & 1 ? 4 : 8;
    bool null_skips = fuzz_byte(&in) & 1, selects = fuzz_byte(&in) & 1;
    make(&a, &in, count, width, fuzz_below(&in, ROWS + 1));
    make(&b, &in, count, width, fuzz_below(&in, ROWS + 1));

    int32_t sel[ROWS], ids[ROWS], out[ROWS];
    int n = a.rows;
    if (selects) {
        n = 0;
        for (int i = 0; i < a.rows; i++)
            if (fuzz_byte(&in) & 1)
                sel[n++] = i;
    }
    struct kt_group *g = kt_group_new(a.key, count, selects ? sel : NULL, n, null_skips, ids);
    FUZZ_CHECK(g != NULL, "no memory");
    check_groups(&a, selects ? sel : NULL, n, null_skips, g, ids);
    FUZZ_CHECK(kt_group_probe(g, b.key, NULL, b.rows, out) == 0, "no memory");
    for (int i = 0; i < b.rows; i++) {
        int expected = -1;
        for (int j = 0; j < n && expected < 0; j++)
            if (ids[j] >= 0 && equal(&a, row_of(selects ? sel : NULL, j), &b, i))
                expected = ids[j];
        FUZZ_CHECK(out[i] == expected, "probe %d: %d, not %d", i, out[i], expected);
    }
    kt_group_free(g);
    check_dict(&in);
    return 0;
}
