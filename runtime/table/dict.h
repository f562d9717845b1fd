/* A dictionary: distinct texts <-> dense codes 0, 1, … in order of first appearance. The bytes are
 * copied. One thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct kt_dict;

struct kt_dict *kt_dict_new(void); /* NULL when memory is out */
void kt_dict_free(struct kt_dict *d);
/* Code of the text, added when new; -1 when memory is out or there are 2^31 - 2 texts. */
int32_t kt_dict_intern(struct kt_dict *d, const char *s, size_t n);
int32_t kt_dict_find(const struct kt_dict *d, const char *s, size_t n); /* -1: not there */
/* The same in steps, so that a reader can fetch the slots of several texts before it looks at them:
 * hash (and fetch), then find or intern with it. */
uint32_t kt_dict_hash(const struct kt_dict *d, const char *s, size_t n);
int32_t kt_dict_find_hashed(const struct kt_dict *d, uint32_t hash, const char *s, size_t n);
int32_t kt_dict_intern_hashed(struct kt_dict *d, uint32_t hash, const char *s, size_t n);
int32_t kt_dict_count(const struct kt_dict *d);
/* Text of a code, not terminated; valid until the next text is added. */
const char *kt_dict_text(const struct kt_dict *d, int32_t code, size_t *n);

/* map[code of from] = code in `to`: of all texts (added when new), or only of those there (else
 * KT_NULL32). -1 when memory is out. */
int kt_dict_merge(struct kt_dict *to, const struct kt_dict *from, int32_t *map);
void kt_dict_translate(const struct kt_dict *to, const struct kt_dict *from, int32_t *map);
/* map[code] = code of the normalised text in the same dictionary (text.h: kt_text_norm), KT_NULL32
 * when nothing is left of it, for the codes from..to-1; the dictionary may grow. -1: no memory. */
int kt_dict_norm(struct kt_dict *d, int32_t from, int32_t to, int32_t *map);
