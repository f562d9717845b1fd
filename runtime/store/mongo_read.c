/* Reads: find, count, group, distinct. Documents go from the driver's buffer to the answer, as BSON
 * or as JSON, on the store's thread. */
#include <stdlib.h>
#include <string.h>

#include "store/mongo.h"
#include "store/val.h"

#define DISTINCT_MAX 10000

static int find_row(struct kt_read *r, const bson_t *doc, struct kt_error *err) {
    int rc = 0;
    if (r->json) {
        if (!r->one && r->count > 0)
            kt_buf_addc(&r->out, ',');
        rc = kt_value_json(doc, r->view, &r->out, err);
    } else if (r->fields != NULL && r->sort.count > 0) {
        bson_t less = BSON_INITIALIZER; /* the values of the sort came along */
        kt_doc_project(doc, r->fields, &less);
        kt_buf_add(&r->out, bson_get_data(&less), less.len);
        bson_destroy(&less);
    } else
        kt_buf_add(&r->out, bson_get_data(doc), doc->len);
    r->count++;
    if (rc == 0 && r->count == r->limit && r->sort.count > 0)
        r->last = kt_sort_values(&r->sort, doc);
    return rc == 0 && r->out.len > KT_RESULT_MAX ? kt_too_large(err) : rc;
}

/* What a find and the first stages of an aggregation share. */
static void add_filter(const struct kt_read *r, bson_t *out) {
    if (r->after != NULL)
        mg_filter_after(&r->filter, &r->sort, r->after, out);
    else
        mg_filter(&r->filter, out);
}

static int run(mongoc_client_t *client, const char *db, const bson_t *command, bson_t *reply,
               struct kt_error *err) {
    bson_error_t error;
    if (mongoc_client_read_command_with_opts(client, db, command, NULL, NULL, reply, &error))
        return 0;
    return mg_fail(&error, reply, false, err);
}

static bool is_field(const char *fields, const char *path) {
    size_t n = strcspn(path, ".");
    for (const char *f = fields; *f != '\0'; f += strlen(f) + 1)
        if (strlen(f) == n && memcmp(f, path, n) == 0)
            return true;
    return n == 3 && memcmp(path, "_id", 3) == 0;
}

/* The sort's values must be in the answer for the next page, whatever fields are wanted. */
static void add_projection(const struct kt_read *r, bson_t *command) {
    bson_t fields;
    if (r->fields == NULL || r->json)
        return;
    BSON_APPEND_DOCUMENT_BEGIN(command, "projection", &fields);
    mg_fields(r->fields, &fields);
    for (int i = 0; i < r->sort.count; i++)
        if (!is_field(r->fields, r->sort.keys[i].path))
            bson_append_int32(&fields, r->sort.keys[i].path, -1, 1);
    bson_append_document_end(command, &fields);
}

static int find(mongoc_client_t *client, const char *db, struct kt_read *r, struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, part, reply, opts = BSON_INITIALIZER;
    bson_error_t error;
    const bson_t *doc;
    bool single = r->limit == 1;
    BSON_APPEND_UTF8(&command, "find", r->coll);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &part);
    add_filter(r, &part);
    bson_append_document_end(&command, &part);
    if (r->sort.count > 0) {
        BSON_APPEND_DOCUMENT_BEGIN(&command, "sort", &part);
        mg_sort(&r->sort, &part);
        bson_append_document_end(&command, &part);
    }
    if (r->limit > 0)
        BSON_APPEND_INT64(&command, "limit", r->limit);
    /* The whole of a page in one answer. */
    BSON_APPEND_INT64(&command, "batchSize", r->limit > 0 && r->limit < 1000 ? r->limit : 1000);
    BSON_APPEND_BOOL(&command, "singleBatch", single);
    add_projection(r, &command);
    BSON_APPEND_INT64(&command, "maxTimeMS", mg_time(&r->limits));
    int rc = run(client, db, &command, &reply, err);
    bson_destroy(&command);
    if (rc != 0) {
        bson_destroy(&reply);
        return rc;
    }
    /* Takes the reply. */
    mongoc_cursor_t *cursor = mongoc_cursor_new_from_command_reply_with_opts(client, &reply, &opts);
    while (rc == 0 && mongoc_cursor_next(cursor, &doc))
        if ((rc = find_row(r, doc, err)) == 0 && r->count % 128 == 0)
            rc = kt_limit_check(&r->limits, err);
    const bson_t *broken;
    if (rc == 0 && mongoc_cursor_error_document(cursor, &error, &broken))
        rc = mg_fail(&error, broken, false, err);
    mongoc_cursor_destroy(cursor);
    bson_destroy(&opts);
    return rc;
}

