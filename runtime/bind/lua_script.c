/* Module kt.script: script VMs as the host sees them. Yield: script.check, run:next.
 *
 *   script.check{path=, source=, libs={path=source}?} -> declaration, functions as true, with kind
 *       | nil, err; in a throw-away VM with a small budget
 *   script.vm{files={path=source}, cap=bytes?, share=name?} -> vm | nil, err      (only *.lua are
 *   compiled; the VMs of one share, a project's, take turns together)
 *   vm:start{path=, input=value?, run=value?, seed=text, now=ms, max_instructions=?, deadline=s?,
 *       call=name?, keep=bool?} -> run | nil, err
 *       run= is a workflow's first argument; call= calls that function of the table which the file
 *       returns, with input; keep= its globals are those of the runs with keep before it
 *   vm:stats() -> {used, peak, cap, runs}      vm:close() ends its runs
 *   run:next() -> {status="calls", calls={{id=, name=, args=blob, hash=sha256 hex, emit=bool}…}}
 *       (those that are new; none while other calls are open)
 *     | {status="done", value=blob, steps=} | {status="error", error=…, steps=} | nil, err
 *   run:answer(id, true, blob, now_ms?) | run:answer(id, false, error table, now_ms?) -> true
 *       | nil, err (no such open call)
 *   run:place() -> {script, line} | nil    where it is just now
 *   run:stack() -> {{script=, line=, name=?, call=?}…}   all that it is in, the innermost first;
 *       call: of a branch of parallel, the call that it waits for
 *   run:close() ends it without a word
 *
 * err of a script: {code, message, retryable, where={script, line}?, details?}.
 * For analysts and trusted code:
 *   script.load(text, name, env) -> function | nil, err; text only, name as shown in errors
 *   script.sandbox_env() -> a new environment for rules. In an analyst the metatable of strings is
 *       guarded, too; in a host VM (specs) it is not. */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "vm/sandbox.h"
#include "vm/script.h"

#define DEFAULT_CAP (32u << 20)
#define CHECK_CAP (16u << 20)
#define CHECK_STEPS 5000000

static const luaL_Reg script_modules[] = {{"json", luaopen_json}, {NULL, NULL}};

/* Errors */

static void push_place(lua_State *L, const struct kt_script_error *err) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, err->script);
    lua_setfield(L, -2, "script");
    lua_pushinteger(L, err->line);
    lua_setfield(L, -2, "line");
}

static void push_script_error(lua_State *L, const struct kt_script_error *err) {
    lua_createtable(L, 0, 5);
    if (err->value.len != 0) { /* what the script raised: retryable, details… */
        kt_value_push_blob(L, err->value.data, err->value.len);
        lua_replace(L, -2);
    }
    lua_pushstring(L, err->code);
    lua_setfield(L, -2, "code");
    lua_pushstring(L, err->message);
    lua_setfield(L, -2, "message");
    lua_getfield(L, -1, "retryable");
    lua_pushboolean(L, lua_type(L, -1) == LUA_TBOOLEAN && lua_toboolean(L, -1));
    lua_setfield(L, -3, "retryable");
    lua_pop(L, 1);
    if (err->script[0] != '\0') {
        push_place(L, err);
        lua_setfield(L, -2, "where");
    }
    luaL_getmetatable(L, "kt.error");
    lua_setmetatable(L, -2);
}

/* VMs */

static struct kt_script **vm_box(lua_State *L, int arg) {
    return luaL_checkudata(L, arg, "kt.script_vm");
}

static struct kt_script *check_vm(lua_State *L) {
    struct kt_script **box = vm_box(L, 1);
    luaL_argcheck(L, *box != NULL, 1, "a script VM that is not closed");
    return *box;
}

