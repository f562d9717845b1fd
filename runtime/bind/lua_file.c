/* Module kt.file: files, on threads of their own. All but lock_data_dir yield.
 *
 *   file.read(path, max?) -> bytes          code not_found; body_too_large over max bytes
 *   file.write(path, bytes) -> true         whole or not at all, also over a crash; storage_full
 *   file.mkdir(path) -> true                with the folders above it
 *   file.list(path) -> {{name=, kind="file"|"dir"|"other"}, …} sorted by name
 *   file.stat(path) -> {kind=, size=, mtime=ms}
 *   file.rename(from, to) -> true           file.remove(path) -> true: a folder with all in it
 *   file.lock_data_dir(dir) -> lock         code conflict names the process that holds it
 *   lock:release()
 *
 * Each answers nil, err on failure. A call whose task was cancelled still runs to its end. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"
#include "core/datadir.h"
#include "core/files.h"
#include "core/pool.h"

#define LOCK "kt.file.lock"
#define THREADS 2
#define QUEUE_MAX 256

enum what { READ, WRITE, MKDIR, LIST, STAT, RENAME, REMOVE };

struct file_op {
    struct kt_op op;
    struct kt_job job;
    enum what what;
    char *path, *bytes; /* bytes: what to write, or the other name */
    size_t len;         /* of bytes; of a read: max */
    struct kt_buf out;
    struct kt_file_stat st;
    int rc, count;
};

static struct file_op *of_job(struct kt_job *job) {
    return (struct file_op *)((char *)job - offsetof(struct file_op, job));
}

static void file_run(struct kt_job *job) {
    struct file_op *f = of_job(job);
    struct kt_error *err = &f->op.error;
    switch (f->what) {
    case READ:
        f->rc = kt_file_read(f->path, f->len, &f->out, err);
        break;
    case WRITE:
        f->rc = kt_file_write(f->path, f->bytes, f->len, err);
        break;
    case MKDIR:
        f->rc = kt_mkdirs(f->path, 0750, err);
        break;
    case LIST:
        f->rc = kt_file_list(f->path, &f->out, &f->count, err);
        break;
    case STAT:
        f->rc = kt_file_stat(f->path, &f->st, err);
        break;
    case RENAME:
        f->rc = kt_file_rename(f->path, f->bytes, err);
        break;
    case REMOVE:
        f->rc = kt_file_remove(f->path, err);
        break;
    }
}

static const char *kind_name(enum kt_file_kind kind) {
    return kind == KT_FILE_PLAIN ? "file" : kind == KT_FILE_DIR ? "dir" : "other";
}

static int push_list(lua_State *L, struct file_op *f) {
    const char *at = f->out.data;
    lua_createtable(L, f->count, 0);
    for (int i = 1; i <= f->count; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, at[0] == 'f' ? "file" : at[0] == 'd' ? "dir" : "other");
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, at + 1);
        lua_setfield(L, -2, "name");
        lua_rawseti(L, -2, i);
        at += strlen(at) + 1;
    }
    return 1;
}

static int file_push(lua_State *L, struct kt_op *op) {
    struct file_op *f = (struct file_op *)op;
    switch (f->what) {
    case READ:
        lua_pushlstring(L, f->out.len > 0 ? f->out.data : "", f->out.len);
        return 1;
    case LIST:
        return push_list(L, f);
    case STAT:
        lua_createtable(L, 0, 3);
        lua_pushstring(L, kind_name(f->st.kind));
        lua_setfield(L, -2, "kind");
        lua_pushnumber(L, (lua_Number)f->st.size);
        lua_setfield(L, -2, "size");
        lua_pushnumber(L, (lua_Number)f->st.mtime_ms);
        lua_setfield(L, -2, "mtime");
        return 1;
    default:
        lua_pushboolean(L, true);
        return 1;
    }
}

