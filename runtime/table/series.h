/* Loops over rows in order within groups, and quotients of columns. NULL, sel and groups (start,
 * members: kt_k_members) as in kernels.h; members of a group are in the order to go. Nothing
 * allocates. */
#pragma once

#include <stdint.h>

#include "table/decimal.h"

/* The row of another table that is valid at a date: out[i] = the first member m of group ids[i]
 * with from[m] <= at[i] <= until[m], -1: none. A NULL from or until is no limit (from, until: NULL
 * for the whole column); a NULL date finds nothing. out may be
 * ids. */
void kt_k_as_of(int32_t *out, const int32_t *ids, const int32_t *start, const int32_t *members,
                const int32_t *from, const int32_t *until, const int32_t *at, int64_t n);

/* out[i] = mean of v (of `scale`, no NULL) over the last `last` members before i whose `other` is
 * not that of i, rounded half away from zero to scale 6; NULL when there are fewer than `least`.
 * Members with one `other` must lie together. -1 when one does not fit. */
int32_t kt_k_trailing_mean(int64_t *out, const int32_t *start, const int32_t *members,
                           int32_t groups, const kt_i128 *v, int32_t scale, const int32_t *other,
                           int32_t last, int32_t least);

/* Windows of at most `days` days after their first member. Taken from the first member on: a window
 * counts when it has two members or more, each[m] is 1 for all of them, and the sum of v is at
 * least limit of the first; then the next begins after it, else with the next member. out[m] =
 * number of the window, from 0, NULL: in none. date and v have no NULL; a NULL limit is never
 * reached. Returns the number of windows, -1 when a sum does not fit. */
int32_t kt_k_windows(int32_t *out, const int32_t *start, const int32_t *members, int32_t groups,
                     const int32_t *date, int32_t days, const uint8_t *each, const kt_i128 *v,
                     int32_t scale, const int64_t *limit, int32_t limit_scale);

/* First in, first out, with dates: the groups of needs are served from group other[g] (-1: none) of
 * `supply`. Of each need: filled = what came of its qty, last = date of the last supply that was
 * taken, late = what of it came after limit. A quantity that is NULL or negative is none; a NULL
 * limit is no limit. */
struct kt_k_supply {
    const int32_t *start, *members;
    const int64_t *qty;
    const int32_t *date;
};
void kt_k_serve(int64_t *filled, int32_t *last, int64_t *late, const int32_t *start,
                const int32_t *members, int32_t groups, const int64_t *qty, const int32_t *limit,
                const int32_t *other, const struct kt_k_supply *supply);

/* out[m] = sum of v over the members up to and with m; a NULL counts as 0. -1 when a sum does not
 * fit. */
int32_t kt_k_running(kt_i128 *out, const int32_t *start, const int32_t *members, int32_t groups,
                     const kt_i128 *v);

/* out = a + sign * b of one scale; NULL when either is. -1 when one does not fit. */
int32_t kt_k_add128(kt_i128 *out, const kt_i128 *a, const kt_i128 *b, int32_t sign, int64_t n);

/* out = a - b in days; NULL when either is. */
void kt_k_days(int64_t *out, const int32_t *a, const int32_t *b, int64_t n);

/* out = a / b, rounded half away from zero to `scale` digits; NULL when either is, or b is 0. -1
 * when one does not fit. */
int32_t kt_k_quotient(int64_t *out, const void *a, int32_t width_a, int32_t scale_a, const void *b,
                      int32_t width_b, int32_t scale_b, int32_t scale, int64_t n);
/* Price of one base unit: price * den / (unit * num), rounded half away from zero, all at scale 6;
 * of group ids[i]. unit NULL or 0 (or no column) is 1. num 0: NULL. -1 when one does not fit. */
int32_t kt_k_unit_price(int64_t *out, const int64_t *price, const int64_t *unit, const int32_t *ids,
                        const int64_t *num, const int64_t *den, int64_t n);
/* The multiple of unit[i] (scale 4, > 0) that is nearest to v (of `scale`), half away from zero, at
 * scale 4. NULL when either is. -1 when one does not fit. */
int32_t kt_k_round_to(int64_t *out, const void *v, int32_t width, int32_t scale,
                      const int64_t *unit, int64_t n);
