/* The late hook. */
#include "vm/hook.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"

#define TICK_NS 2000000  /* of this thread's CPU time */
#define SLICE_TICKS 2    /* the kernel counts CPU time by its own ticks: 4 to 8 ms at 250 Hz */
#define CUT_DEPTH 8      /* not where a slice's end has to pass more coroutines: that costs more */
#define EXACT_COUNT 1000 /* hook interval of an exactly counted run */
#define BLOCKED_TICKS 25 /* in a place where Lua cannot yield: then the run has to go */
#define BLOCKED_COUNT 1000 /* until the next try where Lua cannot yield */

enum { TICK, CUT }; /* what a signal says */

#define SIGNAL (SIGRTMIN + 5)

#ifndef sigev_notify_thread_id /* glibc has the field, not always the name */
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* The one run that executes now. The signal handler reads it: `armable` is set last and cleared
 * first, and the handler interrupts the very thread that writes. */
static struct {
    struct kt_vm *vm;
    struct kt_task *task;
    volatile sig_atomic_t armable, ticks, cut, armed;
    bool cuttable;
    int count;         /* of the hook that is armed */
    bool abandoned;    /* a parked run was given up for its memory */
    bool collect;      /* memory pressure: collect at the next instruction */
    uint64_t cpu_mark; /* thread CPU time up to which the task was charged */
    size_t used_mark;  /* vm->used when the task went on */
} now;

static int slice_every; /* see kt_hook_slice_every */

static void on_hook(lua_State *L, lua_Debug *ar);

static void arm(int count) {
    now.count = count;
    now.armed = 1;
    lua_sethook(now.vm->L, on_hook, LUA_MASKCOUNT, count);
}

static bool slice_is_over(void) {
    return (now.ticks >= SLICE_TICKS && slice_every != KT_HOOK_UNTIL_CUT) ||
           (now.cut && now.cuttable);
}

/* From where the signal may come in between. */
static void rearm(int count) {
    now.armable = 0;
    arm(count);
    now.armable = 1;
}

static void on_signal(int sig, siginfo_t *info, void *context) {
    (void)sig;
    (void)context;
    if (info->si_value.sival_int == CUT)
        now.cut = 1;
    else
        now.ticks++;
    if (now.armable && slice_is_over() && !now.armed)
        rearm(1);
}

/* Ticks of the CPU time of this thread: none while the loop sleeps. */
static void start_ticks(void) {
    static bool started;
    if (started)
        return;
    started = true;
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_RESTART | SA_SIGINFO};
    struct itimerspec every = {{0, TICK_NS}, {0, TICK_NS}};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGNAL};
    timer_t timer;
    event.sigev_value.sival_int = TICK;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGNAL, &action, NULL) != 0 ||
        timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) != 0 ||
        timer_settime(timer, 0, &every, NULL) != 0) {
        /* Without it a script could stop the worker: better no worker. */
        kt_log(KT_ERROR, "vm.no_timer", "msg", strerror(errno), NULL);
        abort();
    }
}

void kt_hook_cuttable(bool on) {
    now.cut = 0;
    now.cuttable = on;
}

void kt_hook_cut(pthread_t loop_thread) {
    pthread_sigqueue(loop_thread, SIGNAL, (union sigval){.sival_int = CUT});
}

static uint64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static bool exact(const struct kt_task *task) {
    return task->limit <= KT_EXACT_MAX_STEPS;
}

/* Account for the CPU time since the last look. */
static void charge_time(struct kt_task *task) {
    uint64_t cpu = cpu_ns();
    task->cpu += cpu - now.cpu_mark;
    task->turn.used += cpu - now.cpu_mark;
    task->vm->share->turn.used += cpu - now.cpu_mark;
    if (!exact(task))
        task->spent += (cpu - now.cpu_mark) / KT_STEP_NS;
    now.cpu_mark = cpu;
}

static void judge(struct kt_task *task) {
    bool over = task->spent > task->limit ||
                (exact(task) && task->cpu > (task->limit + 100000) * KT_EXACT_STEP_NS);
    if (task->verdict.code == KT_OK && over)
        kt_fail(&task->verdict, KT_INSTRUCTION_LIMIT,
                "the script used up its budget of %llu instructions",
                (unsigned long long)task->limit);
}

/* Memory. The live data after a collection decides; of several runs the one that has grown most
 * has to go, whoever is at the door when the memory is short. */

static void set_pressure(struct kt_vm *vm) {
    size_t early = vm->cap / 4 * 3;
    size_t halfway = vm->used + (vm->cap > vm->used ? (vm->cap - vm->used) / 2 : 0);
    vm->pressure = halfway > early ? halfway : early;
}

static void on_pressure(struct kt_vm *vm) {
    if (now.vm != vm)
        return;
    vm->pressure = 0; /* once; a collection sets it again */
    now.collect = true;
    sig_atomic_t armable = now.armable;
    now.armable = 0;
    arm(1);
    now.armable = armable;
}

