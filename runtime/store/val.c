/* BSON order: comparison and the key encoding that agrees with it. */
#include "store/val.h"

#include <math.h>
#include <openssl/evp.h>
#include <string.h>

enum kt_class kt_val_class(const bson_value_t *v) {
    if (v == NULL)
        return KT_CLASS_NULL;
    switch (v->value_type) {
    case BSON_TYPE_NULL:
    case BSON_TYPE_UNDEFINED:
        return KT_CLASS_NULL;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64:
    case BSON_TYPE_DOUBLE:
        return KT_CLASS_NUMBER;
    case BSON_TYPE_UTF8:
    case BSON_TYPE_SYMBOL:
        return KT_CLASS_STRING;
    case BSON_TYPE_DOCUMENT:
        return KT_CLASS_DOCUMENT;
    case BSON_TYPE_ARRAY:
        return KT_CLASS_ARRAY;
    case BSON_TYPE_BINARY:
        return KT_CLASS_BINARY;
    case BSON_TYPE_OID:
        return KT_CLASS_OID;
    case BSON_TYPE_BOOL:
        return KT_CLASS_BOOL;
    case BSON_TYPE_DATE_TIME:
        return KT_CLASS_DATE;
    case BSON_TYPE_TIMESTAMP:
        return KT_CLASS_TIMESTAMP;
    case BSON_TYPE_MINKEY:
        return KT_CLASS_MIN;
    case BSON_TYPE_MAXKEY:
        return KT_CLASS_MAX;
    default:
        return KT_CLASS_OTHER;
    }
}

bool kt_val_is_null(const bson_value_t *v) {
    return kt_val_class(v) == KT_CLASS_NULL;
}

bool kt_val_is_number(const bson_value_t *v) {
    return kt_val_class(v) == KT_CLASS_NUMBER;
}

static int64_t as_int(const bson_value_t *v) {
    return v->value_type == BSON_TYPE_INT32 ? v->value.v_int32 : v->value.v_int64;
}

#define TWO_63 9223372036854775808.0

