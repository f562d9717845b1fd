/* Inside of the MongoDB engine: the client pool, and what its parts call of each other.
 *
 * One pool of mongo-c-driver clients a process, at most as many as our own threads: each store
 * thread takes one for the length of a call, so a call never waits for another's. A commit of one
 * write is a plain retryable write; everything else is a transaction, so that a commit means here
 * what it means on SQLite. That needs a replica set (one node is enough) or mongos.
 *
 * With KONTOR_PROJECT_USERS a project's documents are reached by clients of their own, which the
 * server lets into that one database (mongo_users.c). */
#pragma once

#include <mongoc/mongoc.h>
#include <pthread.h>

#include "core/keyring.h"
#include "store/engine.h"

#define MG_MAX_TIME_MS 10000       /* the longest that a server may work on a call */
#define MG_BATCH 64                /* commits in one transaction */
#define MG_MESSAGE_MAX (12u << 20) /* bytes of documents in one command */
#define MG_DBS 1024                /* places of the table of known databases; a power of two */

#define MG_PROJECT_CLIENTS 64     /* clients of projects' users that are kept */
#define MG_IDLE_NS 300000000000LL /* what was not used for so long is closed, or counts as such */

/* A place for a client that is logged in as a project's user. */
struct mg_user {
    mongoc_client_t *client; /* NULL: none */
    char db[KT_NAME_MAX + 1];
    int64_t used_ns;
    bool busy;    /* a thread has it, or is making or closing it */
    bool renewed; /* the user was made again in this call */
    bool refused; /* in this call the server said that the user may not (13), … */
    bool failed;  /* … or something else before, so that a write may have been made */
};

/* A database that was seen on the server. */
struct mg_db {
    char name[KT_NAME_MAX + 1];
    int64_t version; /* goes up with every commit that we know of */
    int64_t used_ns;
    struct mg_db *next;
};

struct mg_engine {
    struct kt_engine base;
    mongoc_uri_t *uri;
    mongoc_client_pool_t *pool;
    char main_db[KT_NAME_MAX + 1];
    int clients; /* the pool's limit */
    _Atomic int in_use;
    /* 0 while a writable server is known; else since when (CLOCK_MONOTONIC) there is none. */
    _Atomic int64_t away_ns;
    bool seen; /* a server was known once; the driver tells of changes one at a time */
    mongoc_write_concern_t *concern;
    mongoc_transaction_opt_t *txn_opts;
    pthread_mutex_t lock; /* dbs, users */
    struct mg_db *dbs[MG_DBS];

    /* mongo_users.c; `users` NULL: the user of the URL does everything */
    struct mg_user *users; /* MG_PROJECT_CLIENTS places; lock */
    struct kt_keyring ring;

    /* mongo_watch.c */
    pthread_t watcher;
    bool watching;
    _Atomic bool watched; /* the change stream is open */
    _Atomic bool closing;
};

/* mongo_client.c */
/* What is wrong with a MONGODB_URL, or NULL; never a part of the text itself but an option's name.
 */
const char *kt_mongo_url_fault(const char *url, char *text, size_t size);
struct kt_engine *mg_open(const struct kt_store_config *config, struct kt_error *err);
void mg_close(struct kt_engine *engine);
/* A client for a call about the documents of `db`; NULL: one of the URL's user, for everything
 * else. NULL and *err while no server is known, or no user of the project can be had. Give it back
 * with mg_put. */
mongoc_client_t *mg_get(struct mg_engine *e, const char *db, struct kt_error *err);
void mg_put(struct mg_engine *e, mongoc_client_t *client);
/* A client that says hello to one server as nobody; NULL when there can be none. The caller
 * destroys it. */
mongoc_client_t *mg_nobody(const mongoc_uri_t *uri, const char *host_and_port);
/* Milliseconds that the server may take: what is left of the limit, at most MG_MAX_TIME_MS. */
int64_t mg_time(const struct kt_limit *limit);

/* mongo_users.c: a database user for each project. */
int mg_users_start(struct mg_engine *e, const struct kt_store_config *config, struct kt_error *err);
void mg_users_stop(struct mg_engine *e);
mongoc_client_t *mg_user_get(struct mg_engine *e, const char *db, struct kt_error *err);
/* False: the client is none of these. */
bool mg_user_put(struct mg_engine *e, mongoc_client_t *client);
/* Whether to do again, from its beginning, what just failed: the server refused the client, because
 * the project's user was removed or changed behind our back; the user is as it should be now, and
 * *client another one. Once a call. False: *err is what is wrong, maybe newly. */
