/* kt.store: the document store for Lua. Whatever touches documents yields and, when it fails, gives
 * nil, {code, message, retryable, index=, key=, number=}.
 *
 *   store.open{dir=, main=, journal_delete=, sync_normal=, …}
 *       once a process; dir: KONTOR_DATA_DIR, main (the database with the larger cache):
 *       MASTER_DATABASE_NAME
 *   store.close() waits for what was submitted (blocks the loop; for the end of a process)
 *   store.database(name) -> db
 *   store.create(name) store.exists(name) store.drop(name) store.list() -> names
 *   store.check(name) -> {problems={…}, collections={name=n}}
 *   store.stats() -> table, without yielding
 *   db.name
 *   db:find_one db:find db:find_json db:find_one_json db:count db:group db:distinct
 *   db:insert db:update_one db:update_many db:replace_one db:find_and_modify db:delete_one
 *   db:delete_many db:commit db:ensure_collection db:ensure_index
 *   db:version() -> another number after each commit to it, whoever made it; -1: not known. No
 *       yield.
 *   and those of lua_store_files.c
 *
 * lua/meta/store.lua says the same with types. */
#include <stdlib.h>
#include <string.h>

#include "bind/lua_store.h"
#include "bind/store_args.h"
#include "core/config.h"
#include "core/metrics.h"

/* The end of a run writes a row a finding in its commit. */
#define KT_OPS_MAX 20000

static struct kt_store *the_store;
static struct kt_metric *seconds;

/* ---- ops ---- */

static const char *op_name(const struct kt_call *call) {
    switch (call->kind) {
    case KT_CALL_READ:
        return call->read.kind == KT_FIND    ? "find"
               : call->read.kind == KT_COUNT ? "count"
               : call->read.kind == KT_GROUP ? "group"
                                             : "distinct";
    case KT_CALL_COMMIT:
        return "commit";
    case KT_CALL_BLOB_PUT:
    case KT_CALL_BLOB_GET:
    case KT_CALL_BLOB_TO_FILE:
        return "blob";
    default:
        return "admin";
    }
}

static void on_done(struct kt_call *call) {
    struct store_op *s = call->ud;
    const char *name = op_name(call);
    if (seconds != NULL)
        kt_metric_observe(seconds, &name, (double)(kt_now_ns() - call->submitted_ns) / 1e9);
    kt_op_settle(&s->op, kt_store_push_answer);
}

static void store_cancel(struct kt_op *op) {
    kt_call_cancel(&((struct store_op *)op)->call);
}

static void store_free(struct kt_op *op) {
    kt_call_free(&((struct store_op *)op)->call);
}

static const struct kt_op_class store_class = {"store", sizeof(struct store_op), store_cancel,
                                               store_free};

static struct store_op *begin(lua_State *L, enum kt_call_kind kind, enum answer answer) {
    luaL_checkstack(L, STORE_ARGS_STACK, "store");
    if (the_store == NULL)
        luaL_error(L, "store.open was not called");
    struct store_op *s = kt_op_new(L, &store_class);
    s->call.kind = kind;
    s->call.done = on_done;
    s->call.ud = s;
    s->answer = answer;
    return s;
}

int kt_store_end(lua_State *L, struct store_op *s, int rc, struct kt_error *err) {
    if (rc == 0)
        rc = kt_store_submit(the_store, &s->call, kt_op_time_left(&s->op, 0), err);
    if (rc != 0) {
        kt_op_drop(&s->op);
        return kt_push_error(L, err);
    }
    return kt_op_yield(&s->op);
}

static const char *check_name(lua_State *L, int arg) {
    size_t len;
    struct kt_error err;
    const char *name = luaL_checklstring(L, arg, &len);
    if (kt_db_name_check(name, len, &err) != 0)
        luaL_argerror(L, arg, err.message);
    return name;
}

static const char *check_db(lua_State *L) {
    return luaL_checkudata(L, 1, "kt.store.db");
}

struct store_op *kt_store_begin(lua_State *L, enum kt_call_kind kind, enum answer answer) {
    const char *name = check_db(L);
    struct store_op *s = begin(L, kind, answer);
    memcpy(s->call.db, name, strlen(name) + 1);
    return s;
}

