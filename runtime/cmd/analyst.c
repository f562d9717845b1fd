/* `kontor analyst --memory BYTES --cpu SECONDS`: the limits, then lua/erp/analyst.lua over one job.
 *
 * The job is JSON on stdin, the messages are JSON lines on stdout. Neither the configuration nor
 * .env is read: this process is to hold nothing that is worth stealing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "cmd/cmd.h"
#include "core/config.h"
#include "core/home.h"
#include "proc/limits.h"

#define JOB_MAX (64u << 20)
#define OUT_OF_MEMORY 3 /* the exit code, known to lua/kt/analyst.lua */

static const char boot[] = "local home, text = ...\n"
                           "package.path = home .. '/lua/?.lua;' .. home .. '/lua/?/init.lua'\n"
                           "package.cpath = ''\n"
                           "return require('kt.analyst_child')(text)\n";

static int read_job(struct kt_buf *job, struct kt_error *err) {
    for (;;) {
        char *to = kt_buf_reserve(job, 65536);
        if (to == NULL || job->len > JOB_MAX)
            return kt_fail(err, KT_BODY_TOO_LARGE, "the job is too long");
        ssize_t n = read(STDIN_FILENO, to, 65536);
        if (n < 0)
            return kt_fail(err, KT_INTERNAL, "cannot read the job");
        if (n == 0)
            return 0;
        job->len += (size_t)n;
    }
}

struct call {
    const char *home;
    const struct kt_buf *job;
    int status;
};

static int run(lua_State *L, void *ud) {
    struct call *call = ud;
    kt_modules_preload(L);
    if (luaL_loadbuffer(L, boot, sizeof boot - 1, "=analyst") != 0)
        return lua_error(L);
    lua_pushstring(L, call->home);
    lua_pushlstring(L, call->job->data, call->job->len);
    lua_call(L, 2, 1);
    call->status = (int)lua_tointeger(L, -1);
    return 0;
}

static unsigned long long option(int argc, char **argv, const char *name) {
    for (int i = 0; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return strtoull(argv[i + 1], NULL, 10);
    return 0;
}

int kt_cmd_analyst(int argc, char **argv) {
    struct kt_error err;
    struct kt_buf job = KT_BUF_INIT, faults = KT_BUF_INIT;
    struct kt_vm *vm = NULL;
    size_t memory = (size_t)option(argc, argv, "--memory");
    unsigned cpu = (unsigned)option(argc, argv, "--cpu");
    pid_t parent = (pid_t)option(argc, argv, "--parent");
    int rc = -1;
    if (memory == 0 || cpu == 0 || parent == 0) {
        fputs("kontor: analyst is started by the service, with --memory, --cpu and --parent\n",
              stderr);
        return 2;
    }
    if (kt_config_load("/dev/null", &faults) != 0) {
        fputs(kt_buf_cstr(&faults), stderr);
        goto out;
    }
    const char *home = kt_home(&err);
    struct call call = {home, &job, 1};
    rc = home == NULL ? -1 : kt_limits_apply(memory, cpu, parent, &err);
    if (rc == 0)
        rc = kt_limits_no_world(&err);
    if (rc == 0)
        rc = read_job(&job, &err);
    if (rc == 0)
        rc = (vm = kt_vm_new(NULL, KT_VM_ANALYST, 0, &err)) == NULL
                 ? -1
                 : kt_vm_call(vm, run, &call, &err);
    if (rc != 0)
        fprintf(stderr, "analyst: %s\n", err.message);
    else
        rc = call.status;
out:
    if (vm != NULL)
        kt_vm_free(vm);
    kt_buf_free(&job);
    kt_buf_free(&faults);
    kt_config_free();
    return rc == 0 ? 0 : rc == -(int)KT_NO_MEMORY ? OUT_OF_MEMORY : 1;
}
