/* A script VM with the files of one bundle. */
#include "vm/script.h"

#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "vm/embed.h"
#include "vm/hook.h"
#include "vm/sandbox.h"

void kt_script_set_error(struct kt_script_error *err, const char *code, const char *message,
                         const char *script, int line) {
    snprintf(err->code, sizeof err->code, "%s", code);
    snprintf(err->message, sizeof err->message, "%s", message);
    kt_utf8_scrub(err->message); /* a script may raise any bytes */
    snprintf(err->script, sizeof err->script, "%s", script != NULL ? script : "");
    err->line = line;
}

void kt_script_error_free(struct kt_script_error *err) {
    kt_buf_free(&err->value);
}

struct build {
    struct kt_script *script;
    const struct kt_source *files;
    int n;
    const luaL_Reg *modules;
    struct kt_script_error *err;
    bool bad_source;
};

static bool is_lua(const char *path) {
    size_t len = strlen(path);
    return len > 4 && strcmp(path + len - 4, ".lua") == 0;
}

/* The line of a syntax error "…:12: …". */
static int line_of(const char *message) {
    for (const char *at = message; (at = strchr(at, ':')) != NULL; at++) {
        char *end;
        long line = strtol(at + 1, &end, 10);
        if (end > at + 1 && *end == ':' && line > 0)
            return (int)line;
    }
    return 0;
}

static void compile(lua_State *L, struct build *b, const struct kt_source *file, const char *text,
                    size_t len) {
    char name[260];
    snprintf(name, sizeof name, "@%s", file->path);
    if (luaL_loadbufferx(L, text, len, name, "t") == 0)
        return;
    const char *message = lua_tostring(L, -1);
    kt_script_set_error(b->err, "script_error", message, file->path, line_of(message));
    b->bad_source = true;
    lua_error(L);
}

/* The file as a function that makes an instance: each call gives a new closure of the same code.
 * The text is compiled by itself first: only a whole block may go into the wrapping function. */
static void add_factory(lua_State *L, struct build *b, const struct kt_source *file) {
    if (file->len > KT_SCRIPT_SOURCE_MAX) {
        kt_script_set_error(b->err, "script_error", "the file is larger than 1 MiB", file->path, 0);
        b->bad_source = true;
        luaL_error(L, "too large");
    }
    bool marked = file->len >= 3 && memcmp(file->text, "\xEF\xBB\xBF", 3) == 0;
    const char *source = file->text + (marked ? 3 : 0); /* editors put a byte order mark there */
    size_t source_len = file->len - (marked ? 3 : 0);
    compile(L, b, file, source, source_len);
    lua_pop(L, 1);
    lua_pushliteral(L, "return function(...) ");
    lua_pushlstring(L, source, source_len);
    lua_pushliteral(L, "\nend");
    lua_concat(L, 3);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    compile(L, b, file, text, len);
    lua_newtable(L); /* nothing is found through a factory */
    lua_setfenv(L, -2);
    lua_remove(L, -2);
}

static int build(lua_State *L, void *ud) {
    struct build *b = ud;
    struct kt_script *script = b->script;
    lua_newtable(L); /* 1: factories */
    for (int i = 0; i < b->n; i++) {
        if (!is_lua(b->files[i].path))
            continue;
        add_factory(L, b, &b->files[i]);
        lua_setfield(L, 1, b->files[i].path);
    }
    lua_newtable(L); /* 2: c */
    kt_door_open(L);

    kt_sandbox_load(L, kt_lua_prelude, kt_lua_prelude_len, "=prelude");
    lua_pushvalue(L, 2);
    kt_task_push_mark(L);
    lua_pushcfunction(L, kt_sandbox_sliced);
    lua_call(L, 3, 3); /* 3: main, 4: base, 5: libs */

    kt_sandbox_push_base(L); /* 6 */
    lua_pushnil(L);
    while (lua_next(L, 4) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, 6);
    }
    lua_getfield(L, 2, "load");
    lua_setfield(L, 6, "load");

    kt_sandbox_push_libs(L); /* 7 */
    lua_pushnil(L);
    while (lua_next(L, 5) != 0) { /* 8: name, 9: fields */
        lua_pushvalue(L, 8);
        lua_rawget(L, 7);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushvalue(L, 8);
            lua_pushvalue(L, 9);
            lua_rawset(L, 7);
        } else {
            lua_pushnil(L);
            while (lua_next(L, 9) != 0) {
                lua_pushvalue(L, -2);
                lua_insert(L, -2);
                lua_rawset(L, 10);
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    for (const luaL_Reg *module = b->modules; module != NULL && module->name != NULL; module++) {
        lua_pushcfunction(L, module->func);
        lua_pushstring(L, module->name);
        lua_call(L, 1, 1);
        lua_getfield(L, -1, "array_mt");
        if (lua_istable(L, -1)) { /* scripts get the token: see sandbox.c */
            lua_getfield(L, -1, "__metatable");
            lua_setfield(L, -3, "array_mt");
        }
        lua_pop(L, 1);
        lua_setfield(L, 7, module->name);
    }

    /* env -> base -> the libraries of the run, copied when they are first used */
    lua_newtable(L);
    lua_getfield(L, 2, "global");
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, 6);
    lua_newtable(L); /* 8: metatable of environments */
    lua_pushvalue(L, 6);
    lua_setfield(L, -2, "__index");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    script->env_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 3);
    script->main_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, 1);
    script->factories_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct kt_script *kt_script_new(uv_loop_t *loop, size_t cap, const struct kt_source *files, int n,
                                const luaL_Reg *modules, struct kt_script_error *err) {
    struct kt_error why;
    struct kt_script *script = calloc(1, sizeof *script);
    struct build b = {script, files, n, modules, err, false};
    if (script != NULL)
        script->vm = kt_vm_new(loop, KT_VM_SCRIPT, cap, &why);
    if (script == NULL || script->vm == NULL) {
        free(script);
        kt_script_set_error(err, "no_memory", "no memory for a script VM", NULL, 0);
        return NULL;
    }
    int rc = kt_vm_call(script->vm, build, &b, &why);
    if (rc == 0 && cap != 0 && script->vm->used > cap / 2) {
        kt_script_set_error(err, "memory_limit", "the files take more than half of the memory",
                            NULL, 0);
        rc = -1;
        b.bad_source = true;
    }
    if (rc == 0)
        return script;
    if (!b.bad_source)
        kt_script_set_error(err, kt_code_name(why.code), why.message, NULL, 0);
    kt_vm_free(script->vm);
    free(script);
    return NULL;
}

void kt_script_free(struct kt_script *script) {
    if (script == NULL)
        return;
    kt_vm_free(script->vm); /* its tasks end: every run is told */
    free(script);
}

void kt_script_push_instance(lua_State *L, struct kt_script *script, const char *path, int env) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->factories_ref);
    lua_getfield(L, -1, path);
    lua_remove(L, -2);
    if (lua_isnil(L, -1))
        return;
    lua_call(L, 0, 1);
    lua_pushvalue(L, env);
    lua_setfenv(L, -2);
}