static struct store_op *begin_read(lua_State *L, enum kt_read_kind kind, enum answer answer,
                                   int *rc, struct kt_error *err) {
    struct store_op *s = kt_store_begin(L, KT_CALL_READ, answer);
    s->call.read.kind = kind;
    *rc = kt_arg_coll(L, 2, s->call.read.coll, err);
    return s;
}

/* A commit of `n` writes, all zero. */
static struct store_op *begin_commit(lua_State *L, int n, enum answer answer, int *rc,
                                     struct kt_error *err) {
    struct store_op *s = kt_store_begin(L, KT_CALL_COMMIT, answer);
    s->call.commit.writes = calloc((size_t)n, sizeof *s->call.commit.writes);
    *rc = 0;
    if (s->call.commit.writes == NULL)
        *rc = kt_fail(err, KT_NO_MEMORY, "commit");
    else
        s->call.commit.count = n;
    return s;
}

static struct store_op *begin_write(lua_State *L, enum kt_write_kind kind, enum answer answer,
                                    int *rc, struct kt_error *err) {
    struct store_op *s = begin_commit(L, 1, answer, rc, err);
    if (*rc == 0) {
        s->call.commit.writes->kind = kind;
        *rc = kt_arg_coll(L, 2, s->call.commit.writes->coll, err);
    }
    return s;
}

/* opts.<name> at the top of the stack; nil without opts. Its index is returned. */
static int opt(lua_State *L, int opts, const char *name) {
    if (lua_istable(L, opts))
        lua_getfield(L, opts, name);
    else
        lua_pushnil(L);
    return lua_gettop(L);
}

static bool opt_flag(lua_State *L, int opts, const char *name) {
    bool yes = lua_toboolean(L, opt(L, opts, name));
    lua_pop(L, 1);
    return yes;
}

/* ---- reads ---- */

static int find_options(lua_State *L, int opts, struct kt_read *r, struct kt_error *err) {
    int rc = kt_arg_sort(L, opt(L, opts, "sort"), &r->sort, err);
    if (rc == 0)
        rc = kt_arg_values(L, opt(L, opts, "after"), &r->after, err);
    if (rc == 0)
        rc = kt_arg_fields(L, opt(L, opts, "projection"), &r->fields, err);
    if (rc == 0) {
        double limit = lua_tonumber(L, opt(L, opts, "limit"));
        if (limit < 0 || limit > 1e9)
            rc = kt_fail(err, KT_INVALID_ARGUMENT, "store: limit is out of range");
        r->limit = (int64_t)limit;
    }
    if (r->sort.count > 0 || r->after != NULL)
        kt_sort_finish(&r->sort);
    return rc;
}

static int find(lua_State *L, bool one) {
    struct kt_error err;
    int rc;
    struct store_op *s = begin_read(L, KT_FIND, one ? ANSWER_DOC : ANSWER_DOCS, &rc, &err);
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &s->call.read.filter, &err);
    if (rc == 0)
        rc = find_options(L, 4, &s->call.read, &err);
    if (one)
        s->call.read.limit = 1;
    return kt_store_end(L, s, rc, &err);
}

static int l_find_one(lua_State *L) {
    return find(L, true);
}

static int l_find(lua_State *L) {
    return find(L, false);
}

static int l_find_json(lua_State *L) {
    struct kt_error err;
    int rc;
    const struct kt_view *view = NULL;
    lua_settop(L, 4);
    if (lua_istable(L, 4)) {
        lua_getfield(L, 4, "view");
        view = lua_isnil(L, 5) ? NULL : kt_check_view(L, 5);
    }
    struct store_op *s = begin_read(L, KT_FIND, ANSWER_JSON, &rc, &err);
    s->call.read.json = true;
    s->call.read.view = view;
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &s->call.read.filter, &err);
    if (rc == 0)
        rc = find_options(L, 4, &s->call.read, &err);
    return kt_store_end(L, s, rc, &err);
}

