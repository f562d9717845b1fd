/* The change stream: it tells that something in the master database changed, never what; whoever
 * keeps what was read of it reads again. Nothing relies on its being there: while it is not, the
 * version is not known and nothing is kept. So it takes up no old place after a failure either. */
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "store/mongo.h"

#define AWAIT_MS 500 /* also how long a close may take */
#define AGAIN_MS 1000

static bson_t *pipeline(void) {
    /* Rows that the workers write of themselves are kept by nobody. */
    return BCON_NEW("pipeline", "[", "{", "$match", "{", "ns.coll", "{", "$nin", "[",
                    BCON_UTF8("kt_m_workers"), BCON_UTF8("kt_m_ready"), BCON_UTF8("kt_m_audit_log"),
                    "]", "}", "}", "}", "{", "$project", "{", "operationType", BCON_INT32(1), "}",
                    "}", "]");
}

static void rest(struct mg_engine *e, int ms) {
    for (; ms > 0 && !atomic_load(&e->closing); ms -= 50)
        nanosleep(&(struct timespec){0, 50000000}, NULL);
}

/* Until the stream fails or the engine closes. */
static void follow(struct mg_engine *e, mongoc_change_stream_t *stream, bool *told) {
    const bson_t *doc, *reply;
    bson_error_t error;
    while (!atomic_load(&e->closing)) {
        if (mongoc_change_stream_next(stream, &doc)) {
            mg_touch(e, e->main_db);
            continue;
        }
        if (mongoc_change_stream_error_document(stream, &error, &reply)) {
            if (!*told && error.domain != MONGOC_ERROR_STREAM &&
                error.domain != MONGOC_ERROR_SERVER_SELECTION)
                kt_log(KT_WARN, "mongodb.change_stream", "msg", error.message, NULL);
            *told = true;
            return;
        }
        /* Open and quiet. What changed before now was seen by nobody: all is new. */
        if (!atomic_exchange(&e->watched, true))
            mg_touch(e, e->main_db);
        *told = false;
    }
}

static void *watch(void *arg) {
    struct mg_engine *e = arg;
    bson_t *stages = pipeline(), opts = BSON_INITIALIZER;
    bool told = false;
    BSON_APPEND_INT64(&opts, "maxAwaitTimeMS", AWAIT_MS);
    while (!atomic_load(&e->closing)) {
        struct kt_error err;
        mongoc_client_t *client = mg_get(e, NULL, &err);
        if (client != NULL) {
            mongoc_database_t *db = mongoc_client_get_database(client, e->main_db);
            mongoc_change_stream_t *stream = mongoc_database_watch(db, stages, &opts);
            follow(e, stream, &told);
            atomic_store(&e->watched, false);
            mongoc_change_stream_destroy(stream);
            mongoc_database_destroy(db);
            mg_put(e, client);
        }
        rest(e, AGAIN_MS);
    }
    bson_destroy(stages);
    bson_destroy(&opts);
    return NULL;
}

int mg_watch_start(struct mg_engine *e, struct kt_error *err) {
    if (pthread_create(&e->watcher, NULL, watch, e) != 0)
        return kt_fail(err, KT_NO_MEMORY, "no thread for the change stream");
    e->watching = true;
    return 0;
}

void mg_watch_stop(struct mg_engine *e) {
    atomic_store(&e->closing, true);
    if (e->watching)
        pthread_join(e->watcher, NULL);
    e->watching = false;
}
