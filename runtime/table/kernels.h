/* Loops over whole columns. `width` is 4 (int32: codes, days, flags), 8 (int64) or 16 (kt_i128)
 * bytes a value; NULL is KT_NULL32, KT_NULL64, or the smallest kt_i128. `sel` (may be NULL) lists
 * the rows to take. A mask has one byte a row of the selection: 0 or 1. Nothing allocates. */
#pragma once

#include <stdint.h>

#include "table/decimal.h"
#include "table/group.h"

enum kt_cmp { KT_EQ, KT_NE, KT_LT, KT_LE, KT_GT, KT_GE };

/* Tests. A comparison with NULL is false, NE too. */
void kt_k_cmp32(uint8_t *mask, const int32_t *v, const int32_t *sel, int64_t n, int32_t op,
                int32_t c);
/* Column of `scale` (width 8 or 16) with a constant of any scale. */
void kt_k_cmp_dec(uint8_t *mask, const void *v, int32_t width, int32_t scale, const int32_t *sel,
                  int64_t n, int32_t op, const struct kt_dec *c);
/* a op b + plus; plus has a's scale. */
void kt_k_cmp_col(uint8_t *mask, const void *a, int32_t width_a, int32_t scale_a, const void *b,
                  int32_t width_b, int32_t scale_b, int64_t plus, const int32_t *sel, int64_t n,
                  int32_t op);
void kt_k_null(uint8_t *mask, const void *v, int32_t width, const int32_t *sel, int64_t n,
               int32_t want_null);
/* Codes c with set[c] != 0, c < set_n. */
void kt_k_in(uint8_t *mask, const int32_t *codes, const int32_t *sel, int64_t n, const uint8_t *set,
             int32_t set_n);
void kt_k_found(uint8_t *mask, const int32_t *idx, const int32_t *sel, int64_t n, int32_t want);
void kt_k_and(uint8_t *mask, const uint8_t *other, int64_t n);
void kt_k_or(uint8_t *mask, const uint8_t *other, int64_t n);
void kt_k_not(uint8_t *mask, int64_t n);
/* out = the rows whose mask is 1; returns how many. out has room for n. */
int64_t kt_k_select(const uint8_t *mask, const int32_t *sel, int64_t n, int32_t *out);

/* out[i] = v where the mask is 1 and out[i] is still NULL. */
void kt_k_decide(int32_t *out, const uint8_t *mask, int64_t n, int32_t v);

/* Moving values. */
void kt_k_fill32(int32_t *out, int64_t n, int32_t v);
void kt_k_fill64(int64_t *out, int64_t n, int64_t v);
void kt_k_iota(int32_t *out, int64_t n, int32_t from);
/* out[i] = v[idx[i]], NULL where idx[i] < 0. */
void kt_k_gather(void *out, const void *v, int32_t width, const int32_t *idx, int64_t n);
/* out[i] = map[codes[i]], NULL stays. */
void kt_k_map32(int32_t *out, const int32_t *codes, const int32_t *map, int64_t n);
void kt_k_map64(int64_t *out, const int32_t *codes, const int64_t *map, int64_t n);
/* out[i] = sel[idx[i]], -1 where idx[i] < 0: rows of a view -> rows of what is behind it. */
void kt_k_compose(int32_t *out, const int32_t *idx, const int32_t *sel, int64_t n);
/* out[i] = first value that is not NULL. */
void kt_k_coalesce(void *out, const void *a, const void *b, int32_t width, int64_t n);
/* Numbers of a row as sums are. */
void kt_k_widen(kt_i128 *out, const int64_t *v, int64_t n);
void kt_k_plus32(int32_t *out, const int32_t *v, int64_t n, int32_t plus);
void kt_k_monday(int32_t *out, const int32_t *day, int64_t n);
/* out = a + sign * b at one scale, NULL when either is; -1 when one does not fit. */
int32_t kt_k_add64(int64_t *out, const int64_t *a, const int64_t *b, int32_t sign, int64_t n);
/* out = a * b (b NULL: the constant c), exact; its scale is the sum of both. NULL when either is;
 * -1 when one does not fit. out may be a. */
int32_t kt_k_times(kt_i128 *out, const void *a, int32_t width_a, const void *b, int32_t width_b,
                   const struct kt_dec *c, int64_t n);
/* Counts values with bad[code] != 0, up to `max` rows of them into `rows`. */
int64_t kt_k_bad(const int32_t *codes, const uint8_t *bad, int64_t n, int32_t *rows, int32_t max);

/* Aggregates by group: ids[i] of the i-th row of the selection (-1: none); mask may be NULL. */
int32_t kt_k_sum(kt_i128 *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
                 const uint8_t *mask, int64_t n); /* -1: does not fit */
/* Rows (v NULL) or values that are not NULL. */
void kt_k_count(int64_t *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
                const uint8_t *mask, int64_t n);
/* acc starts as NULL. width 4 or 8. */
void kt_k_min(void *acc, const void *v, int32_t width, const int32_t *sel, const int32_t *ids,
              const uint8_t *mask, int64_t n, int32_t max);
/* First in, first out: within each group (start, members: kt_k_members, in the order to serve) the
 * quantity used[first member] is taken from qty; out is what is left, >= 0 (NULL stays NULL). */
void kt_k_fifo(const int32_t *start, const int32_t *members, int32_t groups, const int64_t *qty,
               const void *used, int32_t used_width, int64_t *out);
/* out = v * num / den, of group ids[i], rounded half away from zero; v has scale `from`, out scale
 * 6. den 0: NULL. -1 when one does not fit. */
int32_t kt_k_ratio(int64_t *out, const int64_t *v, int32_t from, const int32_t *ids,
                   const int64_t *num, const int64_t *den, int64_t n);
/* Rows i whose key was seen before (ids: kt_group_new, first: kt_group_first) and that differ from
 * that first row in some column: mask 2; that are equal in all: mask 1; else 0. */
void kt_k_repeats(uint8_t *mask, const int32_t *ids, const int32_t *first,
                  const struct kt_keycol *all, int32_t columns, int64_t n);
