/* UTF-8, and scalars as JSON text, appended to a buffer. Any thread. */
#pragma once

#include <stdint.h>

#include "core/buf.h"

/* Strict UTF-8 (no overlong forms, surrogates or code points above 10FFFF); NUL bytes are fine. */
bool kt_utf8_valid(const char *s, size_t len);

/* Each byte of the text that belongs to no character becomes '?'; a character cut off at the end
 * too. In place, the length stays. */
void kt_utf8_scrub(char *s);

/* Quoted and escaped; `s` must be UTF-8 (not checked). */
void kt_json_string(struct kt_buf *out, const char *s, size_t len);
/* The shortest text of 15 to 17 digits that reads back as the same double; d must be finite. */
void kt_json_double(struct kt_buf *out, double d);
void kt_json_int(struct kt_buf *out, int64_t i);
