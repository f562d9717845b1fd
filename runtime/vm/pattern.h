/* Lua patterns, matched with a step budget: stock string.find runs for hours on some patterns and
 * nothing can stop it. Semantics are those of LuaJIT's string library (Lua 5.1 with %g and %f; a
 * NUL byte ends the pattern). Knows nothing of Lua states; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define KT_CAPTURES 32
#define KT_CAPTURE_POSITION (-2) /* a capture "()": its offset is the value */

struct kt_match {
    const char *subject, *subject_end;
    uint64_t steps, limit; /* steps grows over calls; beyond limit: error */
    const char *error;     /* static text; NULL: none */
    int level;             /* captures of the last match */
    struct {
        const char *from;
        ptrdiff_t len; /* or KT_CAPTURE_POSITION */
    } capture[KT_CAPTURES];
    int depth;
};

void kt_match_init(struct kt_match *m, const char *subject, size_t len, uint64_t limit);
/* Match the pattern exactly at `at`: the end of the match, or NULL (then m->error may be set). */
const char *kt_match_at(struct kt_match *m, const char *at, const char *pattern, const char *end);
/* The first match at or after `from`: *start and the end, or NULL. A leading ^ is the caller's. */
const char *kt_match_from(struct kt_match *m, const char *from, const char *pattern,
                          const char *end, const char **start);
/* The pattern ends at its first NUL byte, or at len. */
const char *kt_pattern_end(const char *pattern, size_t len);
