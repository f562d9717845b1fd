/* rlimits and seccomp of an analyst process. */
#include "proc/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int limit(int what, rlim_t soft, rlim_t hard, struct kt_error *err) {
    struct rlimit now, wanted = {soft, hard};
    if (getrlimit(what, &now) == 0 && now.rlim_max != RLIM_INFINITY && now.rlim_max < hard) {
        wanted.rlim_max = now.rlim_max; /* a hard limit only ever sinks */
        if (wanted.rlim_cur > wanted.rlim_max)
            wanted.rlim_cur = wanted.rlim_max;
    }
    if (setrlimit(what, &wanted) != 0)
        return kt_fail(err, KT_INTERNAL, "setrlimit %d: %s", what, strerror(errno));
    return 0;
}

int kt_limits_apply(size_t memory, unsigned cpu_seconds, pid_t parent, struct kt_error *err) {
    int rc = limit(RLIMIT_CPU, cpu_seconds, cpu_seconds + 1, err);
    if (rc == 0)
        rc = limit(RLIMIT_NOFILE, 64, 64, err);
    if (rc == 0)
        rc = limit(RLIMIT_CORE, 0, 0, err);
#ifndef KT_ASAN /* its shadow needs the address space, its reports are files */
    if (rc == 0)
        rc = limit(RLIMIT_FSIZE, 0, 0, err);
    if (rc == 0)
        rc = limit(RLIMIT_AS, memory, memory, err);
#else
    (void)memory;
#endif
    if (rc != 0)
        return rc;
    signal(SIGXFSZ, SIG_IGN); /* a write to a file fails instead of killing us without a word */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return kt_fail(err, KT_INTERNAL, "prctl: %s", strerror(errno));
    if (getppid() != parent) /* it died before we asked to be told */
        return kt_fail(err, KT_CANCELLED, "the parent is gone");
    return 0;
}

static bool world_is_out; /* step 1 is in force */

#ifndef KT_ASAN
/* Everything that LuaJIT with its JIT, glibc's malloc and stdio, and reading a file need. */
static const int allowed[] = {
    SCMP_SYS(read),          SCMP_SYS(readv),        SCMP_SYS(pread64),
    SCMP_SYS(write),         SCMP_SYS(writev),       SCMP_SYS(lseek),
    SCMP_SYS(close),         SCMP_SYS(fstat),        SCMP_SYS(newfstatat),
    SCMP_SYS(fadvise64),     SCMP_SYS(mmap),         SCMP_SYS(munmap),
    SCMP_SYS(mremap),        SCMP_SYS(mprotect),     SCMP_SYS(madvise),
    SCMP_SYS(brk),           SCMP_SYS(futex),        SCMP_SYS(sched_yield),
    SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),     SCMP_SYS(getrandom),    SCMP_SYS(getpid),
    SCMP_SYS(gettid),        SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),  SCMP_SYS(sigaltstack),  SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),          SCMP_SYS(exit_group),   SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
};

static int load(scmp_filter_ctx filter, int rc, struct kt_error *err) {
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc == 0 ? 0 : kt_fail(err, KT_INTERNAL, "seccomp: %s", strerror(-rc));
}
#endif

int kt_limits_no_world(struct kt_error *err) {
    world_is_out = true;
#ifdef KT_ASAN
    (void)err;
    return 0;
#else
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory");
    int rc = 0;
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0] && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                              SCMP_A2(SCMP_CMP_MASKED_EQ,
                                      O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY),
                                      O_RDONLY));
    /* abort() raises in its own thread; to others no signal goes. */
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                              SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    /* The second filter is loaded under the first. */
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(seccomp), 0);
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                              SCMP_A0(SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS));
    return load(filter, rc, err);
#endif
}

int kt_limits_no_files(struct kt_error *err) {
    if (!world_is_out)
        return 0;
#ifdef KT_ASAN
    (void)err;
    return 0;
#else
    static const int closed[] = {SCMP_SYS(openat), SCMP_SYS(seccomp), SCMP_SYS(prctl)};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory");
    int rc = 0;
    for (size_t i = 0; i < sizeof closed / sizeof closed[0] && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), closed[i], 0);
    return load(filter, rc, err);
#endif
}