/* An int64 against a double, without a lossy cast on either side. */
static int cmp_int_double(int64_t i, double d) {
    if (isnan(d))
        return 1;
    if (d >= TWO_63)
        return -1;
    if (d < -TWO_63)
        return 1;
    int64_t whole = (int64_t)d; /* towards zero */
    if (i != whole)
        return i < whole ? -1 : 1;
    double rest = d - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

static int cmp_number(const bson_value_t *a, const bson_value_t *b) {
    bool da = a->value_type == BSON_TYPE_DOUBLE, db = b->value_type == BSON_TYPE_DOUBLE;
    if (!da && !db) {
        int64_t x = as_int(a), y = as_int(b);
        return x < y ? -1 : x > y;
    }
    if (!da)
        return cmp_int_double(as_int(a), b->value.v_double);
    if (!db)
        return -cmp_int_double(as_int(b), a->value.v_double);
    double x = a->value.v_double, y = b->value.v_double;
    if (isnan(x) || isnan(y))
        return isnan(x) ? (isnan(y) ? 0 : -1) : 1;
    return x < y ? -1 : x > y;
}

static int cmp_bytes(const void *a, size_t na, const void *b, size_t nb) {
    size_t n = na < nb ? na : nb;
    int c = n ? memcmp(a, b, n) : 0;
    return c ? c : (na > nb) - (na < nb);
}

static void text_of(const bson_value_t *v, const char **s, size_t *n) {
    if (v->value_type == BSON_TYPE_SYMBOL) {
        *s = v->value.v_symbol.symbol;
        *n = v->value.v_symbol.len;
    } else {
        *s = v->value.v_utf8.str;
        *n = v->value.v_utf8.len;
    }
}

static int cmp_docs(const bson_value_t *a, const bson_value_t *b) {
    bson_iter_t x, y;
    if (!bson_iter_init_from_data(&x, a->value.v_doc.data, a->value.v_doc.data_len) ||
        !bson_iter_init_from_data(&y, b->value.v_doc.data, b->value.v_doc.data_len))
        return 0;
    for (;;) {
        bool mx = bson_iter_next(&x), my = bson_iter_next(&y);
        if (!mx || !my)
            return mx - my;
        const bson_value_t *vx = bson_iter_value(&x), *vy = bson_iter_value(&y);
        int c = (int)kt_val_class(vx) - (int)kt_val_class(vy);
        if (c == 0)
            c = strcmp(bson_iter_key(&x), bson_iter_key(&y));
        if (c == 0)
            c = kt_val_cmp(vx, vy);
        if (c != 0)
            return c;
    }
}

int kt_val_cmp(const bson_value_t *a, const bson_value_t *b) {
    int ca = kt_val_class(a), cb = kt_val_class(b);
    if (ca != cb)
        return ca - cb;
    switch (ca) {
    case KT_CLASS_NUMBER:
        return cmp_number(a, b);
    case KT_CLASS_STRING: {
        const char *s, *t;
        size_t n, m;
        text_of(a, &s, &n);
        text_of(b, &t, &m);
        return cmp_bytes(s, n, t, m);
    }
    case KT_CLASS_DOCUMENT:
    case KT_CLASS_ARRAY:
        return cmp_docs(a, b);
    case KT_CLASS_BINARY: {
        uint32_t n = a->value.v_binary.data_len, m = b->value.v_binary.data_len;
        if (n != m)
            return n < m ? -1 : 1;
        int c = (int)a->value.v_binary.subtype - (int)b->value.v_binary.subtype;
        return c ? c : cmp_bytes(a->value.v_binary.data, n, b->value.v_binary.data, m);
    }
    case KT_CLASS_OID:
        return bson_oid_compare(&a->value.v_oid, &b->value.v_oid);
    case KT_CLASS_BOOL:
        return (int)a->value.v_bool - (int)b->value.v_bool;
    case KT_CLASS_DATE: {
        int64_t x = a->value.v_datetime, y = b->value.v_datetime;
        return x < y ? -1 : x > y;
    }
    case KT_CLASS_TIMESTAMP: {
        uint64_t x =
            (uint64_t)a->value.v_timestamp.timestamp << 32 | a->value.v_timestamp.increment;
        uint64_t y =
            (uint64_t)b->value.v_timestamp.timestamp << 32 | b->value.v_timestamp.increment;
        return x < y ? -1 : x > y;
    }
    default:
        return 0;
    }
}

/* ---- keys ---- */

static void add_u64(struct kt_buf *out, uint64_t x) {
    unsigned char b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (unsigned char)(x >> (56 - 8 * i));
    kt_buf_add(out, b, sizeof b);
}

static uint64_t ordered_double(double d) {
    uint64_t bits;
    if (isnan(d))
        return 0; /* below -infinity, whose image is 0x000fffffffffffff */
    if (d == 0)
        d = 0; /* -0.0 */
    memcpy(&bits, &d, sizeof bits);
    return bits >> 63 ? ~bits : bits | 1ULL << 63;
}

/* The greatest double not above the number, then, where it differs, what is left of an int64 (at
 * most 1023, two bytes): a shorter key sorts before a longer one with the same beginning. With
 * `fixed` the two bytes are always there, for use inside a longer key. */
static void add_number(struct kt_buf *out, const bson_value_t *v, bool fixed) {
    uint64_t rest = 0;
    double d;
    if (v->value_type == BSON_TYPE_DOUBLE)
        d = v->value.v_double;
    else {
        int64_t i = as_int(v);
        d = (double)i;
        if (cmp_int_double(i, d) < 0)
            d = nextafter(d, -INFINITY);
        /* As unsigned: d can be -2^63, never 2^63 here. */
        rest = (uint64_t)i - (uint64_t)(int64_t)d;
    }
    add_u64(out, ordered_double(d));
    if (rest || fixed) {
        kt_buf_addc(out, (char)(rest >> 8));
        kt_buf_addc(out, (char)rest);
    }
}

static void add_long(struct kt_buf *out, const void *data, size_t n) {
    if (n <= KT_KEY_PREFIX) {
        kt_buf_add(out, data, n);
        return;
    }
    unsigned char hash[32];
    unsigned int len = 0;
    kt_buf_add(out, data, KT_KEY_PREFIX);
    if (EVP_Digest(data, n, hash, &len, EVP_sha256(), NULL) != 1)
        out->failed = true;
    kt_buf_add(out, hash, len);
}

/* 00 -> 00 FF, end 00 00: keeps memcmp order inside a longer key. */
static void add_escaped(struct kt_buf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        kt_buf_addc(out, s[i]);
        if (s[i] == '\0')
            kt_buf_addc(out, (char)0xFF);
    }
    kt_buf_add(out, "\0\0", 2);
}

