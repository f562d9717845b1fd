/* Databases: which are there, making and dropping them, checking them, and their versions.
 *
 * MongoDB makes a database with the first write to it and has none that is empty; ours are made
 * before anything is written, and a read of one that is not there must say so. What was seen is
 * remembered, so that this costs no command a call. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/mongo.h"

/* ---- what is known ---- */

static struct mg_db **place(struct mg_engine *e, const char *name) {
    uint32_t h = 2166136261u;
    for (const char *p = name; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 16777619u;
    struct mg_db **at = &e->dbs[h & (MG_DBS - 1)];
    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static bool remembered(struct mg_engine *e, const char *name) {
    pthread_mutex_lock(&e->lock);
    struct mg_db *db = *place(e, name);
    if (db != NULL)
        db->used_ns = kt_now_ns();
    pthread_mutex_unlock(&e->lock);
    return db != NULL;
}

static int remember(struct mg_engine *e, const char *name, struct kt_error *err) {
    int rc = 0;
    pthread_mutex_lock(&e->lock);
    struct mg_db **at = place(e, name);
    if (*at == NULL && (*at = calloc(1, sizeof **at)) != NULL) {
        snprintf((*at)->name, sizeof(*at)->name, "%s", name);
        (*at)->used_ns = kt_now_ns();
    }
    if (*at == NULL)
        rc = kt_fail(err, KT_NO_MEMORY, "database");
    pthread_mutex_unlock(&e->lock);
    return rc;
}

void mg_forget(struct mg_engine *e, const char *name) {
    pthread_mutex_lock(&e->lock);
    struct mg_db **at = place(e, name), *db = *at;
    if (db != NULL) {
        *at = db->next;
        free(db);
    }
    pthread_mutex_unlock(&e->lock);
}

void mg_forget_all(struct mg_engine *e) {
    for (int i = 0; i < MG_DBS; i++)
        while (e->dbs[i] != NULL) {
            struct mg_db *db = e->dbs[i];
            e->dbs[i] = db->next;
            free(db);
        }
}

void mg_touch(struct mg_engine *e, const char *name) {
    pthread_mutex_lock(&e->lock);
    struct mg_db *db = *place(e, name);
    if (db != NULL)
        db->version++;
    pthread_mutex_unlock(&e->lock);
}

/* Only the master database is watched: what another process writes into a project's is not known.
 */
int64_t mg_version(struct kt_engine *engine, const char *name) {
    struct mg_engine *e = (struct mg_engine *)engine;
    if (!atomic_load(&e->watched) || strcmp(name, e->main_db) != 0)
        return -1;
    pthread_mutex_lock(&e->lock);
    struct mg_db *db = *place(e, name);
    int64_t version = db != NULL ? db->version : -1;
    pthread_mutex_unlock(&e->lock);
    return version;
}

/* ---- asking the server ---- */

/* A command that reads no documents. Servers take no read concern with it but "local", and the one
 * of the URL is majority. */
static bool ask_about(mongoc_client_t *client, const char *db, const bson_t *command, bson_t *reply,
                      bson_error_t *error) {
    bson_t opts = BSON_INITIALIZER;
    mongoc_read_concern_t *local = mongoc_read_concern_new();
    mongoc_read_concern_set_level(local, MONGOC_READ_CONCERN_LEVEL_LOCAL);
    mongoc_read_concern_append(local, &opts);
    bool ok = mongoc_client_read_command_with_opts(client, db, command, NULL, &opts, reply, error);
    mongoc_read_concern_destroy(local);
    bson_destroy(&opts);
    return ok;
}

/* Is there a collection in it? */
int mg_ask(mongoc_client_t *client, const char *name, bool *yes, struct kt_error *err) {
    bson_t command = BSON_INITIALIZER, cursor, reply;
    bson_error_t error;
    bson_iter_t it, batch;
    int rc = 0;
    BSON_APPEND_INT32(&command, "listCollections", 1);
    BSON_APPEND_BOOL(&command, "nameOnly", true);
    BSON_APPEND_BOOL(&command, "authorizedCollections", true);
    BSON_APPEND_DOCUMENT_BEGIN(&command, "cursor", &cursor);
    bson_append_document_end(&command, &cursor);
    BSON_APPEND_INT64(&command, "maxTimeMS", MG_MAX_TIME_MS);
    *yes = false;
    if (!ask_about(client, name, &command, &reply, &error))
        rc = mg_fail(&error, &reply, false, err);
    else if (bson_iter_init(&it, &reply) &&
             bson_iter_find_descendant(&it, "cursor.firstBatch", &batch))
        *yes = bson_iter_recurse(&batch, &it) && bson_iter_next(&it);
    bson_destroy(&reply);
    bson_destroy(&command);
    return rc;
}

int mg_known(struct mg_engine *e, mongoc_client_t *client, const char *name, struct kt_error *err) {
    bool yes;
    if (remembered(e, name))
        return 0;
    int rc = mg_ask(client, name, &yes, err);
    if (rc == 0)
        rc = yes ? remember(e, name, err) : kt_fail(err, KT_NOT_FOUND, "no database %s", name);
    return rc;
}

int mg_exists(struct kt_engine *engine, const char *name, bool *yes, struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL)
        return -(int)err->code;
    int rc = mg_ask(client, name, yes, err);
    mg_put(e, client);
    return rc;
}

int mg_command(struct mg_engine *e, mongoc_client_t *client, const char *db, const bson_t *command,
               int32_t fine, struct kt_error *err) {
    bson_t opts = BSON_INITIALIZER, reply;
    bson_error_t error;
    int rc = 0;
    mongoc_write_concern_append(e->concern, &opts);
    if (!mongoc_client_write_command_with_opts(client, db, command, &opts, &reply, &error) &&
        !(error.domain == MONGOC_ERROR_SERVER && (int32_t)error.code == fine))
        rc = mg_fail(&error, &reply, true, err);
    bson_destroy(&reply);
    bson_destroy(&opts);
    return rc;
}

int mg_create(struct kt_engine *engine, const char *name, struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL)
        return -(int)err->code;
    int rc = remembered(e, name) ? 0 : mg_known(e, client, name, err);
    if (rc == -KT_NOT_FOUND) {
        /* What every database has first: the list of its migrations. */
        bson_t make = BSON_INITIALIZER;
        BSON_APPEND_UTF8(&make, "create",
                         strcmp(name, e->main_db) == 0 ? "kt_m_migrations" : "kt_p_migrations");
        rc = mg_command(e, client, name, &make, 48 /* NamespaceExists: another one was quicker */,
                        err);
        bson_destroy(&make);
        if (rc == 0 && e->users != NULL && strcmp(name, e->main_db) != 0)
            rc = mg_user_make(e, client, name, err);
        if (rc == 0)
            rc = remember(e, name, err);
    }
    mg_put(e, client);
    return rc;
}

