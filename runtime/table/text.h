/* Text of cells: UTF-8 check and the normalised form that references are compared in. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"

/* Why a cell's bytes are not text: 0 they are, else a name: "nul_byte", "not_utf8". Strict: no
 * overlong forms, no surrogates, nothing above U+10FFFF. */
const char *kt_text_check(const char *s, size_t n);

/* norm of IMT-007: upper case, letters and digits only, leading zeros off. Letters beyond ASCII:
 * Latin, Greek and Cyrillic letters are raised, other letters kept; punctuation, blanks, symbols
 * and combining marks are left out. s must be UTF-8. */
void kt_text_norm(const char *s, size_t n, struct kt_buf *out);
/* Whether s is its own normal form; may say false for some that are. */
bool kt_text_is_norm(const char *s, size_t n);
