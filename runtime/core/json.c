/* UTF-8, and scalars as JSON text. */
#include "core/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the character at s, 0 when there is none. */
static int character(const unsigned char *s, const unsigned char *end) {
    unsigned char c = s[0];
    if (c < 0x80)
        return 1;
    int more = c >= 0xc2 && c < 0xe0   ? 1
               : c >= 0xe0 && c < 0xf0 ? 2
               : c >= 0xf0 && c < 0xf5 ? 3
                                       : 0;
    if (more == 0 || end - s <= more)
        return 0;
    /* The second byte decides overlong forms, surrogates and the upper end. */
    if ((c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) || (c == 0xf0 && s[1] < 0x90) ||
        (c == 0xf4 && s[1] > 0x8f))
        return 0;
    for (int i = 1; i <= more; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return more + 1;
}

bool kt_utf8_valid(const char *text, size_t len) {
    const unsigned char *s = (const unsigned char *)text, *end = s + len;
    for (int n; s < end; s += n)
        if ((n = character(s, end)) == 0)
            return false;
    return true;
}

void kt_utf8_scrub(char *text) {
    unsigned char *s = (unsigned char *)text, *end = s + strlen(text);
    while (s < end) {
        int n = character(s, end);
        if (n == 0)
            *s++ = '?';
        s += n;
    }
}

void kt_json_string(struct kt_buf *out, const char *s, size_t len) {
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;
    kt_buf_addc(out, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        kt_buf_add(out, s + from, i - from);
        from = i + 1;
        char escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        switch (c) {
        case '"':
        case '\\':
            escape[1] = (char)c;
            break;
        case '\n':
            escape[1] = 'n';
            break;
        case '\r':
            escape[1] = 'r';
            break;
        case '\t':
            escape[1] = 't';
            break;
        default:
            kt_buf_add(out, escape, 6);
            continue;
        }
        kt_buf_add(out, escape, 2);
    }
    kt_buf_add(out, s + from, len - from);
    kt_buf_addc(out, '"');
}

void kt_json_double(struct kt_buf *out, double d) {
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, d);
        if (strtod(text, NULL) == d)
            break;
    }
    kt_buf_adds(out, text);
}

void kt_json_int(struct kt_buf *out, int64_t i) {
    kt_buf_addf(out, "%" PRId64, i);
}
