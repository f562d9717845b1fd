/* Database files: finding, opening, locking, checkpointing, closing, dropping. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "store/sqlite.h"
#include "store/val.h"

static void path_of(struct sq_engine *e, const char *name, const char *suffix, char *out,
                    size_t size) {
    snprintf(out, size, "%s/%s.db%s", e->dir, name, suffix);
}

/* ---- the table of open files; engine->lock is held ---- */

static void unlink_file(struct sq_file *f) {
    struct sq_engine *e = f->engine;
    *(f->prev ? &f->prev->next : &e->files) = f->next;
    *(f->next ? &f->next->prev : &e->last) = f->prev;
    e->file_count--;
}

static void put_first(struct sq_file *f) {
    struct sq_engine *e = f->engine;
    f->prev = NULL;
    f->next = e->files;
    *(e->files ? &e->files->prev : &e->last) = f;
    e->files = f;
    e->file_count++;
}

static void detach(struct sq_file *f) {
    if (!f->detached) {
        unlink_file(f);
        f->detached = true;
    }
}

/* No lock held, nobody else uses it. */
static void close_all(struct sq_file *f) {
    while (f->readers != NULL) {
        struct sq_conn *c = f->readers;
        f->readers = c->next;
        sq_conn_close(c);
    }
    f->reader_count = 0;
    sq_conn_close(f->watch);
    f->watch = NULL;
    sq_conn_close(f->writer); /* the last one: writes the WAL back */
    f->writer = NULL;
}

static void free_file(struct sq_file *f) {
    close_all(f);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    pthread_mutex_destroy(&f->write_lock);
    free(f);
}

/* The least recently used file that nobody uses, taken out; NULL when all is within the cap. */
static struct sq_file *surplus(struct sq_engine *e) {
    if (e->file_count <= e->config.open_max)
        return NULL;
    for (struct sq_file *f = e->last; f != NULL; f = f->prev)
        if (f->refs == 0) {
            detach(f);
            return f;
        }
    return NULL;
}

/* Until the file is replaced by another (restored from a backup). The time is needed too: a new
 * file may get the number of the old one. */
static bool quarantined(struct sq_engine *e, const char *name, const struct stat *st) {
    for (struct sq_bad *b = e->quarantine; b != NULL; b = b->next)
        if (strcmp(b->name, name) == 0)
            return b->ino == st->st_ino && b->mtime.tv_sec == st->st_mtim.tv_sec &&
                   b->mtime.tv_nsec == st->st_mtim.tv_nsec;
    return false;
}

static void set_aside(struct sq_file *f) {
    struct sq_bad *b = f->engine->quarantine;
    struct stat st;
    while (b != NULL && strcmp(b->name, f->name) != 0)
        b = b->next;
    if (lstat(f->path, &st) != 0 || (b == NULL && (b = calloc(1, sizeof *b)) == NULL))
        return; /* gone; or found again at the next call */
    if (b->name[0] == '\0') {
        snprintf(b->name, sizeof b->name, "%s", f->name);
        b->next = f->engine->quarantine;
        f->engine->quarantine = b;
    }
    b->ino = st.st_ino;
    b->mtime = st.st_mtim;
    kt_log(KT_ERROR, "store.quarantine", "database", f->name, "msg",
           "the database is damaged and no longer served; see kontor db check", NULL);
}

