/* Memory of columns and row lists: blocks that are reused instead of returned, because a sweep
 * makes and drops hundreds of arrays of a few MiB and fresh pages cost more than the kernels.
 * One thread only: the analyst's (and a test's). Not zeroed. */
#pragma once

#include <stddef.h>

void *kt_vec_alloc(size_t bytes); /* aligned to 64; NULL when memory is out; never for 0 bytes */
void kt_vec_free(void *p);        /* NULL is fine */
size_t kt_vec_in_use(void);       /* bytes handed out, for the collector and for leftovers */
