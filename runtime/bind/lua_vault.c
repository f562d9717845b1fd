/* Module kt.vault: secrets sealed and opened (core/seal.h) under the keys of this process
 * (core/keyring.h), on threads of its own. The keys themselves never come into Lua. All calls
 * yield; dir: of the key file.
 *
 *   vault.seal(dir, what, text, make) -> {key_id=, nonce=, box=}, the last two binary values
 *       what: where it belongs to, it opens nowhere else; make: the key file may seal, and is made
 *       when there is no key. code invalid_state: there is none, or the file is refused
 *   vault.open(dir, what, sealed) -> text    sealed: as vault.seal gave it. code invalid_state: it
 *       names a key that is not here; store_corrupt: it was changed, or sealed for another place
 *   vault.keys(dir, use_file) -> {current=id?, from_env=bool, ids={id, ...}}
 *   vault.next(dir, after) -> id    a new key in the key file, if its first one still is `after`
 *       ("": it has none); else the first one
 *
 * Each answers nil, err on failure. A call whose task was cancelled still runs to its end. */
#include <limits.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "core/keyring.h"
#include "core/pool.h"

#define THREADS 1
#define QUEUE_MAX 256

enum what { SEAL, OPEN, KEYS, NEXT };

struct vault_op {
    struct kt_op op;
    struct kt_job job;
    enum what what;
    bool file; /* a key of the file may seal */
    char dir[PATH_MAX], place[400], id[KT_SEAL_ID];
    unsigned char nonce[KT_SEAL_NONCE];
    size_t nonce_len;
    struct kt_buf in, out;
    struct kt_keyring ring; /* KEYS and NEXT: what was found */
    int rc;
};

static void wipe(struct kt_buf *b) {
    if (b->data != NULL)
        OPENSSL_cleanse(b->data, b->cap);
    kt_buf_free(b);
}

static int seal(struct vault_op *v, struct kt_error *err) {
    int rc = kt_keyring_load(v->dir, v->file, &v->ring, err);
    if (rc == 0 && v->ring.current < 0 && v->file)
        rc = kt_keyring_next(v->dir, "", &v->ring, err);
    if (rc != 0)
        return rc;
    if (v->ring.current < 0)
        return kt_fail(err, KT_INVALID_STATE,
                       "KONTOR_MASTER_KEY is not set: with MongoDB the key that secrets are sealed "
                       "under is given to "
                       "the service (32 bytes, as openssl rand -base64 32 makes)");
    const struct kt_seal_key *key = &v->ring.keys[v->ring.current];
    memcpy(v->id, key->id, sizeof v->id);
    return kt_seal(key, v->place, v->in.data, v->in.len, v->nonce, &v->out, err);
}

static int unseal(struct vault_op *v, struct kt_error *err) {
    int rc = kt_keyring_load(v->dir, false, &v->ring, err);
    if (rc != 0)
        return rc;
    const struct kt_seal_key *key = kt_keyring_find(&v->ring, v->id);
    if (key == NULL)
        return kt_fail(err, KT_INVALID_STATE,
                       "it is sealed by the key %s, which this service does not have: give it in "
                       "KONTOR_MASTER_KEY_OLD, or as a line of master.key",
                       v->id);
    return kt_unseal(key, v->place, v->nonce, v->nonce_len, v->in.data, v->in.len, &v->out, err);
}

static struct vault_op *of_job(struct kt_job *job) {
    return (struct vault_op *)((char *)job - offsetof(struct vault_op, job));
}

static void vault_run(struct kt_job *job) {
    struct vault_op *v = of_job(job);
    struct kt_error *err = &v->op.error;
    switch (v->what) {
    case SEAL:
        v->rc = seal(v, err);
        break;
    case OPEN:
        v->rc = unseal(v, err);
        break;
    case KEYS:
        v->rc = kt_keyring_load(v->dir, v->file, &v->ring, err);
        break;
    case NEXT:
        v->rc = kt_keyring_next(v->dir, v->id, &v->ring, err);
        break;
    }
}

static int push_keys(lua_State *L, const struct kt_keyring *ring) {
    lua_createtable(L, 0, 3);
    if (ring->current >= 0) {
        lua_pushstring(L, ring->keys[ring->current].id);
        lua_setfield(L, -2, "current");
    }
    lua_pushboolean(L, ring->from_env);
    lua_setfield(L, -2, "from_env");
    lua_createtable(L, ring->count, 0);
    for (int i = 0; i < ring->count; i++) {
        lua_pushstring(L, ring->keys[i].id);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "ids");
    return 1;
}

