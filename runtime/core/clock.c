/* Wall time with an injectable offset, monotonic time, RFC 3339. */
#include "core/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static _Atomic int64_t offset_ms;

static int64_t system_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t kt_now_ms(void) {
    return system_ms() + atomic_load_explicit(&offset_ms, memory_order_relaxed);
}

double kt_monotonic(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void kt_clock_set(int64_t now_ms) {
    atomic_store(&offset_ms, now_ms - system_ms());
}

void kt_clock_reset(void) {
    atomic_store(&offset_ms, 0);
}

bool kt_clock_from_env(void) {
    const char *text = getenv("KONTOR_TEST_CLOCK");
    if (text == NULL || *text == '\0')
        return true;
    int64_t ms;
    char *end;
    if (!kt_time_parse(text, strlen(text), &ms)) {
        ms = strtoll(text, &end, 10);
        if (*end != '\0')
            return false;
    }
    kt_clock_set(ms);
    return true;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, and back (Howard Hinnant's algorithms). */
static int64_t days_of(int64_t y, int m, int d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void date_of(int64_t days, int64_t *y, int *m, int *d) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *d = (int)(doy - (153 * mp + 2) / 5 + 1);
    *m = (int)(mp < 10 ? mp + 3 : mp - 9);
    *y = yoe + era * 400 + (*m <= 2);
}

#define DAY_MS 86400000LL

size_t kt_time_format(int64_t ms, char out[KT_RFC3339_SIZE]) {
    int64_t days = ms / DAY_MS, rest = ms % DAY_MS, year;
    int month, day;
    if (rest < 0) {
        rest += DAY_MS;
        days--;
    }
    if (days < -719528 || days > 2932896) { /* 0000-01-01 .. 9999-12-31 */
        out[0] = '\0';
        return 0;
    }
    date_of(days, &year, &month, &day);
    int n = snprintf(out, KT_RFC3339_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year, month, day,
                     (int)(rest / 3600000), (int)(rest / 60000 % 60), (int)(rest / 1000 % 60),
                     (int)(rest % 1000));
    return n > 0 ? (size_t)n : 0;
}

/* Exactly n digits at s[*at]; moves on. -1 when they are not there. */
static int digits(const char *s, size_t len, size_t *at, int n) {
    int v = 0;
    for (int i = 0; i < n; i++, (*at)++) {
        if (*at >= len || s[*at] < '0' || s[*at] > '9')
            return -1;
        v = v * 10 + (s[*at] - '0');
    }
    return v;
}

static bool sign(const char *s, size_t len, size_t *at, const char *any) {
    if (*at >= len || strchr(any, s[*at]) == NULL || s[*at] == '\0')
        return false;
    (*at)++;
    return true;
}

bool kt_time_parse(const char *s, size_t len, int64_t *ms) {
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    size_t at = 0;
    int year, month, day, hour, minute, second, frac = 0, offset = 0;
    if ((year = digits(s, len, &at, 4)) < 0 || !sign(s, len, &at, "-") ||
        (month = digits(s, len, &at, 2)) < 1 || month > 12 || !sign(s, len, &at, "-") ||
        (day = digits(s, len, &at, 2)) < 1)
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > month_days[month - 1] + (month == 2 && leap))
        return false;
    int64_t days = days_of(year, month, day);
    if (at == len) {
        *ms = days * DAY_MS;
        return true;
    }
    if (!sign(s, len, &at, "Tt ") || (hour = digits(s, len, &at, 2)) < 0 || hour > 23 ||
        !sign(s, len, &at, ":") || (minute = digits(s, len, &at, 2)) < 0 || minute > 59 ||
        !sign(s, len, &at, ":") || (second = digits(s, len, &at, 2)) < 0 || second > 60)
        return false;
    if (sign(s, len, &at, ".")) {
        int scale = 100, d;
        size_t first = at;
        for (; (d = digits(s, len, &at, 1)) >= 0; scale /= 10)
            frac += d * scale;
        if (at == first)
            return false;
    }
    if (!sign(s, len, &at, "Zz")) {
        int direction = at < len && s[at] == '-' ? -1 : 1, oh, om;
        if (!sign(s, len, &at, "+-") || (oh = digits(s, len, &at, 2)) < 0 || oh > 23 ||
            !sign(s, len, &at, ":") || (om = digits(s, len, &at, 2)) < 0 || om > 59)
            return false;
        offset = direction * (oh * 60 + om);
    }
    if (at != len)
        return false;
    *ms = days * DAY_MS + hour * 3600000LL + (minute - offset) * 60000LL + second * 1000LL + frac;
    return true;
}
