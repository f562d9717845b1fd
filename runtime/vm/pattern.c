/* Lua patterns with a step budget. */
#include "vm/pattern.h"

#include <stdbool.h>
#include <string.h>

#define MAX_DEPTH 200
#define UNCLOSED (-1)

static const char *match(struct kt_match *m, const char *s, const char *p, const char *end);

static const char *fail(struct kt_match *m, const char *why) {
    if (m->error == NULL)
        m->error = why;
    return NULL;
}

/* False once the budget is spent. */
static bool step(struct kt_match *m, uint64_t n) {
    m->steps += n;
    if (m->steps <= m->limit)
        return true;
    fail(m, "pattern too complex: it takes too many steps");
    return false;
}

/* Classes of ASCII, whatever the locale. */
static bool is_lower(unsigned char c) {
    return c >= 'a' && c <= 'z';
}
static bool is_upper(unsigned char c) {
    return c >= 'A' && c <= 'Z';
}
static bool is_digit(unsigned char c) {
    return c >= '0' && c <= '9';
}
static bool is_graph(unsigned char c) {
    return c > 32 && c < 127;
}

static bool in_class(unsigned char c, unsigned char class) {
    unsigned char kind = is_upper(class) ? (unsigned char)(class + 32) : class;
    bool alpha = is_lower(c) || is_upper(c), yes;
    switch (kind) {
    case 'a':
        yes = alpha;
        break;
    case 'c':
        yes = c < 32 || c == 127;
        break;
    case 'd':
        yes = is_digit(c);
        break;
    case 'g':
        yes = is_graph(c);
        break;
    case 'l':
        yes = is_lower(c);
        break;
    case 'p':
        yes = is_graph(c) && !alpha && !is_digit(c);
        break;
    case 's':
        yes = c == ' ' || (c >= 9 && c <= 13);
        break;
    case 'u':
        yes = is_upper(c);
        break;
    case 'w':
        yes = alpha || is_digit(c);
        break;
    case 'x':
        yes = is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        break;
    case 'z':
        yes = c == 0;
        break;
    default:
        return class == c;
    }
    return is_upper(class) ? !yes : yes;
}

/* Behind the single-character class that begins at p. */
static const char *class_end(struct kt_match *m, const char *p, const char *end) {
    if (*p == '%') {
        if (p + 1 == end)
            return fail(m, "malformed pattern (ends with '%')");
        return p + 2;
    }
    if (*p++ != '[')
        return p;
    if (p < end && *p == '^')
        p++;
    do { /* a ']' right here is a member */
        if (p == end)
            return fail(m, "malformed pattern (missing ']')");
        if (*p++ == '%' && p < end)
            p++;
    } while (p == end || *p != ']');
    return p + 1;
}

/* c in the set from '[' to the ']' at `last`? */
static bool in_set(struct kt_match *m, unsigned char c, const char *p, const char *last) {
    bool yes = true;
    m->steps += (uint64_t)(last - p) / 4;
    if (p[1] == '^') {
        yes = false;
        p++;
    }
    while (++p < last) {
        if (*p == '%') {
            p++;
            if (in_class(c, (unsigned char)*p))
                return yes;
        } else if (p[1] == '-' && p + 2 < last) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return yes;
            p += 2;
        } else if ((unsigned char)*p == c) {
            return yes;
        }
    }
    return !yes;
}

static bool single(struct kt_match *m, const char *s, const char *p, const char *behind) {
    unsigned char c = (unsigned char)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return in_class(c, (unsigned char)p[1]);
    case '[':
        return in_set(m, c, p, behind - 1);
    default:
        return (unsigned char)*p == c;
    }
}

static const char *balance(struct kt_match *m, const char *s, const char *p, const char *end) {
    if (end - p < 2)
        return fail(m, "unbalanced pattern");
    if (s >= m->subject_end || *s != p[0])
        return NULL;
    int open = 1;
    const char *at = s;
    while (++at < m->subject_end) {
        if (*at == p[1]) {
            if (--open == 0) {
                step(m, (uint64_t)(at - s));
                return at + 1;
            }
        } else if (*at == p[0]) {
            open++;
        }
    }
    step(m, (uint64_t)(at - s));
    return NULL;
}

static const char *longest(struct kt_match *m, const char *s, const char *p, const char *behind,
                           const char *end) {
    ptrdiff_t i = 0;
    while (s + i < m->subject_end && single(m, s + i, p, behind))
        i++;
    if (!step(m, (uint64_t)i))
        return NULL;
    for (; i >= 0; i--) {
        const char *r = match(m, s + i, behind + 1, end);
        if (r != NULL || m->error != NULL)
            return r;
    }
    return NULL;
}

static const char *shortest(struct kt_match *m, const char *s, const char *p, const char *behind,
                            const char *end) {
    for (;;) {
        const char *r = match(m, s, behind + 1, end);
        if (r != NULL || m->error != NULL)
            return r;
        if (s >= m->subject_end || !single(m, s, p, behind))
            return NULL;
        s++;
    }
}