static void add_payload(struct kt_buf *out, const bson_value_t *v, bool nested) {
    switch (kt_val_class(v)) {
    case KT_CLASS_NUMBER:
        add_number(out, v, nested);
        break;
    case KT_CLASS_STRING: {
        const char *s;
        size_t n;
        text_of(v, &s, &n);
        if (nested)
            add_escaped(out, s, n);
        else
            add_long(out, s, n);
        break;
    }
    case KT_CLASS_DOCUMENT:
    case KT_CLASS_ARRAY: {
        bson_iter_t it;
        if (bson_iter_init_from_data(&it, v->value.v_doc.data, v->value.v_doc.data_len))
            while (bson_iter_next(&it)) {
                const bson_value_t *field = bson_iter_value(&it);
                kt_buf_addc(out, (char)kt_val_class(field));
                add_escaped(out, bson_iter_key(&it), strlen(bson_iter_key(&it)));
                add_payload(out, field, true);
            }
        kt_buf_addc(out, '\0');
        break;
    }
    case KT_CLASS_BINARY: {
        uint32_t n = v->value.v_binary.data_len;
        unsigned char head[5] = {(unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                 (unsigned char)(n >> 8), (unsigned char)n,
                                 (unsigned char)v->value.v_binary.subtype};
        kt_buf_add(out, head, sizeof head);
        add_long(out, v->value.v_binary.data, n);
        break;
    }
    case KT_CLASS_OID:
        kt_buf_add(out, v->value.v_oid.bytes, 12);
        break;
    case KT_CLASS_BOOL:
        kt_buf_addc(out, (char)(v->value.v_bool ? 1 : 0));
        break;
    case KT_CLASS_DATE:
        add_u64(out, (uint64_t)v->value.v_datetime ^ 1ULL << 63);
        break;
    case KT_CLASS_TIMESTAMP:
        add_u64(out,
                (uint64_t)v->value.v_timestamp.timestamp << 32 | v->value.v_timestamp.increment);
        break;
    default:
        break;
    }
}

void kt_key_add(struct kt_buf *out, const bson_value_t *v) {
    kt_buf_addc(out, (char)kt_val_class(v));
    if (v != NULL)
        add_payload(out, v, false);
}

void kt_key_add_sort(struct kt_buf *out, const bson_value_t *v, bool desc) {
    bson_iter_t it, best_it;
    const bson_value_t *best = NULL;
    if (kt_val_class(v) != KT_CLASS_ARRAY) {
        kt_key_add(out, v);
        return;
    }
    if (bson_iter_init_from_data(&it, v->value.v_doc.data, v->value.v_doc.data_len))
        while (bson_iter_next(&it)) {
            const bson_value_t *item = bson_iter_value(&it);
            if (best == NULL || (desc ? kt_val_cmp(item, best) > 0 : kt_val_cmp(item, best) < 0)) {
                best_it = it; /* its own copy: bson_iter_value lives in the iterator */
                best = bson_iter_value(&best_it);
            }
        }
    if (best == NULL)
        kt_buf_addc(out, (char)KT_CLASS_EMPTY_ARRAY);
    else
        kt_key_add(out, best);
}

bool kt_key_exact(const bson_value_t *v) {
    if (kt_val_class(v) == KT_CLASS_STRING) {
        const char *s;
        size_t n;
        text_of(v, &s, &n);
        return n <= KT_KEY_PREFIX;
    }
    return kt_val_class(v) != KT_CLASS_BINARY || v->value.v_binary.data_len <= KT_KEY_PREFIX;
}

bool kt_doc_get(const bson_t *doc, const char *path, bson_iter_t *it, const bson_value_t **value,
                bool *array) {
    *array = false;
    if (!bson_iter_init(it, doc))
        return false;
    for (;;) {
        const char *dot = strchr(path, '.');
        size_t n = dot ? (size_t)(dot - path) : strlen(path);
        if (!bson_iter_find_w_len(it, path, (int)n))
            return false;
        if (dot == NULL) {
            *value = bson_iter_value(it);
            return true;
        }
        bson_iter_t child;
        if (BSON_ITER_HOLDS_ARRAY(it))
            *array = true;
        if (!BSON_ITER_HOLDS_DOCUMENT(it) || !bson_iter_recurse(it, &child))
            return false;
        *it = child;
        path = dot + 1;
    }
}