/* Pushes the vm, or nil, err. `files` is a table {path = source}, with one more pair if extra. */
static int new_vm(lua_State *L, int files, const char *extra_path, size_t cap) {
    size_t n = 0, i = 0;
    struct kt_script_error err = {.code = ""};
    if (files != 0) {
        luaL_checktype(L, files, LUA_TTABLE);
        for (lua_pushnil(L); lua_next(L, files) != 0; lua_pop(L, 1)) {
            if (lua_type(L, -1) != LUA_TSTRING || lua_type(L, -2) != LUA_TSTRING)
                return luaL_error(L, "files: {path = source}, both text");
            n++;
        }
    }
    struct kt_source *sources = lua_newuserdata(L, (n + 1) * sizeof *sources);
    if (files != 0)
        for (lua_pushnil(L); lua_next(L, files) != 0; lua_pop(L, 1), i++) {
            sources[i].path = lua_tostring(L, -2);
            sources[i].text = lua_tolstring(L, -1, &sources[i].len);
        }
    if (extra_path != NULL) {
        sources[n].path = extra_path;
        sources[n].text = luaL_checklstring(L, -2, &sources[n].len);
        n++;
    }
    struct kt_script **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, "kt.script_vm");
    lua_setmetatable(L, -2);
    lua_createtable(L, 1, 0); /* runs keep their vm by this table */
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
    *box = kt_script_new(kt_vm_of(L)->loop, cap, sources, (int)n, script_modules, &err);
    if (*box != NULL)
        return 1;
    lua_pushnil(L);
    push_script_error(L, &err);
    kt_script_error_free(&err);
    return 2;
}

static int l_vm(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    double cap = kt_opt_number(L, 1, "cap", DEFAULT_CAP);
    luaL_argcheck(L, cap >= 1 << 20 && cap <= 256.0 * (1 << 20), 1, "cap from 1 MiB to 256 MiB");
    const char *share = kt_opt_string(L, 1, "share", "");
    luaL_argcheck(L, strlen(share) < 64, 1, "share: at most 63 bytes");
    lua_settop(L, 1);
    lua_pushstring(L, share);
    lua_getfield(L, 1, "files");
    int n = new_vm(L, 3, NULL, (size_t)cap);
    struct kt_error err;
    if (n == 1 && share[0] != '\0' && kt_vm_set_share((*vm_box(L, -1))->vm, share, &err) != 0)
        return kt_push_error(L, &err);
    return n;
}

static int l_vm_close(lua_State *L) {
    struct kt_script **box = vm_box(L, 1), *script = *box;
    *box = NULL;
    kt_script_free(script);
    return 0;
}

static int l_vm_stats(lua_State *L) {
    struct kt_script *script = check_vm(L);
    const struct {
        const char *name;
        double value;
    } stats[] = {{"used", (double)script->vm->used},
                 {"peak", (double)script->vm->peak},
                 {"cap", (double)script->vm->cap},
                 {"runs", script->runs}};
    lua_createtable(L, 0, 4);
    for (size_t i = 0; i < sizeof stats / sizeof *stats; i++) {
        lua_pushnumber(L, stats[i].value);
        lua_setfield(L, -2, stats[i].name);
    }
    return 1;
}

/* Runs */

struct box {
    struct kt_run *run;
    struct kt_op *waiting; /* a run:next under way */
    struct kt_script *own; /* of script.check: freed with the run */
    bool told;             /* its end was handed out */
};

static struct box *check_run(lua_State *L) {
    return luaL_checkudata(L, 1, "kt.script_run");
}

static bool ready(const struct kt_run *run) {
    return run->status != KT_RUN_BUSY || run->calls != NULL;
}

static int push_event(lua_State *L, struct box *box);

struct next_op {
    struct kt_op op;
    struct box *box;
    struct kt_vm *vm;
    int anchor;
    kt_push_fn push;
};

/* The run was closed after the op was settled, before its task went on. */
static int push_closed(lua_State *L) {
    struct kt_error err;
    kt_fail(&err, KT_CANCELLED, "run:next: the run was closed");
    return kt_push_error(L, &err);
}

static int push_next(lua_State *L, struct kt_op *op) {
    struct box *box = ((struct next_op *)op)->box;
    return box->run == NULL ? push_closed(L) : push_event(L, box);
}

static void next_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void next_free(struct kt_op *op) {
    struct next_op *next = (struct next_op *)op;
    if (next->box->waiting == op)
        next->box->waiting = NULL;
    luaL_unref(next->vm->L, LUA_REGISTRYINDEX, next->anchor);
}

static const struct kt_op_class next_class = {"run:next", sizeof(struct next_op), next_cancel,
                                              next_free};

static void run_changed(struct kt_run *run, void *ud) {
    struct box *box = ud;
    if (box->waiting != NULL && ready(run))
        kt_op_settle(box->waiting, ((struct next_op *)box->waiting)->push);
}

