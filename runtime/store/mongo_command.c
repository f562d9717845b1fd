/* One write command of several statements, and what its answer says about each. */
#include "store/mongo_command.h"

#include <stdlib.h>
#include <string.h>

#include "core/uuid.h"

void mg_command_start(struct mg_command *m, const struct kt_write *w) {
    m->coll = w->coll;
    m->verb = w->kind == KT_INSERT ? MG_INSERT : w->kind == KT_DELETE ? MG_DELETE : MG_UPDATE;
    m->count = 0;
    bson_init(&m->statements);
}

void mg_command_free(struct mg_command *m) {
    if (m->coll != NULL)
        bson_destroy(&m->statements);
    free(m->refs);
    memset(m, 0, sizeof *m);
}

static int add_ref(struct mg_command *m, struct kt_commit *commit, int write,
                   struct kt_error *err) {
    if ((m->count & (m->count + 1)) == 0) { /* at 1, 3, 7, … and at the first */
        struct mg_ref *more = realloc(m->refs, (size_t)(2 * m->count + 2) * sizeof *more);
        if (more == NULL)
            return kt_fail(err, KT_NO_MEMORY, "write");
        m->refs = more;
    }
    m->refs[m->count++] = (struct mg_ref){commit, write};
    return 0;
}

static int key_of(const struct mg_command *m, char text[16], const char **key) {
    return (int)bson_uint32_to_string((uint32_t)m->count, key, text, 16);
}

int mg_doc_at(const struct kt_buf *docs, size_t *at, bson_t *doc, struct kt_error *err) {
    uint32_t len;
    if (docs->len - *at < 5)
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
    memcpy(&len, docs->data + *at, sizeof len);
    len = BSON_UINT32_FROM_LE(len);
    if (len > docs->len - *at || !bson_init_static(doc, (const uint8_t *)docs->data + *at, len))
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a BSON document");
    *at += len;
    return 0;
}

/* The document with an _id, into `out`: its own, or a new one (an id is text wherever we make it).
 */
static void with_id(const bson_t *doc, bson_t *out) {
    char id[KT_UUID_SIZE];
    if (!bson_has_field(doc, "_id")) {
        kt_uuid7(id);
        bson_append_utf8(out, "_id", 3, id, -1);
    }
    bson_concat(out, doc);
}

int mg_command_add_doc(struct mg_command *m, struct kt_commit *commit, int write, const bson_t *doc,
                       struct kt_error *err) {
    char text[16];
    const char *key;
    int len = key_of(m, text, &key), rc = add_ref(m, commit, write, err);
    if (rc != 0)
        return rc;
    bson_t whole;
    bson_append_document_begin(&m->statements, key, len, &whole);
    with_id(doc, &whole);
    bson_append_document_end(&m->statements, &whole);
    return 0;
}

/* An upsert by something else than _id makes one, which is text like ours and not an ObjectId. */
static bool wants_id(const struct kt_write *w) {
    for (int i = 0; i < w->filter.count; i++)
        if (strcmp(w->filter.conds[i].path, "_id") == 0)
            return false;
    return w->upsert;
}

/* What an update or a replacement makes of its document. */
static void change_of(const struct kt_write *w, bson_t *out) {
    bson_t doc;
    char id[KT_UUID_SIZE];
    size_t at = 0;
    if (w->kind == KT_UPDATE) {
        bool fresh = wants_id(w);
        if (fresh)
            kt_uuid7(id);
        mg_update(&w->update, fresh ? id : NULL, out);
    } else if (mg_doc_at(&w->docs, &at, &doc, NULL) == 0)
        bson_concat(out, &doc);
}

/* The same as a field: `u` of an update, `update` of a findAndModify. */
static void add_change(const struct kt_write *w, const char *name, bson_t *out) {
    bson_t change;
    bson_append_document_begin(out, name, -1, &change);
    change_of(w, &change);
    bson_append_document_end(out, &change);
}

int mg_command_add(struct mg_command *m, struct kt_commit *commit, int write,
                   struct kt_error *err) {
    const struct kt_write *w = &commit->writes[write];
    char text[16];
    const char *key;
    bson_t statement, q;
    int len = key_of(m, text, &key), rc = add_ref(m, commit, write, err);
    if (rc != 0)
        return rc;
    bson_append_document_begin(&m->statements, key, len, &statement);
    BSON_APPEND_DOCUMENT_BEGIN(&statement, "q", &q);
    mg_filter(&w->filter, &q);
    bson_append_document_end(&statement, &q);
    if (w->kind == KT_DELETE)
        BSON_APPEND_INT32(&statement, "limit", w->many ? 0 : 1);
    else {
        add_change(w, "u", &statement);
        BSON_APPEND_BOOL(&statement, "multi", w->many);
        BSON_APPEND_BOOL(&statement, "upsert", w->upsert);
    }
    bson_append_document_end(&m->statements, &statement);
    return 0;
}

