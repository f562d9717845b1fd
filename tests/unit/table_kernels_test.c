/* Grouping, joining and sorting against the plainest way to do the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "table/decimal.h"
#include "table/group.h"
#include "table/kernels.h"
#include "table/sort.h"
#include "table/vec.h"

#define N 700

static uint64_t seed = 7;
static uint64_t next(uint64_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
}

struct table {
    int32_t a[N], b[N];
    int64_t c[N], d[N], e[N];
};

static void fill(struct table *t, uint64_t kinds, int wide) {
    for (int i = 0; i < N; i++) {
        t->a[i] = next(20) == 0 ? KT_NULL32 : (int32_t)next(kinds);
        t->b[i] = (int32_t)next(kinds) - 1;
        t->c[i] = next(20) == 0 ? KT_NULL64 : (int64_t)next(kinds) * (wide ? INT64_MAX / 500 : 1);
        /* Wide: three columns of the full range do not fit into 128 bits. */
        t->d[i] = wide ? (next(2) ? INT64_MAX : -INT64_MAX) + (int64_t)0 : 5;
        t->e[i] = wide ? (next(2) ? INT64_MAX - 1 : -INT64_MAX) : (int64_t)next(3);
    }
}

static int same(const struct table *x, int i, const struct table *y, int j) {
    return x->a[i] == y->a[j] && x->b[i] == y->b[j] && x->c[i] == y->c[j] && x->d[i] == y->d[j] &&
           x->e[i] == y->e[j];
}
static int has_null(const struct table *t, int i) {
    return t->a[i] == KT_NULL32 || t->c[i] == KT_NULL64;
}

static void keys_of(const struct table *t, struct kt_keycol *k) {
    k[0] = (struct kt_keycol){t->a, 4, 0, NULL};
    k[1] = (struct kt_keycol){t->b, 4, 0, NULL};
    k[2] = (struct kt_keycol){t->c, 8, 0, NULL};
    k[3] = (struct kt_keycol){t->d, 8, 0, NULL};
    k[4] = (struct kt_keycol){t->e, 8, 0, NULL};
}

static void groups_like_comparing_all_pairs(void **state) {
    (void)state;
    static struct table x, y;
    struct kt_keycol kx[5], ky[5];
    int32_t ids[N], sel[N], found[N];
    size_t before = kt_vec_in_use();
    for (int round = 0; round < 24; round++) {
        int wide = round % 3 == 2, null_skips = round & 1, picked = round % 4 == 3;
        uint64_t kinds = round % 3 == 0 ? 3 : 60;
        fill(&x, kinds, wide);
        fill(&y, kinds + 2, wide);
        keys_of(&x, kx);
        keys_of(&y, ky);
        int n = picked ? N / 2 : N;
        for (int i = 0; i < n; i++)
            sel[i] = (int32_t)next(N);
        struct kt_group *g = kt_group_new(kx, 5, picked ? sel : NULL, n, null_skips, ids);
        assert_non_null(g);
        int count = 0;
#define ROW(i) (picked ? sel[i] : (i))
        for (int i = 0; i < n; i++) {
            int want = -1;
            for (int j = 0; j < i && want < 0; j++)
                if (same(&x, ROW(i), &x, ROW(j)))
                    want = ids[j];
            if (null_skips && has_null(&x, ROW(i)))
                assert_int_equal(ids[i], -1);
            else if (want >= 0)
                assert_int_equal(ids[i], want);
            else {
                assert_int_equal(ids[i], count);
                assert_int_equal(kt_group_first(g)[count], i);
                count++;
            }
        }
        assert_int_equal(kt_group_count(g), count);
        assert_int_equal(kt_group_probe(g, ky, NULL, N, found), 0);
        for (int i = 0; i < N; i++) {
            int want = -1;
            for (int k = 0; k < count && want < 0; k++)
                if (same(&y, i, &x, ROW(kt_group_first(g)[k])))
                    want = k;
            if (null_skips && has_null(&y, i))
                want = -1;
            assert_int_equal(found[i], want);
        }
        int32_t start[N + 1], members[N];
        kt_k_members(ids, n, count, start, members);
        int total = 0;
        for (int k = 0; k < count; k++)
            for (int m = start[k]; m < start[k + 1]; m++, total++) {
                assert_int_equal(ids[members[m]], k);
                assert_true(m == start[k] || members[m] > members[m - 1]);
            }
        for (int i = 0; i < n; i++)
            total -= ids[i] >= 0;
        assert_int_equal(total, 0);
        kt_group_free(g);
    }
    assert_int_equal(kt_vec_in_use(), before);
}

