#include "table/text.h"

#include <stdint.h>
#include <string.h>

/* Length of the sequence at s (1..4), 0 when it is not UTF-8; *cp is its code point. */
static size_t decode(const unsigned char *s, size_t n, uint32_t *cp) {
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    size_t len = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > n)
        return 0;
    uint32_t c = s[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3fu);
    }
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 0;
    *cp = c;
    return len;
}

const char *kt_text_check(const char *s, size_t n) {
    const char *end = s + n;
    while (s < end) {
        uint64_t w;
        if (end - s >= 8) { /* eight plain bytes at once: no high bit, no zero */
            memcpy(&w, s, 8);
            if (((w | (w - 0x0101010101010101u)) & 0x8080808080808080u) == 0) {
                s += 8;
                continue;
            }
        }
        if (*s == 0)
            return "nul_byte";
        uint32_t cp;
        size_t len = decode((const unsigned char *)s, (size_t)(end - s), &cp);
        if (len == 0)
            return "not_utf8";
        s += len;
    }
    return NULL;
}

static bool is_letter(uint32_t c) {
    if (c == 0xaa || c == 0xb5 || c == 0xba)
        return true;
    if (c < 0xc0 || c == 0xd7 || c == 0xf7)
        return false;
    static const struct {
        uint32_t from, to;
    } not_letters[] = {{0x2b0, 0x36f},   {0x483, 0x489},     {0x591, 0x5cf},     {0x1ab0, 0x1aff},
                       {0x1dc0, 0x1dff}, {0x2000, 0x209f},   {0x20a0, 0x2bff},   {0x2e00, 0x2e7f},
                       {0x3000, 0x3004}, {0x3008, 0x3020},   {0xe000, 0xf8ff},   {0xfe00, 0xfe6f},
                       {0xff00, 0xff0f}, {0xff1a, 0xff20},   {0xff3b, 0xff40},   {0xff5b, 0xff65},
                       {0xfff0, 0xffff}, {0x1f000, 0x1faff}, {0xe0000, 0x10ffff}};
    for (size_t i = 0; i < sizeof(not_letters) / sizeof(not_letters[0]); i++)
        if (c >= not_letters[i].from && c <= not_letters[i].to)
            return false;
    return true;
}

static uint32_t upper(uint32_t c) {
    if (c == 0xb5)
        return 0x39c;
    if (c == 0xff)
        return 0x178;
    if (c >= 0xe0 && c <= 0xfe && c != 0xf7)
        return c - 32;
    /* Latin Extended-A: pairs of upper and lower, even first up to U+0137 and from U+014A. */
    if ((c >= 0x100 && c <= 0x137 && c != 0x130 && c != 0x131) || (c >= 0x14a && c <= 0x177))
        return c & ~1u;
    if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e))
        return (c & 1) == 0 ? c - 1 : c;
    if (c == 0x3c2)
        return 0x3a3;
    if (c >= 0x3b1 && c <= 0x3c9)
        return c - 32;
    if (c >= 0x430 && c <= 0x44f)
        return c - 32;
    if (c >= 0x450 && c <= 0x45f)
        return c - 80;
    return c;
}

void kt_text_norm(const char *s, size_t n, struct kt_buf *out) {
    const char *end = s + n;
    size_t begin = out->len;
    char *plain = kt_buf_reserve(out, n);
    if (plain == NULL)
        return;
    /* Plain ASCII, nearly always: never longer than it was. */
    for (; s < end && (unsigned char)*s < 0x80; s++) {
        char c = *s >= 'a' && *s <= 'z' ? (char)(*s - 32) : *s;
        if ((c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9') || (c == '0' && out->len > begin)) {
            *plain++ = c;
            out->len++;
        }
    }
    while (s < end) {
        uint32_t c;
        size_t len = decode((const unsigned char *)s, (size_t)(end - s), &c);
        if (len == 0)
            len = 1, c = ' ';
        s += len;
        if (c >= 'a' && c <= 'z')
            c -= 32;
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'A' && c <= 'Z') && !(c >= 0x80 && is_letter(c)))
            continue;
        if (c == '0' && out->len == begin)
            continue;
        c = upper(c);
        if (c < 0x80) {
            kt_buf_addc(out, (char)c);
        } else if (c < 0x800) {
            kt_buf_addc(out, (char)(0xc0 | c >> 6));
            kt_buf_addc(out, (char)(0x80 | (c & 0x3f)));
        } else {
            if (c < 0x10000) {
                kt_buf_addc(out, (char)(0xe0 | c >> 12));
            } else {
                kt_buf_addc(out, (char)(0xf0 | c >> 18));
                kt_buf_addc(out, (char)(0x80 | (c >> 12 & 0x3f)));
            }
            kt_buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
            kt_buf_addc(out, (char)(0x80 | (c & 0x3f)));
        }
    }
}

bool kt_text_is_norm(const char *s, size_t n) {
    if (n > 0 && s[0] == '0')
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'A' && s[i] <= 'Z')))
            return false;
    }
    return true;
}
