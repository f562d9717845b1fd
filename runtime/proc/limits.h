/* What a process that runs scripts of a tenant under JIT may do: rlimits, no_new_privs, and a
 * seccomp allow-list in two steps. Under ASan the address space limit and seccomp are left out
 * (the sanitizer needs terabytes of it, and its own calls). */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "core/err.h"

/* Memory of the process in bytes, CPU seconds (SIGXCPU, then KILL); no core, no file may grow, 64
 * descriptors, no new privileges; dies with its parent, also with one that is gone already (parent:
 * its pid). Under ASan memory and files are free. */
int kt_limits_apply(size_t memory, unsigned cpu_seconds, pid_t parent, struct kt_error *err);
/* Step 1, before any Lua: memory, clocks, reading, writing to open descriptors, opening files to
 * read. No sockets, no exec, no clone, no signals to others, no opening to write: EPERM. */
int kt_limits_no_world(struct kt_error *err);
/* Step 2, before the first line of a tenant's script: nothing can be opened any more. Does nothing
 * in a process without step 1 (`kontor analyze` runs rules in its own process, for one's own data). */
int kt_limits_no_files(struct kt_error *err);
