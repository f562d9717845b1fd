/* BSON -> JSON text, whole or through a view. Runs on store threads: no Lua here. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/clock.h"
#include "core/json.h"
#include "vm/value.h"

static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void add_base64(struct kt_buf *out, const uint8_t *s, size_t n) {
    kt_buf_addc(out, '"');
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)s[i] << 16 | (i + 1 < n ? (uint32_t)s[i + 1] << 8 : 0) |
                     (i + 2 < n ? s[i + 2] : 0);
        char four[4] = {digits64[v >> 18], digits64[v >> 12 & 63],
                        i + 1 < n ? digits64[v >> 6 & 63] : '=',
                        i + 2 < n ? digits64[v & 63] : '='};
        kt_buf_add(out, four, 4);
    }
    kt_buf_addc(out, '"');
}

static void add_nano_usd(struct kt_buf *out, int64_t nano) {
    char text[40];
    uint64_t v = nano < 0 ? 0 - (uint64_t)nano : (uint64_t)nano;
    int n = snprintf(text, sizeof text, "%s%" PRIu64 ".%09" PRIu64, nano < 0 ? "-" : "",
                     v / 1000000000, v % 1000000000);
    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    kt_buf_addc(out, '"');
    kt_buf_add(out, text, (size_t)n);
    kt_buf_addc(out, '"');
}

static int add_container(bson_iter_t *it, bool array, const struct kt_view *view, int depth,
                         struct kt_buf *out, struct kt_error *err);

static int add_view(const bson_t *doc, const struct kt_view *view, int depth, struct kt_buf *out,
                    struct kt_error *err);

static int add_value(bson_iter_t *it, enum kt_view_as as, const struct kt_view *sub, int depth,
                     struct kt_buf *out, struct kt_error *err) {
    switch (bson_iter_type(it)) {
    case BSON_TYPE_NULL:
        kt_buf_adds(out, "null");
        return 0;
    case BSON_TYPE_BOOL:
        kt_buf_adds(out, bson_iter_bool(it) ? "true" : "false");
        return 0;
    case BSON_TYPE_INT32:
    case BSON_TYPE_INT64: {
        int64_t i = bson_iter_as_int64(it);
        if (as == KT_AS_NANO_USD)
            add_nano_usd(out, i);
        else if (i < -(int64_t)KT_EXACT_MAX || i > (int64_t)KT_EXACT_MAX)
            kt_buf_addf(out, "\"%" PRId64 "\"", i);
        else
            kt_json_int(out, i);
        return 0;
    }
    case BSON_TYPE_DOUBLE:
        if (!isfinite(bson_iter_double(it)))
            return kt_fail(err, KT_STORE_CORRUPT, "%s: NaN or infinity", bson_iter_key(it));
        kt_json_double(out, bson_iter_double(it));
        return 0;
    case BSON_TYPE_DATE_TIME: {
        char text[KT_RFC3339_SIZE];
        size_t n = kt_time_format(bson_iter_date_time(it), text);
        if (n == 0)
            return kt_fail(err, KT_STORE_CORRUPT, "%s: a date outside the years 0 to 9999",
                           bson_iter_key(it));
        kt_json_string(out, text, n);
        return 0;
    }
    case BSON_TYPE_UTF8: {
        uint32_t len;
        const char *s = bson_iter_utf8(it, &len);
        kt_json_string(out, s, len);
        return 0;
    }
    case BSON_TYPE_BINARY: {
        uint32_t len;
        const uint8_t *bytes;
        bson_iter_binary(it, NULL, &len, &bytes);
        add_base64(out, bytes, len);
        return 0;
    }
    case BSON_TYPE_DOCUMENT:
    case BSON_TYPE_ARRAY: {
        bson_iter_t child;
        bool array = bson_iter_type(it) == BSON_TYPE_ARRAY;
        if (depth >= KT_VALUE_DEPTH)
            return kt_fail(err, KT_STORE_CORRUPT, "%s: nested more than %d levels deep",
                           bson_iter_key(it), KT_VALUE_DEPTH);
        if (!array && sub != NULL) {
            bson_t doc;
            uint32_t len;
            const uint8_t *bytes;
            bson_iter_document(it, &len, &bytes);
            if (!bson_init_static(&doc, bytes, len))
                return kt_fail(err, KT_STORE_CORRUPT, "%s: damaged document", bson_iter_key(it));
            return add_view(&doc, sub, depth + 1, out, err);
        }
        if (!bson_iter_recurse(it, &child))
            return kt_fail(err, KT_STORE_CORRUPT, "%s: damaged document", bson_iter_key(it));
        return add_container(&child, array, array ? sub : NULL, depth + 1, out, err);
    }
    default:
        return kt_fail(err, KT_STORE_CORRUPT, "%s: BSON type 0x%02x is not supported",
                       bson_iter_key(it), (unsigned)bson_iter_type(it));
    }
}

static int add_container(bson_iter_t *it, bool array, const struct kt_view *view, int depth,
                         struct kt_buf *out, struct kt_error *err) {
    const char *comma = "";
    kt_buf_addc(out, array ? '[' : '{');
    while (bson_iter_next(it)) {
        kt_buf_adds(out, comma);
        comma = ",";
        if (!array) {
            kt_json_string(out, bson_iter_key(it), bson_iter_key_len(it));
            kt_buf_addc(out, ':');
        }
        int rc = add_value(it, KT_AS_IS, view, depth, out, err);
        if (rc != 0)
            return rc;
    }
    if (it->err_off != 0)
        return kt_fail(err, KT_STORE_CORRUPT, "damaged document");
    kt_buf_addc(out, array ? ']' : '}');
    return 0;
}

static int add_text(const bson_t *doc, const char *const *parts, struct kt_buf *out,
                    struct kt_error *err) {
    struct kt_buf text = KT_BUF_INIT;
    bool whole = true;
    for (int i = 0; parts[i] != NULL && whole; i++) {
        bson_iter_t it;
        if (i % 2 == 0)
            kt_buf_adds(&text, parts[i]);
        else if (bson_iter_init_find(&it, doc, parts[i]) && BSON_ITER_HOLDS_UTF8(&it))
            kt_buf_adds(&text, bson_iter_utf8(&it, NULL));
        else
            whole = false;
    }
    int rc = text.failed ? kt_fail(err, KT_NO_MEMORY, "no memory for JSON") : 0;
    if (rc == 0 && whole)
        kt_json_string(out, text.data, text.len);
    else if (rc == 0)
        kt_buf_adds(out, "null");
    kt_buf_free(&text);
    return rc;
}

/* A field that the document has not as it is shown; -1: it has. */
static int add_made(const bson_t *doc, const struct kt_view_field *f, int depth, struct kt_buf *out,
                    struct kt_error *err) {
    if (f->text != NULL)
        return add_text(doc, f->text, out, err);
    return f->from[0] == '\0' && f->sub != NULL ? add_view(doc, f->sub, depth + 1, out, err) : -1;
}

