#pragma GCC optimize("O3")
#include "table/series.h"

#include <stdbool.h>
#include <stddef.h>

void kt_k_as_of(int32_t *out, const int32_t *ids, const int32_t *start, const int32_t *members,
                const int32_t *from, const int32_t *until, const int32_t *at, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int32_t group = ids[i];
        out[i] = -1;
        if (group < 0 || at[i] == KT_NULL32)
            continue;
        for (int32_t k = start[group]; k < start[group + 1]; k++) {
            int32_t m = members[k];
            /* KT_NULL32 is before every day. */
            if (from != NULL && from[m] > at[i])
                continue;
            if (until != NULL && until[m] != KT_NULL32 && until[m] < at[i])
                continue;
            out[i] = m;
            break;
        }
    }
}

static bool fits64(kt_i128 x) {
    return x <= INT64_MAX && x > INT64_MIN;
}

/* a / b at `scale` digits as int64; false when it does not fit. */
static bool divided(kt_i128 a, int scale_a, kt_i128 b, int scale_b, int scale, int64_t *out) {
    struct kt_dec x = kt_dec_of(a, scale_a), y = kt_dec_of(b, scale_b), q;
    if (kt_dec_div(&x, &y, scale, &q) < 0 || !fits64(kt_dec_value(&q)))
        return false;
    *out = (int64_t)kt_dec_value(&q);
    return true;
}

int32_t kt_k_trailing_mean(int64_t *out, const int32_t *start, const int32_t *members,
                           int32_t groups, const kt_i128 *v, int32_t scale, const int32_t *other,
                           int32_t last, int32_t least) {
    for (int32_t g = 0; g < groups; g++) {
        int32_t own = start[g]; /* where the members with the `other` of k begin */
        for (int32_t k = start[g]; k < start[g + 1]; k++) {
            if (other[members[k]] != other[members[own]])
                own = k;
            int32_t from = own - start[g] > last ? own - last : start[g];
            out[members[k]] = KT_NULL64;
            if (own - from < least || own == from)
                continue;
            kt_i128 sum = 0;
            for (int32_t j = from; j < own; j++) {
                if (__builtin_add_overflow(sum, v[members[j]], &sum))
                    return -1;
            }
            if (!divided(sum, scale, own - from, 0, 6, &out[members[k]]))
                return -1;
        }
    }
    return 0;
}

int32_t kt_k_windows(int32_t *out, const int32_t *start, const int32_t *members, int32_t groups,
                     const int32_t *date, int32_t days, const uint8_t *each, const kt_i128 *v,
                     int32_t scale, const int64_t *limit, int32_t limit_scale) {
    int32_t found = 0;
    for (int32_t g = 0; g < groups; g++) {
        int32_t end = start[g]; /* the window is [k, end): sum and bad are of it */
        kt_i128 sum = 0;
        int32_t bad = 0;
        for (int32_t k = start[g]; k < start[g + 1]; k++)
            out[members[k]] = KT_NULL32;
        for (int32_t k = start[g]; k < start[g + 1];) {
            int32_t first = members[k];
            while (end < start[g + 1] &&
                   (int64_t)date[members[end]] <= (int64_t)date[first] + days) {
                if (__builtin_add_overflow(sum, v[members[end]], &sum))
                    return -1;
                bad += each[members[end++]] == 0;
            }
            struct kt_dec total = kt_dec_of(sum, scale),
                          least = kt_dec_of(limit[first], limit_scale);
            if (end - k >= 2 && bad == 0 && limit[first] != KT_NULL64 &&
                kt_dec_cmp(&total, &least) >= 0) {
                for (; k < end; k++)
                    out[members[k]] = found;
                found++;
                sum = 0;
            } else {
                if (__builtin_sub_overflow(sum, v[first], &sum))
                    return -1;
                bad -= each[first] == 0;
                k++;
            }
        }
    }
    return found;
}

