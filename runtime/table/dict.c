#include "table/dict.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "table/decimal.h"
#include "table/text.h"

#define CHUNK (256u << 10)

struct chunk {
    struct chunk *next;
    size_t used, cap;
    char bytes[];
};

/* A text of up to 12 bytes (ids, dates, most numbers) lies in its entry: what compares it fetches
 * one line of memory and not two, and equal texts are equal words. */
#define INSIDE 12
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "short texts are packed by shifts");

struct entry {
    union {
        uint64_t head; /* bytes 0..7 of a short text, 0 behind it */
        const char *text;
    };
    uint32_t tail; /* its bytes 8..11; hash of a long one */
    uint32_t len;
};

struct slot {
    uint32_t hash;
    int32_t code; /* -1: empty */
};

struct kt_dict {
    struct entry *entries;
    struct slot *slots;
    uint32_t mask;
    int32_t count, cap;
    struct chunk *chunks;
    size_t bytes;
};

/* Seeded once a process, so that no upload can be made to collide. Codes do not depend on it. */
static uint64_t seed(void) {
    static uint64_t value;
    if (value == 0) {
        if (getrandom(&value, sizeof(value), 0) != sizeof(value))
            value = 0x9e3779b97f4a7c15u;
        value |= 1;
    }
    return value;
}

static inline uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* The words of a short text, zeros behind its end. */
static inline struct entry packed(const char *s, size_t n) {
    struct entry e = {.len = (uint32_t)n};
    uint64_t head = 0;
    uint32_t a, b;
    if (n >= 8) {
        memcpy(&head, s, 8);
        memcpy(&b, s + n - 4, 4);
        e.tail = (uint32_t)((uint64_t)b >> 8 * (12 - n));
    } else if (n >= 4) {
        memcpy(&a, s, 4);
        memcpy(&b, s + n - 4, 4);
        head = a | ((uint64_t)b >> 8 * (8 - n)) << 32;
    } else if (n > 0) {
        head = (unsigned char)s[0] | (uint64_t)(unsigned char)s[n / 2] << 8 * (n / 2) |
               (uint64_t)(unsigned char)s[n - 1] << 8 * (n - 1);
    }
    e.head = head;
    return e;
}

static inline uint32_t hash_packed(struct entry e) {
    uint64_t h = mix(e.head ^ seed(), ((uint64_t)e.len << 32 | e.tail) ^ 0xe7037ed1a0b428dbu);
    h = mix(h, 0xa0761d6478bd642fu);
    return (uint32_t)(h ^ (h >> 32));
}

static uint32_t hash_long(const char *s, size_t n) {
    uint64_t h = seed() ^ (n * 0x9e3779b97f4a7c15u), w;
    for (; n > 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = mix(h ^ w, 0xa0761d6478bd642fu);
    }
    w = 0;
    memcpy(&w, s, n);
    h = mix(h ^ w, 0xe7037ed1a0b428dbu);
    return (uint32_t)(h ^ (h >> 32));
}

static inline uint32_t hash_of(const char *s, size_t n) {
    return n <= INSIDE ? hash_packed(packed(s, n)) : hash_long(s, n);
}

static inline uint32_t hash_of_entry(const struct entry *e) {
    return e->len <= INSIDE ? hash_packed(*e) : e->tail;
}

static inline const char *text_of(const struct entry *e) {
    return e->len <= INSIDE ? (const char *)&e->head : e->text;
}

struct kt_dict *kt_dict_new(void) {
    struct kt_dict *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return NULL;
    d->mask = 15;
    d->slots = malloc(16 * sizeof(struct slot));
    if (d->slots == NULL) {
        free(d);
        return NULL;
    }
    memset(d->slots, 0xff, 16 * sizeof(struct slot));
    return d;
}

void kt_dict_free(struct kt_dict *d) {
    if (d == NULL)
        return;
    while (d->chunks != NULL) {
        struct chunk *c = d->chunks;
        d->chunks = c->next;
        free(c);
    }
    free(d->entries);
    free(d->slots);
    free(d);
}

static int grow_slots(struct kt_dict *d) {
    uint32_t size = (d->mask + 1) * 4;
    struct slot *slots = malloc(size * sizeof(struct slot));
    if (slots == NULL)
        return -1;
    memset(slots, 0xff, size * sizeof(struct slot));
    for (int32_t i = 0; i < d->count; i++) {
        uint32_t h = hash_of_entry(&d->entries[i]), at = h & (size - 1);
        while (slots[at].code >= 0)
            at = (at + 1) & (size - 1);
        slots[at] = (struct slot){h, i};
    }
    free(d->slots);
    d->slots = slots;
    d->mask = size - 1;
    return 0;
}

static const char *keep(struct kt_dict *d, const char *s, size_t n) {
    struct chunk *c = d->chunks;
    if (c == NULL || c->cap - c->used < n) {
        /* Small dictionaries (flags, currencies) stay small. */
        size_t cap = d->bytes < CHUNK ? 1024 + d->bytes : CHUNK;
        if (cap < n)
            cap = n;
        c = malloc(sizeof(*c) + cap);
        if (c == NULL)
            return NULL;
        *c = (struct chunk){.next = d->chunks, .cap = cap};
        d->chunks = c;
        d->bytes += cap;
    }
    char *at = c->bytes + c->used;
    memcpy(at, s, n);
    c->used += n;
    return at;
}

static int32_t probe(const struct kt_dict *d, uint32_t h, const char *s, size_t n, uint32_t *at) {
    uint32_t i = h & d->mask;
    struct entry want = n <= INSIDE ? packed(s, n) : (struct entry){.len = 0};
    for (; d->slots[i].code >= 0; i = (i + 1) & d->mask) {
        if (d->slots[i].hash != h)
            continue;
        const struct entry *e = &d->entries[d->slots[i].code];
        if (n <= INSIDE ? e->len == n && e->head == want.head && e->tail == want.tail
                        : e->len == n && memcmp(e->text, s, n) == 0)
            return d->slots[i].code;
    }
    *at = i;
    return -1;
}

