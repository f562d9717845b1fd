/* Grouping and joining: rows -> dense numbers of their distinct keys.
 *
 * The keys of a row are packed into 64 or 128 bits by the range that each column really has, then
 * looked up in a table of int32 (small ranges) or a hash table. Groups are numbered in order of
 * first appearance, so the result depends on the data alone. */
#pragma once

#include <stdint.h>

#include "table/dict.h"

struct kt_keycol {
    const void *data;           /* int32 (codes, days, flags), int64, or kt_i128 values */
    int32_t width;              /* 4, 8 or 16 bytes a value; 16 only for sorting */
    int32_t desc;               /* sort.h: descending */
    const struct kt_dict *dict; /* sort.h: text order of codes; else NULL */
};

struct kt_group;

/* ids[i] = group of the i-th row (sel[i], or i when sel is NULL), -1 when null_skips and a key is
 * NULL (else NULL equals NULL). NULL when memory is out. */
struct kt_group *kt_group_new(const struct kt_keycol *keys, int32_t nkeys, const int32_t *sel,
                              int64_t n, int32_t null_skips, int32_t *ids);
void kt_group_free(struct kt_group *g);
int32_t kt_group_count(const struct kt_group *g);
/* The first i of each group; owned by g. */
const int32_t *kt_group_first(const struct kt_group *g);
/* out[i] = group with the same key as the i-th row of another table, -1: none. Text columns must
 * use the dictionary the group was made with. 0, or -1 when memory is out. */
int32_t kt_group_probe(const struct kt_group *g, const struct kt_keycol *keys, const int32_t *sel,
                       int64_t n, int32_t *out);
/* Rows by group: members of group k are members[start[k] .. start[k+1]), as i, in row order; rows
 * with id -1 are in none. start has groups + 1 entries. */
void kt_k_members(const int32_t *ids, int64_t n, int32_t groups, int32_t *start, int32_t *members);
