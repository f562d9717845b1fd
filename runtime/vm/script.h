/* A script VM with the files of one bundle, and the runs in it.
 *
 * Files are compiled once; every run gets its own environment, module instances and upvalues. A run
 * is a task of the VM. What it asks of the world it asks through calls, which the host takes, and
 * answers in the order of the journal. Loop thread only; the host's Lua is not known here. */
#pragma once

#include <lauxlib.h>
#include <lua.h>

#include "core/buf.h"
#include "vm/task.h"
#include "vm/vm.h"

#define KT_SCRIPT_SOURCE_MAX (1 << 20) /* bytes of one file */
#define KT_SCRIPT_OWN "template/" /* files of a bundle that come from lua/, not from its author */
#define KT_SCRIPT_VALUE_MAX (1 << 20)  /* bytes of one call's arguments, of a result */
#define KT_SCRIPT_EMIT_MAX (4 << 20)   /* bytes of all emits of a run */
#define KT_SCRIPT_STEPS 20000000000ull /* default budget: about 40 s of CPU */

struct kt_source {
    const char *path;
    const char *text;
    size_t len;
};

/* Why a script failed. code is a name of api.md section 7, also one that C has no number for. */
struct kt_script_error {
    char code[48];
    char message[500];
    char script[256]; /* "": not known */
    int line;
    struct kt_buf value; /* the raised table as a blob {"v": …}, when it was one; else empty */
};

struct kt_script {
    struct kt_vm *vm;
    int main_ref, env_meta_ref, factories_ref;
    int kept_ref; /* parts of the first run with `keep`; 0: none */
    int runs;
    struct kt_run *first;
};

/* Compile the *.lua of `files` (others are kept out) in a new state; modules: what `require "json"`
 * gives, name and opener. NULL: *err says which file and line. */
struct kt_script *kt_script_new(uv_loop_t *loop, size_t cap, const struct kt_source *files, int n,
                                const luaL_Reg *modules, struct kt_script_error *err);
/* Ends its runs first (each is told); their structures stay their owners'. */
void kt_script_free(struct kt_script *script);
void kt_script_error_free(struct kt_script_error *err);

/* Runs */

struct kt_door_call {
    int id; /* 0: an emit, which needs no answer */
    const char *name;
    struct kt_buf args; /* blob */
    struct kt_door_call *next;
};

enum kt_run_status {
    KT_RUN_BUSY,    /* executing or queued */
    KT_RUN_BLOCKED, /* waits for an answer */
    KT_RUN_DONE,
    KT_RUN_FAILED
};

struct kt_run_options {
    const char *path;
    const char *mode;         /* "run", "call" or "declare" */
    const char *function;     /* mode "call" */
    const void *input, *info; /* blobs; NULL: null */
    size_t input_len, info_len;
    uint64_t seed[4]; /* not all 0 */
    int64_t now_ms;
    uint64_t max_steps; /* 0: KT_SCRIPT_STEPS */
    double deadline;    /* seconds from now; 0: none */
    bool keep;          /* its globals are those of the VM's runs with keep before it */
};

struct kt_answer {
    int id;
    bool ok;
    int64_t now_ms;
    struct kt_buf blob;
    struct kt_answer *next;
};

struct kt_run {
    struct kt_script *script; /* NULL once the run has ended */
    struct kt_task *task;
    enum kt_run_status status;
    /* Told when the run blocks, ends, or has emitted; runs inside the VM's turn, so only note it.
     */
    void (*changed)(struct kt_run *run, void *ud);
    void *ud;
    struct kt_buf input, info;
    int64_t now_ms;
    uint64_t rng[4];
    bool loading;
    int last_id, open; /* calls made, calls without an answer */
    size_t emitted;
    struct kt_door_call *calls, **calls_end;  /* for the host */
    struct kt_answer *answers, **answers_end; /* for the script, in order */
    int *open_ids;
    int open_cap;
    struct kt_answer *taken; /* delivered, not yet read */
    struct kt_op *parked;
    uv_timer_t *timer;
    struct kt_buf result; /* blob, when done */
    struct kt_script_error error;
    uint64_t steps; /* spent, when it has ended */
    struct kt_run *prev, *next;
};

struct kt_run *kt_run_start(struct kt_script *script, const struct kt_run_options *options,
                            void (*changed)(struct kt_run *run, void *ud), void *ud,
                            struct kt_error *err);
/* The calls made since the last take, in order; the caller frees them. */
struct kt_door_call *kt_run_take_calls(struct kt_run *run);
void kt_door_calls_free(struct kt_door_call *calls);
/* The answer to call `id`: a blob, or with ok false the blob of an error table. now_ms: the run's
 * time from then on (0: unchanged). KT_INVALID_ARGUMENT when no such call is open. */
int kt_run_answer(struct kt_run *run, int id, bool ok, const void *blob, size_t len, int64_t now_ms,
                  struct kt_error *err);
/* Where in the bundle the run is, into script and line of *place; false: it has ended, or is in no
 * file of the bundle. */
bool kt_run_place(const struct kt_run *run, struct kt_script_error *place);
/* What a run waits in, for a person: its own coroutine (call 0) and each branch of parallel that
 * waits (its call), from the innermost frame outwards, frames of the bundle's files only. script is
 * good until fn returns; name NULL: not known. A coroutine that the script made itself shows as the
 * place where it was resumed. Nothing of a run that has ended. */
void kt_run_stack(const struct kt_run *run,
                  void (*fn)(void *ud, int call, const char *script, int line, const char *name),
                  void *ud);
/* Ends the run if it has not ended (without a word to `changed`), and frees it. */
void kt_run_free(struct kt_run *run);

/* Between script.c, run.c and door.c: */
void kt_answer_free(struct kt_answer *answers);
void kt_door_wake(struct kt_run *run); /* a parked run goes on with its next answer */
/* The C functions of prelude.lua into the table on top of the stack. */
void kt_door_open(lua_State *L);
/* Push the instance of a file in the current run's environment, or nil. */
void kt_script_push_instance(lua_State *L, struct kt_script *script, const char *path, int env);
void kt_script_set_error(struct kt_script_error *err, const char *code, const char *message,
                         const char *script, int line);
