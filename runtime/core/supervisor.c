/* The supervisor: slots, workers, signals. One thread, one loop. */
#include "core/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "core/clock.h"
#include "core/config.h"
#include "core/datadir.h"
#include "core/home.h"
#include "core/listen.h"
#include "core/log.h"
#include "core/worker.h"
#include "core/worker_spawn.h"

#define TICK_MS 250
#define BEAT_LIMIT 5.0     /* seconds without a beat: stuck */
#define START_LIMIT 120.0  /* seconds until ready; it beats meanwhile (migrations may be long) */
#define YOUNG 10.0         /* a death before this age counts against the slot */
#define BACKOFF_MAX 5.0
#define DRAIN_GRACE 5.0    /* after its drain time a worker is killed */

enum role {
    CURRENT, /* serves its slot, or is about to */
    NEXT,    /* of a new set that is not complete yet */
    RETIRED  /* drains */
};

struct worker {
    uv_pipe_t control; /* first: closed before the worker is freed */
    struct worker *next;
    int slot;
    enum role role;
    pid_t pid;
    bool reaped, closed, ready, killed;
    double started, beat, kill_at; /* monotonic; kill_at 0: not draining */
    struct kt_buf line;
    char in[512];
};

struct slot {
    int listen_fd;
    int young_deaths;
    double start_at; /* when to start the next worker; 0: none is due */
};

static struct {
    uv_loop_t loop;
    uv_signal_t signals[5];
    uv_timer_t tick;
    struct slot slots[64];
    int count;
    struct worker *workers;
    int admin_fd, lock_fd, port;
    bool stopping, ever_ready, reloading;
    bool again; /* asked to reload while reloading: once more, afterwards */
    int exit_code;
    double ticked;
} S;

static const char *worker_name(const struct worker *w, char text[32]) {
    snprintf(text, 32, "%d:%ld", w->slot, (long)w->pid);
    return text;
}

static void log_worker(enum kt_level level, const char *event, const struct worker *w,
                       const char *msg) {
    char name[32];
    kt_log(level, event, "worker", worker_name(w, name), "msg", msg, NULL);
}

/* --- Talking to workers -------------------------------------------------------------------- */

static void say(struct worker *w, const char *line) {
    uv_buf_t buf = uv_buf_init((char *)line, (unsigned)strlen(line));
    /* The socket's buffer holds hundreds of these; a worker that reads none is soon killed. */
    if (!w->closed)
        uv_try_write((uv_stream_t *)&w->control, &buf, 1);
}

static void retire(struct worker *w) {
    char line[32];
    long long seconds = kt_config_int("KONTOR_DRAIN_SECONDS");
    if (w->kill_at != 0)
        return;
    w->role = RETIRED;
    w->kill_at = kt_monotonic() + (double)seconds + DRAIN_GRACE;
    snprintf(line, sizeof line, "drain %lld\n", seconds);
    say(w, line);
}

static void kill_worker(struct worker *w) {
    if (!w->reaped && !w->killed)
        kill(w->pid, SIGKILL);
    w->killed = true;
}

static void abandon_reload(const char *why) {
    if (!S.reloading)
        return;
    S.reloading = false;
    kt_log(KT_ERROR, "service.reload_failed", "msg", why, NULL);
    for (struct worker *w = S.workers; w != NULL; w = w->next)
        if (w->role == NEXT) {
            kill_worker(w);
            w->role = RETIRED; /* its death is not one of the next set that may come at once */
        }
}

/* The new set is complete: it takes over, the old one drains. */
static void finish_reload(void) {
    int ready = 0;
    for (struct worker *w = S.workers; w != NULL; w = w->next)
        ready += w->role == NEXT && w->ready;
    if (!S.reloading || ready < S.count)
        return;
    S.reloading = false;
    for (struct worker *w = S.workers; w != NULL; w = w->next)
        if (w->role == CURRENT)
            retire(w);
    for (struct worker *w = S.workers; w != NULL; w = w->next)
        if (w->role == NEXT)
            w->role = CURRENT;
    for (int i = 0; i < S.count; i++)
        S.slots[i].start_at = 0; /* a replacement that was due has come */
    kt_log(KT_INFO, "service.reloaded", NULL);
}

static void on_ready(struct worker *w) {
    char address[128], host[64];
    int port, ready = 0;
    w->ready = true;
    log_worker(KT_INFO, "worker.ready", w, NULL);
    finish_reload();
    for (struct worker *o = S.workers; o != NULL; o = o->next)
        ready += o->role == CURRENT && o->ready;
    if (S.ever_ready || ready < S.count)
        return;
    S.ever_ready = true;
    kt_config_address(kt_config_text("KONTOR_LISTEN"), host, &port);
    snprintf(address, sizeof address, strchr(host, ':') ? "http://[%s]:%d" : "http://%s:%d", host,
             S.port);
    kt_log(KT_INFO, "service.ready", "url", address, NULL);
}