static struct sq_file *new_file(struct sq_engine *e, const char *name, const struct stat *st,
                                struct kt_error *err) {
    struct sq_file *f = calloc(1, sizeof *f);
    struct stat wal;
    char path[4096];
    if (f == NULL) {
        kt_fail(err, KT_NO_MEMORY, "database");
        return NULL;
    }
    f->engine = e;
    snprintf(f->name, sizeof f->name, "%s", name);
    path_of(e, name, "", f->path, sizeof f->path);
    path_of(e, name, ".lock", f->lock_path, sizeof f->lock_path);
    f->dev = st->st_dev;
    f->ino = st->st_ino;
    f->lock_fd = open(f->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (f->lock_fd < 0) {
        kt_fail(err, errno == ENOSPC || errno == EDQUOT ? KT_STORAGE_FULL : KT_STORE_UNAVAILABLE,
                "cannot open the lock of database %s: %s", name, strerror(errno));
        free(f);
        return NULL;
    }
    pthread_mutex_init(&f->write_lock, NULL);
    path_of(e, name, "-wal", path, sizeof path);
    if (stat(path, &wal) == 0 && wal.st_size > 0)
        f->wal_bytes = wal.st_size; /* left by a crash */
    f->last_write_ns = kt_now_ns();
    return f;
}

static struct sq_file *acquire(struct sq_engine *e, const char *name, bool damaged_too,
                               struct kt_error *err) {
    struct sq_file *f, *old = NULL, *extra = NULL;
    struct stat st;
    char path[4096];
    path_of(e, name, "", path, sizeof path);
    /* stat only: opening and closing the file ourselves would drop SQLite's own locks on it. */
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT)
            kt_fail(err, KT_NOT_FOUND, "no database %s", name);
        else
            kt_fail(err, KT_STORE_UNAVAILABLE, "database %s: %s", name, strerror(errno));
        st.st_ino = 0;
    } else if (!S_ISREG(st.st_mode)) {
        kt_fail(err, KT_STORE_UNAVAILABLE, "database %s is no regular file", name);
        return NULL;
    }
    pthread_mutex_lock(&e->lock);
    for (f = e->files; f != NULL && strcmp(f->name, name) != 0; f = f->next)
        ;
    if (f != NULL && (f->ino != st.st_ino || f->dev != st.st_dev)) { /* dropped or replaced */
        detach(f);
        if (f->refs == 0)
            old = f;
        f = NULL;
    }
    if (f != NULL && f->dropping) {
        kt_fail(err, KT_NOT_FOUND, "no database %s", name);
        f = NULL;
    } else if (!damaged_too && quarantined(e, name, &st)) {
        kt_fail(err, KT_STORE_CORRUPT, "database %s is damaged and set aside", name);
        f = NULL;
    } else if (st.st_ino != 0) {
        if (f == NULL && (f = new_file(e, name, &st, err)) != NULL)
            put_first(f);
        else if (f != NULL) {
            unlink_file(f);
            put_first(f);
        }
        if (f != NULL) {
            f->refs++;
            extra = surplus(e);
        }
    }
    pthread_mutex_unlock(&e->lock);
    if (old != NULL)
        free_file(old);
    if (extra != NULL)
        free_file(extra);
    return f;
}

struct sq_file *sq_file_acquire(struct sq_engine *e, const char *name, struct kt_error *err) {
    return acquire(e, name, false, err);
}

void sq_file_release(struct sq_file *f) {
    struct sq_engine *e = f->engine;
    pthread_mutex_lock(&e->lock);
    if (f->broken && !f->detached) {
        detach(f);
        set_aside(f);
    }
    bool last = --f->refs == 0 && f->detached;
    pthread_mutex_unlock(&e->lock);
    if (last)
        free_file(f);
}

/* ---- connections ---- */

struct sq_conn *sq_reader_get(struct sq_file *f, struct kt_error *err) {
    pthread_mutex_lock(&f->engine->lock);
    struct sq_conn *c = f->readers;
    if (c != NULL) {
        f->readers = c->next;
        f->reader_count--;
    }
    pthread_mutex_unlock(&f->engine->lock);
    return c != NULL ? c : sq_conn_open(f, f->path, false, err);
}

void sq_reader_put(struct sq_conn *c) {
    struct sq_file *f = c->file;
    c->limit = NULL;
    pthread_mutex_lock(&f->engine->lock);
    bool keep = f->reader_count < SQ_READERS && !f->broken;
    if (keep) {
        c->next = f->readers;
        f->readers = c;
        f->reader_count++;
    }
    pthread_mutex_unlock(&f->engine->lock);
    if (!keep)
        sq_conn_close(c);
}

/* SQLite counts for a connection the commits of all others, in this process and elsewhere; which
 * connection counted is part of the answer. On the loop's thread: it reads shared memory, no file.
 */