static const char *open_capture(struct kt_match *m, const char *s, const char *p, ptrdiff_t what,
                                const char *end) {
    if (m->level >= KT_CAPTURES)
        return fail(m, "too many captures");
    m->capture[m->level].from = s;
    m->capture[m->level].len = what;
    m->level++;
    const char *r = match(m, s, p, end);
    if (r == NULL)
        m->level--;
    return r;
}

static const char *close_capture(struct kt_match *m, const char *s, const char *p,
                                 const char *end) {
    int level = m->level - 1;
    while (level >= 0 && m->capture[level].len != UNCLOSED)
        level--;
    if (level < 0)
        return fail(m, "invalid pattern capture");
    m->capture[level].len = s - m->capture[level].from;
    const char *r = match(m, s, p, end);
    if (r == NULL)
        m->capture[level].len = UNCLOSED;
    return r;
}

static const char *back_reference(struct kt_match *m, const char *s, int digit) {
    int level = digit - '1';
    if (level < 0 || level >= m->level || m->capture[level].len == UNCLOSED)
        return fail(m, "invalid capture index");
    ptrdiff_t len = m->capture[level].len;
    /* Stock compares with a length of size_t here, which a position capture never has room for. */
    if (len == KT_CAPTURE_POSITION || m->subject_end - s < len)
        return NULL;
    if (!step(m, (uint64_t)len / 8))
        return NULL;
    return memcmp(m->capture[level].from, s, (size_t)len) == 0 ? s + len : NULL;
}

static bool frontier(struct kt_match *m, const char *s, const char *set, const char *behind) {
    const char before = s == m->subject ? '\0' : s[-1], here = s < m->subject_end ? *s : '\0';
    return !in_set(m, (unsigned char)before, set, behind - 1) &&
           in_set(m, (unsigned char)here, set, behind - 1);
}

/* Tail calls are jumps, so that depth grows only where there is something to come back to. */
static const char *match_here(struct kt_match *m, const char *s, const char *p, const char *end) {
    for (;;) {
        if (m->error != NULL || !step(m, 1))
            return NULL;
        if (p == end)
            return s;
        if (*p == '(')
            return p + 1 < end && p[1] == ')' ? open_capture(m, s, p + 2, KT_CAPTURE_POSITION, end)
                                              : open_capture(m, s, p + 1, UNCLOSED, end);
        if (*p == ')')
            return close_capture(m, s, p + 1, end);
        if (*p == '$' && p + 1 == end)
            return s == m->subject_end ? s : NULL;
        if (*p == '%' && p + 1 < end && p[1] == 'b') {
            s = balance(m, s, p + 2, end);
            if (s == NULL)
                return NULL;
            p += 4;
            continue;
        }
        if (*p == '%' && p + 1 < end && p[1] == 'f') {
            p += 2;
            if (p == end || *p != '[')
                return fail(m, "missing '[' after '%f' in pattern");
            const char *behind = class_end(m, p, end);
            if (behind == NULL || !frontier(m, s, p, behind))
                return NULL;
            p = behind;
            continue;
        }
        if (*p == '%' && p + 1 < end && is_digit((unsigned char)p[1])) {
            s = back_reference(m, s, p[1]);
            if (s == NULL)
                return NULL;
            p += 2;
            continue;
        }
        const char *behind = class_end(m, p, end);
        if (behind == NULL)
            return NULL;
        bool yes = s < m->subject_end && single(m, s, p, behind);
        char repeat = behind < end ? *behind : '\0';
        if (repeat == '?') {
            if (yes) {
                const char *r = match(m, s + 1, behind + 1, end);
                if (r != NULL || m->error != NULL)
                    return r;
            }
            p = behind + 1;
        } else if (repeat == '*') {
            return longest(m, s, p, behind, end);
        } else if (repeat == '+') {
            return yes ? longest(m, s + 1, p, behind, end) : NULL;
        } else if (repeat == '-') {
            return shortest(m, s, p, behind, end);
        } else if (yes) {
            s++;
            p = behind;
        } else {
            return NULL;
        }
    }
}

static const char *match(struct kt_match *m, const char *s, const char *p, const char *end) {
    if (++m->depth > MAX_DEPTH)
        return fail(m, "pattern too complex");
    const char *r = match_here(m, s, p, end);
    m->depth--;
    return r;
}

void kt_match_init(struct kt_match *m, const char *subject, size_t len, uint64_t limit) {
    m->subject = subject;
    m->subject_end = subject + len;
    m->steps = 0;
    m->limit = limit;
    m->error = NULL;
    m->level = 0;
    m->depth = 0;
}

const char *kt_match_at(struct kt_match *m, const char *at, const char *pattern, const char *end) {
    m->level = 0;
    m->depth = 0;
    const char *r = match(m, at, pattern, end);
    return m->error != NULL ? NULL : r;
}

const char *kt_match_from(struct kt_match *m, const char *from, const char *pattern,
                          const char *end, const char **start) {
    for (; from <= m->subject_end; from++) {
        const char *r = kt_match_at(m, from, pattern, end);
        if (r != NULL) {
            *start = from;
            return r;
        }
        if (m->error != NULL)
            return NULL;
    }
    return NULL;
}

const char *kt_pattern_end(const char *pattern, size_t len) {
    const char *nul = memchr(pattern, '\0', len);
    return nul != NULL ? nul : pattern + len;
}
