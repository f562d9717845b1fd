/* What a store engine does: synchronous calls on store threads. Nothing above store.c sees this.
 *
 * A call's inputs belong to the caller and are not changed; its results start zeroed and are freed
 * by kt_read_free, kt_write_free, kt_commit_free. */
#pragma once

#include <bson/bson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "store/ast.h"
#include "vm/value.h"

/* When a call must give up. Checked between rows; a commit in progress is never broken off. */
struct kt_limit {
    int64_t until_ns;      /* CLOCK_MONOTONIC; 0: none */
    atomic_bool cancelled; /* set from the loop's thread */
};
int64_t kt_now_ns(void);
/* 0, -KT_CANCELLED or -KT_DEADLINE_EXCEEDED. limit NULL: 0. */
int kt_limit_check(const struct kt_limit *limit, struct kt_error *err);

#define KT_RESULT_MAX (64u << 20) /* bytes of one answer */
#define KT_GROUP_KEYS 4
#define KT_GROUP_VALUES 32
#define KT_GROUP_ROWS 100000

enum kt_fold { KT_COUNT_ROWS, KT_SUM, KT_LEAST, KT_GREATEST };
struct kt_group_item {
    char alias[KT_PATH_MAX + 1];
    char path[KT_PATH_MAX + 1]; /* empty for KT_COUNT_ROWS */
    enum kt_fold fold;          /* of a value */
};
struct kt_group {
    struct kt_group_item keys[KT_GROUP_KEYS], values[KT_GROUP_VALUES];
    int key_count, value_count;
};

enum kt_read_kind { KT_FIND, KT_COUNT, KT_GROUP, KT_DISTINCT };

struct kt_read {
    enum kt_read_kind kind;
    char coll[KT_NAME_MAX + 1];
    struct kt_filter filter;
    struct kt_sort sort; /* find: finished with _id, unless unsorted; group: over aliases */
    int64_t limit;       /* find, group: rows; count: stop there; 0: none */
    bson_t *after;       /* find: array of the sort keys' values; go on behind them. Or NULL */
    char *fields; /* find: names to keep, each with its NUL, ended by an empty one; NULL: all */
    bool json;    /* find: out is a JSON array */
    bool one;     /* with json: the bare object, out empty when there is none */
    const struct kt_view *view;  /* with json; the caller keeps it alive */
    struct kt_group *group;      /* owned */
    char field[KT_PATH_MAX + 1]; /* distinct */
    struct kt_limit limits;

    /* results */
    struct kt_buf out; /* BSON documents one behind the other, or JSON; distinct: one array */
    int64_t count;
    bson_t *last; /* find with a sort: array of the last document's sort values, or NULL */
};
void kt_read_free(struct kt_read *r);

#define KT_LOOKUPS 64
/* A read of one whole document by its _id, which is text; where its outcome goes. */
struct kt_lookup {
    struct kt_read *read;
    int *rc;
    struct kt_error *error;
};
bool kt_is_lookup(const struct kt_read *r);

enum kt_write_kind { KT_INSERT, KT_UPDATE, KT_REPLACE, KT_DELETE,
                     KT_ENSURE_COLLECTION, KT_ENSURE_INDEX };

struct kt_write {
    enum kt_write_kind kind;
    char coll[KT_NAME_MAX + 1];
    struct kt_filter filter;
    struct kt_update update;
    struct kt_buf docs;  /* insert: BSON documents one behind the other; replace: one */
    struct kt_sort sort; /* which document, for a single update, replace or delete; may be empty */
    bool many, upsert;
    bool must_match;         /* nothing matched (nor upserted): KT_CONFLICT */
    bool want_doc, want_new; /* return the document: as it was, or as it is now */
    char *fields;            /* of the returned document, as in kt_read */
    char index[KT_NAME_MAX + 1];
    struct kt_sort keys; /* ensure_index: not finished with _id */
    bool unique;

    /* results */
    int64_t matched, modified; /* insert: modified = documents; delete: modified = documents */
    bson_t *upserted;          /* {"_id": …} or NULL */
    bson_t *doc;               /* or NULL */
};

/* One atomic unit. */
struct kt_commit {
    struct kt_write *writes;
    int count;
    struct kt_limit limits;

    /* results */
    int rc; /* 0 or -kt_code */
    struct kt_error error;
    int failed_at; /* position of the write that failed; -1: none in particular */
    int number;    /* MongoDB's code of the error, or 0 */
    char failed_key[KT_NAME_MAX + 1]; /* already_exists: name of the index, "_id" */
    bool outcome_unknown;
};
void kt_write_free(struct kt_write *w);
void kt_commit_free(struct kt_commit *c);  /* its writes and results, not c */
void kt_commit_clear(struct kt_commit *c); /* its results alone, to run it again */