int mg_drop(struct kt_engine *engine, const char *name, struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    bson_t drop = BSON_INITIALIZER;
    bool there = false;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL) {
        bson_destroy(&drop);
        return -(int)err->code;
    }
    int rc = mg_ask(client, name, &there, err);
    if (rc == 0 && !there)
        rc = kt_fail(err, KT_NOT_FOUND, "no database %s", name);
    mg_forget(e, name);
    BSON_APPEND_INT32(&drop, "dropDatabase", 1);
    if (rc == 0)
        rc = mg_command(e, client, name, &drop, 0, err);
    /* Behind it, because as long as there is a database, whoever comes to it makes its user anew;
     * and also where there is none any more, because a drop may have been cut off here. */
    if (e->users != NULL && (rc == 0 || rc == -KT_NOT_FOUND)) {
        struct kt_error why;
        if (mg_users_drop(e, client, name, &why) != 0)
            rc = kt_fail(err, why.code, "%s", why.message);
    }
    bson_destroy(&drop);
    mg_put(e, client);
    return rc;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int mg_list(struct kt_engine *engine, struct kt_buf *names, struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    bson_t opts = BSON_INITIALIZER;
    bson_error_t error;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL)
        return -(int)err->code;
    BSON_APPEND_BOOL(&opts, "authorizedDatabases", true);
    int rc = 0, n = 0;
    char **found = mongoc_client_get_database_names_with_opts(client, &opts, &error);
    if (found == NULL)
        rc = mg_fail(&error, NULL, false, err);
    else {
        while (found[n] != NULL)
            n++;
        qsort(found, (size_t)n, sizeof *found, by_text);
        for (int i = 0; i < n; i++) /* also the server's own, and other programs' */
            if (kt_db_name_check(found[i], strlen(found[i]), NULL) == 0)
                kt_buf_add(names, found[i], strlen(found[i]) + 1);
        bson_strfreev(found);
    }
    bson_destroy(&opts);
    mg_put(e, client);
    return rc;
}

