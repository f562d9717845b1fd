/* Lua states: made, counted, capped, closed. */
#include "vm/vm.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "vm/queue.h"
#include "vm/sandbox.h"
#include "vm/task.h"

static struct kt_vm *vms;
static int vm_count;

/* LuaJIT's own allocator does the work: an arena per state, so that closing a state gives all of
 * its memory back at once, whatever a script had fragmented. */
static void *counting_alloc(void *ud, void *ptr, size_t old, size_t size) {
    struct kt_vm *vm = ud;
    if (size > old) {
        size_t used = vm->used + (size - old);
        if (vm->enforce && vm->cap != 0 && used > vm->cap) {
            vm->denied = true;
            if (vm->on_pressure != NULL)
                vm->on_pressure(vm);
            return NULL;
        }
        if (vm->enforce && vm->pressure != 0 && used > vm->pressure && vm->on_pressure != NULL)
            vm->on_pressure(vm);
    }
    void *p = vm->inner(vm->inner_ud, ptr, old, size);
    if (p != NULL || size == 0) {
        vm->used += size - old;
        if (vm->used > vm->peak)
            vm->peak = vm->used;
    }
    return p;
}

static int open_libs(lua_State *L, void *ud) {
    struct kt_vm *vm = ud;
    if (vm->kind == KT_VM_SCRIPT)
        return kt_sandbox_open_script(L);
    luaL_openlibs(L);
    return kt_sandbox_open_host(L, vm->kind == KT_VM_ANALYST);
}

struct kt_vm *kt_vm_new(uv_loop_t *loop, enum kt_vm_kind kind, size_t cap, struct kt_error *err) {
    struct kt_vm *vm = calloc(1, sizeof *vm);
    lua_State *L = vm == NULL ? NULL : luaL_newstate();
    if (L == NULL) {
        free(vm);
        kt_fail(err, KT_NO_MEMORY, "no memory for a Lua state");
        return NULL;
    }
    vm->L = L;
    vm->kind = kind;
    vm->loop = loop;
    vm->cap = cap;
    vm->used = vm->peak = (size_t)lua_gc(L, LUA_GCCOUNT, 0) * 1024;
    vm->inner = lua_getallocf(L, &vm->inner_ud);
    lua_setallocf(L, counting_alloc, vm);
    vm->next = vms;
    if (vms != NULL)
        vms->prev = vm;
    vms = vm;
    vm_count++;
    if (kind == KT_VM_SCRIPT && (vm->share = kt_share_new("")) == NULL) {
        kt_fail(err, KT_NO_MEMORY, "no memory for a Lua state");
        kt_vm_free(vm);
        return NULL;
    }
    if (kt_vm_call(vm, open_libs, vm, err) != 0) {
        kt_vm_free(vm);
        return NULL;
    }
    return vm;
}

int kt_vm_set_share(struct kt_vm *vm, const char *name, struct kt_error *err) {
    struct kt_share *share = NULL;
    for (struct kt_vm *other = vms; other != NULL && share == NULL; other = other->next)
        if (other->share != NULL && other->loop == vm->loop &&
            strcmp(other->share->name, name) == 0)
            share = other->share;
    if (share != NULL)
        share->holders++;
    else if ((share = kt_share_new(name)) == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory for a share");
    kt_share_release(vm->share);
    vm->share = share;
    return 0;
}

void kt_vm_free(struct kt_vm *vm) {
    if (vm == NULL)
        return;
    kt_task_kill_all(vm);
    /* The arena is destroyed by lua_close only when the state owns its allocator again. */
    lua_setallocf(vm->L, vm->inner, vm->inner_ud);
    lua_close(vm->L);
    if (vm->next != NULL)
        vm->next->prev = vm->prev;
    if (vm->prev != NULL)
        vm->prev->next = vm->next;
    else
        vms = vm->next;
    vm_count--;
    kt_share_release(vm->share);
    free(vm);
}

struct kt_vm *kt_vm_of(lua_State *L) {
    void *ud;
    /* A state that is being closed has its own allocator back: no vm for its finalizers. */
    return lua_getallocf(L, &ud) == counting_alloc ? ud : NULL;
}

struct call {
    int (*fn)(lua_State *L, void *ud);
    void *ud;
};

static int l_call(lua_State *L) {
    struct call *call = lua_touserdata(L, 1);
    lua_settop(L, 0);
    call->fn(L, call->ud);
    return 0;
}

int kt_vm_call(struct kt_vm *vm, int (*fn)(lua_State *L, void *ud), void *ud,
               struct kt_error *err) {
    struct call call = {fn, ud};
    bool enforce = vm->enforce;
    vm->enforce = false;
    int status = lua_cpcall(vm->L, l_call, &call), rc = 0;
    if (status != 0) {
        struct kt_error e;
        kt_vm_error(vm->L, -1, &e);
        lua_pop(vm->L, 1);
        rc = kt_fail(err, e.code, "%s", e.message);
    }
    vm->enforce = enforce;
    return rc;
}

/* A string field of the table at idx without metamethods; NULL when it is none. The text lives as
 * long as the table does. */
static const char *raw_text(lua_State *L, int idx, const char *name, size_t *len) {
    const char *text = NULL;
    /* An error value may be a script's: look by walking, which allocates nothing. */
    lua_pushnil(L);
    while (lua_next(L, idx) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), name) == 0) {
            if (lua_type(L, -1) == LUA_TSTRING)
                text = lua_tolstring(L, -1, len);
            lua_pop(L, 2);
            break;
        }
        lua_pop(L, 1);
    }
    return text;
}

/* Where the text has NULs, which a message cannot hold, stands a '?'. */
static void fail_with(struct kt_error *err, enum kt_code code, const char *text, size_t len) {
    if (len >= sizeof err->message)
        len = sizeof err->message - 1;
    err->code = code;
    for (size_t i = 0; i < len; i++)
        err->message[i] = text[i] != '\0' ? text[i] : '?';
    err->message[len] = '\0';
}

void kt_vm_error(lua_State *L, int idx, struct kt_error *err) {
    if (idx < 0)
        idx = lua_gettop(L) + idx + 1;
    switch (lua_type(L, idx)) {
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, idx, &len);
        fail_with(err, strcmp(text, "not enough memory") == 0 ? KT_NO_MEMORY : KT_SCRIPT_ERROR,
                  text, len);
        return;
    }
    case LUA_TTABLE: {
        size_t name_len, len;
        const char *name = raw_text(L, idx, "code", &name_len);
        const char *message = raw_text(L, idx, "message", &len);
        enum kt_code code = name == NULL ? KT_OK : kt_code_of_name(name);
        if (code == KT_OK)
            code = KT_SCRIPT_ERROR;
        if (message != NULL)
            fail_with(err, code, message, len);
        else
            kt_fail(err, code, "%s", name != NULL ? name : "error without a message");
        return;
    }
    case LUA_TNUMBER:
        kt_fail(err, KT_SCRIPT_ERROR, "%.14g", lua_tonumber(L, idx));
        return;
    default:
        kt_fail(err, KT_SCRIPT_ERROR, "error value is a %s", luaL_typename(L, idx));
    }
}

bool kt_vm_gc_step(struct kt_vm *vm, int kib) {
    for (int done = 0; done < kib; done += 2) /* LuaJIT does about 2 KiB at a time */
        if (lua_gc(vm->L, LUA_GCSTEP, 0) != 0)
            return true;
    return false;
}

int kt_vm_count(void) {
    return vm_count;
}
