/* One NDJSON record: a flat JSON object on a line. Numbers stay text and never become a double. */
#include <ctype.h>
#include <string.h>

#include "table/rows_impl.h"
#include "table/text.h"

struct cursor {
    const char *s, *end;
    const char *why; /* what was wrong */
};

static void blanks(struct cursor *c) {
    while (c->s < c->end && (*c->s == ' ' || *c->s == '\t' || *c->s == '\r'))
        c->s++;
}

static int hex4(struct cursor *c) {
    int v = 0;
    if (c->end - c->s < 4)
        return -1;
    for (int i = 0; i < 4; i++, c->s++) {
        char x = *c->s;
        int d = x >= '0' && x <= '9'   ? x - '0'
                : x >= 'a' && x <= 'f' ? x - 'a' + 10
                : x >= 'A' && x <= 'F' ? x - 'A' + 10
                                       : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static void add_utf8(struct kt_buf *b, unsigned c) {
    if (c < 0x80) {
        kt_buf_addc(b, (char)c);
        return;
    }
    if (c < 0x800) {
        kt_buf_addc(b, (char)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            kt_buf_addc(b, (char)(0xe0 | c >> 12));
        } else {
            kt_buf_addc(b, (char)(0xf0 | c >> 18));
            kt_buf_addc(b, (char)(0x80 | (c >> 12 & 0x3f)));
        }
        kt_buf_addc(b, (char)(0x80 | (c >> 6 & 0x3f)));
    }
    kt_buf_addc(b, (char)(0x80 | (c & 0x3f)));
}

/* A string behind its opening quote, into scratch. */
static bool string(struct cursor *c, struct kt_buf *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    while (c->s < c->end) {
        const char *run = c->s;
        while (c->s < c->end && *c->s != '"' && *c->s != '\\' && (unsigned char)*c->s >= 0x20)
            c->s++;
        kt_buf_add(out, run, (size_t)(c->s - run));
        if (c->s == c->end)
            break;
        if (*c->s == '"') {
            c->s++;
            return true;
        }
        if (*c->s != '\\') {
            c->why = "a control character in a string";
            return false;
        }
        if (++c->s == c->end)
            break;
        const char *e = *c->s == 0 ? NULL : strchr(from, *c->s);
        if (e != NULL) {
            kt_buf_addc(out, to[e - from]);
            c->s++;
            continue;
        }
        int u = *c->s++ == 'u' ? hex4(c) : -1;
        if (u >= 0xd800 && u < 0xdc00 && c->end - c->s > 6 && c->s[0] == '\\' && c->s[1] == 'u') {
            c->s += 2;
            int low = hex4(c);
            u = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00)
                                              : -1;
        }
        if (u < 0 || (u >= 0xd800 && u < 0xe000)) {
            c->why = "a bad escape in a string";
            return false;
        }
        add_utf8(out, (unsigned)u);
    }
    c->why = "a string that does not end";
    return false;
}

static bool number(struct cursor *c) {
    const char *s = c->s, *e = c->end;
#define DIGITS(what)                                                                               \
    if (s == e || !isdigit((unsigned char)*s)) {                                                   \
        c->why = what;                                                                             \
        return false;                                                                              \
    }                                                                                              \
    while (s < e && isdigit((unsigned char)*s))                                                    \
    s++
    if (*s == '-')
        s++;
    if (s < e && *s == '0' && s + 1 < e && isdigit((unsigned char)s[1])) {
        c->why = "a number with leading zeros";
        return false;
    }
    DIGITS("a bad number");
    if (s < e && *s == '.') {
        s++;
        DIGITS("a bad number");
    }
    if (s < e && (*s == 'e' || *s == 'E')) {
        s++;
        if (s < e && (*s == '+' || *s == '-'))
            s++;
        DIGITS("a bad number");
    }
#undef DIGITS
    c->s = s;
    return true;
}

/* Skip a nested value: its brackets must match; what is between them is not looked at closer. */
static bool nested(struct cursor *c, struct kt_buf *scratch) {
    char stack[64];
    int depth = 0;
    size_t keep = scratch->len;
    while (c->s < c->end) {
        char x = *c->s++;
        if (x == '"') {
            if (!string(c, scratch))
                return false;
            scratch->len = keep;
        } else if (x == '{' || x == '[') {
            if (depth == (int)sizeof(stack)) {
                c->why = "nested too deep";
                return false;
            }
            stack[depth++] = x == '{' ? '}' : ']';
        } else if (x == '}' || x == ']') {
            if (stack[--depth] != x)
                break;
            if (depth == 0)
                return true;
        }
    }
    c->why = "brackets that do not match";
    return false;
}

static bool word(struct cursor *c, const char *w) {
    size_t n = strlen(w);
    if ((size_t)(c->end - c->s) < n || memcmp(c->s, w, n) != 0) {
        c->why = "not a JSON value";
        return false;
    }
    c->s += n;
    return true;
}

/* The value of column `col`. *flat = false: an object or array, read over. */
static bool value(struct kt_rows *r, struct cursor *c, int col, bool *flat) {
    const char *from = c->s;
    kt_rows_plain(r, col, NULL, 0);
    *flat = true;
    if (c->s == c->end) {
        c->why = "a value is missing";
        return false;
    }
    switch (*c->s) {
    case '"': {
        size_t at = r->scratch.len;
        c->s++;
        if (!string(c, &r->scratch))
            return false;
        if (r->scratch.len > at)
            kt_rows_scratched(r, col, at);
        return true;
    }
    case '{':
    case '[':
        *flat = false;
        return nested(c, &r->scratch);
    case 'n':
        return word(c, "null");
    case 't':
        if (!word(c, "true"))
            return false;
        break;
    case 'f':
        if (!word(c, "false"))
            return false;
        break;
    default:
        if (*c->s != '-' && !isdigit((unsigned char)*c->s)) {
            c->why = "not a JSON value";
            return false;
        }
        if (!number(c))
            return false;
    }
    kt_rows_plain(r, col, from, (size_t)(c->s - from));
    return true;
}

/* The members of an object behind "{". 1 good, 0 bad row (why), negative fatal. */
static int object(struct kt_rows *r, struct cursor *c, bool *seen, struct kt_error *err) {
    struct {
        int col;
    } odd[8];
    int odds = 0;
    blanks(c);
    if (c->s < c->end && *c->s == '}') {
        c->s++;
    } else {
        for (;;) {
            blanks(c);
            size_t at = r->scratch.len;
            if (c->s == c->end || *c->s != '"') {
                c->why = "a name in quotes is wanted";
                return 0;
            }
            c->s++;
            if (!string(c, &r->scratch))
                return 0;
            if (r->scratch.failed)
                return kt_fail(err, KT_NO_MEMORY, "out of memory");
            const char *name = r->scratch.len == at ? "" : r->scratch.data + at;
            size_t n = r->scratch.len - at;
            if (n == 0 || n > 255 || kt_text_check(name, n) != NULL) {
                c->why = "a name that is empty, too long or not text";
                return 0;
            }
            int col = kt_rows_find_column(r, name, n);
            if (col < 0) {
                int rc = kt_rows_add_column(r, name, n, err);
                if (rc < 0)
                    return rc;
                col = r->columns - 1;
            }
            r->scratch.len = at;
            if (seen[col]) {
                c->why = "a name that is there twice";
                return 0;
            }
            seen[col] = true;
            blanks(c);
            if (c->s == c->end || *c->s != ':') {
                c->why = "\":\" is wanted";
                return 0;
            }
            c->s++;
            blanks(c);
            bool flat;
            if (!value(r, c, col, &flat))
                return 0;
            if (!flat && odds < 8)
                odd[odds++].col = col;
            blanks(c);
            if (c->s < c->end && *c->s == ',') {
                c->s++;
                continue;
            }
            if (c->s < c->end && *c->s == '}') {
                c->s++;
                break;
            }
            c->why = "\",\" or \"}\" is wanted";
            return 0;
        }
    }
    blanks(c);
    if (c->s != c->end) {
        c->why = "something behind the object";
        return 0;
    }
    for (int i = 0; i < odds; i++) {
        const char *name = kt_rows_column(r, odd[i].col);
        kt_cell_error_add(r->errors, r->line, name, strlen(name), "not_flat",
                          "an object or array is no cell");
    }
    return 1;
}

int kt_ndjson_record(struct kt_rows *r, const char *s, const char *end, bool last,
                     const char **next, struct kt_error *err) {
    const char *nl = memchr(s, '\n', (size_t)(end - s));
    if (nl == NULL && !last)
        return 0;
    struct cursor c = {s, nl == NULL ? end : nl, NULL};
    *next = nl == NULL ? end : nl + 1;
    if ((size_t)(c.end - s) > KT_ROWS_LINE) {
        return kt_fail(err, KT_DATA_REJECTED, "line %lld is longer than %u bytes", r->line,
                       KT_ROWS_LINE);
    }
    blanks(&c);
    if (c.s == c.end) {
        r->line++;
        return 1;
    }
    bool seen[KT_ROWS_COLUMNS];
    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < r->columns; i++)
        kt_rows_plain(r, i, NULL, 0);
    r->scratch.len = 0;
    int rc = 0;
    if (*c.s != '{') {
        c.why = "an object is wanted";
    } else {
        c.s++;
        rc = object(r, &c, seen, err);
        if (rc < 0)
            return rc;
    }
    if (rc == 0) {
        if (!r->header) {
            return kt_fail(err, KT_DATA_REJECTED, "line %lld: %s (byte %d)", r->line, c.why,
                           (int)(c.s - s) + 1);
        }
        kt_cell_error_add(r->errors, r->line, NULL, 0, "bad_json",
                          "%s (byte %d); the row is left out", c.why, (int)(c.s - s) + 1);
        r->line++;
        return 1;
    }
    r->header = true;
    rc = kt_rows_emit(r, r->line, r->columns, err);
    r->line++;
    return rc < 0 ? rc : 1;
}
