/* Preloaded into the service by tests/integration/test_sqlite_plans.py: how SQLite answers each statement that
 * is prepared, a line each in the file SQLITE_PLANS: the statement, a tab, the steps of its plan joined by " | ". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int prepare_fn(sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **);

int sqlite3_prepare_v3(sqlite3 *db, const char *sql, int size, unsigned flags, sqlite3_stmt **stmt, const char **tail) {
    prepare_fn *real = (prepare_fn *)dlsym(RTLD_NEXT, "sqlite3_prepare_v3");
    int rc = real(db, sql, size, flags, stmt, tail);
    const char *file = getenv("SQLITE_PLANS");
    char *text = rc == SQLITE_OK && file != NULL ? sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql) : NULL;
    sqlite3_stmt *plan = NULL;
    if (text != NULL && strchr(sql, '\n') == NULL && real(db, text, -1, 0, &plan, NULL) == SQLITE_OK) {
        char line[8192];
        size_t n = (size_t)snprintf(line, sizeof line, "%.4000s\t", sql);
        while (sqlite3_step(plan) == SQLITE_ROW && n < 7000)
            n += (size_t)snprintf(line + n, sizeof line - n, "%.500s | ", (const char *)sqlite3_column_text(plan, 3));
        line[n++] = '\n';
        int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd >= 0) {
            if (write(fd, line, n) != (ssize_t)n) /* the test misses it then */
                abort();
            close(fd);
        }
    }
    sqlite3_finalize(plan);
    sqlite3_free(text);
    return rc;
}
