/* Starting a worker process. Supervisor only. */
#pragma once

#include "core/err.h"

/* posix_spawn of `kontor worker` with the descriptors of core/worker.h; admin_fd -1: none.
 * Returns the pid and in *control our end of the control socket (close-on-exec), or -code. */
int kt_worker_spawn(int slot, int listen_fd, int admin_fd, int lock_fd, int *control,
                    struct kt_error *err);