/* Wait until there is something to tell; the box is at index 1. */
static int wait_next(lua_State *L, struct box *box, kt_push_fn push) {
    if (box->waiting != NULL)
        return luaL_error(L, "run:next: another task waits for this run");
    struct next_op *next = kt_op_new(L, &next_class);
    next->box = box;
    next->vm = kt_vm_of(L);
    next->push = push;
    lua_pushvalue(L, 1);
    next->anchor = luaL_ref(L, LUA_REGISTRYINDEX);
    box->waiting = &next->op;
    if (ready(box->run))
        kt_op_settle(&next->op, push);
    return kt_op_yield(&next->op);
}

static void push_hash(lua_State *L, const struct kt_buf *blob) {
    unsigned char digest[32];
    char hex[65];
    if (EVP_Digest(blob->data, blob->len, digest, NULL, EVP_sha256(), NULL) != 1)
        luaL_error(L, "sha256 is not available");
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    lua_pushlstring(L, hex, 64);
}

static void push_calls(lua_State *L, const struct kt_door_call *call, bool emits_only) {
    int n = 0;
    lua_newtable(L);
    for (; call != NULL; call = call->next) {
        if (emits_only && call->id != 0)
            continue;
        lua_createtable(L, 0, 5);
        if (call->id != 0) {
            lua_pushinteger(L, call->id);
            lua_setfield(L, -2, "id");
        }
        lua_pushstring(L, call->name);
        lua_setfield(L, -2, "name");
        lua_pushlstring(L, call->args.data, call->args.len);
        lua_setfield(L, -2, "args");
        push_hash(L, &call->args);
        lua_setfield(L, -2, "hash");
        lua_pushboolean(L, call->id == 0);
        lua_setfield(L, -2, "emit");
        lua_rawseti(L, -2, ++n);
    }
}

static bool has_emits(const struct kt_door_call *call) {
    while (call != NULL && call->id != 0)
        call = call->next;
    return call != NULL;
}

static int push_event(lua_State *L, struct box *box) {
    struct kt_run *run = box->run;
    bool over = run->status == KT_RUN_DONE || run->status == KT_RUN_FAILED;
    lua_createtable(L, 0, 3);
    if (!over || has_emits(run->calls)) {
        lua_pushliteral(L, "calls");
        lua_setfield(L, -2, "status");
        push_calls(L, run->calls, over); /* a run that is over needs no answers */
        lua_setfield(L, -2, "calls");
        kt_door_calls_free(kt_run_take_calls(run));
        return 1;
    }
    box->told = true;
    lua_pushnumber(L, (double)run->steps);
    lua_setfield(L, -2, "steps");
    if (run->status == KT_RUN_FAILED) {
        lua_pushliteral(L, "error");
        lua_setfield(L, -2, "status");
        push_script_error(L, &run->error);
        lua_setfield(L, -2, "error");
        return 1;
    }
    lua_pushliteral(L, "done");
    lua_setfield(L, -2, "status");
    if (run->result.len == 0) { /* it returned nothing: null */
        struct kt_error err;
        struct kt_buf *out = kt_scratch();
        lua_pushnil(L);
        if (kt_value_encode(L, -1, out, &err) != 0)
            return kt_raise(L, &err);
        lua_pop(L, 1);
        lua_pushlstring(L, out->data, out->len);
    } else {
        lua_pushlstring(L, run->result.data, run->result.len);
    }
    lua_setfield(L, -2, "value");
    return 1;
}

static int l_next(lua_State *L) {
    struct box *box = check_run(L);
    struct kt_error err;
    if (box->run == NULL || box->told) {
        kt_fail(&err, KT_INVALID_STATE, "run:next: the run %s",
                box->told ? "has ended" : "was closed");
        return kt_push_error(L, &err);
    }
    return wait_next(L, box, push_next);
}

