/* A child process with pipes on 0, 1 and 2: started by posix_spawn (a fork stalls the loop in
 * proportion to our memory), in a session of its own, with no other descriptor of ours. What it
 * writes comes as lines of bounded length. Loop thread only.
 *
 * It has ended when it exited AND both pipes are at their end, in whatever order that comes;
 * grandchildren that keep a pipe open are killed with its group after a moment. Then it is reaped:
 * no zombie stays, whatever the owner does. */
#pragma once

#include <sys/types.h>
#include <uv.h>

#include "core/err.h"

struct kt_child;

struct kt_child_end {
    int exit_code;     /* -1 when it died of a signal */
    int signal;        /* 0 when it exited */
    enum kt_code code; /* KT_OK, or why we killed it: output_limit (a line over line_max) */
};

struct kt_child_options {
    const char *const *argv; /* argv[0]: a path with a slash; NULL at the end */
    const char *const *env;  /* NULL at the end; nothing of ours is inherited */
    const char *cwd;         /* NULL: ours */
    size_t line_max;         /* bytes of a line of stdout; 0: 1 MiB. stderr's are cut at 4 KiB */
    /* stream 1 or 2; the line has no line end and is terminated. A last line without one counts. */
    void (*line)(void *ud, int stream, char *line, size_t len);
    void (*end)(void *ud, const struct kt_child_end *end); /* exactly once, unless freed before */
    void *ud;
};

struct kt_child *kt_child_spawn(uv_loop_t *loop, const struct kt_child_options *options,
                                struct kt_error *err);
/* done(ud, 0 or negative uv error) once it is written; the bytes are copied. Nothing bounds the
 * queue but the caller, who waits for done. */
int kt_child_write(struct kt_child *child, const void *bytes, size_t len,
                   void (*done)(void *ud, int status), void *ud, struct kt_error *err);
void kt_child_close_stdin(struct kt_child *child); /* after what is queued */
/* Back-pressure: while paused nothing is read from stdout (the rest of a read may still come). */
void kt_child_pause(struct kt_child *child, bool paused);
void kt_child_stop(struct kt_child *child, double grace_seconds); /* TERM to the group, then KILL */
pid_t kt_child_pid(const struct kt_child *child);
/* Give the handle up; no callback is called any more. A running child is killed, and reaped later. */
void kt_child_free(struct kt_child *child);
int kt_child_count(void); /* not yet reaped and released, for leftovers */
