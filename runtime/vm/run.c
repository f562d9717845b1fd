/* Runs as the host sees them: started, answered, ended. */
#include <stdlib.h>
#include <string.h>

#include "vm/script.h"
#include "vm/value.h"

/* Collection done for every run that ends, so that its garbage does not wait for the next. */
#define END_GC_KIB 16

void kt_door_calls_free(struct kt_door_call *calls) {
    for (struct kt_door_call *next; calls != NULL; calls = next) {
        next = calls->next;
        kt_buf_free(&calls->args);
        free(calls);
    }
}

void kt_answer_free(struct kt_answer *answers) {
    for (struct kt_answer *next; answers != NULL; answers = next) {
        next = answers->next;
        kt_buf_free(&answers->blob);
        free(answers);
    }
}

/* The end */

struct ending {
    struct kt_run *run;
    lua_State *co;
    const struct kt_error *err;
};

static void keep_result(lua_State *L, struct ending *e) {
    struct kt_run *run = e->run;
    struct kt_error why;
    if (lua_gettop(e->co) == 0)
        return;
    lua_settop(e->co, 1);
    lua_xmove(e->co, L, 1);
    luaL_checkstack(L, KT_VALUE_STACK, "result");
    if (kt_value_encode_max(L, -1, KT_SCRIPT_VALUE_MAX, &run->result, &why) == 0)
        return;
    char text[500];
    snprintf(text, sizeof text, "the result: %.400s", why.message);
    kt_script_set_error(&run->error, why.code == KT_OUTPUT_LIMIT ? "output_limit" : "script_error",
                        text, NULL, 0);
    run->status = KT_RUN_FAILED;
}

static bool has_file(struct kt_script *script, const char *path) {
    lua_State *L = script->vm->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->factories_ref);
    bool found = false;
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        found = strcmp(lua_tostring(L, -2), path) == 0;
        lua_pop(L, found ? 2 : 1);
        if (found)
            break;
    }
    lua_pop(L, 1);
    return found;
}

/* "FILE:12: …" as Lua begins its messages: the only trace of a line whose frame is gone, in a
 * branch of parallel or behind a tail call. */
static void place_of_message(struct kt_script *script, struct kt_script_error *err) {
    char path[256];
    int line, end = 0;
    if (sscanf(err->message, "%255[^:\n]:%d:%n", path, &line, &end) != 2 || end == 0 || line <= 0 ||
        !has_file(script, path))
        return;
    snprintf(err->script, sizeof err->script, "%s", path);
    err->line = line;
}

/* The innermost line of the bundle that was executing; what the service itself put into it renders
 * for a script, whose line counts. */
static void find_place(lua_State *co, struct kt_script_error *err) {
    lua_Debug ar;
    for (int level = 0; co != NULL && lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "Sl", &ar);
        if (ar.source[0] != '@' ||
            strncmp(ar.source + 1, KT_SCRIPT_OWN, strlen(KT_SCRIPT_OWN)) == 0)
            continue;
        /* Where the interpreter itself has raised, only the message knows the line. */
        if (ar.currentline <= 0 &&
            (strncmp(err->message, ar.short_src, strlen(ar.short_src)) != 0 ||
             sscanf(err->message + strlen(ar.short_src), ":%d:", &ar.currentline) != 1))
            continue;
        snprintf(err->script, sizeof err->script, "%s", ar.source + 1);
        err->line = ar.currentline;
        return;
    }
}

/* The text field of the table on top; NULL when it has none. */
static const char *field(lua_State *L, const char *name) {
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1);
    return text;
}

/* What a script raises as its code reaches logs and callers: a name, or it is left out. */
static bool is_code(const char *text) {
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && text[len] == '\0' && len < sizeof((struct kt_script_error *)0)->code;
}

static void keep_error(lua_State *L, struct ending *e) {
    struct kt_script_error *err = &e->run->error;
    const char *code = kt_code_name(e->err->code == KT_NO_MEMORY ? KT_MEMORY_LIMIT : e->err->code);
    kt_script_set_error(err, code, e->err->message, NULL, 0);
    find_place(e->co, err);
    if (err->script[0] == '\0')
        place_of_message(e->run->script, err);
    if (e->co == NULL || e->run->task->verdict.code != KT_OK || !lua_istable(e->co, -1))
        return;
    lua_xmove(e->co, L, 1);
    luaL_checkstack(L, KT_VALUE_STACK, "error");
    code = field(L, "code");
    if (code != NULL && is_code(code))
        snprintf(err->code, sizeof err->code, "%s", code);
    /* Details that are no JSON are left out: the code and the message are what counts. */
    if (kt_value_encode_max(L, -1, KT_SCRIPT_VALUE_MAX / 8, &err->value, NULL) != 0)
        kt_buf_free(&err->value);
}

