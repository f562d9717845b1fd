/* The C half of prelude.lua: what a script's call comes to. The host's side is run.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "vm/hook.h"
#include "vm/order.h"
#include "vm/sandbox.h"
#include "vm/script.h"
#include "vm/value.h"

static struct kt_run *current(lua_State *L) {
    struct kt_task *task = kt_task_current(L);
    if (task == NULL || task->owner == NULL)
        luaL_error(L, "not inside a run");
    return task->owner;
}

/* registry[task->extra] = {environment, state, libraries by name} */
static void push_part(lua_State *L, int part) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, current(L)->task->extra);
    lua_rawgeti(L, -1, part);
    lua_remove(L, -2);
}

static int l_state(lua_State *L) {
    push_part(L, 2);
    return 1;
}

/* The run's copy of a library, or nil. */
static int l_lib(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    push_part(L, 3);
    lua_getfield(L, 2, name);
    if (!lua_isnil(L, -1))
        return 1;
    lua_settop(L, 2);
    kt_sandbox_push_libs(L);
    lua_pushvalue(L, 1);
    lua_rawget(L, 3);
    if (lua_isnil(L, -1))
        return 1;
    kt_sandbox_push_copy(L, 4);
    lua_pushvalue(L, -1);
    lua_setfield(L, 2, name);
    return 1;
}

/* A global that neither the environment nor base has: libraries but json, which is required. */
static int l_global(lua_State *L) {
    lua_remove(L, 1); /* base: this is its __index */
    if (lua_type(L, 1) != LUA_TSTRING || strcmp(lua_tostring(L, 1), "json") == 0) {
        lua_pushnil(L);
        return 1;
    }
    l_lib(L);
    if (lua_isnil(L, -1))
        return 1;
    push_part(L, 1);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return 1;
}

/* load(text, name?, mode?, env?): text only, in the run's environment. */
static int l_load(lua_State *L) {
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "bad argument #1 to 'load' (text expected, got %s)",
                          luaL_typename(L, 1));
    const char *text = lua_tolstring(L, 1, &len), *name = luaL_optstring(L, 2, "=load");
    lua_settop(L, 4);
    if (!lua_isnil(L, 4))
        luaL_checktype(L, 4, LUA_TTABLE);
    luaL_argcheck(L, len <= KT_SCRIPT_SOURCE_MAX / 4, 1, "at most 256 KiB");
    kt_hook_charge(L, len * 4);
    if (luaL_loadbufferx(L, text, len, name, "t") != 0) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (lua_isnil(L, 4))
        push_part(L, 1);
    else
        lua_pushvalue(L, 4);
    lua_setfenv(L, -2);
    return 1;
}

static int l_instance(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    push_part(L, 1);
    kt_script_push_instance(L, current(L)->script, path, lua_gettop(L));
    return 1;
}

/* The path of the bundle's file that `name` means below the first `len` bytes of `folder`: the path
 * itself, or a.b as a/b.lua. The table of files is on top of the stack. */
static bool find_file(lua_State *L, const char *folder, size_t len, const char *name, char *path,
                      size_t size) {
    for (int dotted = 0; dotted < 2; dotted++) {
        int n = snprintf(path, size, "%.*s%s", (int)len, folder, name);
        if (n < 0 || n + 5 > (int)size)
            return false;
        if (dotted) {
            for (char *at = path + len; *at != '\0'; at++)
                if (*at == '.')
                    *at = '/';
            strcat(path, ".lua");
        }
        lua_getfield(L, -1, path);
        bool found = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (found)
            return true;
    }
    return false;
}

/* resolve(name, main) -> the path of the bundle's file, or nil. Looked for from the root, beside
 * the script that runs, in its agent's lib/, in the shared lib/. */
static int l_resolve(lua_State *L) {
    const char *name = luaL_checkstring(L, 1), *main = luaL_checkstring(L, 2);
    const char *slash = strrchr(main, '/');
    const char *agent = strncmp(main, "agents/", 7) == 0 ? strchr(main + 7, '/') : NULL;
    char path[512], lib[512] = "";
    if (agent != NULL)
        snprintf(lib, sizeof lib, "%.*slib/", (int)(agent - main + 1), main);
    lua_rawgeti(L, LUA_REGISTRYINDEX, current(L)->script->factories_ref);
    if (find_file(L, "", 0, name, path, sizeof path) ||
        (slash != NULL &&
         find_file(L, main, (size_t)(slash - main + 1), name, path, sizeof path)) ||
        (*lib != '\0' && find_file(L, lib, strlen(lib), name, path, sizeof path)) ||
        find_file(L, "lib/", 4, name, path, sizeof path))
        lua_pushstring(L, path);
    else
        lua_pushnil(L);
    return 1;
}