static int groups_of_nothing(void) {
    int32_t ids[1];
    struct kt_keycol k = {ids, 4, 0, NULL};
    struct kt_group *g = kt_group_new(&k, 1, NULL, 0, 0, ids);
    int count = kt_group_count(g);
    int32_t out[1] = {0}, one[1] = {3};
    struct kt_keycol p = {one, 4, 0, NULL};
    kt_group_probe(g, &p, NULL, 1, out);
    kt_group_free(g);
    return count == 0 && out[0] == -1;
}

static void takes_empty_tables(void **state) {
    (void)state;
    assert_true(groups_of_nothing());
    int32_t start[1] = {9};
    kt_k_members(NULL, 0, 0, start, NULL);
    assert_int_equal(start[0], 0);
    assert_int_equal(kt_k_sort(NULL, 0, NULL, 0), 0);
    assert_int_equal(kt_k_select(NULL, NULL, 0, NULL), 0);
}

static const struct kt_keycol *by;
static int by_n;
static struct kt_dict *dict;

/* What sort.h says, as directly as can be; ties by position. */
static int compare(const void *p, const void *q) {
    int32_t a = *(const int32_t *)p, b = *(const int32_t *)q;
    for (int k = 0; k < by_n; k++) {
        int c = 0, na, nb;
        if (by[k].width == 4) {
            int32_t x = ((const int32_t *)by[k].data)[a], y = ((const int32_t *)by[k].data)[b];
            na = x == KT_NULL32, nb = y == KT_NULL32;
            if (!na && !nb && by[k].dict != NULL) {
                size_t lx, ly;
                const char *sx = kt_dict_text(dict, x, &lx), *sy = kt_dict_text(dict, y, &ly);
                c = memcmp(sx, sy, lx < ly ? lx : ly);
                c = c != 0 ? c : (lx > ly) - (lx < ly);
            } else
                c = (x > y) - (x < y);
        } else if (by[k].width == 8) {
            int64_t x = ((const int64_t *)by[k].data)[a], y = ((const int64_t *)by[k].data)[b];
            na = x == KT_NULL64, nb = y == KT_NULL64;
            c = (x > y) - (x < y);
        } else {
            kt_i128 x = ((const kt_i128 *)by[k].data)[a], y = ((const kt_i128 *)by[k].data)[b];
            na = x == KT_NULL128, nb = y == KT_NULL128;
            c = (x > y) - (x < y);
        }
        if (na || nb) {
            if (na != nb)
                return na - nb;
            continue;
        }
        if (c != 0)
            return by[k].desc ? -c : c;
    }
    return a - b;
}

static void sorts_like_qsort(void **state) {
    (void)state;
    static struct table t;
    static int32_t text[N];
    static kt_i128 sum[N];
    dict = kt_dict_new();
    char s[40];
    for (int i = 0; i < 50; i++) {
        /* Some differ only behind the eighth byte, one is a prefix of another, one is empty. */
        int n = i == 0 ? 0 : (int)next(12) + (i % 2 ? 0 : 9);
        for (int j = 0; j < n; j++)
            s[j] = j < 8 && i % 2 == 0
                       ? 'P'
                       : (char)(next(4) == 0 ? 0xc3 - (int)next(2) : '0' + (int)next(3));
        kt_dict_intern(dict, s, (size_t)n);
    }
    for (int round = 0; round < 40; round++) {
        fill(&t, round % 2 ? 5 : 400, round % 5 == 0);
        for (int i = 0; i < N; i++) {
            text[i] = next(15) == 0 ? KT_NULL32 : (int32_t)next((uint64_t)kt_dict_count(dict));
            sum[i] = next(9) == 0 ? KT_NULL128
                                  : (kt_i128)t.d[i] * ((kt_i128)1 << (round % 3 * 30)) + t.b[i];
        }
        struct kt_keycol k[3];
        int n = round % 4 == 0 ? 30 : N;
        for (int j = 0; j < 3; j++) {
            struct kt_keycol all[] = {{t.a, 4, 0, NULL},
                                      {t.c, 8, 0, NULL},
                                      {text, 4, 0, dict},
                                      {sum, 16, 0, NULL},
                                      {t.b, 4, 0, NULL}};
            k[j] = all[next(5)];
            k[j].desc = (int32_t)next(2);
        }
        by = k;
        by_n = 1 + (int)next(3);
        int32_t rows[N], want[N];
        for (int i = 0; i < n; i++)
            rows[i] = want[i] = i;
        qsort(want, (size_t)n, sizeof(*want), compare);
        assert_int_equal(kt_k_sort(k, by_n, rows, n), 0);
        assert_memory_equal(rows, want, (size_t)n * sizeof(*rows));
        int32_t start[] = {0, 1, 1, 9, n}, parts[N];
        for (int i = 0; i < n; i++)
            parts[i] = want[i] = i;
        qsort(want + 1, 8, sizeof(*want), compare);
        qsort(want + 9, (size_t)n - 9, sizeof(*want), compare);
        assert_int_equal(kt_k_sort_segments(k, by_n, start, 4, parts), 0);
        assert_memory_equal(parts, want, (size_t)n * sizeof(*parts));
    }
    kt_dict_free(dict);
}