static int l_find_one_json(lua_State *L) {
    struct kt_error err;
    int rc;
    const struct kt_view *view = lua_isnoneornil(L, 4) ? NULL : kt_check_view(L, 4);
    struct store_op *s = begin_read(L, KT_FIND, ANSWER_JSON_ONE, &rc, &err);
    s->call.read.json = s->call.read.one = true;
    s->call.read.view = view;
    s->call.read.limit = 1;
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &s->call.read.filter, &err);
    return kt_store_end(L, s, rc, &err);
}

static int l_count(lua_State *L) {
    struct kt_error err;
    int rc;
    long long max = luaL_optinteger(L, 4, 0);
    struct store_op *s = begin_read(L, KT_COUNT, ANSWER_COUNT, &rc, &err);
    s->call.read.limit = max > 0 ? max : 0;
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &s->call.read.filter, &err);
    return kt_store_end(L, s, rc, &err);
}

static int l_distinct(lua_State *L) {
    struct kt_error err;
    int rc;
    size_t len;
    const char *field = luaL_checklstring(L, 3, &len);
    struct store_op *s = begin_read(L, KT_DISTINCT, ANSWER_LIST, &rc, &err);
    if (rc == 0 && (rc = kt_path_check(field, len, &err)) == 0)
        memcpy(s->call.read.field, field, len + 1);
    if (rc == 0)
        rc = kt_arg_filter(L, 4, &s->call.read.filter, &err);
    return kt_store_end(L, s, rc, &err);
}

static int l_group(lua_State *L) {
    struct kt_error err;
    int rc;
    struct store_op *s = begin_read(L, KT_GROUP, ANSWER_DOCS, &rc, &err);
    if (rc == 0)
        rc = kt_arg_group(L, 3, &s->call.read, &err);
    return kt_store_end(L, s, rc, &err);
}

/* ---- writes ---- */

static int l_insert(lua_State *L) {
    struct kt_error err;
    int rc;
    struct store_op *s = begin_write(L, KT_INSERT, ANSWER_MODIFIED, &rc, &err);
    if (rc == 0)
        rc = kt_arg_docs(L, 3, &s->call.commit.writes->docs, &err);
    return kt_store_end(L, s, rc, &err);
}

static int update(lua_State *L, bool many) {
    struct kt_error err;
    int rc;
    struct store_op *s = begin_write(L, KT_UPDATE, ANSWER_WRITE, &rc, &err);
    struct kt_write *w = s->call.commit.writes;
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &w->filter, &err);
    if (rc == 0)
        rc = kt_arg_update(L, 4, &w->update, &err);
    if (rc == 0) {
        w->many = many;
        w->upsert = opt_flag(L, 5, "upsert");
    }
    return kt_store_end(L, s, rc, &err);
}

static int l_update_one(lua_State *L) {
    return update(L, false);
}

static int l_update_many(lua_State *L) {
    return update(L, true);
}

static int l_replace_one(lua_State *L) {
    struct kt_error err;
    int rc;
    struct store_op *s = begin_write(L, KT_REPLACE, ANSWER_WRITE, &rc, &err);
    struct kt_write *w = s->call.commit.writes;
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &w->filter, &err);
    if (rc == 0)
        rc = kt_arg_doc(L, 4, &w->docs, &err);
    if (rc == 0)
        w->upsert = opt_flag(L, 5, "upsert");
    return kt_store_end(L, s, rc, &err);
}

static int delete (lua_State *L, bool many) {
    struct kt_error err;
    int rc;
    luaL_checktype(L, 3, LUA_TTABLE);
    struct store_op *s = begin_write(L, KT_DELETE, ANSWER_MODIFIED, &rc, &err);
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &s->call.commit.writes->filter, &err);
    if (rc == 0)
        s->call.commit.writes->many = many;
    return kt_store_end(L, s, rc, &err);
}

static int l_delete_one(lua_State *L) {
    return delete (L, false);
}

static int l_delete_many(lua_State *L) {
    return delete (L, true);
}

