/* Time. Wall time is int64 milliseconds UTC and may be set by a test; monotonic time never is.
 *
 * KONTOR_TEST_CLOCK (RFC 3339 or ms) makes the process start at that time; it goes on from there.
 * Any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KT_RFC3339_SIZE 32

int64_t kt_now_ms(void);     /* ms since 1970 UTC, as set by the test or the system */
double kt_monotonic(void);   /* seconds since some start; for intervals and deadlines */

void kt_clock_set(int64_t now_ms); /* from now on wall time starts here and goes on */
void kt_clock_reset(void);         /* the system's time again */
/* Apply KONTOR_TEST_CLOCK. False when its text is no time. */
bool kt_clock_from_env(void);

/* "2024-06-30T12:00:00.000Z"; returns the length, 0 when the year is outside 0..9999. */
size_t kt_time_format(int64_t ms, char out[KT_RFC3339_SIZE]);
/* RFC 3339 with any offset and fraction (beyond ms is cut), or a date alone (midnight UTC). */
bool kt_time_parse(const char *text, size_t len, int64_t *ms);