static void compares_and_selects(void **state) {
    (void)state;
    int32_t day[] = {5, KT_NULL32, 7, 6};
    int64_t money[] = {10000, 20001, KT_NULL64, -5};
    kt_i128 sum[] = {(kt_i128)1 << 100, KT_NULL128, -7, 0};
    uint8_t mask[4], one[4];
    int32_t rows[4], sel[] = {3, 1, 0};
#define MASK(a, b, c, d) assert_memory_equal(mask, ((uint8_t[]){a, b, c, d}), 4)
    kt_k_cmp32(mask, day, NULL, 4, KT_NE, 7);
    MASK(1, 0, 0, 1);
    kt_k_cmp32(mask, day, sel, 3, KT_LE, 5);
    assert_memory_equal(mask, ((uint8_t[]){0, 0, 1}), 3);
    struct kt_dec d = kt_dec_of(2, 0);
    kt_k_cmp_dec(mask, money, 8, 4, NULL, 4, KT_LT, &d);
    MASK(1, 0, 0, 1);
    /* A limit finer than the column still decides exactly. */
    d = kt_dec_of(2000099999, 9);
    kt_k_cmp_dec(mask, money, 8, 4, NULL, 4, KT_GT, &d);
    MASK(0, 1, 0, 0);
    d = kt_dec_of((kt_i128)1 << 99, 0);
    kt_k_cmp_dec(mask, money, 8, 4, NULL, 4, KT_LT, &d);
    MASK(1, 1, 0, 1);
    kt_k_cmp_dec(mask, sum, 16, 0, NULL, 4, KT_GE, &d);
    MASK(1, 0, 0, 0);
    kt_k_cmp_col(mask, day, 4, 0, ((int32_t[]){4, 4, 8, KT_NULL32}), 4, 0, 1, NULL, 4, KT_EQ);
    MASK(1, 0, 0, 0);
    kt_k_cmp_col(mask, money, 8, 4, ((int64_t[]){1000000, 2000000, 0, 0}), 8, 6, 0, NULL, 4, KT_GT);
    MASK(0, 1, 0, 0);
    kt_k_null(one, money, 8, NULL, 4, 1);
    kt_k_or(mask, one, 4);
    MASK(0, 1, 1, 0);
    kt_k_not(mask, 4);
    kt_k_and(mask, ((uint8_t[]){1, 1, 1, 0}), 4);
    MASK(1, 0, 0, 0);
    assert_int_equal(kt_k_select(mask, NULL, 4, rows), 1);
    assert_int_equal(rows[0], 0);
    uint8_t set[] = {0, 0, 0, 0, 0, 1, 1, 0};
    kt_k_in(mask, day, NULL, 4, set, 7);
    MASK(1, 0, 0, 1);
#undef MASK
}

static void adds_up_by_group(void **state) {
    (void)state;
    int32_t ids[] = {0, 1, 0, -1, 1, 0};
    int64_t v[] = {INT64_MAX, 5, INT64_MAX, 7, KT_NULL64, 3};
    uint8_t mask[] = {1, 1, 1, 1, 1, 0};
    kt_i128 sum[2] = {0, 0};
    int64_t count[2] = {0, 0}, least[2] = {KT_NULL64, KT_NULL64}, most[2] = {KT_NULL64, KT_NULL64};
    assert_int_equal(kt_k_sum(sum, v, 8, NULL, ids, mask, 6), 0);
    assert_true(sum[0] == (kt_i128)INT64_MAX * 2 && sum[1] == 5);
    kt_k_count(count, NULL, 4, NULL, ids, mask, 6);
    assert_true(count[0] == 2 && count[1] == 2);
    kt_k_count(count, v, 8, NULL, ids, NULL, 6);
    assert_true(count[0] == 5 && count[1] == 3);
    kt_k_min(least, v, 8, NULL, ids, NULL, 6, 0);
    kt_k_min(most, v, 8, NULL, ids, mask, 6, 1);
    assert_true(least[0] == 3 && least[1] == 5 && most[0] == INT64_MAX && most[1] == 5);
    kt_i128 full[1] = {((kt_i128)1 << 126) + (((kt_i128)1 << 126) - 1)}, more[] = {1};
    assert_int_equal(kt_k_sum(full, more, 16, NULL, ids, NULL, 1), -1);
}

