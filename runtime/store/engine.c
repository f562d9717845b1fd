/* What every engine shares: requests and their ends. */
#include "store/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/module.h"
#include "store/val.h"

const struct kt_engine_class *kt_engine_of(const struct kt_store_config *config,
                                           struct kt_error *err) {
    struct kt_error why;
    if (config->url == NULL && config->project_users) {
        kt_fail(
            err, KT_INVALID_ARGUMENT,
            "KONTOR_PROJECT_USERS is set, but MONGODB_URL is not: the embedded store has no users");
        return NULL;
    }
    if (config->url == NULL)
        return &kt_engine_sqlite;
    /* The driver counts in a file of shared memory, from when it is loaded; a killed process would
     * leave that. */
    setenv("MONGOC_DISABLE_SHM", "1", 1);
    const struct kt_engine_class *class = kt_module("kontor-mongodb", "kt_engine_mongo", &why);
    if (class == NULL)
        kt_fail(err, KT_INTERNAL, "MONGODB_URL is set, but the MongoDB engine cannot be loaded: %s",
                why.message);
    return class;
}

int64_t kt_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int kt_limit_check(const struct kt_limit *limit, struct kt_error *err) {
    if (limit == NULL)
        return 0;
    if (atomic_load_explicit(&limit->cancelled, memory_order_relaxed))
        return kt_fail(err, KT_CANCELLED, "cancelled");
    if (limit->until_ns != 0 && kt_now_ns() >= limit->until_ns)
        return kt_fail(err, KT_DEADLINE_EXCEEDED, "the store did not answer in time");
    return 0;
}

static void free_doc(bson_t **doc) {
    if (*doc != NULL)
        bson_destroy(*doc);
    *doc = NULL;
}

bool kt_is_lookup(const struct kt_read *r) {
    const struct kt_cond *id = r->filter.conds;
    return r->kind == KT_FIND && r->limit == 1 && r->filter.count == 1 &&
           r->filter.branch_count == 0 && r->sort.count == 0 && r->after == NULL &&
           r->fields == NULL && (r->one || !r->json) && id->op == KT_EQ &&
           strcmp(id->path, "_id") == 0 && id->value.value_type == BSON_TYPE_UTF8;
}

void kt_read_free(struct kt_read *r) {
    kt_filter_free(&r->filter);
    free_doc(&r->after);
    free(r->fields);
    free(r->group);
    kt_buf_free(&r->out);
    free_doc(&r->last);
}

void kt_write_free(struct kt_write *w) {
    kt_filter_free(&w->filter);
    kt_update_free(&w->update);
    kt_buf_free(&w->docs);
    free(w->fields);
    free_doc(&w->upserted);
    free_doc(&w->doc);
}

void kt_commit_free(struct kt_commit *c) {
    for (int i = 0; i < c->count; i++)
        kt_write_free(&c->writes[i]);
    free(c->writes);
    c->writes = NULL;
    c->count = 0;
}

void kt_commit_clear(struct kt_commit *c) {
    c->rc = 0;
    c->error.code = KT_OK;
    c->failed_at = -1;
    c->number = 0;
    c->failed_key[0] = '\0';
    c->outcome_unknown = false;
    for (int i = 0; i < c->count; i++) {
        c->writes[i].matched = c->writes[i].modified = 0;
        free_doc(&c->writes[i].upserted);
        free_doc(&c->writes[i].doc);
    }
}

void kt_doc_project(const bson_t *doc, const char *fields, bson_t *out) {
    bson_iter_t it;
    if (!bson_iter_init(&it, doc))
        return;
    while (bson_iter_next(&it)) {
        const char *key = bson_iter_key(&it);
        bool keep = strcmp(key, "_id") == 0;
        for (const char *f = fields; !keep && *f != '\0'; f += strlen(f) + 1)
            keep = strcmp(f, key) == 0;
        if (keep)
            bson_append_iter(out, NULL, 0, &it);
    }
}

bson_t *kt_sort_values(const struct kt_sort *s, const bson_t *doc) {
    bson_t *values = bson_new();
    for (int i = 0; i < s->count; i++) {
        const bson_value_t *v = NULL;
        bson_iter_t it;
        bool array;
        char text[16];
        const char *key;
        size_t len = bson_uint32_to_string((uint32_t)i, &key, text, sizeof text);
        if (kt_doc_get(doc, s->keys[i].path, &it, &v, &array))
            bson_append_value(values, key, (int)len, v);
        else
            bson_append_null(values, key, (int)len);
    }
    return values;
}

int kt_too_large(struct kt_error *err) {
    return kt_fail(err, KT_BODY_TOO_LARGE, "the answer is above %u MiB: ask for less at a time",
                   KT_RESULT_MAX >> 20);
}