static void on_line(struct worker *w, const char *line) {
    if (strcmp(line, "beat") == 0)
        w->beat = kt_monotonic();
    else if (strcmp(line, "ready") == 0 && !w->ready)
        on_ready(w);
    else if (strcmp(line, "bye") == 0)
        w->beat = kt_monotonic() + DRAIN_GRACE; /* it beats no more; time to end */
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    struct worker *w = (struct worker *)handle;
    (void)size;
    *buf = uv_buf_init(w->in, sizeof w->in);
}

/* --- Birth and death ----------------------------------------------------------------------- */

static void release(struct worker *w) {
    if (!w->reaped || !w->closed)
        return;
    struct worker **at = &S.workers;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    kt_buf_free(&w->line);
    free(w);
}

static void on_closed(uv_handle_t *handle) {
    struct worker *w = (struct worker *)handle;
    w->closed = true;
    release(w);
}

static void close_control(struct worker *w) {
    if (!uv_is_closing((uv_handle_t *)&w->control))
        uv_close((uv_handle_t *)&w->control, on_closed);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct worker *w = (struct worker *)stream;
    if (n < 0) {
        close_control(w); /* its death follows as a signal */
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (buf->base[i] != '\n') {
            kt_buf_addc(&w->line, buf->base[i]);
            continue;
        }
        on_line(w, kt_buf_cstr(&w->line));
        kt_buf_clear(&w->line);
    }
}

static int start(int slot, enum role role) {
    struct worker *w = calloc(1, sizeof *w);
    struct kt_error err;
    int control = -1;
    if (w == NULL)
        return -KT_NO_MEMORY;
    int pid = kt_worker_spawn(slot, S.slots[slot].listen_fd, slot == 0 ? S.admin_fd : -1, S.lock_fd,
                              &control, &err);
    if (pid < 0) {
        kt_log(KT_ERROR, "worker.spawn_failed", "msg", err.message, NULL);
        free(w);
        return pid;
    }
    uv_pipe_init(&S.loop, &w->control, 0);
    uv_pipe_open(&w->control, control);
    uv_read_start((uv_stream_t *)&w->control, on_alloc, on_read);
    w->slot = slot;
    w->role = role;
    w->pid = pid;
    w->started = w->beat = kt_monotonic();
    w->next = S.workers;
    S.workers = w;
    log_worker(KT_INFO, "worker.started", w, NULL);
    return 0;
}

/* When a slot lost its worker: at once, later when it keeps dying young. */
static void replace(int slot, double age) {
    struct slot *s = &S.slots[slot];
    double delay = 0;
    s->young_deaths = age < YOUNG ? s->young_deaths + 1 : 0;
    if (s->young_deaths > 1) {
        int n = s->young_deaths < 10 ? s->young_deaths - 2 : 8;
        delay = 0.1 * (1 << n);
        if (delay > BACKOFF_MAX)
            delay = BACKOFF_MAX;
    }
    s->start_at = kt_monotonic() + delay;
    if (delay == 0 && start(slot, CURRENT) == 0)
        s->start_at = 0;
}

static void stop(int exit_code) {
    if (S.stopping)
        return;
    S.stopping = true;
    S.exit_code = exit_code;
    kt_log(KT_INFO, "service.stopping", NULL);
    abandon_reload("the service is stopping");
    for (struct worker *w = S.workers; w != NULL; w = w->next)
        retire(w);
}

static void died(struct worker *w, int status) {
    char how[64];
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    enum role role = w->role;
    int slot = w->slot;
    double age = kt_monotonic() - w->started;
    w->reaped = true;
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "signal %d", WTERMSIG(status));
    else
        snprintf(how, sizeof how, "exit %d", WEXITSTATUS(status));
    log_worker(clean ? KT_INFO : KT_ERROR, "worker.ended", w, how);
    bool first = !w->ready && !S.ever_ready && WIFEXITED(status);
    close_control(w);
    release(w);
    if (S.stopping || role == RETIRED)
        return;
    if (role == NEXT)
        abandon_reload("a worker of the new set ended before it was ready");
    else if (first) {
        /* It said itself why it cannot serve (a fault in lua/, a migration): starting it again
         * and again would only hide that. */
        stop(1);
    } else
        replace(slot, age);
}

static void reap(void) {
    int status;
    pid_t pid;
    /* Of all children: as process 1 of a container we also inherit orphans that are not ours. */
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct worker *w = S.workers;
        while (w != NULL && (w->reaped || w->pid != pid))
            w = w->next;
        if (w != NULL)
            died(w, status);
    }
}

/* --- Time and signals ---------------------------------------------------------------------- */

