#include "table/calendar.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static bool leap(int y) {
    return y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
}

static int month_days(int y, int m) {
    static const int8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return m == 2 && leap(y) ? 29 : days[m - 1];
}

/* Days from civil and back: eras of 400 years that begin in March. */
int32_t kt_day_of(int y, int m, int d) {
    if (y < 1 || y > 9999 || m < 1 || m > 12 || d < 1 || d > month_days(y, m))
        return KT_NULL32;
    y -= m <= 2;
    int era = y / 400, yoe = y - era * 400;
    int doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

void kt_day_civil(int32_t day, int *year, int *month, int *mday) {
    int z = day + 719468;
    int era = (z >= 0 ? z : z - 146096) / 146097, doe = z - era * 146097;
    int yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *mday = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = yoe + era * 400 + (*month <= 2);
}

/* 1970-01-01 was a Thursday. */
int32_t kt_day_monday(int32_t day) {
    int weekday = (day + 3) % 7;
    return day - (weekday < 0 ? weekday + 7 : weekday);
}

void kt_day_week(int32_t day, int *year, int *week) {
    int m, d;
    int32_t monday = kt_day_monday(day);
    kt_day_civil(monday + 3, year, &m, &d); /* the Thursday names the year */
    *week = (monday + 3 - kt_day_of(*year, 1, 1)) / 7 + 1;
}

void kt_day_text(int32_t day, char *buf) {
    int y, m, d;
    kt_day_civil(day, &y, &m, &d);
    snprintf(buf, 16, "%04d-%02d-%02d", (int)((unsigned)y % 10000), m, d);
}

void kt_week_text(int32_t day, char *buf) {
    int y, w;
    kt_day_week(day, &y, &w);
    snprintf(buf, 16, "%04d-W%02d", (int)((unsigned)y % 10000), w);
}

static int digits(const char *s, int n) {
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

/* hh:mm[:ss[.f…]][Z|±hh[:]mm] */
static bool time_of_day(const char *s, size_t n) {
    if (n < 5 || s[2] != ':' || digits(s, 2) < 0 || digits(s, 2) > 24 || digits(s + 3, 2) < 0 ||
        digits(s + 3, 2) > 59)
        return false;
    s += 5, n -= 5;
    if (n >= 3 && *s == ':' && digits(s + 1, 2) >= 0 && digits(s + 1, 2) <= 60) {
        s += 3, n -= 3;
        if (n > 1 && (*s == '.' || *s == ',')) {
            for (s++, n--; n > 0 && *s >= '0' && *s <= '9'; s++, n--) {
            }
        }
    }
    if (n == 0 || (n == 1 && *s == 'Z'))
        return true;
    if (*s != '+' && *s != '-')
        return false;
    if (n == 3)
        return digits(s + 1, 2) >= 0;
    if (n == 5)
        return digits(s + 1, 4) >= 0;
    return n == 6 && s[3] == ':' && digits(s + 1, 2) >= 0 && digits(s + 4, 2) >= 0;
}

enum kt_cell kt_day_parse(const char *s, size_t n, int32_t *day, int *stamp) {
    while (n > 0 && *s == ' ')
        s++, n--;
    while (n > 0 && s[n - 1] == ' ')
        n--;
    int y, m, d;
    *stamp = 0;
    if (n == 8) {
        y = digits(s, 4), m = digits(s + 4, 2), d = digits(s + 6, 2);
    } else if (n >= 10 && s[4] == '-' && s[7] == '-') {
        y = digits(s, 4), m = digits(s + 5, 2), d = digits(s + 8, 2);
        if (n > 10) {
            if ((s[10] != 'T' && s[10] != ' ') || !time_of_day(s + 11, n - 11))
                return KT_CELL_BAD_DATE;
            *stamp = 1;
        }
    } else {
        return KT_CELL_BAD_DATE;
    }
    if (y < 0 || m < 0 || d < 0)
        return KT_CELL_BAD_DATE;
    *day = KT_NULL32;
    if ((y == 0 && m == 0 && d == 0) || (y == 9999 && m == 12 && d == 31))
        return KT_CELL_OK;
    *day = kt_day_of(y, m, d);
    return *day == KT_NULL32 ? KT_CELL_BAD_DATE : KT_CELL_OK;
}

int64_t kt_k_spread(const int32_t *start, const int32_t *finish, const int64_t *amount,
                    const int32_t *sel, int64_t n, int32_t until, int even, int32_t *out_row,
                    int32_t *out_week, int64_t *out_part) {
    int64_t out = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = sel == NULL ? i : sel[i];
        int32_t from = start[row], to = finish == NULL ? from : finish[row];
        int64_t a = amount[row];
        if (from == KT_NULL32 || a == KT_NULL64)
            continue;
        if (to == KT_NULL32)
            to = until;
        if (to < from || !even)
            to = from;
        int32_t monday = kt_day_monday(from), last = kt_day_monday(to);
        int64_t weeks = (last - monday) / 7 + 1;
        if (out + weeks > INT32_MAX)
            return -1;
        if (out_row == NULL) {
            out += weeks;
            continue;
        }
        int64_t days = to - from + 1;
        for (; monday <= last; monday += 7, out++) {
            int32_t first = monday > from ? monday : from;
            int32_t end = monday + 6 < to ? monday + 6 : to;
            int64_t num, q;
            if (__builtin_mul_overflow(a, (int64_t)100 * (end - first + 1), &num))
                return -1;
            q = num / days;
            int64_t r = num % days;
            if ((r < 0 ? -r : r) * 2 >= days)
                q += num < 0 ? -1 : 1;
            out_row[out] = (int32_t)i;
            out_week[out] = monday;
            out_part[out] = q;
        }
    }
    return out;
}
