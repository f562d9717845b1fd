#pragma GCC optimize("O3")
#include "table/kernels.h"

#include <stdbool.h>
#include <string.h>

#include "table/calendar.h"

#define BY_OP(op, TEST)                                                                            \
    switch (op) {                                                                                  \
    case KT_EQ:                                                                                    \
        TEST(==);                                                                                  \
        break;                                                                                     \
    case KT_NE:                                                                                    \
        TEST(!=);                                                                                  \
        break;                                                                                     \
    case KT_LT:                                                                                    \
        TEST(<);                                                                                   \
        break;                                                                                     \
    case KT_LE:                                                                                    \
        TEST(<=);                                                                                  \
        break;                                                                                     \
    case KT_GT:                                                                                    \
        TEST(>);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        TEST(>=);                                                                                  \
        break;                                                                                     \
    }

void kt_k_cmp32(uint8_t *mask, const int32_t *v, const int32_t *sel, int64_t n, int32_t op,
                int32_t c) {
#define TEST(OP)                                                                                   \
    if (sel == NULL)                                                                               \
        for (int64_t i = 0; i < n; i++)                                                            \
            mask[i] = (v[i] OP c) & (v[i] != KT_NULL32);                                           \
    else                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                          \
            int32_t x = v[sel[i]];                                                                 \
            mask[i] = (x OP c) & (x != KT_NULL32);                                                 \
        }
    BY_OP(op, TEST)
#undef TEST
}

static void cmp64(uint8_t *mask, const int64_t *v, const int32_t *sel, int64_t n, int32_t op,
                  int64_t c) {
#define TEST(OP)                                                                                   \
    if (sel == NULL)                                                                               \
        for (int64_t i = 0; i < n; i++)                                                            \
            mask[i] = (v[i] OP c) & (v[i] != KT_NULL64);                                           \
    else                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                          \
            int64_t x = v[sel[i]];                                                                 \
            mask[i] = (x OP c) & (x != KT_NULL64);                                                 \
        }
    BY_OP(op, TEST)
#undef TEST
}

static inline kt_i128 value_at(const void *v, int32_t width, int64_t row) {
    if (width == 16)
        return ((const kt_i128 *)v)[row];
    if (width == 8) {
        int64_t x = ((const int64_t *)v)[row];
        return x == KT_NULL64 ? KT_NULL128 : x;
    }
    int32_t x = ((const int32_t *)v)[row];
    return x == KT_NULL32 ? KT_NULL128 : x;
}

static bool holds(int c, int32_t op) { /* c: -1, 0, 1 */
    switch (op) {
    case KT_EQ:
        return c == 0;
    case KT_NE:
        return c != 0;
    case KT_LT:
        return c < 0;
    case KT_LE:
        return c <= 0;
    case KT_GT:
        return c > 0;
    default:
        return c >= 0;
    }
}

void kt_k_cmp_dec(uint8_t *mask, const void *v, int32_t width, int32_t scale, const int32_t *sel,
                  int64_t n, int32_t op, const struct kt_dec *c) {
    struct kt_dec ten = {10, 0, 0}, up = *c;
    /* The usual case: the constant has an exact int64 at the column's scale. */
    bool fits = width == 8;
    while (fits && up.scale < scale) {
        int32_t s = up.scale;
        up.scale = 0;
        fits = kt_dec_mul(&up, &ten, &up) == 0;
        up.scale = s + 1;
    }
    while (fits && up.scale > scale) {
        kt_i128 x = kt_dec_value(&up);
        fits = x % 10 == 0;
        up = kt_dec_of(x / 10, up.scale - 1);
    }
    kt_i128 value = kt_dec_value(&up);
    if (fits && value <= INT64_MAX && value > INT64_MIN) {
        cmp64(mask, v, sel, n, op, (int64_t)value);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        kt_i128 x = value_at(v, width, sel == NULL ? i : sel[i]);
        struct kt_dec d = kt_dec_of(x, scale);
        mask[i] = x != KT_NULL128 && holds(kt_dec_cmp(&d, c), op);
    }
}