int64_t sq_version(struct kt_engine *engine, const char *db) {
    static int64_t watches; /* of all engines of the process, one after the other */
    struct sq_engine *e = (struct sq_engine *)engine;
    struct kt_error err;
    int64_t version = -1;
    struct sq_file *f = sq_file_acquire(e, db, &err);
    if (f == NULL)
        return -1;
    if (f->watch == NULL && (f->watch = sq_conn_open(f, f->path, false, &err)) != NULL)
        f->watched = ++watches;
    sqlite3_stmt *s = f->watch == NULL ? NULL : sq_prepare(f->watch, "PRAGMA data_version", &err);
    if (s != NULL) {
        if (sqlite3_step(s) == SQLITE_ROW)
            version = f->watched << 32 | (uint32_t)sqlite3_column_int(s, 0);
        sq_done(s);
    }
    sq_file_release(f);
    return version;
}

/* The queue for the writers of all processes. Waited for, not polled: the kernel serves waiters in
 * turn, while with polling one of four processes got a third of the others' commits and waited for
 * seconds. A process that stops while it holds the lock is the supervisor's business (it kills what
 * does not beat); callers are held to their own deadlines meanwhile. */
static int flock_wait(struct sq_file *f, bool nowait, struct kt_error *err) {
    struct stat held, named;
    while (flock(f->lock_fd, LOCK_EX | (nowait ? LOCK_NB : 0)) != 0)
        if (errno != EINTR)
            return kt_fail(err, KT_STORE_UNAVAILABLE, "lock of %s: %s", f->name, strerror(errno));
    if (fstat(f->lock_fd, &held) == 0 && lstat(f->lock_path, &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev)
        return 0;
    flock(f->lock_fd, LOCK_UN); /* another process dropped the database meanwhile */
    return kt_fail(err, KT_NOT_FOUND, "no database %s", f->name);
}

struct sq_conn *sq_writer_lock(struct sq_file *f, bool nowait, struct kt_error *err) {
    if (nowait) {
        if (pthread_mutex_trylock(&f->write_lock) != 0)
            return NULL;
    } else
        pthread_mutex_lock(&f->write_lock);
    if (flock_wait(f, nowait, err) != 0) {
        pthread_mutex_unlock(&f->write_lock);
        return NULL;
    }
    if (f->writer == NULL && (f->writer = sq_conn_open(f, f->path, false, err)) != NULL)
        f->writer->writer = true;
    if (f->writer == NULL) {
        flock(f->lock_fd, LOCK_UN);
        pthread_mutex_unlock(&f->write_lock);
    }
    return f->writer;
}

void sq_writer_unlock(struct sq_file *f) {
    if (f->broken) { /* do not let a damaged file be written to again */
        sq_conn_close(f->writer);
        f->writer = NULL;
    }
    flock(f->lock_fd, LOCK_UN);
    pthread_mutex_unlock(&f->write_lock);
}

/* Under the flock, and holding SQLite's write lock as well, which RESTART and TRUNCATE do: before
 * 3.44.6 and 3.51.3 it can corrupt a WAL when a checkpoint runs beside a writer that resets it.
 * While writing goes on the log is begun anew and keeps its pages; giving them back each time is a
 * tenth of a large write. */
void sq_checkpoint(struct sq_file *f, bool idle) {
    int log = 0, done = 0;
    int64_t size = f->wal_bytes;
    if (size == 0 || f->engine->config.journal_delete)
        return;
    if (!idle && (size < f->engine->config.wal_max || size < f->wal_retry))
        return;
    /* Readers hold it up; a large WAL is worth a wait, a small one is not. */
    sqlite3_busy_timeout(f->writer->db, size > 16 * SQ_WAL_MAX ? 500 : 10);
    int mode = idle ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_RESTART;
    int rc = sqlite3_wal_checkpoint_v2(f->writer->db, NULL, mode, &log, &done);
    sqlite3_busy_timeout(f->writer->db, 5000);
    if (rc == SQLITE_OK) {
        f->wal_bytes = idle ? 0 : 1; /* the file is still there: to be emptied when it is idle */
        f->wal_retry = 0;
        return;
    }
    /* Later and later: an export reads for minutes, and each try is a pause for whoever writes. */
    f->wal_retry = size + size / 4;
    if ((rc & 0xFF) != SQLITE_BUSY) {
        struct kt_error err;
        sq_fail(f->writer, rc, &err);
        kt_log(KT_WARN, "store.checkpoint", "database", f->name, "msg", err.message, NULL);
    } else if (size > 64 * SQ_WAL_MAX)
        kt_log(KT_WARN, "store.wal_grows", "database", f->name, NULL);
}

void sq_tidy(struct kt_engine *engine) {
    struct sq_engine *e = (struct sq_engine *)engine;
    char names[64][KT_NAME_MAX + 1];
    int n = 0;
    int64_t now = kt_now_ns();
    pthread_mutex_lock(&e->lock);
    for (struct sq_file *f = e->files; f != NULL && n < 64; f = f->next)
        if (f->wal_bytes > 0 && now - f->last_write_ns > SQ_IDLE_NS)
            memcpy(names[n++], f->name, sizeof f->name);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < n; i++) {
        struct sq_file *f = sq_file_acquire(e, names[i], NULL);
        if (f == NULL)
            continue;
        if (sq_writer_lock(f, true, NULL) != NULL) {
            sq_checkpoint(f, true);
            f->last_write_ns = kt_now_ns(); /* a busy one is tried again after another while */
            sq_writer_unlock(f);
        }
        sq_file_release(f);
    }
}

