#pragma GCC optimize("O3")
#include "table/sort.h"

#include <stdbool.h>
#include <string.h>

#include "table/decimal.h"
#include "table/vec.h"

struct item {
    uint64_t prefix;
    int32_t row;
};

static int text_cmp(const struct kt_dict *d, int32_t a, int32_t b) {
    size_t na, nb;
    const char *x = kt_dict_text(d, a, &na), *y = kt_dict_text(d, b, &nb);
    int c = memcmp(x, y, na < nb ? na : nb);
    return c != 0 ? c : na < nb ? -1 : na > nb;
}

static int key_cmp(const struct kt_keycol *k, int32_t a, int32_t b) {
    int c;
    if (k->width == 4) {
        int32_t x = ((const int32_t *)k->data)[a], y = ((const int32_t *)k->data)[b];
        if (x == y)
            return 0;
        if (x == KT_NULL32 || y == KT_NULL32)
            return x == KT_NULL32 ? 1 : -1;
        c = k->dict != NULL ? text_cmp(k->dict, x, y) : x < y ? -1 : 1;
    } else if (k->width == 8) {
        int64_t x = ((const int64_t *)k->data)[a], y = ((const int64_t *)k->data)[b];
        if (x == y)
            return 0;
        if (x == KT_NULL64 || y == KT_NULL64)
            return x == KT_NULL64 ? 1 : -1;
        c = x < y ? -1 : 1;
    } else {
        kt_i128 x = ((const kt_i128 *)k->data)[a], y = ((const kt_i128 *)k->data)[b];
        const kt_i128 null = KT_NULL128;
        if (x == y)
            return 0;
        if (x == null || y == null)
            return x == null ? 1 : -1;
        c = x < y ? -1 : 1;
    }
    return k->desc ? -c : c;
}

static int rows_cmp(const struct kt_keycol *keys, int32_t nkeys, int32_t a, int32_t b) {
    for (int32_t k = 0; k < nkeys; k++) {
        int c = key_cmp(&keys[k], a, b);
        if (c != 0)
            return c;
    }
    return 0;
}

/* Stable merge sort of rows[0..n); tmp has room for n. */
static void merge_sort(const struct kt_keycol *keys, int32_t nkeys, int32_t *rows, int64_t n,
                       int32_t *tmp) {
    if (n <= 8) {
        for (int64_t i = 1; i < n; i++) {
            int32_t x = rows[i];
            int64_t j = i;
            for (; j > 0 && rows_cmp(keys, nkeys, rows[j - 1], x) > 0; j--)
                rows[j] = rows[j - 1];
            rows[j] = x;
        }
        return;
    }
    int64_t half = n / 2;
    merge_sort(keys, nkeys, rows, half, tmp);
    merge_sort(keys, nkeys, rows + half, n - half, tmp + half);
    if (rows_cmp(keys, nkeys, rows[half - 1], rows[half]) <= 0)
        return;
    memcpy(tmp, rows, (size_t)half * sizeof(*rows));
    int64_t i = 0, j = half, k = 0;
    while (i < half) {
        bool right = j < n && rows_cmp(keys, nkeys, rows[j], tmp[i]) < 0;
        rows[k++] = right ? rows[j++] : tmp[i++];
    }
}

/* The first bytes of a key as a number that sorts like it; NULL is the largest. */
static uint64_t prefix_of(const struct kt_keycol *k, int32_t row) {
    uint64_t p = 0;
    if (k->width == 4) {
        int32_t v = ((const int32_t *)k->data)[row];
        if (v == KT_NULL32)
            return UINT64_MAX;
        if (k->dict != NULL) {
            size_t n;
            const char *s = kt_dict_text(k->dict, v, &n);
            memcpy(&p, s, n < 8 ? n : 8);
            p = __builtin_bswap64(p);
        } else {
            p = (uint64_t)((uint32_t)v ^ 0x80000000u) << 32;
        }
    } else {
        int64_t v;
        if (k->width == 8) {
            v = ((const int64_t *)k->data)[row];
            if (v == KT_NULL64)
                return UINT64_MAX;
        } else {
            kt_i128 w = ((const kt_i128 *)k->data)[row];
            if (w == KT_NULL128)
                return UINT64_MAX;
            v = (int64_t)(w >> 64);
        }
        p = (uint64_t)v ^ 1ull << 63;
    }
    if (k->desc)
        p = ~p;
    return p == UINT64_MAX ? p - 1 : p; /* only NULL is last; a tie is settled by the comparison */
}