static int add_view(const bson_t *doc, const struct kt_view *view, int depth, struct kt_buf *out,
                    struct kt_error *err) {
    kt_buf_addc(out, '{');
    for (int i = 0; i < view->count; i++) {
        const struct kt_view_field *f = &view->fields[i];
        bson_iter_t it, at;
        if (i > 0)
            kt_buf_addc(out, ',');
        kt_json_string(out, f->to, strlen(f->to));
        kt_buf_addc(out, ':');
        int made = add_made(doc, f, depth, out, err);
        if (made > 0)
            return made;
        if (made == 0)
            continue;
        bool found = bson_iter_init(&it, doc) &&
                     (strchr(f->from, '.') == NULL ? bson_iter_find(&it, f->from)
                                                   : bson_iter_find_descendant(&it, f->from, &at));
        if (!found) {
            kt_buf_adds(out, "null");
            continue;
        }
        int rc =
            add_value(strchr(f->from, '.') == NULL ? &it : &at, f->as, f->sub, depth, out, err);
        if (rc != 0)
            return rc;
    }
    kt_buf_addc(out, '}');
    return 0;
}

static int done(struct kt_buf *out, int rc, struct kt_error *err) {
    return rc == 0 && out->failed ? kt_fail(err, KT_NO_MEMORY, "no memory for JSON") : rc;
}

int kt_value_json(const bson_t *doc, const struct kt_view *view, struct kt_buf *out,
                  struct kt_error *err) {
    bson_iter_t it;
    if (view != NULL)
        return done(out, add_view(doc, view, 1, out, err), err);
    if (!bson_iter_init(&it, doc))
        return kt_fail(err, KT_STORE_CORRUPT, "damaged document");
    return done(out, add_container(&it, false, NULL, 1, out, err), err);
}

int kt_value_blob_json(const void *blob, size_t len, struct kt_buf *out, struct kt_error *err) {
    bson_t doc;
    bson_iter_t it;
    if (!bson_init_static(&doc, blob, len) || !bson_iter_init_find(&it, &doc, "v"))
        return kt_fail(err, KT_STORE_CORRUPT, "not an encoded value");
    return done(out, add_value(&it, KT_AS_IS, NULL, 1, out, err), err);
}
