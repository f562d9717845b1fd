/* The data directory and its lock: one service (or one offline command) at a time.
 *
 * The lock is flock on <dir>/kontor.lock and belongs to the open file: workers inherit the
 * descriptor, so that it is held until the last process of a service is gone, also when the
 * supervisor was killed. The file holds the pid of who took it. */
#pragma once

#include "core/err.h"

/* mkdir -p; mode of the folders that are made. */
int kt_mkdirs(const char *path, int mode, struct kt_error *err);
/* Makes the directory (0700) when it is absent and takes the lock: the descriptor (close-on-exec),
 * or -code: KT_CONFLICT names the process that holds it. Waits up to 5 s for a dying service (its
 * pid is gone, its workers are still ending). */
int kt_datadir_lock(const char *dir, struct kt_error *err);