static int l_find_and_modify(lua_State *L) {
    struct kt_error err;
    int rc;
    luaL_checktype(L, 4, LUA_TTABLE);
    bool remove = opt_flag(L, 4, "remove");
    struct store_op *s =
        begin_write(L, remove ? KT_DELETE : KT_UPDATE, ANSWER_WRITE_DOC, &rc, &err);
    struct kt_write *w = s->call.commit.writes;
    if (rc == 0)
        rc = kt_arg_filter(L, 3, &w->filter, &err);
    if (rc == 0)
        rc = kt_arg_sort(L, opt(L, 4, "sort"), &w->sort, &err);
    if (rc == 0 && w->sort.count > 0)
        kt_sort_finish(&w->sort);
    if (rc == 0)
        rc = kt_arg_fields(L, opt(L, 4, "projection"), &w->fields, &err);
    if (rc == 0 && !remove)
        rc = kt_arg_update(L, opt(L, 4, "update"), &w->update, &err);
    if (rc == 0) {
        w->want_doc = true;
        w->want_new = opt_flag(L, 4, "new");
        w->upsert = !remove && opt_flag(L, 4, "upsert");
    }
    return kt_store_end(L, s, rc, &err);
}

static int l_ensure_collection(lua_State *L) {
    struct kt_error err;
    int rc;
    struct store_op *s = begin_write(L, KT_ENSURE_COLLECTION, ANSWER_TRUE, &rc, &err);
    return kt_store_end(L, s, rc, &err);
}

static int l_ensure_index(lua_State *L) {
    struct kt_error err;
    int rc;
    luaL_checktype(L, 3, LUA_TTABLE);
    struct store_op *s = begin_write(L, KT_ENSURE_INDEX, ANSWER_TRUE, &rc, &err);
    struct kt_write *w = s->call.commit.writes;
    if (rc == 0)
        rc = kt_arg_coll(L, opt(L, 3, "name"), w->index, &err);
    if (rc == 0)
        rc = kt_arg_sort(L, opt(L, 3, "keys"), &w->keys, &err);
    if (rc == 0 && w->keys.count == 0)
        rc = kt_fail(&err, KT_INVALID_ARGUMENT, "store: an index without keys");
    if (rc == 0)
        w->unique = opt_flag(L, 3, "unique");
    return kt_store_end(L, s, rc, &err);
}

static int l_commit(lua_State *L) {
    struct kt_error err;
    int rc;
    luaL_checktype(L, 2, LUA_TTABLE);
    int n = (int)lua_objlen(L, 2);
    luaL_argcheck(L, n >= 1 && n <= KT_OPS_MAX, 2, "1 to 20000 ops expected");
    struct store_op *s = begin_commit(L, n, ANSWER_WRITES, &rc, &err);
    for (int i = 0; rc == 0 && i < n; i++) {
        lua_rawgeti(L, 2, i + 1);
        rc = kt_arg_write(L, lua_gettop(L), &s->call.commit.writes[i], &err);
        lua_pop(L, 1);
    }
    return kt_store_end(L, s, rc, &err);
}

/* ---- module ---- */

static int l_database(lua_State *L) {
    const char *name = check_name(L, 1);
    char *db = lua_newuserdata(L, KT_NAME_MAX + 1);
    memcpy(db, name, strlen(name) + 1);
    luaL_getmetatable(L, "kt.store.db");
    lua_setmetatable(L, -2);
    return 1;
}

/* db.name, else a method (upvalue 1). */
static int l_index(lua_State *L) {
    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "name") == 0)
        lua_pushstring(L, check_db(L));
    else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
    }
    return 1;
}

static int admin(lua_State *L, enum kt_call_kind kind, enum answer answer) {
    struct kt_error err;
    const char *name = check_name(L, 1);
    struct store_op *s = begin(L, kind, answer);
    memcpy(s->call.db, name, strlen(name) + 1);
    return kt_store_end(L, s, 0, &err);
}

static int l_create(lua_State *L) {
    return admin(L, KT_CALL_CREATE, ANSWER_TRUE);
}

static int l_exists(lua_State *L) {
    return admin(L, KT_CALL_EXISTS, ANSWER_YES);
}

static int l_drop(lua_State *L) {
    return admin(L, KT_CALL_DROP, ANSWER_TRUE);
}

static int l_check(lua_State *L) {
    return admin(L, KT_CALL_CHECK, ANSWER_CHECK);
}

