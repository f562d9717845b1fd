/* Day numbers: days since 1970-01-01, proleptic Gregorian, years 1..9999. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "table/decimal.h"

int32_t kt_day_of(int year, int month, int day); /* KT_NULL32 when there is no such date */
void kt_day_civil(int32_t day, int *year, int *month, int *mday);
int32_t kt_day_monday(int32_t day);
/* ISO week and its year. */
void kt_day_week(int32_t day, int *year, int *week);
/* "2014-05-31" (buf of 16) and "2014-W22". */
void kt_day_text(int32_t day, char *buf);
void kt_week_text(int32_t day, char *buf);

/* Date in text: YYYY-MM-DD, YYYYMMDD, or a timestamp YYYY-MM-DD[T ]hh:mm[:ss[.f]][Z|±hh:mm], whose
 * date part is taken (*stamp = 1). 00000000, 99991231 and 9999-12-31 give KT_NULL32. */
enum kt_cell kt_day_parse(const char *s, size_t n, int32_t *day, int *stamp);

/* Hours (or any amount) of each row over its ISO weeks. Two calls: with out_row NULL it counts.
 * Row i has amount[i] over start[i]..finish[i] inclusive (finish NULL: until; before start: one
 * day); a NULL start or amount gives nothing. Each part is amount * days in the week / days,
 * rounded half away from zero to scale 6 (amount has scale 4). even = 0: all in the week of start.
 * sel may be NULL. Returns how many parts, -1 when they are more than 2^31 - 1 or one does not
 * fit. */
int64_t kt_k_spread(const int32_t *start, const int32_t *finish, const int64_t *amount,
                    const int32_t *sel, int64_t n, int32_t until, int even, int32_t *out_row,
                    int32_t *out_week, int64_t *out_part);