static int keep_outcome(lua_State *L, void *ud) {
    struct ending *e = ud;
    if (e->err == NULL)
        keep_result(L, e);
    else
        keep_error(L, e);
    return 0;
}

static void timer_closed(uv_handle_t *handle) {
    free(handle);
}

static void ended(struct kt_task *task, lua_State *co, const struct kt_error *err, void *ud) {
    struct kt_run *run = ud;
    struct kt_script *script = run->script;
    struct ending e = {run, co, err};
    struct kt_error why;
    run->status = err == NULL ? KT_RUN_DONE : KT_RUN_FAILED;
    if (kt_vm_call(script->vm, keep_outcome, &e, &why) != 0) {
        run->status = KT_RUN_FAILED;
        kt_script_set_error(&run->error, "internal", why.message, NULL, 0);
    }
    run->steps = task->spent;
    run->task = NULL;
    run->script = NULL;
    script->runs--;
    if (run->next != NULL)
        run->next->prev = run->prev;
    if (run->prev != NULL)
        run->prev->next = run->next;
    else
        script->first = run->next;
    if (run->timer != NULL)
        uv_close((uv_handle_t *)run->timer, timer_closed);
    run->timer = NULL;
    kt_vm_gc_step(script->vm, END_GC_KIB);
    if (run->changed != NULL)
        run->changed(run, run->ud);
}

static void on_deadline(uv_timer_t *timer) {
    struct kt_run *run = timer->data;
    kt_fail(&run->task->verdict, KT_DEADLINE_EXCEEDED, "the run's deadline has passed");
    kt_task_kill(run->task);
}

/* The start */

struct starting {
    struct kt_run *run;
    const struct kt_run_options *options;
};

static int start(lua_State *L, void *ud) {
    struct starting *s = ud;
    struct kt_run *run = s->run;
    struct kt_script *script = run->script;
    lua_createtable(L, 3, 0); /* 1: what belongs to the run */
    if (s->options->keep && script->kept_ref != 0) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, script->kept_ref);
        lua_rawgeti(L, 2, 1);
        lua_rawseti(L, 1, 1);
        lua_rawgeti(L, 2, 3);
        lua_rawseti(L, 1, 3);
    } else {
        lua_newtable(L); /* 2: its environment */
        lua_pushvalue(L, 2);
        lua_setfield(L, 2, "_G");
        lua_rawgeti(L, LUA_REGISTRYINDEX, script->env_meta_ref);
        lua_setmetatable(L, 2);
        lua_rawseti(L, 1, 1);
        lua_newtable(L);
        lua_rawseti(L, 1, 3);
        if (s->options->keep) {
            lua_pushvalue(L, 1);
            script->kept_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        }
    }
    lua_newtable(L);
    lua_rawseti(L, 1, 2);
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->main_ref);
    lua_pushstring(L, s->options->path);
    lua_pushstring(L, s->options->mode);
    lua_pushstring(L, s->options->function);
    run->task = kt_task_spawn(script->vm, L, 3, NULL, ended, run);
    run->task->owner = run;
    run->task->limit = s->options->max_steps != 0 ? s->options->max_steps : KT_SCRIPT_STEPS;
    run->task->extra = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct kt_run *kt_run_start(struct kt_script *script, const struct kt_run_options *options,
                            void (*changed)(struct kt_run *run, void *ud), void *ud,
                            struct kt_error *err) {
    if (!has_file(script, options->path)) {
        kt_fail(err, KT_NOT_FOUND, "no script %s in the bundle", options->path);
        return NULL;
    }
    struct kt_run *run = calloc(1, sizeof *run);
    if (run == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory for a run");
        return NULL;
    }
    struct starting s = {run, options};
    run->script = script;
    run->loading = true;
    run->now_ms = options->now_ms;
    memcpy(run->rng, options->seed, sizeof run->rng);
    run->calls_end = &run->calls;
    run->answers_end = &run->answers;
    if (options->input != NULL)
        kt_buf_add(&run->input, options->input, options->input_len);
    if (options->info != NULL)
        kt_buf_add(&run->info, options->info, options->info_len);
    int rc = run->input.failed || run->info.failed
                 ? kt_fail(err, KT_NO_MEMORY, "no memory for a run")
                 : kt_vm_call(script->vm, start, &s, err);
    if (rc != 0) {
        run->script = NULL;
        kt_run_free(run);
        return NULL;
    }
    script->runs++;
    run->next = script->first;
    if (script->first != NULL)
        script->first->prev = run;
    script->first = run;
    run->changed = changed;
    run->ud = ud;
    if (options->deadline > 0 && (run->timer = malloc(sizeof *run->timer)) != NULL) {
        uv_timer_init(script->vm->loop, run->timer);
        uv_update_time(script->vm->loop);
        run->timer->data = run;
        uv_timer_start(run->timer, on_deadline, (uint64_t)(options->deadline * 1e3 + 0.999), 0);
    }
    return run;
}