static int l_list(lua_State *L) {
    struct kt_error err;
    return kt_store_end(L, begin(L, KT_CALL_LIST, ANSWER_NAMES), 0, &err);
}

static int l_open(lua_State *L) {
    struct kt_error err;
    struct kt_store_config config = {0};
    static const char *const labels[] = {"op"};
    if (the_store != NULL)
        return luaL_error(L, "the store is open");
    config.url = kt_opt_string(L, 1, "url", kt_config_text("MONGODB_URL"));
    if (config.url != NULL && *config.url == '\0')
        config.url = NULL;
    config.project_users = kt_config_bool("KONTOR_PROJECT_USERS");
    config.dir = kt_opt_string(L, 1, "dir", NULL);
    config.main_db = kt_opt_string(L, 1, "main", kt_config_text("MASTER_DATABASE_NAME"));
    config.readers = (int)kt_opt_number(L, 1, "readers", 0);
    config.writers = (int)kt_opt_number(L, 1, "writers", 0);
    config.queue_max = (int)kt_opt_number(L, 1, "queue_max", 0);
    config.open_max = (int)kt_opt_number(L, 1, "open_max", 0);
    config.journal_delete = kt_opt_bool(L, 1, "journal_delete", false);
    config.sync_normal = kt_opt_bool(L, 1, "sync_normal", false);
    if (config.dir == NULL)
        config.dir = kt_config_text("KONTOR_DATA_DIR");
    the_store = kt_store_open(kt_vm_of(L)->loop, &config, &err);
    if (the_store == NULL)
        return kt_push_error(L, &err);
    seconds = kt_metric("kontor_store_seconds", "Time of a store call, waiting included.",
                        KT_HISTOGRAM, labels, 1, &err);
    lua_pushboolean(L, 1);
    return 1;
}

static int l_close(lua_State *L) {
    (void)L;
    if (the_store != NULL)
        kt_store_close(the_store);
    the_store = NULL;
    return 0;
}

static int l_stats(lua_State *L) {
    struct kt_store_load load;
    if (the_store == NULL)
        return luaL_error(L, "store.open was not called");
    kt_store_load(the_store, &load);
    lua_createtable(L, 0, 8);
#define FIELD(name, value) (lua_pushnumber(L, (double)(value)), lua_setfield(L, -2, name))
    FIELD("open_databases", load.engine.open_databases);
    FIELD("connections", load.engine.connections);
    FIELD("connections_max", load.engine.connections_max);
    FIELD("quarantined", load.engine.quarantined);
    FIELD("wal_bytes", load.engine.wal_bytes);
    FIELD("pending", load.pending);
    FIELD("queue", load.writes_waiting);
#undef FIELD
    lua_pushstring(L, load.name);
    lua_setfield(L, -2, "engine");
    return 1;
}

static int l_version(lua_State *L) {
    const char *name = check_db(L);
    lua_pushnumber(L, the_store == NULL ? -1 : (double)kt_store_version(the_store, name));
    return 1;
}

static const luaL_Reg methods[] = {{"version", l_version},
                                   {"find_one", l_find_one},
                                   {"find", l_find},
                                   {"find_json", l_find_json},
                                   {"find_one_json", l_find_one_json},
                                   {"count", l_count},
                                   {"distinct", l_distinct},
                                   {"group", l_group},
                                   {"insert", l_insert},
                                   {"update_one", l_update_one},
                                   {"update_many", l_update_many},
                                   {"replace_one", l_replace_one},
                                   {"delete_one", l_delete_one},
                                   {"delete_many", l_delete_many},
                                   {"find_and_modify", l_find_and_modify},
                                   {"ensure_collection", l_ensure_collection},
                                   {"ensure_index", l_ensure_index},
                                   {"commit", l_commit},
                                   {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"open", l_open},     {"close", l_close}, {"database", l_database}, {"create", l_create},
    {"exists", l_exists}, {"drop", l_drop},   {"list", l_list},         {"check", l_check},
    {"stats", l_stats},   {NULL, NULL}};

int luaopen_kt_store(lua_State *L) {
    luaL_newmetatable(L, "kt.store.db");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    luaL_register(L, NULL, kt_store_file_methods);
    lua_pushcclosure(L, l_index, 1);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