/* ---- check ---- */

static void report_texts(const bson_t *reply, const char *field, const char *coll,
                         struct kt_buf *report) {
    bson_iter_t it, item;
    if (!bson_iter_init_find(&it, reply, field) || !BSON_ITER_HOLDS_ARRAY(&it) ||
        !bson_iter_recurse(&it, &item))
        return;
    while (bson_iter_next(&item))
        if (BSON_ITER_HOLDS_UTF8(&item))
            kt_buf_addf(report, "%s: %s\n", coll, bson_iter_utf8(&item, NULL));
}

/* The server's own check of a collection and its indexes. */
static int check_coll(mongoc_client_t *client, const char *db, const char *coll,
                      struct kt_buf *report, bson_t *summary, struct kt_error *err) {
    bson_t validate = BSON_INITIALIZER, reply;
    bson_error_t error;
    bson_iter_t it;
    int rc = 0;
    BSON_APPEND_UTF8(&validate, "validate", coll);
    if (!ask_about(client, db, &validate, &reply, &error))
        rc = mg_fail(&error, &reply, false, err);
    else {
        if (!bson_iter_init_find(&it, &reply, "valid") || !bson_iter_as_bool(&it))
            kt_buf_addf(report, "%s: the server finds it not valid\n", coll);
        report_texts(&reply, "errors", coll, report);
        if (bson_iter_init_find(&it, &reply, "nrecords"))
            bson_append_int64(summary, coll, -1, bson_iter_as_int64(&it));
    }
    bson_destroy(&reply);
    bson_destroy(&validate);
    return rc;
}

int mg_check(struct kt_engine *engine, const char *name, struct kt_buf *report, bson_t *summary,
             struct kt_error *err) {
    struct mg_engine *e = (struct mg_engine *)engine;
    bson_error_t error;
    int n = 0;
    mongoc_client_t *client = mg_get(e, NULL, err);
    if (client == NULL)
        return -(int)err->code;
    int rc = mg_known(e, client, name, err);
    mongoc_database_t *db = rc == 0 ? mongoc_client_get_database(client, name) : NULL;
    char **colls =
        db != NULL ? mongoc_database_get_collection_names_with_opts(db, NULL, &error) : NULL;
    if (db != NULL && colls == NULL)
        rc = mg_fail(&error, NULL, false, err);
    if (colls != NULL) {
        while (colls[n] != NULL)
            n++;
        qsort(colls, (size_t)n, sizeof *colls, by_text);
        for (int i = 0; rc == 0 && i < n; i++)
            if (strncmp(colls[i], "system.", 7) != 0)
                rc = check_coll(client, name, colls[i], report, summary, err);
        bson_strfreev(colls);
    }
    if (db != NULL)
        mongoc_database_destroy(db);
    mg_put(e, client);
    return rc;
}

/* ---- housekeeping ---- */

void mg_tidy(struct kt_engine *engine) {
    /* The driver's monitors keep the connections of the pool. */
    mg_users_tidy((struct mg_engine *)engine);
}

void mg_stats(struct kt_engine *engine, struct kt_store_stats *out) {
    struct mg_engine *e = (struct mg_engine *)engine;
    int64_t now = kt_now_ns();
    out->connections = atomic_load(&e->in_use) + (e->watching ? 1 : 0);
    out->connections_max = e->clients + (e->users != NULL ? MG_PROJECT_CLIENTS : 0);
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < MG_DBS; i++)
        for (struct mg_db *db = e->dbs[i]; db != NULL; db = db->next)
            out->open_databases += now - db->used_ns < MG_IDLE_NS;
    pthread_mutex_unlock(&e->lock);
}