/* Least significant byte first; bytes that are the same everywhere are skipped. */
static struct item *radix(struct item *a, struct item *b, int64_t n) {
    for (int shift = 0; shift < 64; shift += 8) {
        int64_t count[256] = {0};
        for (int64_t i = 0; i < n; i++)
            count[a[i].prefix >> shift & 255]++;
        if (count[a[0].prefix >> shift & 255] == n)
            continue;
        int64_t at = 0;
        for (int i = 0; i < 256; i++) {
            int64_t c = count[i];
            count[i] = at;
            at += c;
        }
        for (int64_t i = 0; i < n; i++)
            b[count[a[i].prefix >> shift & 255]++] = a[i];
        struct item *t = a;
        a = b;
        b = t;
    }
    return a;
}

int32_t kt_k_sort(const struct kt_keycol *keys, int32_t nkeys, int32_t *rows, int64_t n) {
    if (n < 2 || nkeys < 1)
        return 0;
    int32_t *tmp = kt_vec_alloc((size_t)n * sizeof(*tmp));
    if (tmp == NULL)
        return -1;
    if (n < 64) {
        merge_sort(keys, nkeys, rows, n, tmp);
        kt_vec_free(tmp);
        return 0;
    }
    struct item *a = kt_vec_alloc((size_t)n * sizeof(*a)),
                *b = kt_vec_alloc((size_t)n * sizeof(*b));
    int32_t rc = a == NULL || b == NULL ? -1 : 0;
    if (rc == 0) {
        /* Two days or flags fit into one prefix. */
        bool both = keys[0].width == 4 && keys[0].dict == NULL && nkeys > 1 && keys[1].width == 4;
        for (int64_t i = 0; i < n; i++) {
            uint64_t p = prefix_of(&keys[0], rows[i]);
            if (both)
                p = (p & ~0xffffffffull) | prefix_of(&keys[1], rows[i]) >> 32;
            a[i] = (struct item){p, rows[i]};
        }
        struct item *s = radix(a, b, n);
        for (int64_t i = 0; i < n; i++)
            rows[i] = s[i].row;
        for (int64_t i = 0, j; i < n; i = j) {
            for (j = i + 1; j < n && s[j].prefix == s[i].prefix; j++) {
            }
            if (j - i > 1)
                merge_sort(keys, nkeys, rows + i, j - i, tmp);
        }
    }
    kt_vec_free(a);
    kt_vec_free(b);
    kt_vec_free(tmp);
    return rc;
}

int32_t kt_k_sort_segments(const struct kt_keycol *keys, int32_t nkeys, const int32_t *start,
                           int32_t segments, int32_t *rows) {
    int64_t longest = 0;
    for (int32_t g = 0; g < segments; g++)
        if (start[g + 1] - start[g] > longest)
            longest = start[g + 1] - start[g];
    if (longest < 2)
        return 0;
    int32_t *tmp = kt_vec_alloc((size_t)longest * sizeof(*tmp));
    if (tmp == NULL)
        return -1;
    for (int32_t g = 0; g < segments; g++) {
        int64_t n = start[g + 1] - start[g];
        if (n > 1)
            merge_sort(keys, nkeys, rows + start[g], n, tmp);
    }
    kt_vec_free(tmp);
    return 0;
}
