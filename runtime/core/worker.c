/* A worker's side of the control socket. */
#include "core/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/fault.h"
#include "core/log.h"
#include "core/metrics.h"

#define BEAT_MS 1000
#define TERM_DRAIN_SECONDS 25

/* A few bytes into an almost empty socket buffer: either it fits or the supervisor is stuck, and
 * then a lost beat is the least worry. */
static void say(const char *line) {
    ssize_t n = send(KT_FD_CONTROL, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n;
}

static void drain(struct kt_worker *w, double seconds) {
    if (w->draining)
        return;
    w->draining = true;
    w->on_drain(w, seconds);
}

static void command(struct kt_worker *w, const char *line) {
    if (strncmp(line, "drain ", 6) == 0)
        drain(w, strtod(line + 6, NULL));
    else if (strcmp(line, "reopen") == 0)
        kt_log_reopen();
    else
        kt_log(KT_ERROR, "worker.unknown_command", "msg", line, NULL);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    struct kt_worker *w = handle->data;
    (void)size;
    *buf = uv_buf_init(w->in, sizeof w->in);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct kt_worker *w = stream->data;
    if (n < 0) {
        /* The supervisor is gone. Its successor must not find us at work on its data. */
        kt_log(KT_ERROR, "worker.orphaned", "msg", "the supervisor is gone", NULL);
        _exit(1);
    }
    for (ssize_t i = 0; i < n; i++) {
        if (buf->base[i] != '\n') {
            kt_buf_addc(&w->line, buf->base[i]);
            continue;
        }
        command(w, kt_buf_cstr(&w->line));
        kt_buf_clear(&w->line);
    }
}

/* How late the loop comes to its timers: what every request waits on top. */
static void measure_lag(struct kt_worker *w, uint64_t now) {
    struct kt_metric *m = kt_metric("kontor_loop_lag_seconds", "How late the event loop is.", KT_GAUGE,
                                    NULL, 0, NULL);
    double lag = w->last_beat == 0 ? 0 : (double)(now - w->last_beat) / 1e9 - BEAT_MS / 1e3;
    w->last_beat = now;
    if (m != NULL)
        kt_metric_set(m, NULL, lag > 0 ? lag : 0);
}

static void on_beat(uv_timer_t *timer) {
    measure_lag(timer->data, uv_hrtime());
    /* The fault that the watchdog is for: a loop that never comes back. */
    if (kt_fault("worker.block"))
        for (;;)
            pause();
    say("beat\n");
}

static void on_term(uv_signal_t *signal, int number) {
    (void)number;
    drain(signal->data, TERM_DRAIN_SECONDS);
}

int kt_worker_open(struct kt_worker *w, uv_loop_t *loop, struct kt_error *err) {
    const char *who = getenv("KONTOR_WORKER");
    int parent = 0;
    if (who == NULL || sscanf(who, "%d:%32[0-9a-f]:%d", &w->slot, w->epoch, &parent) != 3)
        return kt_fail(err, KT_INVALID_STATE, "a worker is started by kontor serve only");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        return kt_fail(err, KT_INVALID_STATE, "the supervisor is gone");
    for (int fd = KT_FD_LISTEN; fd <= KT_FD_LOCK; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 && (fd != KT_FD_ADMIN || w->slot == 0))
            return kt_fail(err, KT_INVALID_STATE, "descriptor %d is not there", fd);
    unsetenv("KONTOR_WORKER");
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole group; the supervisor drains us */
    w->admin_fd = w->slot == 0 ? KT_FD_ADMIN : -1;

    uv_pipe_init(loop, &w->control, 0);
    uv_timer_init(loop, &w->beat);
    uv_signal_init(loop, &w->term);
    w->control.data = w->beat.data = w->term.data = w;
    int rc = uv_pipe_open(&w->control, KT_FD_CONTROL);
    if (rc == 0)
        rc = uv_read_start((uv_stream_t *)&w->control, on_alloc, on_read);
    if (rc == 0)
        rc = uv_signal_start(&w->term, on_term, SIGTERM);
    if (rc == 0)
        rc = uv_timer_start(&w->beat, on_beat, 0, BEAT_MS);
    if (rc != 0)
        return kt_fail(err, KT_INTERNAL, "control socket: %s", uv_strerror(rc));
    return 0;
}

void kt_worker_ready(struct kt_worker *w) {
    (void)w;
    say("ready\n");
}

void kt_worker_close(struct kt_worker *w) {
    say("bye\n");
    uv_close((uv_handle_t *)&w->beat, NULL);
    uv_close((uv_handle_t *)&w->term, NULL);
    uv_close((uv_handle_t *)&w->control, NULL);
    kt_buf_free(&w->line);
}
