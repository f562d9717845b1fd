/* Log lines: ts=… level=… event=… request_id=… project_id=… execution_id=… msg="…" key="…"
 *
 * Any thread may log. Values are quoted and escaped, so that a value never makes a second line;
 * lines go to stderr and to the file that kt_log_open named. */
#pragma once

#include "core/err.h"

enum kt_level { KT_DEBUG, KT_INFO, KT_WARN, KT_ERROR };

/* Level below which nothing is written. Default KT_INFO. */
void kt_log_level(enum kt_level level);
/* Append to `path` too (made when absent); NULL: stderr alone. */
int kt_log_open(const char *path, struct kt_error *err);
/* Open the file again after it was moved away (USR1). */
void kt_log_reopen(void);
void kt_log_close(void);

/* One line. `fields` are pairs name, value, closed by NULL; a NULL value leaves the pair out:
 *     kt_log(KT_WARN, "worker.killed", "worker", name, "reason", why, NULL); */
void kt_log(enum kt_level level, const char *event, ...) __attribute__((sentinel));
