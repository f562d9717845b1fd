#include "table/decimal.h"

#include <stdbool.h>
#include <string.h>

#define SCALE_MAX 38
#define DIGITS_MAX (kt_i128)(~(unsigned __int128)0 >> 1)

static kt_i128 pow10_of(int n) { /* 0..38 */
    static kt_i128 table[SCALE_MAX + 1];
    if (table[0] == 0) {
        kt_i128 p = 1;
        for (int i = 0; i <= SCALE_MAX; i++, p *= i <= SCALE_MAX ? 10 : 1)
            table[i] = p;
    }
    return table[n];
}

static bool scaled_up(kt_i128 v, int by, kt_i128 *out) {
    if (by > SCALE_MAX) {
        *out = 0;
        return v == 0;
    }
    return !__builtin_mul_overflow(v, pow10_of(by), out);
}

/* Trailing zeros of a fraction carry nothing and would soon fill the 128 bits. */
static struct kt_dec trimmed(kt_i128 v, int scale) {
    if (v == 0)
        return kt_dec_of(0, 0);
    while (scale > 12 && v % 10 == 0) {
        v /= 10;
        scale--;
    }
    return kt_dec_of(v, scale);
}

static kt_i128 div_half_away(kt_i128 num, kt_i128 den) {
    kt_i128 q = num / den, r = num % den;
    if (r == 0)
        return q;
    unsigned __int128 ar = r < 0 ? -(unsigned __int128)r : (unsigned __int128)r;
    unsigned __int128 ad = den < 0 ? -(unsigned __int128)den : (unsigned __int128)den;
    if (ar >= ad - ar)
        q += (num < 0) == (den < 0) ? 1 : -1;
    return q;
}

static int add_signed(const struct kt_dec *a, const struct kt_dec *b, bool minus,
                      struct kt_dec *out) {
    kt_i128 x = kt_dec_value(a), y = kt_dec_value(b), sum;
    int scale = a->scale > b->scale ? a->scale : b->scale;
    if (!scaled_up(x, scale - a->scale, &x) || !scaled_up(y, scale - b->scale, &y))
        return -1;
    if (minus ? __builtin_sub_overflow(x, y, &sum) : __builtin_add_overflow(x, y, &sum))
        return -1;
    *out = kt_dec_of(sum, scale);
    return 0;
}

int kt_dec_add(const struct kt_dec *a, const struct kt_dec *b, struct kt_dec *out) {
    return add_signed(a, b, false, out);
}

int kt_dec_sub(const struct kt_dec *a, const struct kt_dec *b, struct kt_dec *out) {
    return add_signed(a, b, true, out);
}

int kt_dec_mul(const struct kt_dec *a, const struct kt_dec *b, struct kt_dec *out) {
    kt_i128 v;
    if (__builtin_mul_overflow(kt_dec_value(a), kt_dec_value(b), &v))
        return -1;
    struct kt_dec d = trimmed(v, a->scale + b->scale);
    if (d.scale > SCALE_MAX)
        return -1;
    *out = d;
    return 0;
}

int kt_dec_div(const struct kt_dec *a, const struct kt_dec *b, int scale, struct kt_dec *out) {
    kt_i128 num = kt_dec_value(a), den = kt_dec_value(b);
    if (den == 0 || scale < 0 || scale > SCALE_MAX)
        return -1;
    int shift = scale + b->scale - a->scale;
    if (shift >= 0 ? !scaled_up(num, shift, &num) : !scaled_up(den, -shift, &den))
        return -1;
    *out = kt_dec_of(div_half_away(num, den), scale);
    return 0;
}

int kt_dec_round(const struct kt_dec *a, int scale, struct kt_dec *out) {
    if (scale < 0 || scale > SCALE_MAX)
        return -1;
    *out = a->scale <= scale
               ? *a
               : kt_dec_of(div_half_away(kt_dec_value(a), pow10_of(a->scale - scale)), scale);
    return 0;
}

int kt_dec_cmp(const struct kt_dec *a, const struct kt_dec *b) {
    kt_i128 x = kt_dec_value(a), y = kt_dec_value(b);
    /* What does not fit when scaled up is larger than anything the other side can hold. */
    if (a->scale < b->scale && !scaled_up(x, b->scale - a->scale, &x))
        return x < 0 ? -1 : 1;
    if (b->scale < a->scale && !scaled_up(y, a->scale - b->scale, &y)) {
        return kt_dec_value(b) < 0 ? 1 : -1;
    }
    return x < y ? -1 : x > y;
}

