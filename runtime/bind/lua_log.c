/* Module kt.log: log lines. Nothing here yields.
 *
 *   log.debug|info|warn|error(event, {request_id=, project_id=, execution_id=, msg=, …}?)
 *   log.wants("debug"|…) -> boolean, for lines that cost something to make
 *   log.level(project_id?) -> "debug"|"info"|"warn"|"error"
 *       the level that holds for its lines here
 *   log.set_level(project_id, level | nil) -> true | nil, err
 *       for its lines in this process; nil: the general one again; at most 64 projects have one
 *   log.execution{project_id=, execution_id=, instance_id=, status=, …}   logs/executions.log
 *
 * A value is a string, number or boolean; anything else is written as its type. */
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "core/log.h"

#define FIELDS_MAX 32

static const char *const line_order[] = {"request_id", "project_id", "execution_id", NULL};
static const char *const execution_order[] = {"project_id", "execution_id", "instance_id",
                                              "status",     "stop_reason",  "duration_ms",
                                              "cost_usd",   "findings",     NULL};

static bool listed(const char *name, const char *const order[]) {
    for (; *order != NULL; order++)
        if (strcmp(*order, name) == 0)
            return true;
    return false;
}

/* The value on top of the stack becomes the next field and stays there: its text must live. */
static void take(lua_State *L, struct kt_log_field *fields, int *count, const char *name) {
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        break;
    case LUA_TNUMBER:
        lua_tostring(L, -1); /* in place, of our copy */
        break;
    case LUA_TBOOLEAN:
        lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
        lua_replace(L, -2);
        break;
    default:
        lua_pushstring(L, luaL_typename(L, -1));
        lua_replace(L, -2);
    }
    struct kt_log_field *f = &fields[(*count)++];
    f->name = name;
    f->value = lua_tolstring(L, -1, &f->len);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct kt_log_field *)a)->name, ((const struct kt_log_field *)b)->name);
}

/* The table at arg: listed names first, then the rest by name, msg last of all. */
static int gather(lua_State *L, int arg, const char *const order[], struct kt_log_field *fields) {
    int count = 0;
    if (lua_isnoneornil(L, arg))
        return 0;
    luaL_checktype(L, arg, LUA_TTABLE);
    luaL_checkstack(L, FIELDS_MAX * 2 + 8, "too many fields");
    for (const char *const *name = order; *name != NULL; name++) {
        lua_getfield(L, arg, *name);
        if (lua_isnil(L, -1))
            lua_pop(L, 1);
        else
            take(L, fields, &count, *name);
    }
    int rest = count;
    lua_pushnil(L);
    while (lua_next(L, arg) != 0) {
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "msg";
        if (strcmp(name, "msg") == 0 || listed(name, order) || count == FIELDS_MAX - 1) {
            lua_pop(L, 1);
            continue;
        }
        take(L, fields, &count, name);
        lua_insert(L, -2); /* lua_next wants the key on top */
    }
    qsort(fields + rest, (size_t)(count - rest), sizeof *fields, by_name);
    lua_getfield(L, arg, "msg");
    if (lua_isnil(L, -1))
        lua_pop(L, 1);
    else
        take(L, fields, &count, "msg");
    return count;
}

static int write_line(lua_State *L, enum kt_level level) {
    struct kt_log_field fields[FIELDS_MAX];
    const char *event = luaL_checkstring(L, 1);
    if (!kt_log_wants(level))
        return 0;
    int count = gather(L, 2, line_order, fields);
    kt_log_fields(level, event, fields, count);
    return 0;
}

static int l_debug(lua_State *L) {
    return write_line(L, KT_DEBUG);
}
static int l_info(lua_State *L) {
    return write_line(L, KT_INFO);
}
static int l_warn(lua_State *L) {
    return write_line(L, KT_WARN);
}
static int l_error(lua_State *L) {
    return write_line(L, KT_ERROR);
}

static int l_wants(lua_State *L) {
    int level = kt_log_level_of(luaL_checkstring(L, 1));
    luaL_argcheck(L, level >= 0, 1, "a level is debug, info, warn or error");
    lua_pushboolean(L, kt_log_wants((enum kt_level)level));
    return 1;
}

static int l_execution(lua_State *L) {
    struct kt_log_field fields[FIELDS_MAX];
    luaL_checktype(L, 1, LUA_TTABLE);
    int count = gather(L, 1, execution_order, fields);
    kt_log_execution(fields, count);
    return 0;
}

static int l_level(lua_State *L) {
    lua_pushstring(L, kt_log_level_name(kt_log_level_for(luaL_optstring(L, 1, NULL))));
    return 1;
}

static int l_set_level(lua_State *L) {
    struct kt_error err;
    const char *project = luaL_checkstring(L, 1), *name = luaL_optstring(L, 2, NULL);
    int level = name != NULL ? kt_log_level_of(name) : -1;
    luaL_argcheck(L, name == NULL || level >= 0, 2, "debug, info, warn or error");
    if (!kt_log_project_level(project, level)) {
        kt_fail(&err, KT_INVALID_ARGUMENT, "too many projects have a log level of their own");
        return kt_push_error(L, &err);
    }
    lua_pushboolean(L, true);
    return 1;
}

static const luaL_Reg functions[] = {
    {"debug", l_debug},         {"info", l_info},   {"warn", l_warn},           {"error", l_error},
    {"execution", l_execution}, {"level", l_level}, {"set_level", l_set_level}, {"wants", l_wants},
    {NULL, NULL},
};

int luaopen_kt_log(lua_State *L) {
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
