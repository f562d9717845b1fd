/* Sorting rows by columns: numbers and days by value, codes by the bytes of their text, NULL last
 * in either direction; stable. */
#pragma once

#include "table/group.h"

/* rows[0..n) (row numbers) are put in order. 0, or -1 when memory is out. */
int32_t kt_k_sort(const struct kt_keycol *keys, int32_t nkeys, int32_t *rows, int64_t n);
/* Each segment [start[g], start[g+1]) of rows on its own. */
int32_t kt_k_sort_segments(const struct kt_keycol *keys, int32_t nkeys, const int32_t *start,
                           int32_t segments, int32_t *rows);
