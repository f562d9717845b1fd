/* Log lines to stderr, logs/app.log and logs/executions.log. */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"

/* One of the two files. The mutex guards path and fd against a reopen while a line is written. */
struct sink {
    char *path;
    int fd;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sink app = {NULL, -1}, executions = {NULL, -1};
static _Atomic int lowest = KT_INFO;

/* Levels of projects, a few that someone looks into. */
#define PROJECTS_MAX 64
static pthread_rwlock_t project_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct {
    char id[64];
    int level;
} projects[PROJECTS_MAX];
static _Atomic int project_count;

static const char *const level_names[] = {"debug", "info", "warn", "error"};

int kt_log_level_of(const char *name) {
    for (int i = 0; i < 4; i++)
        if (strcmp(level_names[i], name) == 0)
            return i;
    return -1;
}

void kt_log_level(enum kt_level level) {
    atomic_store(&lowest, (int)level);
}

const char *kt_log_level_name(enum kt_level level) {
    return level_names[level];
}

/* The caller holds project_lock. */
static int find_project(const char *id, size_t len) {
    int at = project_count;
    while (--at >= 0 && (strncmp(projects[at].id, id, len) != 0 || projects[at].id[len] != '\0')) {
    }
    return at;
}

bool kt_log_project_level(const char *project_id, int level) {
    size_t len = strlen(project_id);
    bool ok = true;
    if (len == 0 || len >= sizeof projects[0].id)
        return false;
    pthread_rwlock_wrlock(&project_lock);
    int at = find_project(project_id, len);
    if (level < 0) {
        if (at >= 0)
            projects[at] = projects[--project_count];
    } else if (at >= 0) {
        projects[at].level = level;
    } else if (project_count == PROJECTS_MAX) {
        ok = false;
    } else {
        memcpy(projects[project_count].id, project_id, len + 1);
        projects[project_count++].level = level;
    }
    pthread_rwlock_unlock(&project_lock);
    return ok;
}

static int level_for(const char *id, size_t len) {
    int level = atomic_load_explicit(&lowest, memory_order_relaxed);
    if (id == NULL || len >= sizeof projects[0].id)
        return level;
    pthread_rwlock_rdlock(&project_lock);
    int at = find_project(id, len);
    if (at >= 0)
        level = projects[at].level;
    pthread_rwlock_unlock(&project_lock);
    return level;
}

enum kt_level kt_log_level_for(const char *project_id) {
    return (enum kt_level)level_for(project_id, project_id != NULL ? strlen(project_id) : 0);
}

/* Is a line of this level wanted? Without levels of projects it costs one look. */
static bool wanted(enum kt_level level, const struct kt_log_field *fields, int count) {
    if (atomic_load_explicit(&project_count, memory_order_relaxed) > 0)
        for (int i = 0; i < count; i++)
            if (strcmp(fields[i].name, "project_id") == 0 && fields[i].value != NULL)
                return (int)level >= level_for(fields[i].value, fields[i].len);
    return (int)level >= atomic_load_explicit(&lowest, memory_order_relaxed);
}

static int open_file(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

static void sink_close(struct sink *sink) {
    if (sink->fd >= 0)
        close(sink->fd);
    free(sink->path);
    *sink = (struct sink){NULL, -1};
}

static int sink_open(struct sink *sink, const char *path, struct kt_error *err) {
    int fd = -1, rc = 0;
    char *copy = NULL;
    if (path != NULL) {
        fd = open_file(path);
        if (fd < 0)
            return kt_fail(err, kt_code_of_errno(errno), "cannot open log file %s: %s", path,
                           strerror(errno));
        copy = strdup(path);
        if (copy == NULL) {
            close(fd);
            return kt_fail(err, KT_NO_MEMORY, "no memory");
        }
    }
    pthread_mutex_lock(&lock);
    sink_close(sink);
    *sink = (struct sink){copy, fd};
    pthread_mutex_unlock(&lock);
    return rc;
}

int kt_log_open(const char *path, struct kt_error *err) {
    return sink_open(&app, path, err);
}

int kt_log_open_executions(const char *path, struct kt_error *err) {
    return sink_open(&executions, path, err);
}

/* A file that cannot be opened anew (folder gone, no rights) keeps the old one: better lines in a
 * moved file than none. */
static bool sink_reopen(struct sink *sink) {
    if (sink->path == NULL)
        return true;
    int fd = open_file(sink->path);
    if (fd < 0)
        return false;
    close(sink->fd);
    sink->fd = fd;
    return true;
}

void kt_log_reopen(void) {
    pthread_mutex_lock(&lock);
    bool ok = sink_reopen(&app);
    ok = sink_reopen(&executions) && ok;
    pthread_mutex_unlock(&lock);
    if (!ok)
        kt_log(KT_ERROR, "log.reopen_failed", "msg", strerror(errno), NULL);
}

void kt_log_close(void) {
    pthread_mutex_lock(&lock);
    sink_close(&app);
    sink_close(&executions);
    pthread_mutex_unlock(&lock);
}

static bool plain(const char *s, size_t len) {
    if (len == 0 || len > 200)
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!word && strchr("_-.:/@+,%", c) == NULL)
            return false;
    }
    return true;
}

