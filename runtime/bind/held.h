/* An object for Lua whose methods block: each runs as an op on a pool's threads, one at a time.
 *
 * It is held by its userdata and by the op under way, as a cancelled task may drop the one before
 * the other, and is freed with the last of them, on the loop's thread. */
#pragma once

#include "bind/bind.h"

struct kt_held {                        /* first in the object */
    void (*free)(struct kt_held *held); /* the object itself, too */
    int holders;
    bool busy; /* a method is under way: nothing else may use the object */
};

struct kt_held_op { /* first in the op of a method */
    struct kt_op op;
    struct kt_job job;
    struct kt_held *held;
    int (*run)(struct kt_held_op *o, struct kt_error *err); /* on a thread; negative: failed */
    kt_push_fn push;
    int rc; /* what run gave */
};

/* Push a userdata of the class that holds nothing yet; it is set by kt_held_keep. Raises. */
struct kt_held **kt_held_box(lua_State *L, const char *class);
void kt_held_keep(struct kt_held **box, struct kt_held *held);
/* What the first argument holds, NULL: it is closed. Raises when it is none of the class. */
struct kt_held *kt_held_of(lua_State *L, const char *class);
/* Let go of what the first argument holds: a __gc or close. Returns 0. */
int kt_held_close(lua_State *L, const char *class);

/* A new op on the object; NULL: on one that the caller makes now, and that the op is to hold. Its
 * class frees with kt_held_op_free, at least. Raises as kt_op_new. */
void *kt_held_begin(lua_State *L, const struct kt_op_class *class, struct kt_held *held,
                    int (*run)(struct kt_held_op *, struct kt_error *), kt_push_fn push);
/* Start it: `return kt_held_start(L, pool, o)`. */
int kt_held_start(lua_State *L, struct kt_pool *pool, struct kt_held_op *o);
void kt_held_op_free(struct kt_op *op);
