/* Metrics: what Prometheus reads, the cap of label values, wrong use. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "core/metrics.h"

static struct kt_buf text;

static int teardown(void **state) {
    (void)state;
    kt_metrics_free();
    kt_buf_free(&text);
    return 0;
}

static const char *render(void) {
    kt_buf_clear(&text);
    kt_metrics_render(&text);
    return kt_buf_cstr(&text);
}

static void counts_and_escapes(void **state) {
    (void)state;
    const char *labels[] = {"route", "status"};
    const char *values[] = {"a\"b\\c\nd", "200"}, *none[] = {NULL};
    struct kt_metric *m = kt_metric("hits_total", "Hits.", KT_COUNTER, labels, 2, NULL);
    kt_metric_add(m, values, 1);
    kt_metric_add(m, values, 2.5);
    kt_metric_add(m, values, -1); /* a counter never falls */
    assert_ptr_equal(kt_metric("hits_total", "Hits.", KT_COUNTER, labels, 2, NULL), m);
    struct kt_metric *g = kt_metric("load", "Load.", KT_GAUGE, NULL, 0, NULL);
    kt_metric_set(g, none, 7);
    kt_metric_add(g, none, -9);
    assert_string_equal(render(), "# HELP hits_total Hits.\n# TYPE hits_total counter\n"
                                  "hits_total{route=\"a\\\"b\\\\c\\nd\",status=\"200\"} 3.5\n"
                                  "# HELP load Load.\n# TYPE load gauge\nload -2\n");
}

static void buckets_add_up(void **state) {
    (void)state;
    const char *labels[] = {"op"}, *values[] = {"x"};
    struct kt_metric *m = kt_metric("seconds", "S.", KT_HISTOGRAM, labels, 1, NULL);
    kt_metric_observe(m, values, 0.001);
    kt_metric_observe(m, values, 0.3);
    kt_metric_observe(m, values, 1000);
    render();
    assert_non_null(strstr(text.data, "seconds_bucket{op=\"x\",le=\"0.001\"} 1\n"));
    assert_non_null(strstr(text.data, "seconds_bucket{op=\"x\",le=\"0.25\"} 1\n"));
    assert_non_null(strstr(text.data, "seconds_bucket{op=\"x\",le=\"0.5\"} 2\n"));
    assert_non_null(strstr(text.data, "seconds_bucket{op=\"x\",le=\"60\"} 2\n"));
    assert_non_null(strstr(text.data, "seconds_bucket{op=\"x\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text.data, "seconds_count{op=\"x\"} 3\n"));
}

static void caps_the_values_of_a_label(void **state) {
    (void)state;
    const char *labels[] = {"project"};
    struct kt_metric *m = kt_metric("runs_total", "R.", KT_COUNTER, labels, 1, NULL);
    for (int i = 0; i < KT_METRIC_VALUES_MAX + 50; i++) {
        char name[20];
        const char *values[] = {name};
        snprintf(name, sizeof name, "p%d", i);
        kt_metric_add(m, values, 1);
        kt_metric_add(m, values, 1);
    }
    render();
    assert_non_null(strstr(text.data, "{project=\"p999\"} 2\n"));
    assert_non_null(strstr(text.data, "{project=\"other\"} 100\n"));
    assert_null(strstr(text.data, "{project=\"p1000\"}"));
}

static void refuses_another_shape(void **state) {
    (void)state;
    struct kt_error err;
    const char *labels[] = {"a"}, *bad[] = {"a-b"};
    assert_non_null(kt_metric("m", "M.", KT_GAUGE, labels, 1, NULL));
    assert_null(kt_metric("m", "M.", KT_COUNTER, labels, 1, &err));
    assert_null(kt_metric("m", "M.", KT_GAUGE, NULL, 0, &err));
    assert_null(kt_metric("n", "M.", KT_GAUGE, bad, 1, &err));
    assert_null(kt_metric("1n", "M.", KT_GAUGE, NULL, 0, &err));
    assert_int_equal(err.code, KT_INVALID_ARGUMENT);
}

int main(void) {
#define T(f) cmocka_unit_test_teardown(f, teardown)
    const struct CMUnitTest tests[] = {T(counts_and_escapes), T(buckets_add_up),
                                       T(caps_the_values_of_a_label), T(refuses_another_shape)};
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
