/* posix_spawn, pipes, line framing, end. */
#include "proc/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/fault.h"

#define LINE_DEFAULT (1 << 20)
#define STDERR_LINE 4096
#define LINGER_MS 1000 /* for pipes that outlive the child */
#define READ_SIZE 65536

struct stream {
    uv_pipe_t pipe; /* first */
    struct kt_child *child;
    int number; /* 1 or 2 */
    struct kt_buf line;
    size_t line_max;
    bool skipping; /* the rest of a cut stderr line */
    bool eof;
};

struct kt_child {
    struct kt_child_options o;
    uv_loop_t *loop;
    uv_pipe_t in;
    struct stream out, err;
    uv_timer_t timer; /* grace of a stop, then linger of the pipes */
    pid_t pid;
    enum kt_code code;
    bool exited, ended, freed, in_closing, paused;
    int open_handles;
    struct kt_child *next;
};

/* All children of the process hear SIGCHLD through one handle, there while any child is. */
static struct kt_child *children;
static int count;
static uv_signal_t *sigchld;

int kt_child_count(void) {
    return count;
}

static void try_end(struct kt_child *c);

/* --- Closing ------------------------------------------------------------------------------- */

static void release(struct kt_child *c) {
    if (c->open_handles > 0 || !c->freed)
        return;
    kt_buf_free(&c->out.line);
    kt_buf_free(&c->err.line);
    free(c);
    count--;
}

static void on_handle_closed(uv_handle_t *handle) {
    struct kt_child *c = handle->data;
    c->open_handles--;
    release(c);
}

static void close_handle(uv_handle_t *handle) {
    if (!uv_is_closing(handle))
        uv_close(handle, on_handle_closed);
}

static void close_all(struct kt_child *c) {
    c->in_closing = true;
    close_handle((uv_handle_t *)&c->in);
    close_handle((uv_handle_t *)&c->out.pipe);
    close_handle((uv_handle_t *)&c->err.pipe);
    close_handle((uv_handle_t *)&c->timer);
}

static void on_sigchld_closed(uv_handle_t *handle) {
    free(handle);
}

static void stop_listening(void) {
    if (children == NULL && sigchld != NULL)
        uv_close((uv_handle_t *)sigchld, on_sigchld_closed);
    if (children == NULL)
        sigchld = NULL;
}

static void unlink_child(struct kt_child *c) {
    struct kt_child **at = &children;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    stop_listening();
}

/* --- End ----------------------------------------------------------------------------------- */

static void finish(struct kt_child *c) {
    int status = 0;
    /* The unreaped leader still holds the number, so the group can be no one else's. */
    kill(-c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    c->ended = true;
    unlink_child(c);
    close_all(c);
    struct kt_child_end end = {WIFEXITED(status) ? WEXITSTATUS(status) : -1,
                               WIFSIGNALED(status) ? WTERMSIG(status) : 0, c->code};
    if (!c->freed)
        c->o.end(c->o.ud, &end);
}

static void on_linger(uv_timer_t *timer) {
    struct kt_child *c = timer->data;
    if (c->paused) /* the reader is slow, not the pipe held: what was written is still read */
        return;
    c->out.eof = c->err.eof = true;
    try_end(c);
}

static void try_end(struct kt_child *c) {
    if (!c->exited || c->ended)
        return;
    if (c->freed || (c->out.eof && c->err.eof))
        finish(c);
    else if (!c->paused)
        uv_timer_start(&c->timer, on_linger, LINGER_MS, 0);
}

static void on_sigchld(uv_signal_t *handle, int number) {
    (void)handle;
    (void)number;
    for (struct kt_child *c = children, *next; c != NULL; c = next) {
        siginfo_t info = {0};
        next = c->next;
        /* Only looked at, not reaped: finish() does that. */
        if (!c->exited && waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == c->pid) {
            c->exited = true;
            try_end(c);
        }
    }
}

/* --- Lines --------------------------------------------------------------------------------- */

static void give_line(struct stream *s) {
    struct kt_child *c = s->child;
    const char *line = kt_buf_cstr(&s->line);
    size_t len = s->line.len;
    if (!s->skipping && !c->freed && !s->line.failed)
        c->o.line(c->o.ud, s->number, (char *)line, len);
    s->skipping = false;
    kt_buf_clear(&s->line);
}

/* Bytes without a line end. False when the child was killed over them. */
static bool take(struct stream *s, const char *bytes, size_t n) {
    struct kt_child *c = s->child;
    if (s->skipping)
        return true;
    if (s->line.len + n <= s->line_max) {
        kt_buf_add(&s->line, bytes, n);
        return true;
    }
    if (s->number == 2) {
        kt_buf_add(&s->line, bytes, s->line_max - s->line.len);
        give_line(s);
        s->skipping = true;
        return true;
    }
    c->code = KT_OUTPUT_LIMIT;
    kt_buf_clear(&s->line);
    s->eof = true;
    uv_read_stop((uv_stream_t *)&s->pipe);
    kill(-c->pid, SIGKILL);
    return false;
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf) {
    static char bytes[READ_SIZE]; /* used up before the loop reads the next stream */
    (void)handle;
    (void)size;
    *buf = uv_buf_init(bytes, sizeof bytes);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf) {
    struct stream *s = (struct stream *)stream;
    if (n < 0) {
        uv_read_stop(stream);
        if (s->line.len > 0)
            give_line(s);
        s->eof = true;
        try_end(s->child);
        return;
    }
    const char *at = buf->base, *end = at + n;
    while (at < end) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        if (!take(s, at, (size_t)((nl != NULL ? nl : end) - at)))
            return;
        if (nl == NULL)
            break;
        give_line(s);
        at = nl + 1;
    }
}

