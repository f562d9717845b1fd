/* The registry of metrics: families in a list, the series of each in a hash table. */
#include "core/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                0.5,   1,      2.5,   5,    10,    30,   60};
#define BUCKETS ((int)(sizeof bounds / sizeof bounds[0]))

/* A table of strings with a value of the caller's size behind each; insertion order is kept. */
struct kt_series {
    struct kt_series *chain, *after;
    uint32_t hash;
    size_t len;
    char *key;
    double numbers[]; /* value; or sum, count, buckets */
};
struct table {
    struct kt_series **slots;
    size_t slot_count, count;
    struct kt_series *first, **last;
};

struct kt_metric {
    char *name, *help;
    enum kt_metric_kind kind;
    int label_count;
    char *labels[KT_METRIC_LABELS_MAX];
    struct table seen[KT_METRIC_LABELS_MAX]; /* values of each label, for the cap */
    struct table series;                     /* key: the rendered labels */
    struct kt_metric *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kt_metric *first, **last = &first;

static uint32_t hash_of(const char *s, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

static struct kt_series *table_find(struct table *t, const char *key, size_t len) {
    if (t->slot_count == 0)
        return NULL;
    uint32_t hash = hash_of(key, len);
    struct kt_series *e = t->slots[hash & (t->slot_count - 1)];
    while (e != NULL && (e->hash != hash || e->len != len || memcmp(e->key, key, len) != 0))
        e = e->chain;
    return e;
}

static bool table_grow(struct table *t) {
    size_t n = t->slot_count == 0 ? 16 : t->slot_count * 2;
    struct kt_series **slots = calloc(n, sizeof *slots);
    if (slots == NULL)
        return false;
    free(t->slots);
    t->slots = slots;
    t->slot_count = n;
    if (t->last == NULL)
        t->last = &t->first;
    for (struct kt_series *e = t->first; e != NULL; e = e->after) {
        e->chain = slots[e->hash & (n - 1)];
        slots[e->hash & (n - 1)] = e;
    }
    return true;
}

/* NULL without memory: the sample is lost, the service goes on. */
static struct kt_series *table_add(struct table *t, const char *key, size_t len, int numbers) {
    if (t->count >= t->slot_count && !table_grow(t))
        return NULL;
    struct kt_series *e = calloc(1, sizeof *e + sizeof(double) * (size_t)numbers);
    char *copy = malloc(len + 1);
    if (e == NULL || copy == NULL) {
        free(e);
        free(copy);
        return NULL;
    }
    memcpy(copy, key, len);
    copy[len] = '\0';
    e->key = copy;
    e->len = len;
    e->hash = hash_of(key, len);
    e->chain = t->slots[e->hash & (t->slot_count - 1)];
    t->slots[e->hash & (t->slot_count - 1)] = e;
    *t->last = e;
    t->last = &e->after;
    t->count++;
    return e;
}

static void table_free(struct table *t) {
    for (struct kt_series *e = t->first, *next; e != NULL; e = next) {
        next = e->after;
        free(e->key);
        free(e);
    }
    free(t->slots);
    *t = (struct table){0};
}

static bool good_name(const char *s) {
    if ((*s < 'a' || *s > 'z') && *s != '_')
        return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(s);
}

static bool same(const struct kt_metric *m, enum kt_metric_kind kind, const char *const *labels,
                 int label_count) {
    if (m->kind != kind || m->label_count != label_count)
        return false;
    for (int i = 0; i < label_count; i++)
        if (strcmp(m->labels[i], labels[i]) != 0)
            return false;
    return true;
}

static void metric_free(struct kt_metric *m) {
    free(m->name);
    free(m->help);
    for (int i = 0; i < m->label_count; i++) {
        free(m->labels[i]);
        table_free(&m->seen[i]);
    }
    table_free(&m->series);
    free(m);
}

struct kt_metric *kt_metric(const char *name, const char *help, enum kt_metric_kind kind,
                            const char *const *labels, int label_count, struct kt_error *err) {
    bool good = good_name(name) && label_count <= KT_METRIC_LABELS_MAX;
    for (int i = 0; good && i < label_count; i++)
        good = good_name(labels[i]);
    if (!good) {
        kt_fail(err, KT_INVALID_ARGUMENT, "metric %s: bad name, bad label or more than %d labels",
                name, KT_METRIC_LABELS_MAX);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    struct kt_metric *m = first;
    while (m != NULL && strcmp(m->name, name) != 0)
        m = m->next;
    if (m != NULL) {
        if (!same(m, kind, labels, label_count)) {
            kt_fail(err, KT_INVALID_ARGUMENT, "metric %s is there with another kind or labels", name);
            m = NULL;
        }
        goto out;
    }
    m = calloc(1, sizeof *m);
    if (m != NULL) {
        m->name = strdup(name);
        m->help = strdup(help);
        m->kind = kind;
        for (; m->label_count < label_count; m->label_count++)
            m->labels[m->label_count] = strdup(labels[m->label_count]);
        *last = m;
        last = &m->next;
    } else
        kt_fail(err, KT_NO_MEMORY, "no memory");
out:
    pthread_mutex_unlock(&lock);
    return m;
}

/* The value as it counts: itself while the label has room, else "other". */
static const char *capped(struct table *seen, const char *value) {
    size_t len = strlen(value);
    if (table_find(seen, value, len) != NULL)
        return value;
    if (seen->count >= KT_METRIC_VALUES_MAX || table_add(seen, value, len, 0) == NULL)
        return "other";
    return value;
}

static struct kt_series *series_of(struct kt_metric *m, const char *const *values) {
    struct kt_buf key = KT_BUF_INIT;
    for (int i = 0; i < m->label_count; i++) {
        kt_buf_addf(&key, "%s%s=\"", i > 0 ? "," : "", m->labels[i]);
        for (const char *s = capped(&m->seen[i], values[i]); *s != '\0'; s++) {
            if (*s == '\n') {
                kt_buf_adds(&key, "\\n");
                continue;
            }
            if (*s == '"' || *s == '\\')
                kt_buf_addc(&key, '\\');
            kt_buf_addc(&key, *s);
        }
        kt_buf_addc(&key, '"');
    }
    struct kt_series *e = NULL;
    if (!key.failed) {
        const char *text = key.len > 0 ? key.data : "";
        e = table_find(&m->series, text, key.len);
        if (e == NULL)
            e = table_add(&m->series, text, key.len, m->kind == KT_HISTOGRAM ? 2 + BUCKETS : 1);
    }
    kt_buf_free(&key);
    return e;
}

void kt_metric_add(struct kt_metric *m, const char *const *values, double n) {
    pthread_mutex_lock(&lock);
    struct kt_series *e = series_of(m, values);
    if (e != NULL && m->kind != KT_HISTOGRAM && (n >= 0 || m->kind == KT_GAUGE))
        e->numbers[0] += n;
    pthread_mutex_unlock(&lock);
}

void kt_metric_set(struct kt_metric *m, const char *const *values, double value) {
    pthread_mutex_lock(&lock);
    struct kt_series *e = series_of(m, values);
    if (e != NULL && m->kind == KT_GAUGE)
        e->numbers[0] = value;
    pthread_mutex_unlock(&lock);
}

static void observe(struct kt_series *e, double value) {
    if (isnan(value))
        return;
    e->numbers[0] += value;
    e->numbers[1] += 1;
    for (int i = 0; i < BUCKETS; i++)
        if (value <= bounds[i]) {
            e->numbers[2 + i] += 1;
            break;
        }
}

void kt_metric_observe(struct kt_metric *m, const char *const *values, double value) {
    pthread_mutex_lock(&lock);
    struct kt_series *e = series_of(m, values);
    if (e != NULL && m->kind == KT_HISTOGRAM)
        observe(e, value);
    pthread_mutex_unlock(&lock);
}

struct kt_series *kt_metric_series(struct kt_metric *m, const char *const *values) {
    pthread_mutex_lock(&lock);
    struct kt_series *e = series_of(m, values);
    pthread_mutex_unlock(&lock);
    return e;
}

void kt_series_add(struct kt_series *s, double n) {
    if (s == NULL)
        return;
    pthread_mutex_lock(&lock);
    s->numbers[0] += n;
    pthread_mutex_unlock(&lock);
}

void kt_series_observe(struct kt_series *s, double value) {
    if (s == NULL)
        return;
    pthread_mutex_lock(&lock);
    observe(s, value);
    pthread_mutex_unlock(&lock);
}

int kt_metric_labels(const struct kt_metric *m, const char *const **labels) {
    *labels = (const char *const *)m->labels;
    return m->label_count;
}

enum kt_metric_kind kt_metric_kind(const struct kt_metric *m) {
    return m->kind;
}

static void number(struct kt_buf *out, double v) {
    if (isinf(v))
        kt_buf_adds(out, v > 0 ? "+Inf" : "-Inf");
    else if (v == floor(v) && fabs(v) < 1e15)
        kt_buf_addf(out, "%.0f", v);
    else
        kt_buf_addf(out, "%.17g", v);
}

static void sample(struct kt_buf *out, const char *name, const char *suffix, const char *labels,
                   double value) {
    kt_buf_addf(out, *labels != '\0' ? "%s%s{%s} " : "%s%s%s ", name, suffix, labels);
    number(out, value);
    kt_buf_addc(out, '\n');
}

static void render_histogram(struct kt_buf *out, const struct kt_metric *m, const struct kt_series *e) {
    double below = 0;
    const char *comma = e->len > 0 ? "," : "";
    for (int i = 0; i < BUCKETS; i++) {
        below += e->numbers[2 + i];
        kt_buf_addf(out, "%s_bucket{%s%sle=\"%g\"} %.0f\n", m->name, e->key, comma, bounds[i], below);
    }
    kt_buf_addf(out, "%s_bucket{%s%sle=\"+Inf\"} %.0f\n", m->name, e->key, comma, e->numbers[1]);
    sample(out, m->name, "_sum", e->key, e->numbers[0]);
    sample(out, m->name, "_count", e->key, e->numbers[1]);
}

void kt_metrics_render(struct kt_buf *out) {
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    pthread_mutex_lock(&lock);
    for (const struct kt_metric *m = first; m != NULL; m = m->next) {
        kt_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, kinds[m->kind]);
        for (const struct kt_series *e = m->series.first; e != NULL; e = e->after)
            if (m->kind == KT_HISTOGRAM)
                render_histogram(out, m, e);
            else
                sample(out, m->name, "", e->key, e->numbers[0]);
    }
    pthread_mutex_unlock(&lock);
}

void kt_metrics_free(void) {
    pthread_mutex_lock(&lock);
    for (struct kt_metric *m = first, *next; m != NULL; m = next) {
        next = m->next;
        metric_free(m);
    }
    first = NULL;
    last = &first;
    pthread_mutex_unlock(&lock);
}