void kt_k_cmp_col(uint8_t *mask, const void *a, int32_t width_a, int32_t scale_a, const void *b,
                  int32_t width_b, int32_t scale_b, int64_t plus, const int32_t *sel, int64_t n,
                  int32_t op) {
    if (width_a == 4 && width_b == 4) {
        const int32_t *x = a, *y = b;
#define TEST(OP)                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                              \
        int64_t row = sel == NULL ? i : sel[i];                                                    \
        mask[i] = ((int64_t)x[row] OP(int64_t) y[row] + plus) & (x[row] != KT_NULL32) &            \
                  (y[row] != KT_NULL32);                                                           \
    }
        BY_OP(op, TEST)
#undef TEST
        return;
    }
    if (width_a == 8 && width_b == 8 && scale_a == scale_b && plus == 0) {
        const int64_t *x = a, *y = b;
#define TEST(OP)                                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                              \
        int64_t row = sel == NULL ? i : sel[i];                                                    \
        mask[i] = (x[row] OP y[row]) & (x[row] != KT_NULL64) & (y[row] != KT_NULL64);              \
    }
        BY_OP(op, TEST)
#undef TEST
        return;
    }
    struct kt_dec p = kt_dec_of(plus, scale_a);
    for (int64_t i = 0; i < n; i++) {
        int64_t row = sel == NULL ? i : sel[i];
        kt_i128 x = value_at(a, width_a, row), y = value_at(b, width_b, row);
        mask[i] = 0;
        if (x == KT_NULL128 || y == KT_NULL128)
            continue;
        struct kt_dec dx = kt_dec_of(x, scale_a), dy = kt_dec_of(y, scale_b);
        if (plus != 0 && kt_dec_add(&dy, &p, &dy) < 0)
            continue;
        mask[i] = holds(kt_dec_cmp(&dx, &dy), op);
    }
}

void kt_k_null(uint8_t *mask, const void *v, int32_t width, const int32_t *sel, int64_t n,
               int32_t want_null) {
    uint8_t want = want_null != 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = sel == NULL ? i : sel[i];
        bool null = width == 4   ? ((const int32_t *)v)[row] == KT_NULL32
                    : width == 8 ? ((const int64_t *)v)[row] == KT_NULL64
                                 : ((const kt_i128 *)v)[row] == KT_NULL128;
        mask[i] = null == want;
    }
}

void kt_k_in(uint8_t *mask, const int32_t *codes, const int32_t *sel, int64_t n, const uint8_t *set,
             int32_t set_n) {
    for (int64_t i = 0; i < n; i++) {
        int32_t c = codes[sel == NULL ? i : sel[i]];
        mask[i] = c >= 0 && c < set_n && set[c] != 0;
    }
}

void kt_k_found(uint8_t *mask, const int32_t *idx, const int32_t *sel, int64_t n, int32_t want) {
    uint8_t w = want != 0;
    for (int64_t i = 0; i < n; i++)
        mask[i] = (idx[sel == NULL ? i : sel[i]] >= 0) == w;
}

void kt_k_and(uint8_t *mask, const uint8_t *other, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        mask[i] &= other[i];
}
void kt_k_or(uint8_t *mask, const uint8_t *other, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        mask[i] |= other[i];
}
void kt_k_not(uint8_t *mask, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        mask[i] ^= 1;
}

int64_t kt_k_select(const uint8_t *mask, const int32_t *sel, int64_t n, int32_t *out) {
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        out[k] = sel == NULL ? (int32_t)i : sel[i];
        k += mask[i];
    }
    return k;
}

void kt_k_decide(int32_t *out, const uint8_t *mask, int64_t n, int32_t v) {
    for (int64_t i = 0; i < n; i++)
        out[i] = mask[i] != 0 && out[i] == KT_NULL32 ? v : out[i];
}

void kt_k_fill32(int32_t *out, int64_t n, int32_t v) {
    for (int64_t i = 0; i < n; i++)
        out[i] = v;
}
void kt_k_fill64(int64_t *out, int64_t n, int64_t v) {
    for (int64_t i = 0; i < n; i++)
        out[i] = v;
}
void kt_k_iota(int32_t *out, int64_t n, int32_t from) {
    for (int64_t i = 0; i < n; i++)
        out[i] = from + (int32_t)i;
}