static int l_loaded(lua_State *L) {
    current(L)->loading = false;
    return 0;
}

static void push_blob(lua_State *L, const struct kt_buf *blob) {
    if (blob->len == 0)
        kt_value_push_null(L);
    else
        kt_value_push_blob(L, blob->data, blob->len);
}

static int l_input(lua_State *L) {
    push_blob(L, &current(L)->input);
    return 1;
}

static int l_info(lua_State *L) {
    push_blob(L, &current(L)->info);
    return 1;
}

static int l_mark_like(lua_State *L) {
    size_t n;
    struct kt_error err;
    if (kt_value_shape(L, 1, &n, &err) == KT_SHAPE_ARRAY && n == 0)
        kt_value_mark_array(L, 2);
    lua_settop(L, 2);
    return 1;
}

/* The door */

static struct kt_door_call *new_call(lua_State *L, struct kt_run *run, int id) {
    static const char *const names[] = {
        "model.call",    "tool.call",         "tool.returned", "erp.load",  "erp.sweep",
        "data.get",      "data.list",         "template.load", "template.rendered",
        "time.sleep",    "human.ask",         "log",           "progress",  "result.partial",
        NULL};
    const char *name = names[luaL_checkoption(L, 1, NULL, names)];
    struct kt_error err;
    if (run->loading)
        luaL_error(L, "%s: not while a script loads", name);
    luaL_checkstack(L, KT_VALUE_STACK, "arguments");
    struct kt_door_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        luaL_error(L, "not enough memory");
    if (kt_value_encode_max(L, 2, KT_SCRIPT_VALUE_MAX, &call->args, &err) != 0) {
        struct kt_error named;
        kt_door_calls_free(call);
        kt_fail(&named, err.code, "%s: %.400s", name, err.message);
        kt_raise(L, &named);
    }
    call->id = id;
    call->name = name;
    return call;
}

/* The run owns the call before the charge may raise. */
static void add_call(lua_State *L, struct kt_run *run, struct kt_door_call *call) {
    *run->calls_end = call;
    run->calls_end = &call->next;
    kt_hook_charge(L, call->args.len / 4);
}

static int l_begin(lua_State *L) {
    struct kt_run *run = current(L);
    if (run->open == run->open_cap) {
        int cap = run->open_cap ? run->open_cap * 2 : 4;
        int *ids = cap > 1024 ? NULL : realloc(run->open_ids, (size_t)cap * sizeof *ids);
        if (ids == NULL)
            return luaL_error(L, "too many calls at once");
        run->open_ids = ids;
        run->open_cap = cap;
    }
    struct kt_door_call *call = new_call(L, run, run->last_id + 1);
    run->last_id++;
    run->open_ids[run->open++] = call->id;
    add_call(L, run, call);
    lua_pushinteger(L, call->id);
    return 1;
}

static int l_emit(lua_State *L) {
    struct kt_run *run = current(L);
    struct kt_door_call *call = new_call(L, run, 0);
    run->emitted += call->args.len + 64;
    if (run->emitted > KT_SCRIPT_EMIT_MAX) {
        struct kt_error err;
        kt_door_calls_free(call);
        kt_fail(&err, KT_OUTPUT_LIMIT, "the run has written more than 4 MiB of log and progress");
        kt_raise(L, &err);
    }
    add_call(L, run, call);
    if (run->changed != NULL)
        run->changed(run, run->ud);
    return 0;
}

/* The next answer becomes the one that c.take reads. */
static int push_answer(lua_State *L, struct kt_run *run) {
    struct kt_answer *answer = run->answers;
    run->answers = answer->next;
    if (run->answers == NULL)
        run->answers_end = &run->answers;
    answer->next = run->taken;
    run->taken = answer;
    if (answer->now_ms > run->now_ms)
        run->now_ms = answer->now_ms; /* never backwards */
    lua_pushinteger(L, answer->id);
    return 1;
}

struct park_op {
    struct kt_op op;
    struct kt_run *run;
};

static int push_parked(lua_State *L, struct kt_op *op) {
    return push_answer(L, ((struct park_op *)op)->run);
}

static void park_cancel(struct kt_op *op) {
    kt_op_settle(op, NULL);
}