/* ---- running ---- */

static int refused(struct mg_command *m, int at, int32_t number, const char *text,
                   const bson_iter_t *error, struct mg_fault *fault, struct kt_error *err) {
    const struct mg_ref *ref = &m->refs[at < m->count ? at : 0];
    fault->ref = *ref;
    fault->number = number;
    fault->transient = number == 112;
    int code = mg_code(number);
    if (code != KT_ALREADY_EXISTS)
        return kt_fail(err, (enum kt_code)code, "MongoDB error %d: %.300s", number, text);
    fault->number = 11000;
    mg_dup_key(text, error, fault->key);
    return kt_fail(err, KT_ALREADY_EXISTS, "%s has such a document already (%s)", m->coll,
                   fault->key);
}

/* The first of the reply's writeErrors, if there is one. */
static int write_error(struct mg_command *m, const bson_t *reply, struct mg_fault *fault,
                       struct kt_error *err) {
    bson_iter_t it, item, error;
    int32_t at = 0, number = 0;
    const char *text = "";
    if (!bson_iter_init_find(&it, reply, "writeErrors") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &item) || !bson_iter_next(&item) ||
        !bson_iter_recurse(&item, &error))
        return 0;
    while (bson_iter_next(&error)) {
        const char *key = bson_iter_key(&error);
        if (strcmp(key, "index") == 0)
            at = (int32_t)bson_iter_as_int64(&error);
        else if (strcmp(key, "code") == 0)
            number = (int32_t)bson_iter_as_int64(&error);
        else if (strcmp(key, "errmsg") == 0 && BSON_ITER_HOLDS_UTF8(&error))
            text = bson_iter_utf8(&error, NULL);
    }
    return refused(m, at, number, text, &item, fault, err);
}

static int64_t number_of(const bson_t *reply, const char *name) {
    bson_iter_t it;
    return bson_iter_init_find(&it, reply, name) ? bson_iter_as_int64(&it) : 0;
}

/* Which statements inserted: their position and the new _id. */
static int take_upserted(struct mg_command *m, const bson_t *reply) {
    bson_iter_t it, item, field;
    int n = 0;
    if (!bson_iter_init_find(&it, reply, "upserted") || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &item))
        return 0;
    while (bson_iter_next(&item)) {
        bson_iter_t id;
        int64_t at = -1;
        bool found = false;
        if (!bson_iter_recurse(&item, &field))
            continue;
        while (bson_iter_next(&field)) {
            if (strcmp(bson_iter_key(&field), "index") == 0)
                at = bson_iter_as_int64(&field);
            else if (strcmp(bson_iter_key(&field), "_id") == 0) {
                id = field;
                found = true;
            }
        }
        if (at < 0 || at >= m->count || !found)
            continue;
        struct kt_write *w = &m->refs[at].commit->writes[m->refs[at].write];
        w->upserted = bson_new();
        bson_append_iter(w->upserted, "_id", 3, &id);
        n++;
    }
    return n;
}

/* What the counts of the whole command say about each statement; false: not enough. */
static bool take_counts(struct mg_command *m, const bson_t *reply) {
    int64_t n = number_of(reply, "n"), modified = number_of(reply, "nModified");
    if (m->verb == MG_INSERT) {
        for (int i = 0; i < m->count; i++)
            m->refs[i].commit->writes[m->refs[i].write].modified++;
        return true;
    }
    int upserted = m->verb == MG_UPDATE ? take_upserted(m, reply) : 0;
    if (m->verb == MG_DELETE)
        modified = n;
    if (m->count == 1) {
        struct kt_write *w = &m->refs[0].commit->writes[m->refs[0].write];
        w->matched = n - upserted;
        w->modified = modified;
        return true;
    }
    /* Each is about one document at most. */
    if (n != m->count || modified != m->count - upserted)
        return false;
    for (int i = 0; i < m->count; i++) {
        struct kt_write *w = &m->refs[i].commit->writes[m->refs[i].write];
        w->matched = w->modified = w->upserted == NULL;
    }
    return true;
}

