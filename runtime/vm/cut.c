#include "vm/cut.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/log.h"
#include "vm/hook.h"

struct kt_cut {
    pthread_t thread, loop_thread;
    int loop_fd;
    int wake; /* eventfd: look, or end */
    atomic_bool looking, in_slice, stop;
};

static void wake(struct kt_cut *cut) {
    uint64_t one = 1;
    while (write(cut->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void *look(void *arg) {
    struct kt_cut *cut = arg;
    struct pollfd fds[] = {{.fd = cut->wake, .events = POLLIN},
                           {.fd = cut->loop_fd, .events = POLLIN}};
    uint64_t n;
    for (;;) {
        while (read(cut->wake, &n, sizeof n) < 0 && errno == EINTR)
            ;
        if (atomic_load(&cut->stop))
            return NULL;
        /* Beyond the slice's end: what then comes before the next one begins, the loop sees itself.
         */
        while (poll(fds, 2, -1) < 0 && errno == EINTR)
            ;
        atomic_store(&cut->looking, false);
        if (atomic_load(&cut->in_slice))
            kt_hook_cut(cut->loop_thread);
    }
}

struct kt_cut *kt_cut_new(uv_loop_t *loop) {
    struct kt_cut *cut = calloc(1, sizeof *cut);
    if (cut == NULL)
        return NULL;
    cut->loop_thread = pthread_self();
    cut->loop_fd = uv_backend_fd(loop);
    cut->wake = eventfd(0, EFD_CLOEXEC);
    int rc = cut->wake < 0 ? errno : 0;
    sigset_t all, old; /* the hook's signals belong to the loop's thread */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (rc == 0)
        rc = pthread_create(&cut->thread, NULL, look, cut);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0) {
        pthread_setname_np(cut->thread, "cut");
        return cut;
    }
    kt_log(KT_WARN, "vm.no_cut", "msg", strerror(rc), NULL);
    if (cut->wake >= 0)
        close(cut->wake);
    free(cut);
    return NULL;
}

void kt_cut_free(struct kt_cut *cut) {
    if (cut == NULL)
        return;
    atomic_store(&cut->stop, true);
    wake(cut);
    pthread_join(cut->thread, NULL);
    close(cut->wake);
    free(cut);
}

void kt_cut_begin(struct kt_cut *cut) {
    kt_hook_cuttable(true);
    atomic_store(&cut->in_slice, true);
    if (!atomic_exchange(&cut->looking, true))
        wake(cut);
}

void kt_cut_end(struct kt_cut *cut) {
    atomic_store(&cut->in_slice, false);
    kt_hook_cuttable(false);
}