static void park_free(struct kt_op *op) {
    struct park_op *park = (struct park_op *)op;
    if (park->run->parked == op)
        park->run->parked = NULL;
}

static const struct kt_op_class park_class = {"script.park", sizeof(struct park_op), park_cancel,
                                              park_free};

static int l_park(lua_State *L) {
    struct kt_run *run = current(L);
    if (run->answers != NULL)
        return push_answer(L, run);
    struct park_op *park = kt_op_new(L, &park_class);
    park->run = run;
    run->parked = &park->op;
    run->status = KT_RUN_BLOCKED;
    if (run->changed != NULL)
        run->changed(run, run->ud);
    return kt_op_yield(&park->op);
}

void kt_door_wake(struct kt_run *run) {
    kt_op_settle(run->parked, push_parked);
}

/* take(id) -> ok, value */
static int l_take(lua_State *L) {
    struct kt_run *run = current(L);
    int id = (int)luaL_checkinteger(L, 1);
    for (struct kt_answer **at = &run->taken; *at != NULL; at = &(*at)->next) {
        struct kt_answer *answer = *at;
        if (answer->id != id)
            continue;
        kt_hook_charge(L, answer->blob.len / 4);
        lua_pushboolean(L, answer->ok);
        push_blob(L, &answer->blob); /* may raise at the memory cap: the answer stays listed */
        *at = answer->next;
        answer->next = NULL;
        kt_answer_free(answer);
        return 2;
    }
    return luaL_error(L, "call %d has no answer", id);
}

/* Derived values */

static int l_now(lua_State *L) {
    lua_pushnumber(L, (double)current(L)->now_ms);
    return 1;
}

static int l_format_time(lua_State *L) {
    char text[KT_RFC3339_SIZE];
    double ms = luaL_checknumber(L, 1);
    luaL_argcheck(L, fabs(ms) < KT_EXACT_MAX && kt_time_format((int64_t)ms, text) != 0, 1,
                  "ms since 1970, in the years 0 to 9999");
    lua_pushstring(L, text);
    return 1;
}

static int l_parse_time(lua_State *L) {
    size_t len;
    int64_t ms;
    const char *text = luaL_checklstring(L, 1, &len);
    if (!kt_time_parse(text, len, &ms))
        return 0;
    lua_pushnumber(L, (double)ms);
    return 1;
}

static uint64_t rotate(uint64_t x, int k) {
    return x << k | x >> (64 - k);
}

/* xoshiro256** (public domain algorithm of Blackman and Vigna). */
static uint64_t draw(struct kt_run *run) {
    uint64_t *s = run->rng, value = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return value;
}

static int l_random(lua_State *L) {
    lua_pushnumber(L, (double)(draw(current(L)) >> 11) / 9007199254740992.0);
    return 1;
}

static int l_uuid(lua_State *L) {
    struct kt_run *run = current(L);
    uint64_t a = draw(run), b = draw(run);
    char text[40];
    a = (a & ~0xf000ull) | 0x4000;
    b = (b & ~(3ull << 62)) | 2ull << 62;
    snprintf(text, sizeof text, "%08llx-%04llx-%04llx-%04llx-%012llx",
             (unsigned long long)(a >> 32), (unsigned long long)(a >> 16 & 0xffff),
             (unsigned long long)(a & 0xffff), (unsigned long long)(b >> 48),
             (unsigned long long)(b & 0xffffffffffffull));
    lua_pushstring(L, text);
    return 1;
}

static const luaL_Reg c_functions[] = {{"state", l_state},
                                       {"lib", l_lib},
                                       {"global", l_global},
                                       {"load", l_load},
                                       {"instance", l_instance},
                                       {"resolve", l_resolve},
                                       {"loaded", l_loaded},
                                       {"input", l_input},
                                       {"info", l_info},
                                       {"mark_like", l_mark_like},
                                       {"begin", l_begin},
                                       {"emit", l_emit},
                                       {"park", l_park},
                                       {"take", l_take},
                                       {"now", l_now},
                                       {"format_time", l_format_time},
                                       {"parse_time", l_parse_time},
                                       {"random", l_random},
                                       {"uuid", l_uuid},
                                       {"keys", kt_order_keys},
                                       {NULL, NULL}};

void kt_door_open(lua_State *L) {
    luaL_setfuncs(L, c_functions, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "kt.raw_resume");
    lua_setfield(L, -2, "raw_resume");
    kt_sandbox_push_base(L);
    lua_getfield(L, -1, "tostring");
    lua_setfield(L, -3, "tostring");
    lua_pop(L, 1);
}