static void watch(struct worker *w, double now) {
    if (w->reaped || w->killed)
        return;
    if (w->kill_at != 0 && now > w->kill_at) {
        log_worker(KT_ERROR, "worker.killed", w, "not drained in time");
        kill_worker(w);
    } else if (now - w->beat > BEAT_LIMIT) {
        log_worker(KT_ERROR, "worker.killed", w, "stuck: no beat for 5 s");
        kill_worker(w);
    } else if (!w->ready && now - w->started > START_LIMIT) {
        log_worker(KT_ERROR, "worker.killed", w, "not ready in time");
        kill_worker(w);
    }
}

static void reload(void);

static void on_tick(uv_timer_t *timer) {
    double now = kt_monotonic();
    /* A supervisor that was itself stopped has heard no beats: nobody else's fault. */
    if (now - S.ticked > 2)
        for (struct worker *w = S.workers; w != NULL; w = w->next)
            w->beat = now;
    S.ticked = now;
    reap();
    for (struct worker *w = S.workers; w != NULL; w = w->next)
        watch(w, now);
    for (int i = 0; i < S.count && !S.stopping; i++)
        if (S.slots[i].start_at != 0 && now >= S.slots[i].start_at && start(i, CURRENT) == 0)
            S.slots[i].start_at = 0;
    if (S.again && !S.reloading && !S.stopping)
        reload();
    if (S.stopping && S.workers == NULL) {
        uv_close((uv_handle_t *)timer, NULL);
        for (int i = 0; i < 5; i++)
            uv_close((uv_handle_t *)&S.signals[i], NULL);
    }
}

static void reload(void) {
    if (S.stopping || !S.ever_ready) {
        kt_log(KT_WARN, "service.reload_ignored", "msg", "starting or stopping", NULL);
        return;
    }
    if (S.reloading) { /* its set may have read files that have changed since */
        S.again = true;
        return;
    }
    S.reloading = true;
    S.again = false;
    kt_log(KT_INFO, "service.reloading", NULL);
    for (int i = 0; i < S.count; i++)
        if (start(i, NEXT) != 0) {
            abandon_reload("a worker did not start");
            return;
        }
}

static void on_signal(uv_signal_t *handle, int number) {
    (void)handle;
    switch (number) {
    case SIGCHLD:
        reap();
        break;
    case SIGHUP:
        reload();
        break;
    case SIGUSR1:
        kt_log_reopen();
        for (struct worker *w = S.workers; w != NULL; w = w->next)
            say(w, "reopen\n");
        break;
    default:
        if (S.stopping)
            for (struct worker *w = S.workers; w != NULL; w = w->next)
                kill_worker(w);
        else
            stop(0);
    }
}

/* --- Start and end ------------------------------------------------------------------------- */

static int open_all(struct kt_error *err) {
    char path[PATH_MAX + 32];
    const char *data = kt_config_text("KONTOR_DATA_DIR"), *logs = kt_config_text("KONTOR_LOG_DIR");
    int fds[64], rc;
    S.count = (int)kt_config_int("KONTOR_WORKERS");
    kt_program(); /* now: a HUP after an upgrade starts what is at this path then */
    if (kt_home(err) == NULL)
        return -(int)err->code;
    if ((S.lock_fd = kt_datadir_lock(data, err)) < 0)
        return S.lock_fd;
    if ((rc = kt_mkdirs(logs, 0750, err)) != 0)
        return rc;
    snprintf(path, sizeof path, "%s/app.log", logs);
    if ((rc = kt_log_open(path, err)) != 0)
        return rc;
    if ((rc = kt_listen_tcp(kt_config_text("KONTOR_LISTEN"), S.count, fds, &S.port, err)) != 0)
        return rc;
    for (int i = 0; i < S.count; i++)
        S.slots[i].listen_fd = fds[i];
    snprintf(path, sizeof path, "%s/kontor.sock", data);
    S.admin_fd = kt_listen_unix(path, err);
    return S.admin_fd < 0 ? S.admin_fd : 0;
}

int kt_supervisor_run(void) {
    static const int numbers[5] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD};
    struct kt_error err;
    char path[PATH_MAX + 32];
    /* What the shell that started us left open is not for the workers. */
    close_range(3, ~0U, 0);
    if (open_all(&err) != 0) {
        fprintf(stderr, "kontor: %s\n", err.message);
        return 1;
    }
    kt_config_export();
    uv_loop_init(&S.loop);
    for (int i = 0; i < 5; i++) {
        uv_signal_init(&S.loop, &S.signals[i]);
        uv_signal_start(&S.signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&S.loop, &S.tick);
    uv_timer_start(&S.tick, on_tick, TICK_MS, TICK_MS);
    S.ticked = kt_monotonic();
    for (int i = 0; i < S.count; i++)
        if (start(i, CURRENT) != 0) {
            stop(1);
            break;
        }
    uv_run(&S.loop, UV_RUN_DEFAULT);
    uv_loop_close(&S.loop);
    snprintf(path, sizeof path, "%s/kontor.sock", kt_config_text("KONTOR_DATA_DIR"));
    unlink(path);
    kt_log(KT_INFO, "service.stopped", NULL);
    return S.exit_code;
}
