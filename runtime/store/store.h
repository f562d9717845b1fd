/* The document store as the rest of the program sees it: calls that a loop submits and store
 * threads run. What a database is made of (and which engine) stays below; see engine.h for the
 * requests.
 *
 * Reads run on a bounded pool; the writes of one database run one after the other, as many in one
 * transaction as have queued (group commit), and are answered only when they are durable. All
 * functions here: loop thread. */
#pragma once

#include <uv.h>

#include "core/pool.h"
#include "store/engine.h"

struct kt_store;

enum kt_call_kind {
    KT_CALL_READ,
    KT_CALL_COMMIT,
    KT_CALL_CREATE,
    KT_CALL_EXISTS, /* answer in `yes` */
    KT_CALL_DROP,
    KT_CALL_LIST,        /* answer in `out`: names, each with its NUL */
    KT_CALL_CHECK,       /* answer in `out` (lines) and `summary` */
    KT_CALL_BLOB_PUT,    /* bytes in `out`, or the file `path`; answer in `hash`, `size` */
    KT_CALL_BLOB_GET,    /* `hash`, at most `size` bytes (0: no bound); answer in `out` */
    KT_CALL_BLOB_TO_FILE, /* `hash` to `path`, which appears whole or not at all */
    KT_CALL_EXPORT, /* all of it into the folder `path`; answer in `summary` */
    KT_CALL_VERIFY, /* is the folder `path` what `summary` says? No database is touched */
    KT_CALL_IMPORT  /* the same, and into the database, which is there and empty */
};

/* One call. The submitter fills it, keeps it until `done`, and frees it with kt_call_free. */
struct kt_call {
    enum kt_call_kind kind;
    char db[KT_NAME_MAX + 1]; /* checked by kt_db_name_check */
    struct kt_read read;
    struct kt_commit commit;
    bool yes;
    struct kt_buf out;
    bson_t *summary; /* owned */
    char *path;      /* owned */
    char hash[65];
    int64_t size;

    int rc; /* 0 or -kt_code, then error says why */
    struct kt_error error;
    void (*done)(struct kt_call *call); /* on the loop, exactly once for a submitted call */
    void *ud;

    /* private */
    struct kt_job job;
    struct kt_store *store;
    struct kt_call *next;
    int64_t submitted_ns;
};

/* config->dir is made (0700) when it is absent. NULL and *err on failure. */
struct kt_store *kt_store_open(uv_loop_t *loop, const struct kt_store_config *config,
                               struct kt_error *err);
/* Runs what was submitted to its end, calls every done, closes all files. The loop must turn
 * afterwards for its handles to close. */
void kt_store_close(struct kt_store *s);
/* -KT_OVERLOADED when too much waits; then done is not called. `seconds` <= 0: no deadline. */
int kt_store_submit(struct kt_store *s, struct kt_call *call, double seconds, struct kt_error *err);
/* A call that has not begun ends as cancelled, a read that runs soon; a commit that runs is made.
 */
void kt_call_cancel(struct kt_call *call);
/* Frees what the call holds, not the call. Never between submit and done. */
void kt_call_free(struct kt_call *call);

struct kt_store_load {
    struct kt_store_stats engine;
    const char *name; /* of the engine */
    int pending;      /* calls submitted and not done */
    int writes_waiting;
};
void kt_store_load(struct kt_store *s, struct kt_store_load *out);

/* Another number after every commit to the database, whoever made it; -1: not known, and nothing that
 * was read before may be taken as still so. At once, on the loop's thread. */
int64_t kt_store_version(struct kt_store *s, const char *db);

/* blob.c: content-addressed bytes in kt_p_blobs, on a store thread. */
#define KT_BLOB_CHUNK (4u << 20)
#define KT_BLOB_COLL "kt_p_blobs"
int kt_blob_put(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit);
int kt_blob_get(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit);
int kt_blob_to_file(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit);

/* dump.c, load.c: a database as files, each collection as mongorestore reads it (<name>.bson,
 * <name>.metadata.json), on a store thread.
 *
 * The summary is {at: date, collections: [{name, documents, bytes, sha256, metadata_bytes,
 * metadata_sha256}]}; `at` is when the point was taken that all of it is of. A file that differs
 * from it in any byte is KT_DATA_REJECTED and named. A top-level `project_id` that is the summary's
 * `from` becomes its `to`, where it has them; collections of its array `leave_out` are verified and
 * not written. */
int kt_dump(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit);
int kt_load(struct kt_engine *e, struct kt_call *call, const struct kt_limit *limit);