struct kt_store_config {
    const char *url;      /* of MongoDB; NULL: SQLite in `dir` */
    bool project_users;   /* MongoDB: a database user for each project */
    const char *dir;      /* absolute after kt_store_open */
    const char *main_db;  /* the database with the larger cache; NULL: none */
    int readers, writers; /* threads; 0: 4 and 4 */
    int queue_max;        /* reads waiting, and writes waiting a database; 0: 1024 */
    int open_max;         /* databases open at once; 0: 128 */
    int64_t wal_max;      /* bytes of log at which a checkpoint is tried; 0: 4 MiB */
    bool journal_delete;  /* journal_mode=DELETE instead of WAL */
    bool sync_normal;     /* synchronous=NORMAL: a power cut may lose the last commits */
};

struct kt_store_stats {
    int open_databases, connections, quarantined;
    int connections_max; /* 0: no limit of their own */
    int64_t wal_bytes; /* of the open databases */
};

struct kt_engine;

/* Where kt_engine_class.scan brings a database. Each returns 0, or -kt_code with *err, and the scan
 * ends with that. */
struct kt_scan {
    /* Begins a collection. indexes: a BSON array of {name, key: {path: 1 | -1, …}, unique}, without
     * the one over _id. */
    int (*collection)(void *ud, const char *name, const bson_t *indexes, struct kt_error *err);
    /* Its documents, in the order of _id. */
    int (*document)(void *ud, const bson_t *doc, struct kt_error *err);
};

struct kt_engine_class {
    const char *name; /* "sqlite", "mongodb" */
    struct kt_engine *(*open)(const struct kt_store_config *config, struct kt_error *err);
    void (*close)(struct kt_engine *e);
    /* All below: any store thread, at the same time. db is a checked name; a database that does not
     * exist is -KT_NOT_FOUND and is not made. */
    int (*read)(struct kt_engine *e, const char *db, struct kt_read *r, struct kt_error *err);
    /* Lookups in one collection, KT_LOOKUPS at most, that have waited together. NULL where asking for
     * them at once gains nothing: then `read` gets each. */
    void (*lookup)(struct kt_engine *e, const char *db, struct kt_lookup *list, int n);
    /* Takes commits from `next` until it gives NULL or the batch is full, makes all of them durable
     * at once, and sets their rc. One that fails does not touch the others. Returns their number.
     */
    int (*write)(struct kt_engine *e, const char *db, struct kt_commit *(*next)(void *ud),
                 void *ud);
    int (*create)(struct kt_engine *e, const char *db, struct kt_error *err); /* there already: 0 */
    int (*exists)(struct kt_engine *e, const char *db, bool *yes, struct kt_error *err);
    int (*drop)(struct kt_engine *e, const char *db, struct kt_error *err);
    /* Names, each with its NUL, sorted. */
    int (*list)(struct kt_engine *e, struct kt_buf *names, struct kt_error *err);
    /* Lines of what is wrong are appended to report; empty: nothing is. Collections and their
     * counts go to `summary`, a BSON document. */
    int (*check)(struct kt_engine *e, const char *db, struct kt_buf *report, bson_t *summary,
                 struct kt_error *err);
    /* All of a database at one point of time, while others go on writing it: collections by name.
     * On the calling thread. The point lies between the call and the first call of the sink. */
    int (*scan)(struct kt_engine *e, const char *db, const struct kt_scan *sink, void *ud,
                const struct kt_limit *limit, struct kt_error *err);
    /* Another number after every commit to the database, by whomever; -1: not known now. The loop's
     * thread: takes microseconds. On MongoDB it is known of the master database alone; what another
     * process commits there shows as soon as the change stream brings it, and what workers write of
     * themselves (kt_m_workers, kt_m_ready) and its audit log do not count. */
    int64_t (*version)(struct kt_engine *e, const char *db);
    void (*tidy)(struct kt_engine *e); /* about every second: checkpoints, idle handles */
    void (*stats)(struct kt_engine *e, struct kt_store_stats *out);
};

struct kt_engine {
    const struct kt_engine_class *class;
};

extern const struct kt_engine_class kt_engine_sqlite;
/* In kontor-mongodb.so, which lies beside the program or in ../lib/kontor. */
extern const struct kt_engine_class kt_engine_mongo;
/* The engine of the configuration, loaded when it is not in the program. */
const struct kt_engine_class *kt_engine_of(const struct kt_store_config *config, struct kt_error *err);

/* The error of an answer above KT_RESULT_MAX. */
int kt_too_large(struct kt_error *err);
/* The values of a document's sort keys, as an array: what a next page begins behind. */
bson_t *kt_sort_values(const struct kt_sort *s, const bson_t *doc);

/* A document cut down to `fields` (as in kt_read) and _id, into out. */
void kt_doc_project(const bson_t *doc, const char *fields, bson_t *out);