void kt_k_gather(void *out, const void *v, int32_t width, const int32_t *idx, int64_t n) {
    if (width == 4) {
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)out)[i] = idx[i] < 0 ? KT_NULL32 : ((const int32_t *)v)[idx[i]];
    } else if (width == 8) {
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)out)[i] = idx[i] < 0 ? KT_NULL64 : ((const int64_t *)v)[idx[i]];
    } else {
        for (int64_t i = 0; i < n; i++)
            ((kt_i128 *)out)[i] = idx[i] < 0 ? KT_NULL128 : ((const kt_i128 *)v)[idx[i]];
    }
}

void kt_k_map32(int32_t *out, const int32_t *codes, const int32_t *map, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = codes[i] < 0 ? KT_NULL32 : map[codes[i]];
}
void kt_k_map64(int64_t *out, const int32_t *codes, const int64_t *map, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = codes[i] < 0 ? KT_NULL64 : map[codes[i]];
}

void kt_k_compose(int32_t *out, const int32_t *idx, const int32_t *sel, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = idx[i] < 0 ? -1 : sel[idx[i]];
}

void kt_k_coalesce(void *out, const void *a, const void *b, int32_t width, int64_t n) {
    if (width == 4) {
        const int32_t *x = a, *y = b;
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)out)[i] = x[i] == KT_NULL32 ? y[i] : x[i];
    } else if (width == 8) {
        const int64_t *x = a, *y = b;
        for (int64_t i = 0; i < n; i++)
            ((int64_t *)out)[i] = x[i] == KT_NULL64 ? y[i] : x[i];
    } else {
        const kt_i128 *x = a, *y = b;
        for (int64_t i = 0; i < n; i++)
            ((kt_i128 *)out)[i] = x[i] == KT_NULL128 ? y[i] : x[i];
    }
}

void kt_k_widen(kt_i128 *out, const int64_t *v, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = v[i] == KT_NULL64 ? KT_NULL128 : v[i];
}

void kt_k_plus32(int32_t *out, const int32_t *v, int64_t n, int32_t plus) {
    for (int64_t i = 0; i < n; i++) {
        int64_t x = (int64_t)v[i] + plus;
        bool fits = x > INT32_MIN && x <= INT32_MAX;
        out[i] = v[i] == KT_NULL32 || !fits ? KT_NULL32 : (int32_t)x;
    }
}

void kt_k_monday(int32_t *out, const int32_t *day, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = day[i] == KT_NULL32 ? KT_NULL32 : kt_day_monday(day[i]);
}

int32_t kt_k_add64(int64_t *out, const int64_t *a, const int64_t *b, int32_t sign, int64_t n) {
    bool lost = false;
    for (int64_t i = 0; i < n; i++) {
        int64_t x = 0;
        bool null = a[i] == KT_NULL64 || b[i] == KT_NULL64;
        bool over = sign < 0 ? __builtin_sub_overflow(a[i], b[i], &x)
                             : __builtin_add_overflow(a[i], b[i], &x);
        lost |= !null && (over || x == KT_NULL64);
        out[i] = null ? KT_NULL64 : x;
    }
    return lost ? -1 : 0;
}

int32_t kt_k_times(kt_i128 *out, const void *a, int32_t width_a, const void *b, int32_t width_b,
                   const struct kt_dec *c, int64_t n) {
    kt_i128 constant = b == NULL ? kt_dec_value(c) : 0;
    bool lost = false;
    for (int64_t i = 0; i < n; i++) {
        kt_i128 x = value_at(a, width_a, i), y = b == NULL ? constant : value_at(b, width_b, i), r;
        bool null = x == KT_NULL128 || (b != NULL && y == KT_NULL128);
        bool over = __builtin_mul_overflow(x, y, &r);
        lost |= !null && (over || r == KT_NULL128);
        out[i] = null ? KT_NULL128 : r;
    }
    return lost ? -1 : 0;
}

int64_t kt_k_bad(const int32_t *codes, const uint8_t *bad, int64_t n, int32_t *rows, int32_t max) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++) {
        if (codes[i] < 0 || bad[codes[i]] == 0)
            continue;
        if (found < max)
            rows[found] = (int32_t)i;
        found++;
    }
    return found;
}