/* {aggregate: coll, pipeline: [{$match: filter}, …: still open in *stages */
static void begin_pipeline(const struct kt_read *r, bson_t *command, bson_t *stages) {
    bson_t stage, match;
    BSON_APPEND_UTF8(command, "aggregate", r->coll);
    BSON_APPEND_ARRAY_BEGIN(command, "pipeline", stages);
    BSON_APPEND_DOCUMENT_BEGIN(stages, "0", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$match", &match);
    add_filter(r, &match);
    bson_append_document_end(&stage, &match);
    bson_append_document_end(stages, &stage);
}

static void end_pipeline(const struct kt_read *r, bson_t *command, bson_t *stages) {
    bson_t cursor;
    bson_append_array_end(command, stages);
    BSON_APPEND_DOCUMENT_BEGIN(command, "cursor", &cursor);
    bson_append_document_end(command, &cursor);
    BSON_APPEND_INT64(command, "maxTimeMS", mg_time(&r->limits));
}

static void limit_stage(bson_t *stages, const char *key, int64_t limit) {
    bson_t stage;
    bson_append_document_begin(stages, key, -1, &stage);
    BSON_APPEND_INT64(&stage, "$limit", limit);
    bson_append_document_end(stages, &stage);
}

static int count(mongoc_client_t *client, const char *db, struct kt_read *r, struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, stages, stage, group, sum, reply;
    bson_iter_t it, row;
    begin_pipeline(r, &command, &stages);
    if (r->limit > 0)
        limit_stage(&stages, "1", r->limit);
    BSON_APPEND_DOCUMENT_BEGIN(&stages, "2", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$group", &group);
    BSON_APPEND_NULL(&group, "_id");
    BSON_APPEND_DOCUMENT_BEGIN(&group, "n", &sum);
    BSON_APPEND_INT32(&sum, "$sum", 1);
    bson_append_document_end(&group, &sum);
    bson_append_document_end(&stage, &group);
    bson_append_document_end(&stages, &stage);
    end_pipeline(r, &command, &stages);
    int rc = run(client, db, &command, &reply, err);
    if (rc == 0 && bson_iter_init(&it, &reply) &&
        bson_iter_find_descendant(&it, "cursor.firstBatch.0.n", &row))
        r->count = bson_iter_as_int64(&row);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

/* ---- group ---- */

static void group_stage(const struct kt_group *g, bson_t *stages) {
    static const char *const folds[] = {"$sum", "$sum", "$min", "$max"};
    bson_t stage, group, part;
    char path[KT_PATH_MAX + 2];
    BSON_APPEND_DOCUMENT_BEGIN(stages, "1", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$group", &group);
    BSON_APPEND_DOCUMENT_BEGIN(&group, "_id", &part);
    for (int i = 0; i < g->key_count; i++) {
        snprintf(path, sizeof path, "$%s", g->keys[i].path);
        bson_append_utf8(&part, g->keys[i].alias, -1, path, -1);
    }
    bson_append_document_end(&group, &part);
    for (int i = 0; i < g->value_count; i++) {
        const struct kt_group_item *v = &g->values[i];
        bson_append_document_begin(&group, v->alias, -1, &part);
        snprintf(path, sizeof path, "$%s", v->path);
        if (v->fold == KT_COUNT_ROWS)
            BSON_APPEND_INT64(&part, "$sum", 1);
        else
            bson_append_utf8(&part, folds[v->fold], -1, path, -1);
        bson_append_document_end(&group, &part);
    }
    bson_append_document_end(&stage, &group);
    bson_append_document_end(stages, &stage);
}

static bool is_key(const struct kt_group *g, const char *alias) {
    for (int i = 0; i < g->key_count; i++)
        if (strcmp(g->keys[i].alias, alias) == 0)
            return true;
    return false;
}

static void group_sort_stage(const struct kt_read *r, bson_t *stages) {
    bson_t stage, sort;
    char path[KT_PATH_MAX + 8];
    BSON_APPEND_DOCUMENT_BEGIN(stages, "2", &stage);
    BSON_APPEND_DOCUMENT_BEGIN(&stage, "$sort", &sort);
    for (int i = 0; i < r->sort.count; i++) {
        const struct kt_sort_key *k = &r->sort.keys[i];
        snprintf(path, sizeof path, "%s%s", is_key(r->group, k->path) ? "_id." : "", k->path);
        bson_append_int32(&sort, path, -1, k->desc ? -1 : 1);
    }
    bson_append_document_end(&stage, &sort);
    bson_append_document_end(stages, &stage);
}

/* {_id: {keys}, values} as {keys, values}; counts and sums of integers are int64. */
static void add_group_row(struct kt_read *r, const bson_t *row) {
    const struct kt_group *g = r->group;
    bson_t out = BSON_INITIALIZER;
    bson_iter_t it, keys;
    if (bson_iter_init_find(&it, row, "_id") && BSON_ITER_HOLDS_DOCUMENT(&it) &&
        bson_iter_recurse(&it, &keys))
        while (bson_iter_next(&keys))
            bson_append_iter(&out, NULL, 0, &keys);
    for (int i = 0; i < g->value_count; i++) {
        const struct kt_group_item *v = &g->values[i];
        if (!bson_iter_init_find(&it, row, v->alias))
            bson_append_null(&out, v->alias, -1);
        else if (BSON_ITER_HOLDS_INT32(&it) && (v->fold == KT_COUNT_ROWS || v->fold == KT_SUM))
            bson_append_int64(&out, v->alias, -1, bson_iter_int32(&it));
        else
            bson_append_iter(&out, v->alias, -1, &it);
    }
    kt_buf_add(&r->out, bson_get_data(&out), out.len);
    r->count++;
    bson_destroy(&out);
}

static int group(mongoc_client_t *client, const char *db, struct kt_read *r, struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, stages, reply, opts = BSON_INITIALIZER;
    bson_error_t error;
    const bson_t *row, *broken;
    begin_pipeline(r, &command, &stages);
    group_stage(r->group, &stages);
    if (r->sort.count > 0)
        group_sort_stage(r, &stages);
    /* One more than may be: whether there are too many is then known. */
    limit_stage(&stages, "3", r->limit > 0 ? r->limit : KT_GROUP_ROWS + 1);
    end_pipeline(r, &command, &stages);
    int rc = run(client, db, &command, &reply, err);
    bson_destroy(&command);
    if (rc != 0) {
        bson_destroy(&reply);
        return rc;
    }
    mongoc_cursor_t *cursor = mongoc_cursor_new_from_command_reply_with_opts(client, &reply, &opts);
    while (rc == 0 && mongoc_cursor_next(cursor, &row)) {
        if (r->count == KT_GROUP_ROWS)
            rc = kt_fail(err, KT_BODY_TOO_LARGE, "more than %d groups", KT_GROUP_ROWS);
        else
            add_group_row(r, row);
    }
    if (rc == 0 && mongoc_cursor_error_document(cursor, &error, &broken))
        rc = mg_fail(&error, broken, false, err);
    mongoc_cursor_destroy(cursor);
    bson_destroy(&opts);
    return rc;
}

/* ---- distinct ---- */

static int by_value(const void *a, const void *b) {
    return kt_val_cmp(a, b);
}

static int distinct(mongoc_client_t *client, const char *db, struct kt_read *r,
                    struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, part, reply, list = BSON_INITIALIZER;
    bson_iter_t it, item;
    BSON_APPEND_UTF8(&command, "distinct", r->coll);
    BSON_APPEND_UTF8(&command, "key", r->field);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "query", &part);
    mg_filter(&r->filter, &part);
    bson_append_document_end(&command, &part);
    BSON_APPEND_INT64(&command, "maxTimeMS", mg_time(&r->limits));
    int rc = run(client, db, &command, &reply, err), n = 0;
    bson_value_t *all = rc == 0 ? malloc(DISTINCT_MAX * sizeof *all) : NULL;
    if (rc == 0 && all == NULL)
        rc = kt_fail(err, KT_NO_MEMORY, "distinct");
    if (rc == 0 && bson_iter_init_find(&it, &reply, "values") && bson_iter_recurse(&it, &item))
        while (rc == 0 && bson_iter_next(&item)) {
            if (n == DISTINCT_MAX)
                rc = kt_fail(err, KT_BODY_TOO_LARGE, "more than %d distinct values", DISTINCT_MAX);
            else
                all[n++] = *bson_iter_value(&item); /* points into the reply */
        }
    if (rc == 0) {
        qsort(all, (size_t)n, sizeof *all, by_value);
        for (int i = 0; i < n; i++) {
            char text[16];
            const char *key;
            size_t len = bson_uint32_to_string((uint32_t)i, &key, text, sizeof text);
            bson_append_value(&list, key, (int)len, &all[i]);
        }
        kt_buf_add(&r->out, bson_get_data(&list), list.len);
        r->count = n;
    }
    free(all);
    bson_destroy(&list);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

static int read_once(struct mg_engine *e, mongoc_client_t *client, const char *db,
                     struct kt_read *r, struct kt_error *err) {
    bool array = r->kind == KT_FIND && r->json && !r->one;
    int rc = mg_known(e, client, db, err);
    if (array)
        kt_buf_addc(&r->out, '[');
    if (rc == 0)
        rc = r->kind == KT_FIND    ? find(client, db, r, err)
             : r->kind == KT_COUNT ? count(client, db, r, err)
             : r->kind == KT_GROUP ? group(client, db, r, err)
                                   : distinct(client, db, r, err);
    if (array)
        kt_buf_addc(&r->out, ']');
    if (rc == 0 && r->out.failed)
        rc = kt_fail(err, KT_NO_MEMORY, "no memory for the answer");
    return rc;
}

int mg_read(struct kt_engine *engine, const char *db, struct kt_read *r, struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    struct kt_error own;
    if (err == NULL)
        err = &own;
    int rc = kt_limit_check(&r->limits, err);
    mongoc_client_t *client = rc == 0 ? mg_get(e, db, err) : NULL;
    if (client == NULL)
        return -(int)err->code;
    while ((rc = read_once(e, client, db, r, err)) != 0 && mg_renew(e, &client, err)) {
        kt_buf_clear(&r->out);
        r->count = 0;
        if (r->last != NULL)
            bson_destroy(r->last);
        r->last = NULL;
    }
    mg_put(e, client);
    return rc == 0 ? 0 : -(int)err->code;
}

/* ---- lookups that have waited together: one find for all of them ---- */

static void clear_lookups(struct kt_lookup *list, int n) {
    for (int i = 0; i < n; i++) {
        kt_buf_clear(&list[i].read->out);
        list[i].read->count = 0;
        *list[i].rc = 0;
    }
}

static const bson_value_t *id_of(const struct kt_lookup *l) {
    return &l->read->filter.conds[0].value;
}

static void add_ids(const struct kt_lookup *list, int n, bson_t *filter) {
    bson_t test, ids;
    char text[16];
    const char *key;
    uint32_t count = 0;
    BSON_APPEND_DOCUMENT_BEGIN(filter, "_id", &test);
    BSON_APPEND_ARRAY_BEGIN(&test, "$in", &ids);
    for (int i = 0, j; i < n; i++) {
        for (j = 0; j < i && kt_val_cmp(id_of(&list[j]), id_of(&list[i])) != 0; j++)
            ;
        if (j < i) /* asked for already */
            continue;
        size_t len = bson_uint32_to_string(count++, &key, text, sizeof text);
        bson_append_value(&ids, key, (int)len, id_of(&list[i]));
    }
    bson_append_array_end(&test, &ids);
    bson_append_document_end(filter, &test);
}

static void hand_out(struct kt_lookup *list, int n, const bson_t *doc) {
    bson_iter_t it;
    if (!bson_iter_init_find(&it, doc, "_id"))
        return;
    for (int i = 0; i < n; i++)
        if (list[i].read->count == 0 && kt_val_cmp(id_of(&list[i]), bson_iter_value(&it)) == 0)
            *list[i].rc = find_row(list[i].read, doc, list[i].error);
}

static int lookup_once(struct mg_engine *e, mongoc_client_t *client, const char *db,
                       struct kt_lookup *list, int n, struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, filter, reply, opts = BSON_INITIALIZER;
    bson_error_t error;
    const bson_t *doc, *broken;
    int64_t ms = 0;
    for (int i = 0; i < n; i++) {
        int64_t one = mg_time(&list[i].read->limits);
        ms = one > ms ? one : ms;
    }
    BSON_APPEND_UTF8(&command, "find", list[0].read->coll);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "filter", &filter);
    add_ids(list, n, &filter);
    bson_append_document_end(&command, &filter);
    BSON_APPEND_INT64(&command, "maxTimeMS", ms);
    int rc = mg_known(e, client, db, err);
    if (rc == 0 && (rc = run(client, db, &command, &reply, err)) != 0)
        bson_destroy(&reply);
    if (rc == 0) { /* takes the reply */
        mongoc_cursor_t *cursor =
            mongoc_cursor_new_from_command_reply_with_opts(client, &reply, &opts);
        while (mongoc_cursor_next(cursor, &doc))
            hand_out(list, n, doc);
        if (mongoc_cursor_error_document(cursor, &error, &broken))
            rc = mg_fail(&error, broken, false, err);
        mongoc_cursor_destroy(cursor);
    }
    bson_destroy(&command);
    bson_destroy(&opts);
    return rc;
}

void mg_lookup(struct kt_engine *engine, const char *db, struct kt_lookup *list, int n) {
    struct mg_engine *e = (struct mg_engine *)engine;
    struct kt_lookup live[KT_LOOKUPS];
    struct kt_error err;
    int count = 0;
    for (int i = 0; i < n; i++)
        if ((*list[i].rc = kt_limit_check(&list[i].read->limits, list[i].error)) == 0)
            live[count++] = list[i];
    if (count == 1)
        *live[0].rc = mg_read(engine, db, live[0].read, live[0].error);
    if (count <= 1)
        return;
    mongoc_client_t *client = mg_get(e, db, &err);
    int rc = client == NULL ? -(int)err.code : 0;
    if (client != NULL) {
        while ((rc = lookup_once(e, client, db, live, count, &err)) != 0 &&
               mg_renew(e, &client, &err))
            clear_lookups(live, count);
        mg_put(e, client);
    }
    for (int i = 0; i < count; i++)
        if (rc != 0) {
            *live[i].rc = -(int)err.code;
            *live[i].error = err;
        } else if (*live[i].rc == 0 && live[i].read->out.failed)
            *live[i].rc = kt_fail(live[i].error, KT_NO_MEMORY, "no memory for the answer");
}
