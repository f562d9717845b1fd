/* Watching a folder tree for changed files (development mode). Loop thread only. */
#pragma once

#include <uv.h>

#include "core/err.h"

#define KT_WATCH_DEBOUNCE_MS 50

struct kt_watch;

/* changed(ud, path relative to dir) for every file that was written, made, moved or removed below
 * dir, once after it has been quiet for the debounce time. New folders are watched too; names that
 * begin with a dot or end with ~ (editors' helpers) are left out. The tree may hold 4096 folders. */
struct kt_watch *kt_watch_open(uv_loop_t *loop, const char *dir,
                               void (*changed)(void *ud, const char *path), void *ud,
                               struct kt_error *err);
void kt_watch_close(struct kt_watch *w); /* no call any more; the loop must turn */
int kt_watch_count(void);                /* for leftovers */