struct kt_door_call *kt_run_take_calls(struct kt_run *run) {
    struct kt_door_call *calls = run->calls;
    run->calls = NULL;
    run->calls_end = &run->calls;
    return calls;
}

int kt_run_answer(struct kt_run *run, int id, bool ok, const void *blob, size_t len, int64_t now_ms,
                  struct kt_error *err) {
    int at = 0;
    while (at < run->open && run->open_ids[at] != id)
        at++;
    if (at == run->open || run->script == NULL)
        return kt_fail(err, KT_INVALID_ARGUMENT, "call %d is not open", id);
    struct kt_answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory for an answer");
    answer->id = id;
    answer->ok = ok;
    answer->now_ms = now_ms;
    kt_buf_add(&answer->blob, blob, len);
    if (answer->blob.failed) {
        kt_answer_free(answer);
        return kt_fail(err, KT_NO_MEMORY, "no memory for an answer");
    }
    run->open_ids[at] = run->open_ids[--run->open];
    *run->answers_end = answer;
    run->answers_end = &answer->next;
    if (run->parked != NULL && run->status == KT_RUN_BLOCKED) {
        run->status = KT_RUN_BUSY;
        kt_door_wake(run);
    }
    return 0;
}

bool kt_run_place(const struct kt_run *run, struct kt_script_error *place) {
    place->message[0] = place->script[0] = '\0';
    place->line = 0;
    if (run->task != NULL)
        find_place(run->task->co, place);
    return place->script[0] != '\0';
}

struct stack {
    const struct kt_run *run;
    void (*fn)(void *ud, int call, const char *script, int line, const char *name);
    void *ud;
};

static void tell_frames(const struct stack *s, lua_State *co, int call) {
    lua_Debug ar;
    for (int level = 0; co != NULL && lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "Sln", &ar);
        if (ar.source[0] == '@' && ar.currentline > 0)
            s->fn(s->ud, call, ar.source + 1, ar.currentline, ar.name);
    }
}

/* prelude.lua: state.waiting is {call id -> branch {co = …}, or false for the run itself}. */
static int tell_stack(lua_State *L, void *ud) {
    struct stack *s = ud;
    tell_frames(s, s->run->task->co, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->run->task->extra);
    lua_rawgeti(L, -1, 2);
    lua_pushliteral(L, "waiting");
    lua_rawget(L, -2);
    if (!lua_istable(L, -1))
        return 0;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1)) {
        if (!lua_istable(L, -1) || lua_type(L, -2) != LUA_TNUMBER)
            continue;
        lua_pushliteral(L, "co");
        lua_rawget(L, -2);
        tell_frames(s, lua_tothread(L, -1), (int)lua_tointeger(L, -3));
        lua_pop(L, 1);
    }
    return 0;
}

void kt_run_stack(const struct kt_run *run,
                  void (*fn)(void *ud, int call, const char *script, int line, const char *name),
                  void *ud) {
    struct stack s = {run, fn, ud};
    if (run->task != NULL)
        kt_vm_call(run->script->vm, tell_stack, &s, NULL);
}

void kt_run_free(struct kt_run *run) {
    run->changed = NULL;
    if (run->task != NULL)
        kt_task_kill(run->task);
    kt_door_calls_free(run->calls);
    kt_answer_free(run->answers);
    kt_answer_free(run->taken);
    kt_buf_free(&run->input);
    kt_buf_free(&run->info);
    kt_buf_free(&run->result);
    kt_script_error_free(&run->error);
    free(run->open_ids);
    free(run);
}