static int l_answer(lua_State *L) {
    struct box *box = check_run(L);
    int id = (int)kt_check_int(L, 2);
    struct kt_error err;
    luaL_checktype(L, 3, LUA_TBOOLEAN);
    bool ok = lua_toboolean(L, 3);
    int64_t now_ms = lua_isnoneornil(L, 5) ? 0 : kt_check_int(L, 5);
    size_t len;
    const char *blob;
    if (box->run == NULL) {
        kt_fail(&err, KT_INVALID_STATE, "run:answer: the run was closed");
        return kt_push_error(L, &err);
    }
    if (lua_type(L, 4) == LUA_TSTRING) {
        blob = lua_tolstring(L, 4, &len);
    } else {
        luaL_checktype(L, 4, LUA_TTABLE);
        luaL_argcheck(L, !ok, 4, "a blob");
        luaL_checkstack(L, KT_VALUE_STACK, "answer");
        struct kt_buf *out = kt_scratch();
        if (kt_value_encode(L, 4, out, &err) != 0)
            return kt_raise(L, &err);
        blob = out->data;
        len = out->len;
    }
    if (kt_run_answer(box->run, id, ok, blob, len, now_ms, &err) != 0)
        return kt_push_error(L, &err);
    lua_pushboolean(L, true);
    return 1;
}

static int l_place(lua_State *L) {
    struct box *box = check_run(L);
    struct kt_script_error place;
    if (box->run == NULL || !kt_run_place(box->run, &place))
        return 0;
    push_place(L, &place);
    return 1;
}

struct frames {
    lua_State *L;
    int n;
};

static void add_frame(void *ud, int call, const char *script, int line, const char *name) {
    struct frames *frames = ud;
    lua_State *L = frames->L;
    if (frames->n >= 200)
        return;
    lua_createtable(L, 0, 4);
    lua_pushstring(L, script);
    lua_setfield(L, -2, "script");
    lua_pushinteger(L, line);
    lua_setfield(L, -2, "line");
    if (name != NULL) {
        lua_pushstring(L, name);
        lua_setfield(L, -2, "name");
    }
    if (call != 0) {
        lua_pushinteger(L, call);
        lua_setfield(L, -2, "call");
    }
    lua_rawseti(L, -2, ++frames->n);
}

static int l_stack(lua_State *L) {
    struct box *box = check_run(L);
    struct frames frames = {L, 0};
    lua_newtable(L);
    if (box->run != NULL)
        kt_run_stack(box->run, add_frame, &frames);
    return 1;
}

static int l_run_close(lua_State *L) {
    struct box *box = check_run(L);
    struct kt_run *run = box->run;
    struct kt_script *own = box->own;
    struct kt_error err;
    box->run = NULL;
    box->own = NULL;
    if (box->waiting != NULL) {
        kt_fail(&err, KT_CANCELLED, "run:next: the run was closed");
        kt_op_fail(box->waiting, &err);
    }
    if (run != NULL)
        kt_run_free(run);
    kt_script_free(own);
    return 0;
}

/* A seed of any text: its sha256 is the generator's state. */
static void set_seed(lua_State *L, struct kt_run_options *o, const char *seed) {
    unsigned char digest[32];
    if (EVP_Digest(seed, strlen(seed), digest, NULL, EVP_sha256(), NULL) != 1)
        luaL_error(L, "sha256 is not available");
    memset(o->seed, 0, sizeof o->seed);
    for (int i = 0; i < 32; i++)
        o->seed[i / 8] = o->seed[i / 8] << 8 | digest[i];
}

/* A new box on the stack that holds nothing yet. */
static struct box *push_box(lua_State *L) {
    struct box *box = lua_newuserdata(L, sizeof *box);
    *box = (struct box){NULL, NULL, NULL, false};
    luaL_getmetatable(L, "kt.script_run");
    lua_setmetatable(L, -2);
    return box;
}

/* options.<name> of the table at 2, encoded, as a string on the stack. */
static const char *push_blob_option(lua_State *L, const char *name, size_t *len) {
    struct kt_error err;
    struct kt_buf *out = kt_scratch();
    lua_getfield(L, 2, name);
    luaL_checkstack(L, KT_VALUE_STACK, name);
    if (kt_value_encode(L, -1, out, &err) != 0)
        kt_raise(L, &err);
    lua_pushlstring(L, out->data, out->len);
    return lua_tolstring(L, -1, len);
}

