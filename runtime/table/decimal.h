/* Exact decimals: a 128-bit integer and a power of ten.
 *
 * Columns hold dense int64 at a fixed scale (money and quantity 4, price and % 6, rate 9); what is
 * computed from them (products, sums) is a struct kt_dec. Nothing here allocates or uses a float.
 * LuaJIT reaches these functions through its FFI (lua/erp/table/ffi.lua repeats the prototypes). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define KT_NULL32 INT32_MIN /* NULL in a column of int32: code, day, flag */
#define KT_NULL64 INT64_MIN /* NULL in a column of int64 */

typedef __int128 kt_i128;
#define KT_NULL128 ((kt_i128)((unsigned __int128)1 << 127)) /* and of sums */

/* value = (hi:lo) / 10^scale. Split in two words because LuaJIT knows no 128-bit type. */
struct kt_dec {
    uint64_t lo;
    int64_t hi;
    int32_t scale; /* 0..38 */
};

static inline kt_i128 kt_dec_value(const struct kt_dec *d) {
    return (kt_i128)(((unsigned __int128)(uint64_t)d->hi << 64) | d->lo);
}
static inline struct kt_dec kt_dec_of(kt_i128 v, int scale) {
    return (struct kt_dec){(uint64_t)v, (int64_t)(v >> 64), scale};
}

/* All return 0, or -1 when the result does not fit in 128 bits (or the divisor is 0). */
int kt_dec_add(const struct kt_dec *a, const struct kt_dec *b, struct kt_dec *out);
int kt_dec_sub(const struct kt_dec *a, const struct kt_dec *b, struct kt_dec *out);
int kt_dec_mul(const struct kt_dec *a, const struct kt_dec *b, struct kt_dec *out);
/* a / b rounded half away from zero to `scale` digits. */
int kt_dec_div(const struct kt_dec *a, const struct kt_dec *b, int scale, struct kt_dec *out);
/* Half away from zero to `scale` digits; a smaller scale than asked for is kept as it is. */
int kt_dec_round(const struct kt_dec *a, int scale, struct kt_dec *out);
/* -1, 0, 1: by value, whatever the scales. Never fails. */
int kt_dec_cmp(const struct kt_dec *a, const struct kt_dec *b);
int kt_dec_sign(const struct kt_dec *a);
/* Writes the shortest text ("-12.5", "0") into buf (at least 48 bytes), or with at least `places`
 * fraction digits; returns its length. */
int kt_dec_text(const struct kt_dec *a, int places, char *buf);

enum kt_cell {
    KT_CELL_OK,
    KT_CELL_BAD_NUMBER,
    KT_CELL_OUT_OF_RANGE,
    KT_CELL_TOO_PRECISE, /* digits beyond the scale that are not zero */
    KT_CELL_BAD_DATE,
    KT_CELL_BAD_FLAG,
    KT_CELL_BAD_INTEGER,
    KT_CELL_NOT_ALLOWED,
    KT_CELL_COUNT
};

/* Number in text -> value * 10^scale. Accepts blanks around it, a sign before or after it (SAP
 * writes "100.00-"), "." fraction, and an exponent ("1.5E+3"). Nothing else: no thousands marks,
 * no hexadecimal, no infinity. */
enum kt_cell kt_dec_parse64(const char *s, size_t n, int scale, int64_t *out);
/* The same without a fixed scale. */
enum kt_cell kt_dec_parse(const char *s, size_t n, struct kt_dec *out);