static int vault_push(lua_State *L, struct kt_op *op) {
    struct vault_op *v = (struct vault_op *)op;
    switch (v->what) {
    case SEAL:
        lua_createtable(L, 0, 3);
        lua_pushstring(L, v->id);
        lua_setfield(L, -2, "key_id");
        kt_value_push_binary(L, (const char *)v->nonce, sizeof v->nonce);
        lua_setfield(L, -2, "nonce");
        kt_value_push_binary(L, v->out.data, v->out.len);
        lua_setfield(L, -2, "box");
        return 1;
    case OPEN:
        lua_pushlstring(L, v->out.len > 0 ? v->out.data : "", v->out.len);
        return 1;
    case KEYS:
        return push_keys(L, &v->ring);
    case NEXT:
        lua_pushstring(L, v->ring.keys[v->ring.current].id);
        return 1;
    }
    return 0;
}

static void vault_done(struct kt_job *job) {
    struct vault_op *v = of_job(job);
    if (v->rc != 0) {
        struct kt_error err = v->op.error;
        kt_op_fail(&v->op, &err);
    } else
        kt_op_settle(&v->op, vault_push);
}

static void vault_free(struct kt_op *op) {
    struct vault_op *v = (struct vault_op *)op;
    wipe(&v->in);
    wipe(&v->out);
    kt_keyring_wipe(&v->ring);
}

static const struct kt_op_class vault_class = {"vault", sizeof(struct vault_op), NULL, vault_free};

static struct vault_op *begin(lua_State *L, enum what what) {
    size_t len;
    const char *dir = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, strlen(dir) == len && len < PATH_MAX, 1, "a folder");
    struct vault_op *v = kt_op_new(L, &vault_class);
    v->what = what;
    v->job.run = vault_run;
    v->job.done = vault_done;
    memcpy(v->dir, dir, len + 1);
    return v;
}

static int end(lua_State *L, struct kt_pool *pool, struct vault_op *v) {
    struct kt_error err;
    int rc = v->in.failed ? kt_fail(&err, KT_NO_MEMORY, "no memory")
                          : kt_pool_submit(pool, &v->job, &err);
    if (rc != 0) {
        kt_op_drop(&v->op);
        return kt_push_error(L, &err);
    }
    return kt_op_yield(&v->op);
}

static struct kt_pool *pool_of(lua_State *L) {
    return kt_bind_pool(L, "vault", THREADS, QUEUE_MAX);
}

static const char *check_place(lua_State *L) {
    size_t len;
    const char *place = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, strlen(place) == len && len < sizeof((struct vault_op *)0)->place, 2,
                  "a place of at most 399 bytes, without NUL");
    return place;
}

static int l_seal(lua_State *L) {
    size_t len;
    const char *place = check_place(L), *text = luaL_checklstring(L, 3, &len);
    bool file = lua_toboolean(L, 4);
    struct kt_pool *pool = pool_of(L);
    struct vault_op *v = begin(L, SEAL);
    strcpy(v->place, place);
    v->file = file;
    kt_buf_add(&v->in, text, len);
    return end(L, pool, v);
}

/* A field of what is stored: whatever stands there, its bytes; what is no binary opens nothing. */
static const char *binary_field(lua_State *L, const char *name, size_t *len) {
    lua_getfield(L, 3, name);
    const char *bytes = kt_value_get_binary(L, -1, len);
    if (bytes == NULL)
        *len = 0;
    return bytes != NULL ? bytes : "";
}

static int l_open(lua_State *L) {
    struct kt_error err;
    size_t id_len, nonce_len, box_len;
    const char *place = check_place(L);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    lua_getfield(L, 3, "key_id");
    const char *id = lua_type(L, 4) == LUA_TSTRING ? lua_tolstring(L, 4, &id_len) : NULL;
    if (id == NULL || strlen(id) != id_len || id_len >= KT_SEAL_ID) {
        kt_fail(&err, KT_STORE_CORRUPT, "it names no key");
        return kt_push_error(L, &err);
    }
    const char *nonce = binary_field(L, "nonce", &nonce_len),
               *box = binary_field(L, "box", &box_len);
    struct kt_pool *pool = pool_of(L);
    struct vault_op *v = begin(L, OPEN);
    strcpy(v->place, place);
    strcpy(v->id, id);
    v->nonce_len = nonce_len;
    if (nonce_len == sizeof v->nonce)
        memcpy(v->nonce, nonce, nonce_len);
    kt_buf_add(&v->in, box, box_len);
    return end(L, pool, v);
}

static int l_keys(lua_State *L) {
    bool file = lua_toboolean(L, 2);
    struct kt_pool *pool = pool_of(L);
    struct vault_op *v = begin(L, KEYS);
    v->file = file;
    return end(L, pool, v);
}

static int l_next(lua_State *L) {
    size_t len;
    const char *after = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, strlen(after) == len && len < KT_SEAL_ID, 2, "the id of a key");
    struct kt_pool *pool = pool_of(L);
    struct vault_op *v = begin(L, NEXT);
    strcpy(v->id, after);
    return end(L, pool, v);
}

static const luaL_Reg functions[] = {
    {"seal", l_seal}, {"open", l_open}, {"keys", l_keys}, {"next", l_next}, {NULL, NULL}};

int luaopen_kt_vault(lua_State *L) {
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