int32_t kt_k_sum(kt_i128 *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
                 const uint8_t *mask, int64_t n) {
    bool lost = false;
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (mask != NULL && mask[i] == 0))
            continue;
        kt_i128 x = value_at(v, width, sel == NULL ? i : sel[i]);
        if (x == KT_NULL128)
            continue;
        lost |= __builtin_add_overflow(acc[ids[i]], x, &acc[ids[i]]);
    }
    return lost ? -1 : 0;
}

void kt_k_count(int64_t *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
                const uint8_t *mask, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (mask != NULL && mask[i] == 0))
            continue;
        if (v != NULL && value_at(v, width, sel == NULL ? i : sel[i]) == KT_NULL128)
            continue;
        acc[ids[i]]++;
    }
}

void kt_k_min(void *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
              const uint8_t *mask, int64_t n, int32_t max) {
#define BEST(T, NULLV)                                                                             \
    for (int64_t i = 0; i < n; i++) {                                                              \
        if (ids[i] < 0 || (mask != NULL && mask[i] == 0))                                          \
            continue;                                                                              \
        T x = ((const T *)v)[sel == NULL ? i : sel[i]], *best = (T *)acc + ids[i];                 \
        if (x == NULLV)                                                                            \
            continue;                                                                              \
        if (*best == NULLV || (max ? x > *best : x < *best))                                       \
            *best = x;                                                                             \
    }
    if (width == 4) {
        BEST(int32_t, KT_NULL32)
    } else {
        BEST(int64_t, KT_NULL64)
    }
#undef BEST
}

void kt_k_fifo(const int32_t *start, const int32_t *members, int32_t groups, const int64_t *qty,
               const void *used, int32_t used_width, int64_t *out) {
    for (int32_t g = 0; g < groups; g++) {
        if (start[g] == start[g + 1])
            continue;
        kt_i128 rest = value_at(used, used_width, members[start[g]]);
        if (rest == KT_NULL128 || rest < 0)
            rest = 0;
        for (int32_t m = start[g]; m < start[g + 1]; m++) {
            int64_t q = qty[members[m]];
            if (q == KT_NULL64) {
                out[members[m]] = q;
                continue;
            }
            if (q < 0)
                q = 0;
            int64_t take = rest < q ? (int64_t)rest : q;
            rest -= take;
            out[members[m]] = q - take;
        }
    }
}

int32_t kt_k_ratio(int64_t *out, const int64_t *v, int32_t from, const int32_t *ids,
                   const int64_t *num, const int64_t *den, int64_t n) {
    struct kt_dec r;
    for (int64_t i = 0; i < n; i++) {
        out[i] = KT_NULL64;
        if (v[i] == KT_NULL64 || ids[i] < 0 || den[ids[i]] == 0)
            continue;
        struct kt_dec a = kt_dec_of((kt_i128)v[i] * num[ids[i]], from);
        struct kt_dec b = kt_dec_of(den[ids[i]], 0);
        if (kt_dec_div(&a, &b, 6, &r) < 0)
            return -1;
        kt_i128 x = kt_dec_value(&r);
        if (x > INT64_MAX || x <= INT64_MIN)
            return -1;
        out[i] = (int64_t)x;
    }
    return 0;
}

void kt_k_repeats(uint8_t *mask, const int32_t *ids, const int32_t *first,
                  const struct kt_keycol *all, int32_t columns, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int64_t f = ids[i] < 0 ? i : first[ids[i]];
        mask[i] = f != i;
    }
    for (int32_t c = 0; c < columns; c++) {
        for (int64_t i = 0; i < n; i++) {
            if (mask[i] != 1)
                continue;
            int64_t f = first[ids[i]];
            bool same =
                all[c].width == 4
                    ? ((const int32_t *)all[c].data)[i] == ((const int32_t *)all[c].data)[f]
                    : ((const int64_t *)all[c].data)[i] == ((const int64_t *)all[c].data)[f];
            if (!same)
                mask[i] = 2;
        }
    }
}
