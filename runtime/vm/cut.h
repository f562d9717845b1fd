/* Cuts a script's slice short once its loop has something to do: a thread that looks at the loop's
 * own descriptor meanwhile. Events then wait microseconds for a run that burns, not a slice, and
 * nothing is paid while none comes. */
#pragma once

#include <uv.h>

struct kt_cut;

/* For slices of the calling thread, which runs the loop. NULL: logged; slices stay whole. */
struct kt_cut *kt_cut_new(uv_loop_t *loop);
void kt_cut_free(struct kt_cut *cut); /* of NULL too; waits for the thread */
/* Around a slice that may be long. Loop thread. */
void kt_cut_begin(struct kt_cut *cut);
void kt_cut_end(struct kt_cut *cut);