static void takes_first_in_first_out(void **state) {
    (void)state;
    int32_t start[] = {0, 4, 6}, members[] = {2, 0, 1, 3, 4, 5};
    int64_t qty[] = {50, 20, 30, KT_NULL64, 10, -5};
    kt_i128 used[] = {0, 0, 60, 0, KT_NULL128, 0};
    int64_t open[6];
    kt_k_fifo(start, members, 2, qty, used, 16, open);
    int64_t want[] = {20, 20, 0, KT_NULL64, 10, 0};
    assert_memory_equal(open, want, sizeof(want));
}

static void converts_by_ratio(void **state) {
    (void)state;
    int64_t v[] = {10000, 10000, -10000, KT_NULL64, 10000}, out[5];
    int32_t ids[] = {0, 1, 1, 0, 2};
    int64_t num[] = {12, 1, 1}, den[] = {1, 3, 0};
    assert_int_equal(kt_k_ratio(out, v, 4, ids, num, den, 5), 0);
    int64_t want[] = {12000000, 333333, -333333, KT_NULL64, KT_NULL64};
    assert_memory_equal(out, want, sizeof(want));
    v[0] = INT64_MAX - 1;
    assert_int_equal(kt_k_ratio(out, v, 4, ids, num, den, 1), -1);
}

static void multiplies_exactly(void **state) {
    (void)state;
    int64_t a[] = {INT64_MAX, -3, KT_NULL64}, b[] = {INT64_MAX, 7, 1};
    kt_i128 out[3];
    assert_int_equal(kt_k_times(out, a, 8, b, 8, NULL, 3), 0);
    assert_true(out[0] == (kt_i128)INT64_MAX * INT64_MAX && out[1] == -21 && out[2] == KT_NULL128);
    struct kt_dec c = kt_dec_of(100, 0);
    assert_int_equal(kt_k_times(out, out, 16, NULL, 0, &c, 2), -1);
    assert_true(out[1] == -2100);
}

static void decides_once(void **state) {
    (void)state;
    int32_t out[] = {KT_NULL32, KT_NULL32, KT_NULL32};
    kt_k_decide(out, (uint8_t[]){1, 0, 0}, 3, 4);
    kt_k_decide(out, (uint8_t[]){1, 1, 0}, 3, 5);
    assert_true(out[0] == 4 && out[1] == 5 && out[2] == KT_NULL32);
}

/* Texts of every length around what lies in an entry, alike in all but one byte or the length. */
static void texts_of_a_dictionary(void **state) {
    (void)state;
    struct kt_dict *d = kt_dict_new(), *other = kt_dict_new();
    char text[41] = {0};
    int32_t codes[41][3], map[41 * 3];
    for (size_t n = 0; n <= 40; n++) {
        for (int kind = 0; kind < 3; kind++) { /* zeros, the last byte differs, the first does */
            memset(text, 0, sizeof text);
            if (n > 0 && kind > 0)
                text[kind == 1 ? n - 1 : 0] = kind == 1 ? 'x' : 'y';
            codes[n][kind] = kt_dict_intern(d, text, n);
            assert_int_equal(kt_dict_intern(other, text, n), codes[n][kind]);
        }
    }
    assert_int_equal(kt_dict_count(d), 1 + 40 * 3);
    for (size_t n = 0; n <= 40; n++) {
        for (int kind = 0; kind < 3; kind++) {
            memset(text, 0, sizeof text);
            if (n > 0 && kind > 0)
                text[kind == 1 ? n - 1 : 0] = kind == 1 ? 'x' : 'y';
            size_t len;
            assert_int_equal(kt_dict_find(d, text, n), codes[n][kind]);
            assert_memory_equal(kt_dict_text(d, codes[n][kind], &len), text, n);
            assert_int_equal(len, n);
        }
    }
    kt_dict_translate(d, other, map);
    for (int32_t i = 0; i < kt_dict_count(other); i++)
        assert_int_equal(map[i], i);
    kt_dict_free(d);
    kt_dict_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_a_dictionary),
        cmocka_unit_test(groups_like_comparing_all_pairs),
        cmocka_unit_test(takes_empty_tables),
        cmocka_unit_test(sorts_like_qsort),
        cmocka_unit_test(compares_and_selects),
        cmocka_unit_test(adds_up_by_group),
        cmocka_unit_test(takes_first_in_first_out),
        cmocka_unit_test(converts_by_ratio),
        cmocka_unit_test(multiplies_exactly),
        cmocka_unit_test(decides_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