/* Cut where no UTF-8 sequence is broken. */
static size_t cut(const char *s, size_t len) {
    if (len <= KT_LOG_VALUE_MAX)
        return len;
    size_t n = KT_LOG_VALUE_MAX;
    while (n > KT_LOG_VALUE_MAX - 4 && ((unsigned char)s[n] & 0xC0) == 0x80)
        n--;
    return n;
}

/* C0, DEL and the C1/line-separator sequences that a terminal or a reader may take for a line end
 * or an escape. */
static size_t unsafe(const char *s, size_t left) {
    unsigned char c = (unsigned char)s[0];
    if (c < 0x20 || c == 0x7F)
        return 1;
    if (c == 0xC2 && left > 1 && ((unsigned char)s[1] & 0xE0) == 0x80)
        return 2;
    if (c == 0xE2 && left > 2 && (unsigned char)s[1] == 0x80 &&
        ((unsigned char)s[2] == 0xA8 || (unsigned char)s[2] == 0xA9))
        return 3;
    return 0;
}

static void add_pair(struct kt_buf *line, const char *name, const char *value, size_t len) {
    kt_buf_addc(line, ' ');
    kt_buf_adds(line, name);
    kt_buf_addc(line, '=');
    if (strcmp(name, "msg") != 0 && plain(value, len)) {
        kt_buf_add(line, value, len);
        return;
    }
    size_t n = cut(value, len);
    kt_buf_addc(line, '"');
    for (size_t i = 0; i < n; i++) {
        size_t bad = unsafe(value + i, n - i);
        if (value[i] == '\n')
            kt_buf_adds(line, "\\n");
        else if (bad > 0) {
            for (size_t k = 0; k < bad; k++)
                kt_buf_addf(line, "\\x%02x", (unsigned char)value[i + k]);
            i += bad - 1;
        } else {
            if (value[i] == '"' || value[i] == '\\')
                kt_buf_addc(line, '\\');
            kt_buf_addc(line, value[i]);
        }
    }
    if (n < len)
        kt_buf_adds(line, "…");
    kt_buf_addc(line, '"');
}

/* A name is code's, except from Lua: keep it one word there too. */
static bool good_name(const char *s) {
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              *s == '_' || *s == '.'))
            return false;
    return true;
}

static void write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* a full disk or a closed pipe must not stop the service */
        data += n;
        len -= (size_t)n;
    }
}

static void begin(struct kt_buf *line) {
    char ts[KT_RFC3339_SIZE];
    kt_time_format(kt_now_ms(), ts);
    kt_buf_addf(line, "ts=%s", ts);
}

static void finish(struct kt_buf *line, const struct sink *sink, bool to_stderr) {
    kt_buf_addc(line, '\n');
    if (!line->failed) {
        pthread_mutex_lock(&lock);
        if (to_stderr || sink->fd < 0)
            write_all(STDERR_FILENO, line->data, line->len);
        if (sink->fd >= 0)
            write_all(sink->fd, line->data, line->len);
        pthread_mutex_unlock(&lock);
    }
    kt_buf_free(line);
}

bool kt_log_wants(enum kt_level level) {
    return atomic_load_explicit(&project_count, memory_order_relaxed) > 0 ||
           (int)level >= atomic_load_explicit(&lowest, memory_order_relaxed);
}

void kt_log_fields(enum kt_level level, const char *event, const struct kt_log_field *fields,
                   int count) {
    if (!wanted(level, fields, count))
        return;
    struct kt_buf line = KT_BUF_INIT;
    begin(&line);
    kt_buf_addf(&line, " level=%s event=%s", level_names[level],
                good_name(event) ? event : "unnamed");
    for (int i = 0; i < count; i++)
        if (fields[i].value != NULL && good_name(fields[i].name))
            add_pair(&line, fields[i].name, fields[i].value, fields[i].len);
    finish(&line, &app, true);
}

void kt_log(enum kt_level level, const char *event, ...) {
    struct kt_log_field fields[24];
    int count = 0;
    va_list args;
    va_start(args, event);
    for (const char *name; count < 24 && (name = va_arg(args, const char *)) != NULL;) {
        const char *value = va_arg(args, const char *);
        fields[count++] = (struct kt_log_field){name, value, value == NULL ? 0 : strlen(value)};
    }
    va_end(args);
    kt_log_fields(level, event, fields, count);
}

void kt_log_execution(const struct kt_log_field *fields, int count) {
    struct kt_buf line = KT_BUF_INIT;
    begin(&line);
    for (int i = 0; i < count; i++)
        if (fields[i].value != NULL && good_name(fields[i].name))
            add_pair(&line, fields[i].name, fields[i].value, fields[i].len);
    finish(&line, &executions, false);
}