void kt_k_serve(int64_t *filled, int32_t *last, int64_t *late, const int32_t *start,
                const int32_t *members, int32_t groups, const int64_t *qty, const int32_t *limit,
                const int32_t *other, const struct kt_k_supply *supply) {
    for (int32_t g = 0; g < groups; g++) {
        int32_t s = 0, s_end = 0;
        if (start[g] < start[g + 1] && other[g] >= 0) {
            s = supply->start[other[g]];
            s_end = supply->start[other[g] + 1];
        }
        int64_t rest = 0; /* of the supply before s */
        int32_t day = KT_NULL32;
        for (int32_t k = start[g]; k < start[g + 1]; k++) {
            int32_t need = members[k];
            int64_t open = qty[need] > 0 ? qty[need] : 0; /* KT_NULL64 is negative */
            filled[need] = late[need] = 0;
            last[need] = KT_NULL32;
            while (open > 0) {
                if (rest == 0) {
                    if (s == s_end)
                        break;
                    int32_t m = supply->members[s++];
                    rest = supply->qty[m] > 0 ? supply->qty[m] : 0;
                    day = supply->date[m];
                    continue;
                }
                int64_t take = rest < open ? rest : open;
                rest -= take;
                open -= take;
                filled[need] += take;
                last[need] = day;
                if (limit[need] != KT_NULL32 && day > limit[need])
                    late[need] += take;
            }
        }
    }
}

int32_t kt_k_running(kt_i128 *out, const int32_t *start, const int32_t *members, int32_t groups,
                     const kt_i128 *v) {
    for (int32_t g = 0; g < groups; g++) {
        kt_i128 sum = 0;
        for (int32_t k = start[g]; k < start[g + 1]; k++) {
            int32_t m = members[k];
            if (v[m] != KT_NULL128 && __builtin_add_overflow(sum, v[m], &sum))
                return -1;
            out[m] = sum;
        }
    }
    return 0;
}

int32_t kt_k_add128(kt_i128 *out, const kt_i128 *a, const kt_i128 *b, int32_t sign, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        out[i] = KT_NULL128;
        if (a[i] == KT_NULL128 || b[i] == KT_NULL128)
            continue;
        if (sign < 0 ? __builtin_sub_overflow(a[i], b[i], &out[i])
                     : __builtin_add_overflow(a[i], b[i], &out[i]))
            return -1;
    }
    return 0;
}

void kt_k_days(int64_t *out, const int32_t *a, const int32_t *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] == KT_NULL32 || b[i] == KT_NULL32 ? KT_NULL64 : (int64_t)a[i] - b[i];
}

static bool value_at(const void *v, int32_t width, int64_t row, kt_i128 *out) {
    if (width == 16) {
        *out = ((const kt_i128 *)v)[row];
        return *out != KT_NULL128;
    }
    *out = ((const int64_t *)v)[row];
    return *out != KT_NULL64;
}

int32_t kt_k_quotient(int64_t *out, const void *a, int32_t width_a, int32_t scale_a, const void *b,
                      int32_t width_b, int32_t scale_b, int32_t scale, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        kt_i128 x, y;
        out[i] = KT_NULL64;
        if (!value_at(a, width_a, i, &x) || !value_at(b, width_b, i, &y) || y == 0)
            continue;
        if (y == 1 && scale_b == 0 && scale_a == scale && fits64(x))
            out[i] = (int64_t)x;
        else if (!divided(x, scale_a, y, scale_b, scale, &out[i]))
            return -1;
    }
    return 0;
}

int32_t kt_k_unit_price(int64_t *out, const int64_t *price, const int64_t *unit, const int32_t *ids,
                        const int64_t *num, const int64_t *den, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int64_t u = unit == NULL || unit[i] == KT_NULL64 || unit[i] == 0 ? 1 : unit[i];
        int64_t up = num[ids[i]], down = den[ids[i]];
        out[i] = KT_NULL64;
        if (price[i] == KT_NULL64 || up == 0 || down == 0)
            continue;
        if (u == 1 && up == down)
            out[i] = price[i];
        else if (!divided((kt_i128)price[i] * down, 6, (kt_i128)u * up, 0, 6, &out[i]))
            return -1;
    }
    return 0;
}

int32_t kt_k_round_to(int64_t *out, const void *v, int32_t width, int32_t scale,
                      const int64_t *unit, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        kt_i128 x;
        int64_t times;
        out[i] = KT_NULL64;
        if (!value_at(v, width, i, &x) || unit[i] == KT_NULL64)
            continue;
        if (unit[i] <= 0 || !divided(x, scale, unit[i], 4, 0, &times) ||
            !fits64((kt_i128)times * unit[i]))
            return -1;
        out[i] = times * unit[i];
    }
    return 0;
}
