/* UUIDv7 with a counter in rand_a, so that ids made in one millisecond stay in order. */
#include "core/uuid.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core/clock.h"

void kt_uuid7(char out[KT_UUID_SIZE]) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t last; /* ms << 12 | counter */
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        abort(); /* 16 bytes never come short once the kernel is seeded */

    pthread_mutex_lock(&lock);
    /* A new millisecond begins in the lower half of the counter; a full one borrows from the next,
     * and a clock that went back goes on from the last id. */
    uint64_t stamp = (uint64_t)kt_now_ms() << 12 | (random[0] & 0x7FF);
    if (stamp <= last)
        stamp = last + 1;
    last = stamp;
    pthread_mutex_unlock(&lock);

    uint64_t high = (stamp >> 12) << 16 | 0x7000 | (stamp & 0xFFF);
    uint64_t low = (random[1] & 0x3FFFFFFFFFFFFFFFULL) | 0x8000000000000000ULL;
    snprintf(out, KT_UUID_SIZE, "%016llx%016llx", (unsigned long long)high, (unsigned long long)low);
}
