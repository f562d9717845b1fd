/* Inside of the SQLite engine: files, connections, and what its parts call of each other.
 *
 * One struct sq_file a database, found by name while it is open. Any number of threads read, each
 * on a connection of its own; one at a time writes, under write_lock and the flock of the side
 * file. A file that was dropped, replaced or found corrupt is detached: new calls get another, and
 * the last user closes it. */
#pragma once

#include <pthread.h>
#include <sqlite3.h>
#include <sys/types.h>
#include <time.h>

#include "store/engine.h"

#define SQ_READERS 4     /* idle read connections kept a file: as many as threads read */
#define SQ_STATEMENTS 48 /* prepared statements kept a connection */
#define SQ_BATCH 64      /* commits in one transaction */
#define SQ_BATCH_NS 2000000
#define SQ_WAL_MAX (4 << 20)
#define SQ_LARGE (1u << 20)  /* of documents in a commit that gets more cache, … */
#define SQ_LARGE_CACHE 16384 /* … as many KiB */
#define SQ_IDLE_NS 5000000000LL

struct sq_index {
    char name[KT_NAME_MAX + 1];
    char *keys; /* "+path\n-path\n" */
    bool unique;
    struct sq_index *next;
};
struct sq_coll {
    char name[KT_NAME_MAX + 1];
    struct sq_index *indexes;
    struct sq_coll *next;
};

struct sq_conn {
    sqlite3 *db;
    struct sq_file *file;
    struct sq_conn *next;
    bool writer;
    struct {
        char *sql;
        sqlite3_stmt *stmt;
        unsigned used;
    } cache[SQ_STATEMENTS];
    unsigned tick;
    int schema; /* version of the catalog in `colls`; -1: read it again */
    struct sq_coll *colls;
    const struct kt_limit *limit; /* of the running call */
    unsigned rows;
    struct kt_error fn_error; /* set by a function of ours that failed */
};

struct sq_file {
    struct sq_engine *engine;
    char name[KT_NAME_MAX + 1];
    char path[4096], lock_path[4096];
    dev_t dev;
    ino_t ino;
    int lock_fd;
    int refs;           /* engine->lock */
    bool detached;      /* engine->lock */
    bool dropping;      /* engine->lock */
    atomic_bool broken; /* SQLITE_CORRUPT was seen */
    pthread_mutex_t write_lock;
    struct sq_conn *writer;  /* write_lock */
    struct sq_conn *watch;   /* the loop's thread: asks for the version, never writes */
    int64_t watched;         /* which watch of the process it is */
    struct sq_conn *readers; /* engine->lock: idle ones */
    int reader_count;
    _Atomic int64_t wal_bytes;
    int64_t wal_retry; /* write_lock: no checkpoint below this size */
    _Atomic int64_t last_write_ns;
    struct sq_file *prev, *next; /* engine->lock: most recently used first */
};

struct sq_engine {
    struct kt_engine base;
    struct kt_store_config config;
    char dir[3800];
    pthread_mutex_t lock;
    struct sq_file *files, *last;
    int file_count;
    _Atomic int connections;
    struct sq_bad {
        char name[KT_NAME_MAX + 1];
        ino_t ino;
        struct timespec mtime;
        struct sq_bad *next;
    } * quarantine; /* lock */
};

/* sqlite_conn.c */
struct sq_conn *sq_conn_open(struct sq_file *f, const char *path, bool create,
                             struct kt_error *err);
void sq_conn_close(struct sq_conn *c);
/* Room for pages; 0: what a connection has. */
void sq_cache(struct sq_conn *c, int kib);
/* The prepared statement, reset and unbound, or NULL. It stays the connection's: sq_done it. */
sqlite3_stmt *sq_prepare(struct sq_conn *c, const char *sql, struct kt_error *err);
void sq_done(sqlite3_stmt *s);
int sq_exec(struct sq_conn *c, const char *sql, struct kt_error *err);
/* Our error for what SQLite just answered on this connection. */
int sq_fail(struct sq_conn *c, int rc, struct kt_error *err);
void sq_bind_key(sqlite3_stmt *s, int at, struct kt_buf *key); /* takes the bytes */
/* The catalog, read anew when the schema changed. NULL coll: not made yet (*rc 0) or an error. */
struct sq_coll *sq_coll(struct sq_conn *c, const char *name, int *rc, struct kt_error *err);
bool sq_indexed(const struct sq_coll *coll, const char *path);

/* sqlite_file.c */
struct sq_file *sq_file_acquire(struct sq_engine *e, const char *name, struct kt_error *err);
void sq_file_release(struct sq_file *f);
struct sq_conn *sq_reader_get(struct sq_file *f, struct kt_error *err);
void sq_reader_put(struct sq_conn *c);
/* The writer's connection with both locks held, or NULL. nowait: give up when either is taken. */
struct sq_conn *sq_writer_lock(struct sq_file *f, bool nowait, struct kt_error *err);
void sq_writer_unlock(struct sq_file *f);
void sq_checkpoint(struct sq_file *f, bool idle); /* with the writer locked */
int sq_create(struct kt_engine *e, const char *db, struct kt_error *err);
int sq_exists(struct kt_engine *e, const char *db, bool *yes, struct kt_error *err);
int sq_drop(struct kt_engine *e, const char *db, struct kt_error *err);
int sq_list(struct kt_engine *e, struct kt_buf *names, struct kt_error *err);
int64_t sq_version(struct kt_engine *e, const char *db);
void sq_tidy(struct kt_engine *e);
void sq_stats(struct kt_engine *e, struct kt_store_stats *out);

/* sqlite_query.c: SELECT <what> FROM coll WHERE … ORDER BY … LIMIT, prepared and bound. */
struct sq_query {
    const char *what;
    const struct kt_filter *filter;
    const struct kt_sort *sort; /* NULL: none */
    const bson_t *after;        /* NULL: from the beginning */
    int64_t limit;              /* 0: none */
};
sqlite3_stmt *sq_select(struct sq_conn *c, const struct sq_coll *coll, const struct sq_query *q,
                        struct kt_error *err);

/* sqlite_read.c, sqlite_group.c, sqlite_write.c, sqlite_check.c */
int sq_read(struct kt_engine *e, const char *db, struct kt_read *r, struct kt_error *err);
int sq_group(struct sq_conn *c, const struct sq_coll *coll, struct kt_read *r,
             struct kt_error *err);
int sq_write(struct kt_engine *e, const char *db, struct kt_commit *(*next)(void *), void *ud);
int sq_check(struct kt_engine *e, const char *db, struct kt_buf *report, bson_t *summary,
             struct kt_error *err);
int sq_scan(struct kt_engine *e, const char *db, const struct kt_scan *sink, void *ud,
            const struct kt_limit *limit, struct kt_error *err); /* sqlite_scan.c */
/* Borrow the document in a column of the current row. False: no BSON document. */
bool sq_doc(sqlite3_stmt *s, int column, bson_t *doc);
