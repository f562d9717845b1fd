/* `kontor worker`: a loop, a host VM, lua/app.lua; from ready to drained. lua/kt/worker.lua is its
 * Lua side. */
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "bind/host.h"
#include "cmd/cmd.h"
#include "core/config.h"
#include "core/home.h"
#include "core/log.h"
#include "core/worker.h"

struct state {
    struct kt_worker life;
    bool drain;
    double seconds;
};

/* Inside the loop: only noted, for the Lua of draining runs the loop itself. */
static void on_drain(struct kt_worker *life, double seconds) {
    struct state *s = life->ud;
    s->drain = true;
    s->seconds = seconds;
    uv_stop(life->control.loop);
}

static int open_logs(struct kt_error *err) {
    char path[PATH_MAX + 32];
    const char *dir = kt_config_text("KONTOR_LOG_DIR");
    snprintf(path, sizeof path, "%s/app.log", dir);
    int rc = kt_log_open(path, err);
    snprintf(path, sizeof path, "%s/executions.log", dir);
    return rc != 0 ? rc : kt_log_open_executions(path, err);
}

static int run(struct kt_host *host, struct state *s, const char *home, struct kt_error *err) {
    char slot[16], seconds[32];
    char *args[] = {slot, s->life.epoch, (char *)home, seconds};
    int status, rc;
    snprintf(slot, sizeof slot, "%d", s->life.slot);
    snprintf(seconds, sizeof seconds, "%d", s->life.admin_fd);
    rc = kt_host_run(host, "return require('kt.worker').start(...)", "=worker", 4, args, &status,
                     err);
    if (rc != 0)
        return rc;
    kt_worker_ready(&s->life);
    while (!s->drain)
        uv_run(&host->loop, UV_RUN_ONCE);
    kt_log(KT_INFO, "worker.draining", NULL);
    snprintf(seconds, sizeof seconds, "%g", s->seconds);
    return kt_host_run(host, "return require('kt.worker').drain(...)", "=worker", 1, args + 3,
                       &status, err);
}

int kt_cmd_worker(void) {
    struct kt_error err;
    struct kt_host host;
    struct state s = {.life.on_drain = on_drain, .life.ud = &s};
    /* Large buffers (chunks of blobs, 4 MiB) go back to the system at once. By itself glibc comes
     * to keep them, in an arena of each thread. */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    const char *home = kt_home(&err);
    if (home == NULL || open_logs(&err) != 0) {
        kt_log(KT_ERROR, "worker.failed", "msg", err.message, NULL);
        return 1;
    }
    int rc = kt_host_open(&host, home, &err);
    if (rc == 0)
        rc = kt_worker_open(&s.life, &host.loop, &err);
    if (rc == 0) {
        rc = run(&host, &s, home, &err);
        kt_worker_close(&s.life);
    }
    if (rc != 0)
        kt_log(KT_ERROR, "worker.failed", "code", kt_code_name(err.code), "msg", err.message, NULL);
    int left = kt_host_close(&host);
    if (left != 0 && rc == 0) { /* an app that failed to start has not closed what it had opened */
        char text[16];
        snprintf(text, sizeof text, "%d", left);
        kt_log(KT_ERROR, "worker.handles_left", "count", text, NULL);
    }
    return rc == 0 && left == 0 ? 0 : 1;
}
