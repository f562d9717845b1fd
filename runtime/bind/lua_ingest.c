/* Module kt.ingest: the sink of a streaming upload. Inflates, hashes, checks and writes on threads
 * of its own; memory is bounded by one line.
 *
 *   ingest.open{format="csv"|"ndjson", gzip=false, path=, max_bytes=0} -> sink   does not yield;
 *                                without a path the bytes are only checked
 *   sink:write(chunk) -> true    yields
 *   sink:feed(path) -> true      yields; writes all of a file
 *   sink:finish() -> {rows, bytes, sha256, columns={…}, rejected, errors={{line, column?, code,
 *                    message}, …} <= 100, fed?}
 *                                yields; the file is on disk then (fsync). fed: sha256 of what
 *                                was in the files that were fed
 *   sink:abort()                 removes the file unless finish succeeded; belongs into a
 *                                task.defer: a cancelled task does not come back here
 *
 * Each answers nil, err on failure: data_rejected says why the table cannot be read (no header, a
 * column named twice, a line too long, gzip damaged), body_too_large over max_bytes, storage_full.
 * After a failure only abort may follow. `bytes` and `sha256` are of the data after inflating. */
#include <stdlib.h>
#include <string.h>

#include "bind/held.h"
#include "table/ingest.h"

#define SINK "kt.ingest.sink"
#define THREADS 2
#define QUEUE_MAX 256

struct sink {
    struct kt_held held;
    struct kt_ingest *in;
    bool failed;
};

struct ingest_op {
    struct kt_held_op base;
    char *bytes; /* NULL: finish */
    bool feed;   /* bytes is a path */
    size_t len;
    struct kt_ingest_result result;
};

static void sink_release(struct kt_held *held) {
    kt_ingest_free(((struct sink *)held)->in);
    free(held);
}

static int ingest_run(struct kt_held_op *base, struct kt_error *err) {
    struct ingest_op *o = (struct ingest_op *)base;
    struct sink *s = (struct sink *)base->held;
    int rc = o->feed            ? kt_ingest_feed(s->in, o->bytes, err)
             : o->bytes != NULL ? kt_ingest_write(s->in, o->bytes, o->len, err)
                                : kt_ingest_finish(s->in, &o->result, err);
    s->failed = rc < 0;
    return rc;
}

static void push_number(lua_State *L, const char *name, long long v) {
    lua_pushnumber(L, (lua_Number)v);
    lua_setfield(L, -2, name);
}

static int push_result(lua_State *L, struct kt_op *op) {
    struct ingest_op *o = (struct ingest_op *)op;
    struct kt_ingest *in = ((struct sink *)o->base.held)->in;
    const struct kt_rows *rows = kt_ingest_rows(in);
    const struct kt_cell_errors *errors = kt_ingest_errors(in);
    lua_createtable(L, 0, 6);
    push_number(L, "rows", o->result.rows);
    push_number(L, "bytes", o->result.bytes);
    push_number(L, "rejected", errors->rejected);
    lua_pushstring(L, o->result.sha256);
    lua_setfield(L, -2, "sha256");
    if (o->result.fed[0] != '\0') {
        lua_pushstring(L, o->result.fed);
        lua_setfield(L, -2, "fed");
    }
    int n = kt_rows_columns(rows);
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        lua_pushstring(L, kt_rows_column(rows, i));
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "columns");
    lua_createtable(L, errors->count, 0);
    for (int i = 0; i < errors->count; i++) {
        const struct kt_cell_error *e = &errors->list[i];
        lua_createtable(L, 0, 4);
        push_number(L, "line", e->line);
        if (e->column != NULL) {
            lua_pushstring(L, e->column);
            lua_setfield(L, -2, "column");
        }
        lua_pushstring(L, e->code);
        lua_setfield(L, -2, "code");
        lua_pushstring(L, e->message);
        lua_setfield(L, -2, "message");
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "errors");
    return 1;
}

static int push_true(lua_State *L, struct kt_op *op) {
    (void)op;
    lua_pushboolean(L, true);
    return 1;
}

static void ingest_free(struct kt_op *op) {
    free(((struct ingest_op *)op)->bytes);
    kt_held_op_free(op);
}

static const struct kt_op_class ingest_class = {"ingest", sizeof(struct ingest_op), NULL,
                                                ingest_free};

static int l_open(lua_State *L) {
    static const char *const formats[] = {"csv", "ndjson", NULL};
    struct kt_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *path = kt_opt_string(L, 1, "path", NULL);
    bool gzip = kt_opt_bool(L, 1, "gzip", false);
    double max = kt_opt_number(L, 1, "max_bytes", 0);
    luaL_argcheck(L, max >= 0 && max < 9007199254740992.0, 1, "max_bytes is out of range");
    lua_getfield(L, 1, "format");
    enum kt_format format = (enum kt_format)luaL_checkoption(L, -1, "csv", formats);
    kt_bind_pool(L, "ingest", THREADS, QUEUE_MAX);
    struct kt_held **box = kt_held_box(L, SINK);
    struct sink *s = calloc(1, sizeof *s);
    if (s == NULL) {
        kt_fail(&err, KT_NO_MEMORY, "no memory");
        return kt_push_error(L, &err);
    }
    s->held.free = sink_release;
    kt_held_keep(box, &s->held);
    s->in = kt_ingest_open(path, format, gzip, (long long)max, &err);
    return s->in == NULL ? kt_push_error(L, &err) : 1;
}

static int start(lua_State *L, const char *bytes, size_t len, bool feed) {
    struct kt_error err;
    struct sink *s = (struct sink *)kt_held_of(L, SINK);
    if (s == NULL || s->in == NULL || s->held.busy || s->failed) {
        kt_fail(&err, KT_INVALID_STATE, "the sink is %s",
                s == NULL || s->in == NULL ? "closed"
                : s->held.busy             ? "busy"
                                           : "broken: an error came before");
        return kt_push_error(L, &err);
    }
    struct kt_pool *pool = kt_bind_pool(L, "ingest", THREADS, QUEUE_MAX);
    struct ingest_op *o = kt_held_begin(L, &ingest_class, &s->held, ingest_run,
                                        bytes != NULL ? push_true : push_result);
    o->len = len;
    o->feed = feed;
    if (bytes != NULL && (o->bytes = malloc(len + 1)) == NULL) {
        kt_fail(&err, KT_NO_MEMORY, "no memory");
        kt_op_drop(&o->base.op);
        return kt_push_error(L, &err);
    }
    if (bytes != NULL)
        memcpy(o->bytes, bytes, len + 1);
    return kt_held_start(L, pool, &o->base);
}

static int l_write(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    return start(L, bytes, len, false);
}

static int l_feed(lua_State *L) {
    size_t len;
    const char *path = luaL_checklstring(L, 2, &len);
    return start(L, path, len, true);
}

static int l_finish(lua_State *L) {
    return start(L, NULL, 0, false);
}

static int l_abort(lua_State *L) {
    return kt_held_close(L, SINK);
}

static const luaL_Reg functions[] = {{"open", l_open}, {NULL, NULL}};
static const luaL_Reg methods[] = {{"write", l_write}, {"feed", l_feed},  {"finish", l_finish},
                                   {"abort", l_abort}, {"__gc", l_abort}, {NULL, NULL}};

int luaopen_kt_ingest(lua_State *L) {
    kt_class(L, SINK, methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
