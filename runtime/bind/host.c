/* A loop with a host VM. */
#include "bind/host.h"

#include <string.h>

#include "bind/bind.h"

static int prepare(lua_State *L, void *ud) {
    const char *home = ud;
    kt_modules_preload(L);
    if (home == NULL)
        return 0;
    lua_getglobal(L, "package");
    lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua", home, home);
    lua_setfield(L, -2, "path");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "cpath");
    return 0;
}

int kt_host_open(struct kt_host *host, const char *home, struct kt_error *err) {
    host->vm = NULL;
    int rc = uv_loop_init(&host->loop);
    if (rc != 0)
        return kt_fail(err, KT_INTERNAL, "no event loop: %s", uv_strerror(rc));
    host->loop.data = host;
    host->vm = kt_vm_new(&host->loop, KT_VM_HOST, 0, err);
    if (host->vm == NULL)
        return -(int)KT_NO_MEMORY;
    return kt_vm_call(host->vm, prepare, (void *)home, err);
}

struct main_task {
    struct kt_vm *vm;
    const char *source, *name;
    int argc;
    char *const *argv;
    struct kt_error *err;
    bool ended;
    int rc, status;
};

static void main_ended(struct kt_task *task, lua_State *co, const struct kt_error *err, void *ud) {
    struct main_task *m = ud;
    (void)task;
    m->ended = true;
    if (err != NULL)
        m->rc = kt_fail(m->err, err->code, "%s", err->message);
    else if (lua_type(co, 1) == LUA_TNUMBER)
        m->status = (int)lua_tonumber(co, 1);
    else
        m->status = lua_gettop(co) == 0 || lua_toboolean(co, 1) ? 0 : 1;
}

static int start(lua_State *L, void *ud) {
    struct main_task *m = ud;
    if (luaL_loadbuffer(L, m->source, strlen(m->source), m->name) != 0)
        return lua_error(L);
    luaL_checkstack(L, m->argc + 4, "arguments");
    for (int i = 0; i < m->argc; i++)
        lua_pushstring(L, m->argv[i]);
    kt_task_spawn(m->vm, L, m->argc, NULL, main_ended, m);
    return 0;
}

int kt_host_run(struct kt_host *host, const char *source, const char *chunk_name, int argc,
                char *const *argv, int *status, struct kt_error *err) {
    struct main_task m = {host->vm, source, chunk_name, argc, argv, err, false, 0, 0};
    int rc = kt_vm_call(host->vm, start, &m, err);
    if (rc != 0)
        return rc;
    while (!m.ended)
        if (uv_run(&host->loop, UV_RUN_ONCE) == 0 && !m.ended) {
            kt_task_kill_all(host->vm); /* m is about to go out of scope */
            return kt_fail(err, KT_INTERNAL, "%s waits for something that can never happen",
                           chunk_name);
        }
    *status = m.status;
    return m.rc;
}

static void count(uv_handle_t *handle, void *ud) {
    (void)handle;
    ++*(int *)ud;
}

enum { CLOSE_TURNS = 100, CLOSE_WAIT_MS = 3000, CLOSE_STEP_MS = 5 };

int kt_host_close(struct kt_host *host) {
    int left = 0, waited = 0;
    kt_vm_free(host->vm);
    host->vm = NULL;
    kt_run_queue_free(&host->loop);
    int rc = UV_EBUSY;
    for (int turn = 0; waited <= CLOSE_WAIT_MS && rc != 0; turn++) {
        if (turn > CLOSE_TURNS) { /* a killed child dies when the system gets to it */
            uv_sleep(CLOSE_STEP_MS);
            waited += CLOSE_STEP_MS;
        }
        uv_run(&host->loop, UV_RUN_NOWAIT);
        rc = uv_loop_close(&host->loop);
    }
    if (rc != 0)
        uv_walk(&host->loop, count, &left);
    return left;
}
