/* The life of a worker process as its supervisor sees it: the control socket on fd 4, a beat each
 * second from the loop (a loop that is stuck stops beating and is killed), drain, reopen, and the
 * end at once when the supervisor is gone. Loop thread only. */
#pragma once

#include <uv.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/uuid.h"

/* Descriptors that a worker is born with. */
enum { KT_FD_LISTEN = 3, KT_FD_CONTROL = 4, KT_FD_ADMIN = 5, KT_FD_LOCK = 6 };

struct kt_worker {
    int slot;
    char epoch[KT_UUID_SIZE]; /* this incarnation */
    int admin_fd;             /* KT_FD_ADMIN in slot 0, else -1 */
    void (*on_drain)(struct kt_worker *, double seconds); /* called at most once */
    void *ud;

    /* the file's own */
    uv_pipe_t control;
    uv_timer_t beat;
    uv_signal_t term;
    struct kt_buf line;
    char in[512];
    bool draining;
    uint64_t last_beat; /* uv_hrtime */
};

/* Reads KONTOR_WORKER=slot:epoch, ties the process to its parent's life, starts beating. Also
 * drains on a TERM of its own (the supervisor replaces it then). The control handles keep
 * the loop alive until kt_worker_close. Fails when the process was not started by a supervisor. */
int kt_worker_open(struct kt_worker *w, uv_loop_t *loop, struct kt_error *err);
void kt_worker_ready(struct kt_worker *w); /* requests are served from now on */
/* Says bye and closes the handles; the loop must turn for that. */
void kt_worker_close(struct kt_worker *w);