int32_t kt_dict_intern_hashed(struct kt_dict *d, uint32_t h, const char *s, size_t n) {
    uint32_t at = 0;
    int32_t code = probe(d, h, s, n, &at);
    if (code >= 0)
        return code;
    if (d->count >= INT32_MAX - 1 || n > UINT32_MAX)
        return -1;
    if (d->count == d->cap) {
        int32_t cap = d->cap == 0 ? 8 : d->cap < INT32_MAX / 2 ? d->cap * 2 : INT32_MAX - 1;
        struct entry *entries = realloc(d->entries, (size_t)cap * sizeof(*entries));
        if (entries == NULL)
            return -1;
        d->entries = entries;
        d->cap = cap;
    }
    if ((uint32_t)d->count * 2 > d->mask) {
        if (grow_slots(d) < 0)
            return -1;
        at = h & d->mask;
        while (d->slots[at].code >= 0)
            at = (at + 1) & d->mask;
    }
    struct entry e = {.tail = h, .len = (uint32_t)n};
    if (n <= INSIDE)
        e = packed(s, n);
    else if ((e.text = keep(d, s, n)) == NULL)
        return -1;
    d->entries[d->count] = e;
    d->slots[at] = (struct slot){h, d->count};
    return d->count++;
}

uint32_t kt_dict_hash(const struct kt_dict *d, const char *s, size_t n) {
    uint32_t h = hash_of(s, n);
    __builtin_prefetch(&d->slots[h & d->mask]);
    return h;
}

int32_t kt_dict_find_hashed(const struct kt_dict *d, uint32_t h, const char *s, size_t n) {
    uint32_t at;
    return probe(d, h, s, n, &at);
}

int32_t kt_dict_intern(struct kt_dict *d, const char *s, size_t n) {
    return kt_dict_intern_hashed(d, hash_of(s, n), s, n);
}

int32_t kt_dict_find(const struct kt_dict *d, const char *s, size_t n) {
    uint32_t at;
    return probe(d, hash_of(s, n), s, n, &at);
}

int32_t kt_dict_count(const struct kt_dict *d) {
    return d->count;
}

const char *kt_dict_text(const struct kt_dict *d, int32_t code, size_t *n) {
    *n = d->entries[code].len;
    return text_of(&d->entries[code]);
}

/* The texts of `from` are looked up in `to`: the slots of those to come are fetched, then the
 * entries that they lead to. */
static inline uint32_t fetch_ahead(const struct kt_dict *to, const struct kt_dict *from,
                                   int32_t i) {
    if (i + 16 < from->count)
        __builtin_prefetch(&to->slots[hash_of_entry(&from->entries[i + 16]) & to->mask]);
    if (i + 8 < from->count) {
        int32_t code = to->slots[hash_of_entry(&from->entries[i + 8]) & to->mask].code;
        if (code >= 0)
            __builtin_prefetch(&to->entries[code]);
    }
    return hash_of_entry(&from->entries[i]);
}

int kt_dict_merge(struct kt_dict *to, const struct kt_dict *from, int32_t *map) {
    for (int32_t i = 0; i < from->count; i++) {
        const struct entry *e = &from->entries[i];
        map[i] = kt_dict_intern_hashed(to, fetch_ahead(to, from, i), text_of(e), e->len);
        if (map[i] < 0)
            return -1;
    }
    return 0;
}

void kt_dict_translate(const struct kt_dict *to, const struct kt_dict *from, int32_t *map) {
    for (int32_t i = 0; i < from->count; i++) {
        const struct entry *e = &from->entries[i];
        uint32_t at;
        int32_t code = probe(to, fetch_ahead(to, from, i), text_of(e), e->len, &at);
        map[i] = code < 0 ? KT_NULL32 : code;
    }
}

#define NORM_BLOCK 32

int kt_dict_norm(struct kt_dict *d, int32_t from, int32_t to, int32_t *map) {
    struct kt_buf buf = KT_BUF_INIT;
    size_t end[NORM_BLOCK];
    uint32_t hash[NORM_BLOCK];
    int rc = 0;
    /* In blocks: the slots of a block are on their way while its later texts are made. */
    for (int32_t at = from; at < to && rc == 0; at += NORM_BLOCK) {
        int m = to - at < NORM_BLOCK ? to - at : NORM_BLOCK;
        kt_buf_clear(&buf);
        for (int i = 0; i < m; i++) {
            const struct entry *e = &d->entries[at + i];
            const char *text = text_of(e);
            size_t begin = buf.len;
            map[at + i] = at + i;
            if (!kt_text_is_norm(text, e->len))
                kt_text_norm(text, e->len, &buf);
            else if (e->len == 0)
                map[at + i] = KT_NULL32;
            end[i] = buf.len;
            if (buf.len > begin)
                hash[i] = kt_dict_hash(d, buf.data + begin, buf.len - begin);
            else if (map[at + i] >= 0 && !kt_text_is_norm(text, e->len))
                map[at + i] = KT_NULL32; /* nothing was left */
        }
        if (buf.failed)
            rc = -1;
        for (int i = 0; i < m && rc == 0; i++) {
            size_t begin = i == 0 ? 0 : end[i - 1];
            if (end[i] == begin)
                continue;
            map[at + i] = kt_dict_intern_hashed(d, hash[i], buf.data + begin, end[i] - begin);
            if (map[at + i] < 0)
                rc = -1;
        }
    }
    kt_buf_free(&buf);
    return rc;
}