static void condemn(struct kt_task *task) {
    if (task->verdict.code == KT_OK)
        kt_fail(&task->verdict, KT_MEMORY_LIMIT,
                "the scripts of this project used up %zu MiB of memory", task->vm->cap >> 20);
}

static void collect(lua_State *L) {
    struct kt_vm *vm = now.vm;
    now.collect = false;
    if (vm->denied) { /* pcall may have caught it: the run ends all the same */
        condemn(now.task);
        return;
    }
    for (;;) {
        vm->enforce = false; /* a collection may need a little memory itself */
        lua_gc(L, LUA_GCCOLLECT, 0);
        vm->enforce = true;
        if (vm->used < vm->cap / 8 * 7)
            break;
        int64_t grown = (int64_t)vm->used - (int64_t)now.used_mark + now.task->bytes;
        struct kt_task *largest = kt_task_largest(vm, now.task);
        if (largest == NULL || largest->bytes <= grown) {
            condemn(now.task);
            return;
        }
        condemn(largest);
        kt_task_abandon(largest, L); /* its end is told when this one has left the state */
        now.abandoned = true;
    }
    set_pressure(vm);
}

static void on_hook(lua_State *L, lua_Debug *ar) {
    struct kt_task *task = now.task;
    (void)ar;
    if (now.collect)
        collect(L);
    if (exact(task))
        task->spent += (uint64_t)now.count;
    if (!exact(task) || now.ticks > 0) /* the clock costs more than the hook */
        charge_time(task);
    judge(task);

    bool over = task->verdict.code != KT_OK;
    if (!over && !slice_is_over() && slice_every <= 0) { /* a collection, or counting */
        now.armable = 0;
        if (exact(task)) {
            arm(EXACT_COUNT);
        } else {
            lua_sethook(L, NULL, 0, 0);
            now.armed = 0;
        }
        now.armable = 1;
        return;
    }
    if (lua_isyieldable(L)) {
        if (L == task->co)
            task->sliced = true;
        else if (!over)
            task->inner_slices++;
        lua_yield(L, 0);
        return;
    }
    if (!over && now.ticks > SLICE_TICKS + BLOCKED_TICKS) {
        kt_fail(&task->verdict, KT_INSTRUCTION_LIMIT,
                "the script ran too long inside a callback that cannot be interrupted");
        over = true;
    }
    rearm(over ? 1 : BLOCKED_COUNT);
    if (over)
        luaL_error(L, "%s", task->verdict.message);
}

void kt_hook_slice_every(int count) {
    slice_every = count;
}

void kt_hook_init(struct kt_vm *vm) {
    vm->on_pressure = on_pressure;
    set_pressure(vm);
}

void kt_hook_enter(struct kt_task *task) {
    struct kt_vm *vm = task->vm;
    start_ticks();
    now.vm = vm;
    now.task = task;
    now.collect = false;
    now.ticks = 0;
    now.cuttable = now.cuttable && task->passed <= CUT_DEPTH;
    task->passed = 0;
    now.armed = 0;
    now.used_mark = vm->used;
    now.cpu_mark = cpu_ns();
    if (vm->pressure == 0)
        set_pressure(vm);
    vm->denied = false;
    vm->enforce = true;
    if (slice_every > 0)
        arm(slice_every);
    else if (exact(task))
        arm(EXACT_COUNT);
    now.armable = 1;
    if (slice_is_over() && !now.armed) /* by a signal just now */
        rearm(1);
}

void kt_hook_leave(struct kt_task *task) {
    struct kt_vm *vm = task->vm;
    now.armable = 0;
    vm->enforce = false;
    if (now.armed)
        lua_sethook(vm->L, NULL, 0, 0);
    charge_time(task);
    task->bytes += (int64_t)vm->used - (int64_t)now.used_mark;
    if (task->bytes < 0)
        task->bytes = 0;
    if (vm->denied)
        condemn(task);
    judge(task);
    now.vm = NULL;
    now.task = NULL;
    if (now.abandoned)
        kt_task_kill_abandoned(vm);
    now.abandoned = false;
}

void kt_hook_charge(lua_State *L, uint64_t steps) {
    struct kt_task *task = kt_task_current(L);
    if (task == NULL || task->vm->kind != KT_VM_SCRIPT)
        return;
    task->spent += steps;
    judge(task);
    if (task->verdict.code == KT_OK)
        return;
    rearm(1);
    luaL_error(L, "%s", task->verdict.message);
}

uint64_t kt_hook_left(lua_State *L) {
    struct kt_task *task = kt_task_current(L);
    if (task == NULL || task->vm->kind != KT_VM_SCRIPT)
        return UINT64_MAX;
    return task->spent >= task->limit ? 0 : task->limit - task->spent;
}

bool kt_hook_take_inner(lua_State *L) {
    struct kt_task *task = kt_task_current(L);
    if (task == NULL || task->inner_slices == 0)
        return false;
    task->inner_slices--;
    task->passed++;
    return true;
}
