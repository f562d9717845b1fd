/* The thread pool: every job submitted is run and done once; the queue is bounded. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>

#include "core/pool.h"

struct job {
    struct kt_job job; /* first */
    int ran, done;
    pthread_t on;
};

static sem_t gate;
static int gated;

static void run(struct kt_job *job) {
    struct job *j = (struct job *)job;
    if (gated)
        sem_wait(&gate);
    j->ran++;
    j->on = pthread_self();
}

static void done(struct kt_job *job) {
    ((struct job *)job)->done++;
}

static void runs_all_and_lets_the_loop_end(void **state) {
    (void)state;
    uv_loop_t loop;
    uv_loop_init(&loop);
    struct kt_pool *pool = kt_pool_new(&loop, "test", 3, 1000, NULL);
    assert_non_null(pool);
    struct job jobs[500] = {0};
    for (int i = 0; i < 500; i++) {
        jobs[i].job = (struct kt_job){run, done, NULL};
        assert_int_equal(kt_pool_submit(pool, &jobs[i].job, NULL), 0);
    }
    assert_int_equal(kt_pool_pending(pool), 500);
    uv_run(&loop, UV_RUN_DEFAULT); /* returns: an idle pool keeps no loop alive */
    assert_int_equal(kt_pool_pending(pool), 0);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(jobs[i].ran, 1);
        assert_int_equal(jobs[i].done, 1);
        assert_false(pthread_equal(jobs[i].on, pthread_self()));
    }
    kt_pool_free(pool);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void refuses_when_full(void **state) {
    (void)state;
    uv_loop_t loop;
    uv_loop_init(&loop);
    sem_init(&gate, 0, 0);
    gated = 1;
    struct kt_pool *pool = kt_pool_new(&loop, "full", 1, 2, NULL);
    struct job jobs[8] = {0};
    struct kt_error err;
    int taken = 0, rc = 0;
    for (; taken < 8; taken++) {
        jobs[taken].job = (struct kt_job){run, done, NULL};
        if ((rc = kt_pool_submit(pool, &jobs[taken].job, &err)) != 0)
            break;
    }
    assert_int_equal(rc, -KT_OVERLOADED);
    assert_in_range(taken, 2, 3); /* two wait, and the thread may have taken one by now */
    for (int i = 0; i < taken; i++)
        sem_post(&gate);
    kt_pool_free(pool); /* with jobs still waiting: they are run and done first */
    for (int i = 0; i < taken; i++)
        assert_int_equal(jobs[i].done, 1);
    assert_int_equal(jobs[taken].ran + jobs[taken].done, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    gated = 0;
    sem_destroy(&gate);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_all_and_lets_the_loop_end),
        cmocka_unit_test(refuses_when_full),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