void sq_stats(struct kt_engine *engine, struct kt_store_stats *out) {
    struct sq_engine *e = (struct sq_engine *)engine;
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&e->lock);
    out->open_databases = e->file_count;
    for (struct sq_file *f = e->files; f != NULL; f = f->next)
        out->wal_bytes += f->wal_bytes;
    for (struct sq_bad *b = e->quarantine; b != NULL; b = b->next)
        out->quarantined++;
    pthread_mutex_unlock(&e->lock);
    out->connections = e->connections;
}

/* ---- databases ---- */

static int sync_dir(struct sq_engine *e, struct kt_error *err) {
    int fd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) != 0
                 ? kt_fail(err, KT_STORE_UNAVAILABLE, "sync of %s: %s", e->dir, strerror(errno))
                 : 0;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Made whole under another name, then renamed: a crash never leaves half a database. */
int sq_create(struct kt_engine *engine, const char *name, struct kt_error *err) {
    static const char *const rest[] = {".new-wal", ".new-shm", ".new"};
    struct sq_engine *e = (struct sq_engine *)engine;
    struct sq_file *f = NULL;
    struct sq_conn *c = NULL;
    struct stat st = {0};
    char temp[4096];
    bool there;
    int rc = sq_exists(engine, name, &there, err);
    if (rc != 0 || there)
        return rc;
    if ((f = new_file(e, name, &st, err)) == NULL)
        return err ? -(int)err->code : -KT_INTERNAL;
    if ((rc = flock_wait(f, false, err)) != 0)
        goto out;
    if ((rc = sq_exists(engine, name, &there, err)) != 0 || there)
        goto out;
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) { /* what a crash left */
        path_of(e, name, rest[i], temp, sizeof temp);
        if (unlink(temp) != 0 && errno != ENOENT) {
            rc = kt_fail(err, KT_STORE_UNAVAILABLE, "%s: %s", temp, strerror(errno));
            goto out;
        }
    }
    /* Made by us first: SQLite would leave it to the umask who may read it, also of -wal and -shm.
     */
    int fd = open(temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        rc = kt_fail(err,
                     errno == ENOSPC || errno == EDQUOT ? KT_STORAGE_FULL : KT_STORE_UNAVAILABLE,
                     "%s: %s", temp, strerror(errno));
        goto out;
    }
    close(fd);
    c = sq_conn_open(f, temp, true, err);
    if (c == NULL) {
        rc = err ? -(int)err->code : -KT_INTERNAL;
        goto out;
    }
    char sql[500];
    snprintf(sql, sizeof sql,
             "BEGIN IMMEDIATE;"
             "CREATE TABLE kt_meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
             "INSERT INTO kt_meta VALUES('layout', 1), ('keys', %d);"
             "CREATE TABLE kt_catalog(coll TEXT, idx TEXT, keys TEXT, uniq INT,"
             " PRIMARY KEY(coll, idx)) WITHOUT ROWID;"
             "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
             KT_KEY_VERSION);
    rc = sq_exec(c, sql, err);
    sq_conn_close(c);
    if (rc == 0 && rename(temp, f->path) != 0)
        rc = kt_fail(err, KT_STORE_UNAVAILABLE, "%s: %s", f->path, strerror(errno));
    if (rc == 0)
        rc = sync_dir(e, err);
    else
        unlink(temp);