void kt_child_pause(struct kt_child *c, bool paused) {
    if (c->paused == paused || c->out.eof || c->ended)
        return;
    c->paused = paused;
    if (paused)
        uv_read_stop((uv_stream_t *)&c->out.pipe);
    else {
        uv_read_start((uv_stream_t *)&c->out.pipe, on_alloc, on_read);
        try_end(c); /* starts the linger of a child that ended meanwhile */
    }
}

/* --- Writing ------------------------------------------------------------------------------- */

struct write {
    uv_write_t req; /* first */
    void (*done)(void *ud, int status);
    void *ud;
    char bytes[];
};

static void on_written(uv_write_t *req, int status) {
    struct write *w = (struct write *)req;
    if (w->done != NULL)
        w->done(w->ud, status);
    free(w);
}

int kt_child_write(struct kt_child *c, const void *bytes, size_t len,
                   void (*done)(void *ud, int status), void *ud, struct kt_error *err) {
    if (c->in_closing)
        return kt_fail(err, KT_INVALID_STATE, "the child's stdin is closed");
    struct write *w = malloc(sizeof *w + len);
    if (w == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory");
    w->done = done;
    w->ud = ud;
    memcpy(w->bytes, bytes, len);
    uv_buf_t buf = uv_buf_init(w->bytes, (unsigned)len);
    int rc = uv_write(&w->req, (uv_stream_t *)&c->in, &buf, 1, on_written);
    if (rc != 0) {
        free(w);
        return kt_fail(err, KT_UPSTREAM_FAILED, "the child's stdin: %s", uv_strerror(rc));
    }
    return 0;
}

static void on_shutdown(uv_shutdown_t *req, int status) {
    struct kt_child *c = req->data;
    (void)status; /* cancelled when all is closed, and then closing again is harmless */
    free(req);
    close_handle((uv_handle_t *)&c->in);
}

void kt_child_close_stdin(struct kt_child *c) {
    if (c->in_closing)
        return;
    c->in_closing = true;
    uv_shutdown_t *req = malloc(sizeof *req);
    if (req != NULL)
        req->data = c;
    if (req == NULL || uv_shutdown(req, (uv_stream_t *)&c->in, on_shutdown) != 0) {
        free(req);
        close_handle((uv_handle_t *)&c->in);
    }
}

/* --- Stop, free ---------------------------------------------------------------------------- */

static void on_grace(uv_timer_t *timer) {
    struct kt_child *c = timer->data;
    if (!c->exited)
        kill(-c->pid, SIGKILL);
}

void kt_child_stop(struct kt_child *c, double grace_seconds) {
    if (c->exited)
        return;
    kill(-c->pid, grace_seconds > 0 ? SIGTERM : SIGKILL);
    if (grace_seconds > 0)
        uv_timer_start(&c->timer, on_grace, (uint64_t)(grace_seconds * 1000), 0);
}

pid_t kt_child_pid(const struct kt_child *c) {
    return c->pid;
}

void kt_child_free(struct kt_child *c) {
    c->freed = true;
    if (c->ended) {
        release(c);
        return;
    }
    kill(-c->pid, SIGKILL);
    try_end(c);
}

/* --- Start --------------------------------------------------------------------------------- */

static int spawn(struct kt_child *c, int in, int out, int errfd) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    /* The sources are above 2 (see open_pipes), so no dup2 hits one that is still needed. */
    posix_spawn_file_actions_adddup2(&actions, in, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    posix_spawn_file_actions_adddup2(&actions, errfd, 2);
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (c->o.cwd != NULL)
        posix_spawn_file_actions_addchdir_np(&actions, c->o.cwd);
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setflags(&attr,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    int rc = kt_fault("child.spawn")
                 ? EAGAIN
                 : posix_spawn(&c->pid, c->o.argv[0], &actions, &attr, (char *const *)c->o.argv,
                               (char *const *)c->o.env);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    return rc;
}

/* fds[i][0] reads, [1] writes; all above 2 and close-on-exec. 0 or errno. */
static int open_pipes(int fds[3][2]) {
    for (int i = 0; i < 3; i++)
        if (pipe2(fds[i], O_CLOEXEC) != 0)
            return errno;
    for (int i = 0; i < 6; i++) {
        int *fd = &fds[i / 2][i % 2];
        if (*fd > 2)
            continue;
        int higher = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
        if (higher < 0)
            return errno;
        close(*fd);
        *fd = higher;
    }
    return 0;
}

static int listen_for_ends(uv_loop_t *loop) {
    if (sigchld != NULL)
        return 0;
    sigchld = malloc(sizeof *sigchld);
    if (sigchld == NULL)
        return ENOMEM;
    int rc = uv_signal_init(loop, sigchld);
    if (rc != 0) {
        free(sigchld);
        sigchld = NULL;
        return -rc;
    }
    return -uv_signal_start(sigchld, on_sigchld, SIGCHLD);
}

static void stream_init(struct stream *s, struct kt_child *c, int number, int fd, size_t line_max) {
    uv_pipe_init(c->loop, &s->pipe, 0);
    s->pipe.data = c;
    s->child = c;
    s->number = number;
    s->line_max = line_max;
    uv_pipe_open(&s->pipe, fd);
    uv_read_start((uv_stream_t *)&s->pipe, on_alloc, on_read);
}

struct kt_child *kt_child_spawn(uv_loop_t *loop, const struct kt_child_options *options,
                                struct kt_error *err) {
    int fds[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    struct kt_child *c = calloc(1, sizeof *c);
    if (c == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory");
        return NULL;
    }
    c->o = *options;
    c->loop = loop;
    int rc = listen_for_ends(loop); /* before the child can die */
    if (rc == 0)
        rc = open_pipes(fds);
    if (rc == 0)
        rc = spawn(c, fds[0][0], fds[1][1], fds[2][1]);
    if (rc != 0) {
        for (int i = 0; i < 6; i++)
            if (fds[i / 2][i % 2] >= 0)
                close(fds[i / 2][i % 2]);
        free(c);
        stop_listening();
        kt_fail(err, kt_code_of_errno(rc), "cannot start %s: %s", options->argv[0], strerror(rc));
        return NULL;
    }
    close(fds[0][0]);
    close(fds[1][1]);
    close(fds[2][1]);
    count++;
    c->next = children;
    children = c;
    uv_pipe_init(loop, &c->in, 0);
    c->in.data = c;
    uv_pipe_open(&c->in, fds[0][1]);
    stream_init(&c->out, c, 1, fds[1][0], options->line_max ? options->line_max : LINE_DEFAULT);
    stream_init(&c->err, c, 2, fds[2][0], STDERR_LINE);
    uv_timer_init(loop, &c->timer);
    c->timer.data = c;
    c->open_handles = 4;
    return c;
}
