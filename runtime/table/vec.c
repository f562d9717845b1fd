#include "table/vec.h"

#include <stdlib.h>

/* In front of each block; 64 bytes so that the data stay aligned. */
struct head {
    size_t class; /* the block has 2^class bytes, or odd sizes between: see class_of */
    struct head *next;
    char pad[48];
};
_Static_assert(sizeof(struct head) == 64, "data behind the head must be aligned");

#define CLASSES 160 /* four per power of two */
#define KEEP (512u << 20)

static struct head *kept[CLASSES];
static size_t kept_bytes, in_use;

static size_t class_bytes(size_t c) {
    return (size_t)(4 + c % 4) << (c / 4 + 4); /* 64, 80, 96, 112, 128, 160, … */
}

static size_t class_of(size_t bytes) {
    size_t c = 0;
    if (bytes > 64) {
        int top = 63 - __builtin_clzl(bytes - 1);
        c = (size_t)(top - 6) * 4;
    }
    while (class_bytes(c) < bytes)
        c++;
    return c;
}

void *kt_vec_alloc(size_t bytes) {
    if (bytes > (size_t)1 << 40)
        return NULL;
    size_t c = class_of(bytes);
    struct head *h = kept[c];
    if (h != NULL) {
        kept[c] = h->next;
        kept_bytes -= class_bytes(c);
    } else {
        h = aligned_alloc(64, (sizeof(*h) + class_bytes(c) + 63) / 64 * 64);
        if (h == NULL)
            return NULL;
        h->class = c;
    }
    in_use += class_bytes(c);
    return h + 1;
}

void kt_vec_free(void *p) {
    if (p == NULL)
        return;
    struct head *h = (struct head *)p - 1;
    size_t bytes = class_bytes(h->class);
    in_use -= bytes;
    if (kept_bytes + bytes > KEEP) {
        free(h);
        return;
    }
    h->next = kept[h->class];
    kept[h->class] = h;
    kept_bytes += bytes;
}

size_t kt_vec_in_use(void) {
    return in_use;
}