int kt_dec_sign(const struct kt_dec *a) {
    kt_i128 v = kt_dec_value(a);
    return v < 0 ? -1 : v > 0;
}

int kt_dec_text(const struct kt_dec *a, int places, char *buf) {
    kt_i128 v = kt_dec_value(a);
    unsigned __int128 u = v < 0 ? -(unsigned __int128)v : (unsigned __int128)v;
    int scale = a->scale;
    while (scale > places && u % 10 == 0) {
        u /= 10;
        scale--;
    }
    char digits[80];
    int n = 0;
    for (int i = scale; i < places && n < 38; i++)
        digits[n++] = '0';
    int fraction = scale > places ? scale : places;
    do {
        digits[n++] = (char)('0' + (int)(u % 10));
        u /= 10;
    } while (u != 0 || n <= fraction);
    char *p = buf;
    if (v < 0)
        *p++ = '-';
    while (n > 0) {
        if (n == fraction)
            *p++ = '.';
        *p++ = digits[--n];
    }
    *p = 0;
    return (int)(p - buf);
}

/* Digits, sign and exponent of a number in text; the value is digits * 10^exp. */
static enum kt_cell scan(const char *s, size_t n, kt_i128 *digits, int *exp) {
    const char *end = s + n;
    while (s < end && *s == ' ')
        s++;
    while (end > s && end[-1] == ' ')
        end--;
    bool negative = false, signed_before = false;
    if (s < end && (*s == '-' || *s == '+')) {
        negative = *s++ == '-';
        signed_before = true;
    }
    if (!signed_before && end - s > 1 && end[-1] == '-') {
        negative = true;
        end--;
    }
    kt_i128 v = 0;
    int seen = 0, fraction = 0;
    bool point = false, lost = false;
    for (; s < end && (*s == '.' || (*s >= '0' && *s <= '9')); s++) {
        if (*s == '.') {
            if (point)
                return KT_CELL_BAD_NUMBER;
            point = true;
            continue;
        }
        seen++;
        if (v > (DIGITS_MAX - 9) / 10) { /* full: only zeros of a fraction may follow */
            if (!point)
                return KT_CELL_OUT_OF_RANGE;
            lost |= *s != '0';
            continue;
        }
        v = v * 10 + (*s - '0');
        fraction += point;
    }
    if (seen == 0)
        return KT_CELL_BAD_NUMBER;
    int e = 0;
    if (s < end && (*s == 'e' || *s == 'E')) {
        bool minus = false;
        if (++s < end && (*s == '-' || *s == '+'))
            minus = *s++ == '-';
        if (s == end || end - s > 3)
            return KT_CELL_BAD_NUMBER;
        for (; s < end && *s >= '0' && *s <= '9'; s++)
            e = e * 10 + (*s - '0');
        if (minus)
            e = -e;
    }
    if (s != end)
        return KT_CELL_BAD_NUMBER;
    if (lost)
        return KT_CELL_TOO_PRECISE;
    *digits = negative ? -v : v;
    *exp = e - fraction;
    return KT_CELL_OK;
}

enum kt_cell kt_dec_parse64(const char *s, size_t n, int scale, int64_t *out) {
    kt_i128 v;
    int exp;
    enum kt_cell cell = scan(s, n, &v, &exp);
    if (cell != KT_CELL_OK)
        return cell;
    int shift = exp + scale;
    if (v != 0 && shift >= 0) {
        if (!scaled_up(v, shift, &v))
            return KT_CELL_OUT_OF_RANGE;
    } else if (v != 0) {
        for (; shift < 0; shift++, v /= 10)
            if (v % 10 != 0)
                return KT_CELL_TOO_PRECISE;
    }
    if (v > INT64_MAX || v <= INT64_MIN)
        return KT_CELL_OUT_OF_RANGE;
    *out = (int64_t)v;
    return KT_CELL_OK;
}

enum kt_cell kt_dec_parse(const char *s, size_t n, struct kt_dec *out) {
    kt_i128 v;
    int exp;
    enum kt_cell cell = scan(s, n, &v, &exp);
    if (cell != KT_CELL_OK)
        return cell;
    if (v == 0)
        exp = 0;
    if (exp > 0 && !scaled_up(v, exp, &v))
        return KT_CELL_OUT_OF_RANGE;
    for (; exp < -SCALE_MAX; exp++, v /= 10)
        if (v % 10 != 0)
            return KT_CELL_TOO_PRECISE;
    *out = kt_dec_of(v, exp < 0 ? -exp : 0);
    return KT_CELL_OK;
}
