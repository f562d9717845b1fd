/* Metrics of this process in the text format of Prometheus: counters, gauges, histograms, with
 * labels. A label keeps at most KT_METRIC_VALUES_MAX different values, later ones count as
 * "other", so that tenants cannot fill the memory. Any thread. */
#pragma once

#include "core/buf.h"
#include "core/err.h"

#define KT_METRIC_VALUES_MAX 1000
#define KT_METRIC_LABELS_MAX 6

enum kt_metric_kind { KT_COUNTER, KT_GAUGE, KT_HISTOGRAM };

struct kt_metric; /* lives until the process ends */

/* Names are [a-z_][a-z0-9_]*, kept as given. Asking again for a name gives the same metric; with
 * another kind or other labels it is KT_INVALID_ARGUMENT. NULL on failure. */
struct kt_metric *kt_metric(const char *name, const char *help, enum kt_metric_kind kind,
                            const char *const *labels, int label_count, struct kt_error *err);

/* `values`: one text a label, in the order of the labels. */
void kt_metric_add(struct kt_metric *m, const char *const *values, double n); /* counter: n >= 0 */
void kt_metric_set(struct kt_metric *m, const char *const *values, double value); /* a gauge */
/* A histogram of seconds, buckets from 1 ms to 60 s. */
void kt_metric_observe(struct kt_metric *m, const char *const *values, double value);
/* The same for labels that come again and again: looked up once, kept by the caller for as long as the
 * process lives. NULL without memory; adding to NULL does nothing. */
struct kt_series;
struct kt_series *kt_metric_series(struct kt_metric *m, const char *const *values);
void kt_series_add(struct kt_series *s, double n);         /* of a counter or gauge */
void kt_series_observe(struct kt_series *s, double value); /* of a histogram */
int kt_metric_labels(const struct kt_metric *m, const char *const **labels);
enum kt_metric_kind kt_metric_kind(const struct kt_metric *m);

void kt_metrics_render(struct kt_buf *out); /* all, in the order they were made */
void kt_metrics_free(void);                 /* for tests and the end: every kt_metric is gone */