static int l_start(lua_State *L) {
    struct kt_script *script = check_vm(L);
    struct kt_error err;
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    struct kt_run_options o = {.path = kt_opt_string(L, 2, "path", NULL),
                               .function = kt_opt_string(L, 2, "call", NULL),
                               .now_ms = (int64_t)kt_opt_number(L, 2, "now", 0),
                               .max_steps = (uint64_t)kt_opt_number(L, 2, "max_instructions", 0),
                               .deadline = kt_opt_number(L, 2, "deadline", 0),
                               .keep = kt_opt_bool(L, 2, "keep", false)};
    luaL_argcheck(L, o.path != NULL, 2, "path is missing");
    o.mode = o.function != NULL ? "call" : "run";
    set_seed(L, &o, kt_opt_string(L, 2, "seed", ""));
    o.input = push_blob_option(L, "input", &o.input_len);
    o.info = push_blob_option(L, "run", &o.info_len);
    struct box *box = push_box(L);
    lua_getfenv(L, 1);
    lua_setfenv(L, -2);
    box->run = kt_run_start(script, &o, run_changed, box, &err);
    if (box->run == NULL)
        return kt_push_error(L, &err);
    return 1;
}

/* check */

static int push_checked(lua_State *L, struct kt_op *op) {
    struct box *box = ((struct next_op *)op)->box;
    struct kt_run *run = box->run;
    int n = 1;
    if (run == NULL)
        return push_closed(L);
    if (run->status == KT_RUN_DONE) {
        kt_value_push_blob(L, run->result.data, run->result.len);
    } else {
        lua_pushnil(L);
        push_script_error(L, &run->error);
        n = 2;
    }
    box->run = NULL;
    kt_run_free(run);
    kt_script_free(box->own);
    box->own = NULL;
    return n;
}

static int l_check(lua_State *L) {
    struct kt_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct kt_run_options o = {
        .path = kt_opt_string(L, 1, "path", NULL), .mode = "declare", .max_steps = CHECK_STEPS};
    luaL_argcheck(L, o.path != NULL && kt_opt_string(L, 1, "source", NULL) != NULL, 1,
                  "path and source are needed");
    set_seed(L, &o, "check");
    lua_getfield(L, 1, "libs");   /* 2 */
    lua_getfield(L, 1, "source"); /* 3 */
    int n = new_vm(L, lua_istable(L, 2) ? 2 : 0, o.path, CHECK_CAP);
    if (n == 2)
        return 2;
    struct kt_script **vm = vm_box(L, -1);
    struct box *box = push_box(L);
    box->own = *vm; /* from here on the box frees it */
    *vm = NULL;
    lua_replace(L, 1);
    lua_settop(L, 1);
    box->run = kt_run_start(box->own, &o, run_changed, box, &err);
    if (box->run == NULL)
        return kt_push_error(L, &err);
    return wait_next(L, box, push_checked);
}

/* Trusted code and analysts */

static int l_load(lua_State *L) {
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *name = luaL_checkstring(L, 2);
    struct kt_script_error err = {.code = ""};
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    lua_pushfstring(L, "@%s", name);
    if (luaL_loadbufferx(L, text, len, lua_tostring(L, 4), "t") == 0) {
        lua_pushvalue(L, 3);
        lua_setfenv(L, -2);
        return 1;
    }
    const char *message = lua_tostring(L, -1), *at = strchr(message, ':');
    kt_script_set_error(&err, "script_error", message, name,
                        at != NULL ? (int)strtol(at + 1, NULL, 10) : 0);
    lua_pushnil(L);
    push_script_error(L, &err);
    return 2;
}

static int l_sandbox_env(lua_State *L) {
    lua_settop(L, 0);
    kt_sandbox_push_env(L);
    return 1;
}

static const luaL_Reg functions[] = {{"check", l_check},
                                     {"vm", l_vm},
                                     {"load", l_load},
                                     {"sandbox_env", l_sandbox_env},
                                     {NULL, NULL}};
static const luaL_Reg vm_methods[] = {{"start", l_start},
                                      {"stats", l_vm_stats},
                                      {"close", l_vm_close},
                                      {"__gc", l_vm_close},
                                      {NULL, NULL}};
static const luaL_Reg run_methods[] = {
    {"next", l_next},       {"answer", l_answer},  {"place", l_place}, {"stack", l_stack},
    {"close", l_run_close}, {"__gc", l_run_close}, {NULL, NULL}};

int luaopen_kt_script(lua_State *L) {
    kt_class(L, "kt.script_vm", vm_methods);
    kt_class(L, "kt.script_run", run_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
