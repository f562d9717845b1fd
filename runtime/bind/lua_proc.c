/* Module kt.proc: child processes (proc/child.h). Yield: next, write.
 *
 *   proc.spawn{argv={"/path", …}, env={K="V"}?, cwd=?, line_max=?, stdin="text"?} -> child | nil, err
 *       stdin given: it is written and closed. The environment is env and nothing else.
 *   child:next(timeout?) -> line | nil at the end | nil, err (deadline_exceeded: it still runs;
 *       output_limit: a line over line_max, it was killed). One task at a time.
 *   child:write(bytes) -> true | nil, err when it is written    child:close_stdin()
 *   child:stop(grace seconds)   TERM to its group, then KILL    child:pid() -> number
 *   child:status() -> {exit=code} | {signal=n} | nil while it runs
 *   child:close()               kill it and let go; also when the handle is collected
 *   proc.pid() -> number        of this process
 *
 * Lines of stderr go to the log as event child.stderr, at most 100 in 10 seconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "core/clock.h"
#include "core/log.h"
#include "proc/child.h"

#define CHILD "kt.proc.child"
#define QUEUE_BYTES (1 << 20) /* lines nobody took yet; beyond, the pipe is left full */
#define STDERR_LINES 100
#define STDERR_WINDOW 10.0

struct line {
    struct line *next;
    size_t len;
    char text[];
};

struct next_op;

/* Freed by its userdata's __gc; the ops of it hold the userdata through their task's stack. */
struct proc {
    struct kt_child *child; /* NULL after close */
    struct line *first, **last;
    size_t queued;
    struct next_op *reader;
    bool ended, lost;
    struct kt_child_end end;
    double window;
    int stderr_lines, stderr_dropped;
};

struct next_op {
    struct kt_op op;
    struct proc *proc;
    uv_timer_t *timer;
};

struct write_op {
    struct kt_op op;
};

/* --- What the child says ------------------------------------------------------------------- */

static int next_push(lua_State *L, struct kt_op *op);

static void wake_reader(struct proc *p) {
    struct next_op *reader = p->reader;
    if (reader == NULL)
        return;
    p->reader = NULL;
    kt_op_settle(&reader->op, next_push);
}

static void stderr_line(struct proc *p, const char *line) {
    char pid[16], dropped[16];
    double now = kt_monotonic();
    snprintf(pid, sizeof pid, "%d", (int)kt_child_pid(p->child));
    if (now - p->window > STDERR_WINDOW) {
        if (p->stderr_dropped > 0) {
            snprintf(dropped, sizeof dropped, "%d", p->stderr_dropped);
            kt_log(KT_WARN, "child.stderr_dropped", "pid", pid, "lines", dropped, NULL);
        }
        p->window = now;
        p->stderr_lines = p->stderr_dropped = 0;
    }
    if (p->stderr_lines++ < STDERR_LINES)
        kt_log(KT_WARN, "child.stderr", "pid", pid, "msg", line, NULL);
    else
        p->stderr_dropped++;
}

static void on_line(void *ud, int stream, char *text, size_t len) {
    struct proc *p = ud;
    if (stream == 2) {
        stderr_line(p, text);
        return;
    }
    struct line *line = malloc(sizeof *line + len + 1);
    if (line == NULL) {
        p->lost = true;
        kt_child_stop(p->child, 0);
        return;
    }
    line->next = NULL;
    line->len = len;
    memcpy(line->text, text, len + 1);
    *p->last = line;
    p->last = &line->next;
    p->queued += len;
    if (p->queued > QUEUE_BYTES)
        kt_child_pause(p->child, true);
    wake_reader(p);
}

static void on_end(void *ud, const struct kt_child_end *end) {
    struct proc *p = ud;
    p->ended = true;
    p->end = *end;
    wake_reader(p);
}

/* --- Start --------------------------------------------------------------------------------- */

#define WORDS_MAX 256

/* The strings of the array at the top into words (ended by NULL); they stay alive in the table. */
static void check_words(lua_State *L, const char **words, const char *what) {
    if (!lua_istable(L, -1))
        luaL_error(L, "proc.spawn: %s is not a table", what);
    size_t n = lua_objlen(L, -1);
    if (n >= WORDS_MAX)
        luaL_error(L, "proc.spawn: %s has more than %d words", what, WORDS_MAX - 1);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "proc.spawn: %s[%d] is not a string", what, (int)i + 1);
        words[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    words[n] = NULL;
}