out:
    free_file(f); /* closing the lock's descriptor gives the lock up */
    return rc;
}

int sq_exists(struct kt_engine *engine, const char *name, bool *yes, struct kt_error *err) {
    struct sq_engine *e = (struct sq_engine *)engine;
    struct stat st;
    char path[4096];
    path_of(e, name, "", path, sizeof path);
    *yes = lstat(path, &st) == 0;
    if (!*yes && errno != ENOENT)
        return kt_fail(err, KT_STORE_UNAVAILABLE, "database %s: %s", name, strerror(errno));
    return 0;
}

/* What a drop removes, under its present names and those that they get first. The log before its
 * database: no other one of that name must find it, wherever a drop ends. */
static const char *const parts[] = {"-wal", "-shm", "", ".lock"};

static int unlink_gone(struct sq_engine *e, const char *name, struct kt_error *err) {
    char path[4200];
    int rc = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(path, sizeof path, "%s/.gone-%s.db%s", e->dir, name, parts[i]);
        if (unlink(path) != 0 && errno != ENOENT && rc == 0)
            rc = kt_fail(err, KT_STORE_UNAVAILABLE, "%s: %s", path, strerror(errno));
    }
    return rc == 0 ? sync_dir(e, err) : rc;
}

int sq_drop(struct kt_engine *engine, const char *name, struct kt_error *err) {
    struct sq_engine *e = (struct sq_engine *)engine;
    char from[4096], to[4200];
    struct sq_file *f = acquire(e, name, true, err);
    if (f == NULL && err->code == KT_NOT_FOUND) {
        /* A drop that was killed may have left the rest. */
        path_of(e, name, ".lock", from, sizeof from);
        struct kt_error why;
        unlink(from);
        if (unlink_gone(e, name, &why) == 0)
            return -KT_NOT_FOUND;
        *err = why;
    }
    if (f == NULL)
        return -(int)err->code;
    int rc = 0;
    pthread_mutex_lock(&e->lock);
    f->dropping = true; /* new calls find no such database */
    for (int ms = 0; f->refs > 1 && ms < 10000; ms++) {
        pthread_mutex_unlock(&e->lock);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        pthread_mutex_lock(&e->lock);
    }
    if (f->refs > 1)
        rc = kt_fail(err, KT_STORE_UNAVAILABLE, "database %s is in use", name);
    pthread_mutex_unlock(&e->lock);
    if (rc == 0) { /* as a writer, but without a connection: it may not be one of SQLite's files */
        pthread_mutex_lock(&f->write_lock);
        rc = flock_wait(f, false, err);
        if (rc != 0)
            pthread_mutex_unlock(&f->write_lock);
    }
    if (rc != 0) {
        pthread_mutex_lock(&e->lock);
        f->dropping = false;
        pthread_mutex_unlock(&e->lock);
        sq_file_release(f);
        return rc;
    }
    /* Closed before the names go: SQLite removes the WAL by its name when the last one closes. */
    close_all(f);
    for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof *parts; i++) {
        path_of(e, name, parts[i], from, sizeof from);
        snprintf(to, sizeof to, "%s/.gone-%s.db%s", e->dir, name, parts[i]);
        if (rename(from, to) != 0 && errno != ENOENT)
            rc = kt_fail(err, KT_STORE_UNAVAILABLE, "%s: %s", from, strerror(errno));
    }
    pthread_mutex_lock(&e->lock);
    detach(f);
    pthread_mutex_unlock(&e->lock);
    sq_writer_unlock(f);
    sq_file_release(f);
    return rc == 0 ? unlink_gone(e, name, err) : rc;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int sq_list(struct kt_engine *engine, struct kt_buf *names, struct kt_error *err) {
    struct sq_engine *e = (struct sq_engine *)engine;
    DIR *dir = opendir(e->dir);
    char **found = NULL;
    size_t n = 0, cap = 0;
    struct dirent *entry;
    int rc = 0;
    if (dir == NULL)
        return kt_fail(err, KT_STORE_UNAVAILABLE, "%s: %s", e->dir, strerror(errno));
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        if (len < 4 || strcmp(entry->d_name + len - 3, ".db") != 0 ||
            kt_db_name_check(entry->d_name, len - 3, NULL) != 0)
            continue;
        if (n == cap) {
            char **more = realloc(found, (cap = cap ? 2 * cap : 32) * sizeof *found);
            if (more == NULL) {
                rc = kt_fail(err, KT_NO_MEMORY, "list");
                break;
            }
            found = more;
        }
        if ((found[n] = strndup(entry->d_name, len - 3)) != NULL)
            n++;
    }
    closedir(dir);
    if (n > 0)
        qsort(found, n, sizeof *found, by_text);
    for (size_t i = 0; i < n; i++) {
        kt_buf_add(names, found[i], strlen(found[i]) + 1);
        free(found[i]);
    }
    free(found);
    return rc;
}