int mg_command_run(struct mg_command *m, mongoc_client_t *client, const char *db,
                   const bson_t *opts, int64_t ms, struct mg_fault *fault, struct kt_error *err) {
    static const char *const verbs[] = {"insert", "update", "delete"};
    static const char *const lists[] = {"documents", "updates", "deletes"};
    bson_t command = BSON_INITIALIZER, reply;
    bson_error_t error;
    BSON_APPEND_UTF8(&command, verbs[m->verb], m->coll);
    BSON_APPEND_INT64(&command, "maxTimeMS", ms);
    BSON_APPEND_ARRAY(&command, lists[m->verb], &m->statements);
    bool ok = mongoc_client_write_command_with_opts(client, db, &command, opts, &reply, &error);
    bson_destroy(&command);
    int rc = write_error(m, &reply, fault, err);
    if (rc == 0 && !ok) {
        fault->ref = m->refs[0];
        fault->transient =
            mongoc_error_has_label(&reply, "TransientTransactionError") || error.code == 112;
        if (error.domain == MONGOC_ERROR_SERVER &&
            mg_code((int32_t)error.code) == KT_ALREADY_EXISTS) {
            bson_iter_t it; /* some servers answer so to a single statement */
            bson_iter_init(&it, &reply);
            rc = refused(m, 0, (int32_t)error.code, error.message, &it, fault, err);
        } else {
            fault->number = error.domain == MONGOC_ERROR_SERVER ? (int)error.code : 0;
            rc = mg_fail(&error, &reply, true, err);
        }
    } else if (rc == 0 && !take_counts(m, &reply)) {
        fault->ref = m->refs[0];
        fault->uncounted = true;
        rc = kt_fail(err, KT_CONFLICT, "nothing in %s is as expected any more", m->coll);
    }
    bson_destroy(&reply);
    return rc;
}

/* The answer of a findAndModify. */
static void take_found(struct kt_write *w, const bson_t *reply) {
    bson_iter_t it, state;
    if (bson_iter_init_find(&it, reply, "lastErrorObject") && BSON_ITER_HOLDS_DOCUMENT(&it) &&
        bson_iter_recurse(&it, &state))
        while (bson_iter_next(&state)) {
            if (strcmp(bson_iter_key(&state), "n") == 0)
                w->matched = bson_iter_as_int64(&state);
            else if (strcmp(bson_iter_key(&state), "upserted") == 0) {
                w->upserted = bson_new();
                bson_append_iter(w->upserted, "_id", 3, &state);
            }
        }
    if (bson_iter_init_find(&it, reply, "value") && BSON_ITER_HOLDS_DOCUMENT(&it)) {
        uint32_t len;
        const uint8_t *data;
        bson_iter_document(&it, &len, &data);
        w->doc = w->want_doc ? bson_new_from_data(data, len) : NULL;
        w->matched = 1;
    }
    if (w->upserted != NULL)
        w->matched = 0;
    w->modified = w->matched;
}

/* What the driver says of a write that failed as a whole. */
static int write_failed(struct kt_commit *commit, int write, const bson_error_t *error,
                        const bson_t *reply, struct mg_fault *fault, struct kt_error *err) {
    struct mg_ref ref = {commit, write};
    struct mg_command one = {.coll = commit->writes[write].coll, .refs = &ref, .count = 1};
    bson_iter_t it;
    int rc = write_error(&one, reply, fault, err);
    fault->ref = ref;
    if (rc != 0)
        return rc;
    if (error->domain == MONGOC_ERROR_SERVER &&
        mg_code((int32_t)error->code) == KT_ALREADY_EXISTS) {
        bson_iter_init(&it, reply); /* some servers answer so to a single statement */
        return refused(&one, 0, (int32_t)error->code, error->message, &it, fault, err);
    }
    fault->number = error->domain == MONGOC_ERROR_SERVER ? (int)error->code : 0;
    fault->transient =
        mongoc_error_has_label(reply, "TransientTransactionError") || error->code == 112;
    return mg_fail(error, reply, true, err);
}

int mg_find_and_modify(struct kt_commit *commit, int write, mongoc_client_t *client, const char *db,
                       const bson_t *opts, int64_t ms, struct mg_fault *fault,
                       struct kt_error *err) {
    struct kt_write *w = &commit->writes[write];
    bson_t command = BSON_INITIALIZER, part, reply;
    bson_error_t error;
    int rc = 0;
    BSON_APPEND_UTF8(&command, "findAndModify", w->coll);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "query", &part);
    mg_filter(&w->filter, &part);
    bson_append_document_end(&command, &part);
    if (w->sort.count > 0) {
        BSON_APPEND_DOCUMENT_BEGIN(&command, "sort", &part);
        mg_sort(&w->sort, &part);
        bson_append_document_end(&command, &part);
    }
    if (w->kind == KT_DELETE)
        BSON_APPEND_BOOL(&command, "remove", true);
    else {
        add_change(w, "update", &command);
        BSON_APPEND_BOOL(&command, "upsert", w->upsert);
        BSON_APPEND_BOOL(&command, "new", w->want_new);
    }
    if (w->fields != NULL) {
        BSON_APPEND_DOCUMENT_BEGIN(&command, "fields", &part);
        mg_fields(w->fields, &part);
        bson_append_document_end(&command, &part);
    }
    BSON_APPEND_INT64(&command, "maxTimeMS", ms);
    if (mongoc_client_write_command_with_opts(client, db, &command, opts, &reply, &error))
        take_found(w, &reply);
    else
        rc = write_failed(commit, write, &error, &reply, fault, err);
    bson_destroy(&command);
    bson_destroy(&reply);
    return rc;
}