/* Replaces the {K=V} table (or nil) at the top by an array of "K=V". */
static void env_words(lua_State *L) {
    int from = lua_gettop(L), n = 0;
    lua_newtable(L);
    if (lua_istable(L, from)) {
        lua_pushnil(L);
        while (lua_next(L, from) != 0) {
            if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING)
                luaL_error(L, "proc.spawn: env has a name or value that is not a string");
            lua_pushfstring(L, "%s=%s", lua_tostring(L, -2), lua_tostring(L, -1));
            lua_rawseti(L, from + 1, ++n);
            lua_pop(L, 1);
        }
    }
    lua_replace(L, from);
}

static int l_spawn(lua_State *L) {
    const char *argv[WORDS_MAX], *env[WORDS_MAX];
    struct kt_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "argv");
    check_words(L, argv, "argv");
    luaL_argcheck(L, argv[0] != NULL && strchr(argv[0], '/') != NULL, 1, "argv[1] is no path");
    lua_getfield(L, 1, "env");
    env_words(L);
    check_words(L, env, "env");
    const char *cwd = kt_opt_string(L, 1, "cwd", NULL);
    double line_max = kt_opt_number(L, 1, "line_max", 0);
    luaL_argcheck(L, line_max >= 0 && line_max <= 1 << 30, 1, "line_max is out of range");
    lua_getfield(L, 1, "stdin");
    size_t len = 0;
    const char *input = lua_isnil(L, -1) ? NULL : luaL_checklstring(L, -1, &len);

    struct proc *p = lua_newuserdata(L, sizeof *p);
    memset(p, 0, sizeof *p);
    p->last = &p->first;
    luaL_getmetatable(L, CHILD);
    lua_setmetatable(L, -2);
    struct kt_child_options options = {.argv = argv, .env = env, .cwd = cwd,
                                       .line_max = (size_t)line_max, .line = on_line,
                                       .end = on_end, .ud = p};
    p->child = kt_child_spawn(kt_vm_of(L)->loop, &options, &err);
    if (p->child == NULL)
        return kt_push_error(L, &err);
    if (input != NULL) {
        int rc = kt_child_write(p->child, input, len, NULL, NULL, &err);
        kt_child_close_stdin(p->child);
        if (rc != 0) {
            kt_child_free(p->child);
            p->child = NULL;
            return kt_push_error(L, &err);
        }
    }
    return 1;
}

static struct proc *check_proc(lua_State *L) {
    struct proc *p = luaL_checkudata(L, 1, CHILD);
    if (p->child == NULL)
        luaL_error(L, "the child is closed");
    return p;
}

/* --- next ---------------------------------------------------------------------------------- */

/* The first queued line, or how it ended. */
static int push_next(lua_State *L, struct proc *p) {
    struct line *line = p->first;
    struct kt_error err;
    if (line != NULL) {
        lua_pushlstring(L, line->text, line->len);
        p->first = line->next;
        if (p->first == NULL)
            p->last = &p->first;
        p->queued -= line->len;
        free(line);
        if (p->queued <= QUEUE_BYTES / 2 && p->child != NULL)
            kt_child_pause(p->child, false);
        return 1;
    }
    if (p->lost)
        kt_fail(&err, KT_NO_MEMORY, "no memory for what the child wrote");
    else if (p->end.code != KT_OK)
        kt_fail(&err, p->end.code, "the child wrote a line that is too long");
    else {
        lua_pushnil(L);
        return 1;
    }
    return kt_push_error(L, &err);
}

static int next_push(lua_State *L, struct kt_op *op) {
    return push_next(L, ((struct next_op *)op)->proc);
}

static void on_timer_closed(uv_handle_t *handle) {
    free(handle);
}

static void on_timeout(uv_timer_t *timer) {
    struct next_op *next = timer->data;
    struct kt_error err;
    next->proc->reader = NULL;
    kt_fail(&err, KT_DEADLINE_EXCEEDED, "the child was silent for too long");
    kt_op_fail(&next->op, &err);
}

static void next_cancel(struct kt_op *op) {
    struct next_op *next = (struct next_op *)op;
    if (next->proc->reader == next)
        next->proc->reader = NULL;
    kt_op_settle(op, NULL);
}