/* ---- the engine ---- */

static struct kt_engine *sq_open(const struct kt_store_config *config, struct kt_error *err) {
    struct sq_engine *e = calloc(1, sizeof *e);
    struct stat st;
    char *real = NULL;
    if (e == NULL) {
        kt_fail(err, KT_NO_MEMORY, "store");
        return NULL;
    }
    if (mkdir(config->dir, 0700) != 0 && errno != EEXIST) {
        kt_fail(err, kt_code_of_errno(errno), "%s: %s", config->dir, strerror(errno));
        goto fail;
    }
    /* Symbolic links on the way to the directory are the operator's; inside there are none. */
    real = realpath(config->dir, NULL);
    if (real == NULL || stat(real, &st) != 0 || !S_ISDIR(st.st_mode) ||
        strlen(real) >= sizeof e->dir) {
        kt_fail(err, KT_STORE_UNAVAILABLE, "%s is no usable directory", config->dir);
        goto fail;
    }
    if ((st.st_mode & S_IWOTH) != 0) {
        kt_fail(err, KT_STORE_UNAVAILABLE, "%s is writable for everybody", real);
        goto fail;
    }
    snprintf(e->dir, sizeof e->dir, "%s", real);
    free(real);
    e->base.class = &kt_engine_sqlite;
    e->config = *config;
    if (e->config.open_max <= 0)
        e->config.open_max = 128;
    if (e->config.wal_max <= 0)
        e->config.wal_max = SQ_WAL_MAX;
    pthread_mutex_init(&e->lock, NULL);
    return &e->base;
fail:
    free(real);
    free(e);
    return NULL;
}

static void sq_close(struct kt_engine *engine) {
    struct sq_engine *e = (struct sq_engine *)engine;
    while (e->files != NULL) {
        struct sq_file *f = e->files;
        detach(f);
        free_file(f);
    }
    while (e->quarantine != NULL) {
        struct sq_bad *b = e->quarantine;
        e->quarantine = b->next;
        free(b);
    }
    pthread_mutex_destroy(&e->lock);
    free(e);
}

const struct kt_engine_class kt_engine_sqlite = {
    .name = "sqlite",
    .open = sq_open,
    .close = sq_close,
    .read = sq_read,
    .write = sq_write,
    .create = sq_create,
    .exists = sq_exists,
    .drop = sq_drop,
    .list = sq_list,
    .check = sq_check,
    .scan = sq_scan,
    .version = sq_version,
    .tidy = sq_tidy,
    .stats = sq_stats,
};
