#pragma GCC optimize("O3")
#include "table/group.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "table/decimal.h"
#include "table/vec.h"

#define KEYS 16
#define BLOCK 256

struct range {
    int64_t min;
    uint64_t span; /* codes 1..span stand for values, 0 for NULL */
    int bits;
};

struct slot1 {
    uint64_t key;
    int32_t group; /* -1: empty */
    int32_t pad;
};
struct slot2 {
    uint64_t key[2];
    int32_t group;
    int32_t pad;
};

struct kt_group {
    int32_t nkeys, count;
    int32_t given; /* keys asked for; nkeys is 2 when a prefix was numbered first */
    bool null_skips;
    struct range range[KEYS];
    int words;     /* 0: direct, 1 or 2: hash table of that many words */
    void *table;   /* int32[1 << bits], slot1[] or slot2[] */
    uint64_t mask; /* of the hash table */
    int32_t *first;
    struct kt_group *prefix; /* all keys but the last, when they do not fit together */
};

/* A block of packed keys; bad rows (NULL where that skips, out of range) have no group. */
struct block {
    uint64_t lo[BLOCK], hi[BLOCK];
    uint8_t bad[BLOCK];
};

static struct range range_of(const struct kt_keycol *k, const int32_t *sel, int64_t n) {
    int64_t min = INT64_MAX, max = INT64_MIN;
    if (k->width == 4) {
        const int32_t *v = k->data;
        int32_t lo = INT32_MAX, hi = INT32_MIN;
        for (int64_t i = 0; i < n; i++) {
            int32_t x = v[sel == NULL ? i : sel[i]];
            hi = x > hi ? x : hi; /* NULL is the smallest */
            x = x == KT_NULL32 ? INT32_MAX : x;
            lo = x < lo ? x : lo;
        }
        if (hi != INT32_MIN)
            min = lo, max = hi;
    } else {
        const int64_t *v = k->data;
        for (int64_t i = 0; i < n; i++) {
            int64_t x = v[sel == NULL ? i : sel[i]];
            max = x > max ? x : max;
            x = x == KT_NULL64 ? INT64_MAX : x;
            min = x < min ? x : min;
        }
    }
    struct range r = {0, 0, 0};
    if (max != INT64_MIN) {
        r.min = min;
        r.span = (uint64_t)max - (uint64_t)min + 1;
        r.bits = r.span == 0 ? 65 : 64 - __builtin_clzll(r.span);
    }
    return r;
}

static inline __attribute__((always_inline)) void pack_column(struct block *b, const void *data,
                                                              int width, const int32_t *sel,
                                                              int64_t at, int m, struct range r,
                                                              bool skip, bool wide) {
    int bits = r.bits;
    for (int j = 0; j < m; j++) {
        int64_t row = sel == NULL ? at + j : sel[at + j];
        int64_t v = width == 4 ? ((const int32_t *)data)[row] : ((const int64_t *)data)[row];
        bool null = v == (width == 4 ? KT_NULL32 : KT_NULL64);
        uint64_t off = (uint64_t)v - (uint64_t)r.min;
        /* span 0 with 65 bits is the full range: nothing is outside. */
        bool out = !null && off >= r.span && bits != 65;
        b->bad[j] |= out | (null & skip);
        uint64_t code = (null | out) ? 0 : off + 1;
        if (!wide) {
            b->lo[j] = b->lo[j] << bits | code;
        } else {
            unsigned __int128 x = (unsigned __int128)b->hi[j] << 64 | b->lo[j];
            unsigned __int128 c = (null | out) ? 0 : (unsigned __int128)off + 1;
            x = x << bits | c;
            b->lo[j] = (uint64_t)x;
            b->hi[j] = (uint64_t)(x >> 64);
        }
    }
}

static void pack(const struct kt_group *g, struct block *b, const struct kt_keycol *keys,
                 const int32_t *sel, int64_t at, int m) {
    memset(b->lo, 0, sizeof(b->lo));
    memset(b->hi, 0, sizeof(b->hi));
    memset(b->bad, 0, sizeof(b->bad));
    for (int k = 0; k < g->nkeys; k++) {
        struct range r = g->range[k];
        bool skip = g->null_skips, wide = g->words == 2;
        if (keys[k].width == 4 && !wide && sel == NULL) {
            pack_column(b, keys[k].data, 4, NULL, at, m, r, skip, false);
        } else if (keys[k].width == 4 && !wide) {
            pack_column(b, keys[k].data, 4, sel, at, m, r, skip, false);
        } else if (keys[k].width == 8 && !wide) {
            pack_column(b, keys[k].data, 8, sel, at, m, r, skip, false);
        } else {
            pack_column(b, keys[k].data, keys[k].width, sel, at, m, r, skip, true);
        }
    }
}

static inline uint64_t hash1(uint64_t k) {
    unsigned __int128 m = (unsigned __int128)(k ^ 0x9e3779b97f4a7c15u) * 0xe7037ed1a0b428dbu;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}
static inline uint64_t hash2(uint64_t a, uint64_t b) {
    return hash1(a ^ hash1(b + 0x8ebc6af09c88c6e3u));
}