static void next_free(struct kt_op *op) {
    struct next_op *next = (struct next_op *)op;
    if (next->timer != NULL)
        uv_close((uv_handle_t *)next->timer, on_timer_closed);
}

static const struct kt_op_class next_class = {"proc.next", sizeof(struct next_op), next_cancel,
                                              next_free};

static int l_next(lua_State *L) {
    struct proc *p = check_proc(L);
    double timeout = lua_isnoneornil(L, 2) ? 0 : kt_check_duration(L, 2);
    if (p->reader != NULL)
        return luaL_error(L, "another task waits for this child");
    if (p->first != NULL || p->ended)
        return push_next(L, p);
    struct next_op *next = kt_op_new(L, &next_class);
    next->proc = p;
    if (timeout > 0) {
        next->timer = malloc(sizeof *next->timer);
        if (next->timer == NULL) {
            kt_op_drop(&next->op);
            return luaL_error(L, "not enough memory");
        }
        uv_timer_init(kt_vm_of(L)->loop, next->timer);
        next->timer->data = next;
        uv_timer_start(next->timer, on_timeout, (uint64_t)(timeout * 1000), 0);
    }
    p->reader = next;
    return kt_op_yield(&next->op);
}

/* --- write --------------------------------------------------------------------------------- */

static int write_push(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static void write_done(void *ud, int status) {
    struct kt_op *op = ud;
    struct kt_error err;
    if (status == 0) {
        kt_op_settle(op, write_push);
        return;
    }
    kt_fail(&err, KT_UPSTREAM_FAILED, "the child does not read: %s", uv_strerror(status));
    kt_op_fail(op, &err);
}

static const struct kt_op_class write_class = {"proc.write", sizeof(struct write_op), NULL, NULL};

static int l_write(lua_State *L) {
    struct kt_error err;
    size_t len;
    struct proc *p = check_proc(L);
    const char *bytes = luaL_checklstring(L, 2, &len);
    struct write_op *op = kt_op_new(L, &write_class);
    if (kt_child_write(p->child, bytes, len, write_done, op, &err) != 0) {
        kt_op_drop(&op->op);
        return kt_push_error(L, &err);
    }
    return kt_op_yield(&op->op);
}

/* --- The rest ------------------------------------------------------------------------------ */

static int l_close_stdin(lua_State *L) {
    kt_child_close_stdin(check_proc(L)->child);
    return 0;
}

static int l_stop(lua_State *L) {
    struct proc *p = check_proc(L);
    kt_child_stop(p->child, lua_isnoneornil(L, 2) ? 0 : kt_check_duration(L, 2));
    return 0;
}

static int l_pid(lua_State *L) {
    lua_pushinteger(L, kt_child_pid(check_proc(L)->child));
    return 1;
}

static int l_status(lua_State *L) {
    struct proc *p = luaL_checkudata(L, 1, CHILD);
    if (!p->ended)
        return 0;
    lua_createtable(L, 0, 1);
    lua_pushinteger(L, p->end.signal != 0 ? p->end.signal : p->end.exit_code);
    lua_setfield(L, -2, p->end.signal != 0 ? "signal" : "exit");
    return 1;
}

static int l_close(lua_State *L) {
    struct proc *p = luaL_checkudata(L, 1, CHILD);
    if (p->child == NULL)
        return 0;
    kt_child_free(p->child);
    p->child = NULL;
    for (struct line *line = p->first, *next; line != NULL; line = next) {
        next = line->next;
        free(line);
    }
    p->first = NULL;
    p->last = &p->first;
    p->ended = true;
    wake_reader(p);
    return 0;
}

static int l_own_pid(lua_State *L) {
    lua_pushinteger(L, getpid());
    return 1;
}

static const luaL_Reg functions[] = {{"spawn", l_spawn}, {"pid", l_own_pid}, {NULL, NULL}};
static const luaL_Reg methods[] = {
    {"next", l_next},     {"write", l_write}, {"close_stdin", l_close_stdin},
    {"stop", l_stop},     {"pid", l_pid},     {"status", l_status},
    {"close", l_close},   {"__gc", l_close},  {NULL, NULL},
};

int luaopen_kt_proc(lua_State *L) {
    kt_class(L, CHILD, methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