bool mg_renew(struct mg_engine *e, mongoc_client_t **client, struct kt_error *err);
/* Make the user of a project, or its password and role as they should be. `client`: of the URL. */
int mg_user_make(struct mg_engine *e, mongoc_client_t *client, const char *db,
                 struct kt_error *err);
/* Users that are kept in a database. They outlive it. */
int mg_users_drop(struct mg_engine *e, mongoc_client_t *client, const char *db,
                  struct kt_error *err);
void mg_users_tidy(struct mg_engine *e);

/* mongo_error.c: our error for what the driver or the server just answered. `reply` may be NULL.
 * `sent`: a write was on its way, so that a lost answer leaves its outcome open. */
int mg_fail(const bson_error_t *error, const bson_t *reply, bool sent, struct kt_error *err);
int mg_code(int32_t number); /* kt_code of a server's number */
/* The index that a text of error 11000 names, "_id" for the primary one. */
void mg_dup_key(const char *text, const bson_iter_t *error, char out[KT_NAME_MAX + 1]);

/* mongo_query.c: our trees as MongoDB's documents, appended to `out`. */
void mg_filter(const struct kt_filter *f, bson_t *out);
/* The filter, and behind the values `after` of the sort. */
void mg_filter_after(const struct kt_filter *f, const struct kt_sort *sort, const bson_t *after,
                     bson_t *out);
void mg_sort(const struct kt_sort *s, bson_t *out);
void mg_fields(const char *fields, bson_t *out);
/* `new_id`: the _id that an upsert makes; NULL: none. */
void mg_update(const struct kt_update *u, const char *new_id, bson_t *out);

/* mongo_db.c */
/* Whether there is a collection in it. */
int mg_ask(mongoc_client_t *client, const char *db, bool *yes, struct kt_error *err);
/* 0 when the database is there. */
int mg_known(struct mg_engine *e, mongoc_client_t *client, const char *db, struct kt_error *err);
void mg_touch(struct mg_engine *e, const char *db); /* something in it changed */
void mg_forget(struct mg_engine *e, const char *db);
void mg_forget_all(struct mg_engine *e);
/* A write command outside a transaction; the server's error `fine` is none. */
int mg_command(struct mg_engine *e, mongoc_client_t *client, const char *db, const bson_t *command,
               int32_t fine, struct kt_error *err);
int mg_create(struct kt_engine *e, const char *db, struct kt_error *err);
int mg_exists(struct kt_engine *e, const char *db, bool *yes, struct kt_error *err);
int mg_drop(struct kt_engine *e, const char *db, struct kt_error *err);
int mg_list(struct kt_engine *e, struct kt_buf *names, struct kt_error *err);
int mg_check(struct kt_engine *e, const char *db, struct kt_buf *report, bson_t *summary,
             struct kt_error *err);
int64_t mg_version(struct kt_engine *e, const char *db);
void mg_tidy(struct kt_engine *e);
void mg_stats(struct kt_engine *e, struct kt_store_stats *out);

/* mongo_read.c, mongo_write.c, mongo_schema.c */
void mg_lookup(struct kt_engine *e, const char *db, struct kt_lookup *list, int n);
int mg_read(struct kt_engine *e, const char *db, struct kt_read *r, struct kt_error *err);
int mg_write(struct kt_engine *e, const char *db, struct kt_commit *(*next)(void *), void *ud);
/* A collection or an index that is to be there. */
int mg_ensure(struct mg_engine *e, mongoc_client_t *client, const char *db,
              const struct kt_write *w, int *number, struct kt_error *err);

/* mongo_scan.c */
int mg_scan(struct kt_engine *e, const char *db, const struct kt_scan *sink, void *ud,
            const struct kt_limit *limit, struct kt_error *err);

/* mongo_watch.c: one change stream a process, on the master database. */
int mg_watch_start(struct mg_engine *e, struct kt_error *err);
void mg_watch_stop(struct mg_engine *e);