static void file_done(struct kt_job *job) {
    struct file_op *f = of_job(job);
    if (f->rc != 0) {
        struct kt_error err = f->op.error;
        kt_op_fail(&f->op, &err);
    } else
        kt_op_settle(&f->op, file_push);
}

static void file_free(struct kt_op *op) {
    struct file_op *f = (struct file_op *)op;
    free(f->path);
    free(f->bytes);
    kt_buf_free(&f->out);
}

static const struct kt_op_class file_class = {"file", sizeof(struct file_op), NULL, file_free};

static char *copy(const char *bytes, size_t len) {
    char *to = malloc(len + 1);
    if (to != NULL) {
        memcpy(to, bytes, len);
        to[len] = '\0';
    }
    return to;
}

static int start(lua_State *L, enum what what, const char *bytes, size_t len) {
    struct kt_error err;
    size_t path_len;
    const char *path = luaL_checklstring(L, 1, &path_len);
    luaL_argcheck(L, path_len > 0 && strlen(path) == path_len, 1, "a path without NUL bytes");
    struct kt_pool *pool = kt_bind_pool(L, "file", THREADS, QUEUE_MAX);
    struct file_op *f = kt_op_new(L, &file_class);
    f->what = what;
    f->len = len;
    f->job.run = file_run;
    f->job.done = file_done;
    f->path = copy(path, path_len);
    f->bytes = bytes != NULL ? copy(bytes, len) : NULL;
    int rc = f->path == NULL || (bytes != NULL && f->bytes == NULL)
                 ? kt_fail(&err, KT_NO_MEMORY, "no memory")
                 : kt_pool_submit(pool, &f->job, &err);
    if (rc != 0) {
        kt_op_drop(&f->op);
        return kt_push_error(L, &err);
    }
    return kt_op_yield(&f->op);
}

static int l_read(lua_State *L) {
    long long max = lua_isnoneornil(L, 2) ? 0 : kt_check_int(L, 2);
    luaL_argcheck(L, max >= 0, 2, "not negative");
    return start(L, READ, NULL, (size_t)max);
}

static int l_write(lua_State *L) {
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    return start(L, WRITE, bytes, len);
}

static int l_mkdir(lua_State *L) {
    return start(L, MKDIR, NULL, 0);
}
static int l_list(lua_State *L) {
    return start(L, LIST, NULL, 0);
}
static int l_stat(lua_State *L) {
    return start(L, STAT, NULL, 0);
}
static int l_remove(lua_State *L) {
    return start(L, REMOVE, NULL, 0);
}

static int l_rename(lua_State *L) {
    size_t len;
    const char *to = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len > 0 && strlen(to) == len, 2, "a path without NUL bytes");
    return start(L, RENAME, to, len);
}

static int l_lock_data_dir(lua_State *L) {
    struct kt_error err;
    const char *dir = luaL_checkstring(L, 1);
    int *lock = lua_newuserdata(L, sizeof *lock);
    *lock = -1;
    luaL_getmetatable(L, LOCK);
    lua_setmetatable(L, -2);
    *lock = kt_datadir_lock(dir, &err);
    return *lock < 0 ? kt_push_error(L, &err) : 1;
}

static int l_release(lua_State *L) {
    int *lock = luaL_checkudata(L, 1, LOCK);
    if (*lock >= 0)
        close(*lock);
    *lock = -1;
    return 0;
}

static const luaL_Reg functions[] = {
    {"read", l_read},     {"write", l_write},   {"mkdir", l_mkdir},
    {"list", l_list},     {"stat", l_stat},     {"rename", l_rename},
    {"remove", l_remove}, {"lock_data_dir", l_lock_data_dir},
    {NULL, NULL},
};
static const luaL_Reg lock_methods[] = {{"release", l_release}, {"__gc", l_release}, {NULL, NULL}};

int luaopen_kt_file(lua_State *L) {
    kt_class(L, LOCK, lock_methods);
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