/* ---- a write by itself: by the driver's own functions, which number it for the server, so that
 * one whose answer is lost is sent again and made once ---- */

static bool found_alone(mongoc_collection_t *coll, const struct kt_write *w, const bson_t *q,
                        const bson_t *more, bson_t *reply, bson_error_t *error) {
    bson_t sort = BSON_INITIALIZER, fields = BSON_INITIALIZER, change = BSON_INITIALIZER;
    mongoc_find_and_modify_opts_t *opts = mongoc_find_and_modify_opts_new();
    int flags = (w->kind == KT_DELETE ? MONGOC_FIND_AND_MODIFY_REMOVE : 0) |
                (w->upsert ? MONGOC_FIND_AND_MODIFY_UPSERT : 0) |
                (w->kind != KT_DELETE && w->want_new ? MONGOC_FIND_AND_MODIFY_RETURN_NEW : 0);
    mongoc_find_and_modify_opts_set_flags(opts, (mongoc_find_and_modify_flags_t)flags);
    mongoc_find_and_modify_opts_append(opts, more);
    if (w->sort.count > 0) {
        mg_sort(&w->sort, &sort);
        mongoc_find_and_modify_opts_set_sort(opts, &sort);
    }
    if (w->fields != NULL) {
        mg_fields(w->fields, &fields);
        mongoc_find_and_modify_opts_set_fields(opts, &fields);
    }
    if (w->kind != KT_DELETE) {
        change_of(w, &change);
        mongoc_find_and_modify_opts_set_update(opts, &change);
    }
    bool ok = mongoc_collection_find_and_modify_with_opts(coll, q, opts, reply, error);
    mongoc_find_and_modify_opts_destroy(opts);
    bson_destroy(&sort);
    bson_destroy(&fields);
    bson_destroy(&change);
    return ok;
}

static void take_alone(struct kt_write *w, const bson_t *reply) {
    bson_iter_t it;
    w->matched = number_of(reply, w->kind == KT_DELETE ? "deletedCount" : "matchedCount");
    w->modified = w->kind == KT_INSERT
                      ? 1
                      : number_of(reply, w->kind == KT_DELETE ? "deletedCount" : "modifiedCount");
    if (bson_iter_init_find(&it, reply, "upsertedId")) {
        w->upserted = bson_new();
        bson_append_iter(w->upserted, "_id", 3, &it);
    }
}

int mg_write_alone(struct mg_engine *e, mongoc_client_t *client, const char *db,
                   struct kt_commit *commit, struct mg_fault *fault, struct kt_error *err) {
    struct kt_write *w = &commit->writes[0];
    bson_t opts = BSON_INITIALIZER, q = BSON_INITIALIZER, what = BSON_INITIALIZER, doc, reply;
    bson_error_t error;
    size_t at = 0;
    bool find = w->want_doc || w->sort.count > 0, ok;
    mongoc_collection_t *coll = mongoc_client_get_collection(client, db, w->coll);
    mongoc_write_concern_append(e->concern, &opts);
    if (w->kind != KT_INSERT)
        mg_filter(&w->filter, &q);
    if (find)
        BSON_APPEND_INT64(&opts, "maxTimeMS", mg_time(&commit->limits));
    else if (w->kind != KT_DELETE) /* we check; and a map may have an empty name in it */
        BSON_APPEND_BOOL(&opts, "validate", false);
    if (find)
        ok = found_alone(coll, w, &q, &opts, &reply, &error);
    else if (w->kind == KT_INSERT) {
        mg_doc_at(&w->docs, &at, &doc, NULL); /* looked at before */
        with_id(&doc, &what);
        ok = mongoc_collection_insert_one(coll, &what, &opts, &reply, &error);
    } else if (w->kind == KT_DELETE)
        ok = mongoc_collection_delete_one(coll, &q, &opts, &reply, &error);
    else {
        BSON_APPEND_BOOL(&opts, "upsert", w->upsert);
        change_of(w, &what);
        ok = w->kind == KT_UPDATE
                 ? mongoc_collection_update_one(coll, &q, &what, &opts, &reply, &error)
                 : mongoc_collection_replace_one(coll, &q, &what, &opts, &reply, &error);
    }
    int rc = ok ? 0 : write_failed(commit, 0, &error, &reply, fault, err);
    if (rc == 0 && find)
        take_found(w, &reply);
    else if (rc == 0)
        take_alone(w, &reply);
    bson_destroy(&reply);
    bson_destroy(&what);
    bson_destroy(&q);
    bson_destroy(&opts);
    mongoc_collection_destroy(coll);
    return rc;
}
