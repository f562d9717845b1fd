/* Log lines: ts=… level=… event=… request_id=… project_id=… execution_id=… msg="…" key="…"
 *
 * Any thread may log. Values are quoted and escaped, so that a value never makes a second line;
 * lines go to stderr and to the file that kt_log_open named. A line is one write to a file opened
 * for appending, so that several processes may share it. A value longer than KT_LOG_VALUE_MAX is
 * cut and ends with "…". Secrets and prompts are the caller's to leave out. */
#pragma once

#include <stdbool.h>

#include "core/err.h"

#define KT_LOG_VALUE_MAX 2000

enum kt_level { KT_DEBUG, KT_INFO, KT_WARN, KT_ERROR };

/* Level below which nothing is written. Default KT_INFO. */
void kt_log_level(enum kt_level level);
/* May a line of this level be written? One of a project with a level of its own may, too. */
bool kt_log_wants(enum kt_level level);
/* A level of its own for the lines with this project_id, in this process, until it is changed; -1:
 * none any more. false: 64 projects have one already, or the id is no id. */
bool kt_log_project_level(const char *project_id, int level);
/* The level that a project's lines have; NULL: the general one. */
enum kt_level kt_log_level_for(const char *project_id);
/* Append to `path` too (made when absent); NULL: stderr alone. */
int kt_log_open(const char *path, struct kt_error *err);
/* Open the files again after they were moved away (USR1). */
void kt_log_reopen(void);
void kt_log_close(void);

/* One line. `fields` are pairs name, value, closed by NULL; a NULL value leaves the pair out:
 *     kt_log(KT_WARN, "worker.killed", "worker", name, "reason", why, NULL); */
void kt_log(enum kt_level level, const char *event, ...) __attribute__((sentinel));

struct kt_log_field {
    const char *name;
    const char *value; /* NULL leaves the pair out */
    size_t len;
};
/* The same with an array, for the binding. */
void kt_log_fields(enum kt_level level, const char *event, const struct kt_log_field *fields,
                   int count);

/* "debug", "info", "warn", "error"; -1 when it is none of these. */
int kt_log_level_of(const char *name);
const char *kt_log_level_name(enum kt_level level);

/* logs/executions.log: one line a change of status, `ts=…` and the fields as given, to this file
 * alone. Without kt_log_open_executions the lines go to stderr. */
int kt_log_open_executions(const char *path, struct kt_error *err);
void kt_log_execution(const struct kt_log_field *fields, int count);