static int32_t *alloc_table(uint64_t bytes) {
    void *t = kt_vec_alloc(bytes);
    if (t != NULL)
        memset(t, 0xff, bytes);
    return t;
}

static bool grow(struct kt_group *g) {
    uint64_t size = (g->mask + 1) * 4,
             width = g->words == 1 ? sizeof(struct slot1) : sizeof(struct slot2);
    void *table = alloc_table(size * width);
    if (table == NULL)
        return false;
    for (uint64_t i = 0; i <= g->mask; i++) {
        if (g->words == 1) {
            struct slot1 s = ((struct slot1 *)g->table)[i], *to = table;
            if (s.group < 0)
                continue;
            uint64_t at = hash1(s.key) & (size - 1);
            while (to[at].group >= 0)
                at = (at + 1) & (size - 1);
            to[at] = s;
        } else {
            struct slot2 s = ((struct slot2 *)g->table)[i], *to = table;
            if (s.group < 0)
                continue;
            uint64_t at = hash2(s.key[0], s.key[1]) & (size - 1);
            while (to[at].group >= 0)
                at = (at + 1) & (size - 1);
            to[at] = s;
        }
    }
    kt_vec_free(g->table);
    g->table = table;
    g->mask = size - 1;
    return true;
}

/* Group of each key of a block; add: new keys get the next number (row i = at + j is their first).
 */
static inline __attribute__((always_inline)) bool
look_up(struct kt_group *g, const struct block *b, int64_t at, int m, bool add, int32_t *out) {
    if (g->words == 0) {
        int32_t *table = g->table;
        for (int j = 0; j < m; j++) {
            int32_t id = b->bad[j] ? -1 : table[b->lo[j]];
            if (add && id < 0 && !b->bad[j]) {
                g->first[g->count] = (int32_t)(at + j);
                id = table[b->lo[j]] = g->count++;
            }
            out[j] = id;
        }
        return true;
    }
    uint64_t h[BLOCK];
    while (add && ((uint64_t)g->count + BLOCK) * 3 > (g->mask + 1) * 2)
        if (!grow(g))
            return false;
    uint64_t mask = g->mask;
    if (g->words == 1) {
        struct slot1 *table = g->table;
        for (int j = 0; j < m; j++) {
            h[j] = hash1(b->lo[j]) & mask;
            __builtin_prefetch(&table[h[j]]);
        }
        for (int j = 0; j < m; j++) {
            uint64_t i = h[j];
            out[j] = -1;
            if (b->bad[j])
                continue;
            while (table[i].group >= 0 && table[i].key != b->lo[j])
                i = (i + 1) & mask;
            if (add && table[i].group < 0) {
                g->first[g->count] = (int32_t)(at + j);
                table[i] = (struct slot1){b->lo[j], g->count++, 0};
            }
            out[j] = table[i].group;
        }
    } else {
        struct slot2 *table = g->table;
        for (int j = 0; j < m; j++) {
            h[j] = hash2(b->lo[j], b->hi[j]) & mask;
            __builtin_prefetch(&table[h[j]]);
        }
        for (int j = 0; j < m; j++) {
            uint64_t i = h[j];
            out[j] = -1;
            if (b->bad[j])
                continue;
            while (table[i].group >= 0 &&
                   (table[i].key[0] != b->lo[j] || table[i].key[1] != b->hi[j]))
                i = (i + 1) & mask;
            if (add && table[i].group < 0) {
                g->first[g->count] = (int32_t)(at + j);
                table[i] = (struct slot2){{b->lo[j], b->hi[j]}, g->count++, 0};
            }
            out[j] = table[i].group;
        }
    }
    return true;
}

static bool make_table(struct kt_group *g, int bits, int64_t n) {
    if (bits < 40 && (int64_t)1 << bits <= 4 * n + 4096) {
        g->words = 0;
        g->table = alloc_table(sizeof(int32_t) << bits);
        return g->table != NULL;
    }
    g->words = bits < 64 ? 1 : 2; /* 64 would shift a word out whole */
    uint64_t size = 1024;
    while (size < (uint64_t)(n < 65536 ? n : 65536) * 2)
        size *= 2;
    g->mask = size - 1;
    g->table = alloc_table(size * (g->words == 1 ? sizeof(struct slot1) : sizeof(struct slot2)));
    return g->table != NULL;
}

struct kt_group *kt_group_new(const struct kt_keycol *keys, int32_t nkeys, const int32_t *sel,
                              int64_t n, int32_t null_skips, int32_t *ids) {
    if (nkeys < 1 || nkeys > KEYS || n > INT32_MAX)
        return NULL;
    struct kt_group *g = calloc(1, sizeof(*g));
    struct kt_keycol joined[2];
    if (g == NULL)
        return NULL;
    int bits = 0;
    g->nkeys = g->given = nkeys;
    g->null_skips = null_skips != 0;
    for (int k = 0; k < nkeys; k++) {
        g->range[k] = range_of(&keys[k], sel, n);
        bits += g->range[k].bits;
    }
    int32_t *prefix_ids = NULL;
    if (bits > 128) {
        /* Number the keys but the last first; ids are by position, so the last one is gathered. */
        prefix_ids = kt_vec_alloc((size_t)(n > 0 ? n : 1) * sizeof(int32_t));
        void *last = kt_vec_alloc((size_t)(n > 0 ? n : 1) * (size_t)keys[nkeys - 1].width);
        g->prefix = prefix_ids == NULL || last == NULL
                        ? NULL
                        : kt_group_new(keys, nkeys - 1, sel, n, null_skips, prefix_ids);
        if (g->prefix == NULL) {
            kt_vec_free(prefix_ids);
            kt_vec_free(last);
            kt_group_free(g);
            return NULL;
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t row = sel == NULL ? i : sel[i];
            if (keys[nkeys - 1].width == 4)
                ((int32_t *)last)[i] = ((const int32_t *)keys[nkeys - 1].data)[row];
            else
                ((int64_t *)last)[i] = ((const int64_t *)keys[nkeys - 1].data)[row];
            if (prefix_ids[i] < 0)
                prefix_ids[i] = KT_NULL32;
        }
        joined[0] = (struct kt_keycol){prefix_ids, 4, 0, NULL};
        joined[1] = (struct kt_keycol){last, keys[nkeys - 1].width, 0, NULL};
        keys = joined;
        sel = NULL;
        g->nkeys = 2;
        bits = 0;
        for (int k = 0; k < 2; k++) {
            g->range[k] = range_of(&keys[k], NULL, n);
            bits += g->range[k].bits;
        }
    }
    g->first = kt_vec_alloc((size_t)(n > 0 ? n : 1) * sizeof(int32_t));
    bool ok = g->first != NULL && make_table(g, bits, n);
    struct block b;
    for (int64_t at = 0; ok && at < n; at += BLOCK) {
        int m = n - at < BLOCK ? (int)(n - at) : BLOCK;
        pack(g, &b, keys, sel, at, m);
        ok = look_up(g, &b, at, m, true, ids + at);
    }
    if (prefix_ids != NULL) {
        kt_vec_free((void *)(uintptr_t)joined[1].data);
        kt_vec_free(prefix_ids);
    }
    if (!ok) {
        kt_group_free(g);
        return NULL;
    }
    return g;
}

int32_t kt_group_probe(const struct kt_group *g, const struct kt_keycol *keys, const int32_t *sel,
                       int64_t n, int32_t *out) {
    struct kt_keycol joined[2];
    int32_t *ids = NULL;
    void *gathered = NULL;
    if (g->prefix != NULL) {
        int last = g->given - 1;
        ids = kt_vec_alloc((size_t)(n > 0 ? n : 1) * sizeof(int32_t));
        gathered = kt_vec_alloc((size_t)(n > 0 ? n : 1) * (size_t)keys[last].width);
        if (ids == NULL || gathered == NULL || kt_group_probe(g->prefix, keys, sel, n, ids) < 0) {
            kt_vec_free(ids);
            kt_vec_free(gathered);
            return -1;
        }
        for (int64_t i = 0; i < n; i++) {
            int64_t row = sel == NULL ? i : sel[i];
            if (keys[last].width == 4)
                ((int32_t *)gathered)[i] = ((const int32_t *)keys[last].data)[row];
            else
                ((int64_t *)gathered)[i] = ((const int64_t *)keys[last].data)[row];
        }
        joined[0] = (struct kt_keycol){ids, 4, 0, NULL};
        joined[1] = (struct kt_keycol){gathered, keys[last].width, 0, NULL};
        keys = joined;
        sel = NULL;
    }
    struct block b;
    for (int64_t at = 0; at < n; at += BLOCK) {
        int m = n - at < BLOCK ? (int)(n - at) : BLOCK;
        pack(g, &b, keys, sel, at, m);
        look_up((struct kt_group *)(uintptr_t)g, &b, at, m, false, out + at);
    }
    kt_vec_free(ids);
    kt_vec_free(gathered);
    return 0;
}

int32_t kt_group_count(const struct kt_group *g) {
    return g->count;
}
const int32_t *kt_group_first(const struct kt_group *g) {
    return g->first;
}

void kt_group_free(struct kt_group *g) {
    if (g == NULL)
        return;
    kt_group_free(g->prefix);
    kt_vec_free(g->table);
    kt_vec_free(g->first);
    free(g);
}

void kt_k_members(const int32_t *ids, int64_t n, int32_t groups, int32_t *start, int32_t *members) {
    memset(start, 0, ((size_t)groups + 1) * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= 0)
            start[ids[i] + 1]++;
    for (int32_t k = 0; k < groups; k++)
        start[k + 1] += start[k];
    /* start is moved along while filling, then moved back. */
    for (int64_t i = 0; i < n; i++)
        if (ids[i] >= 0)
            members[start[ids[i]]++] = (int32_t)i;
    for (int32_t k = groups; k > 0; k--)
        start[k] = start[k - 1];
    if (groups >= 0)
        start[0] = 0;
}
