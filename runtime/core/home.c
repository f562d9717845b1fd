/* Finding the program's folders. */
#include "core/home.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config.h"

const char *kt_program(void) {
    static char path[PATH_MAX];
    if (path[0] == '\0') {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
        if (n > 0)
            path[n] = '\0';
    }
    return path;
}

#define DIR_SIZE (PATH_MAX + 32)

static bool holds_lua(const char dir[DIR_SIZE]) {
    char path[DIR_SIZE + 8];
    struct stat st;
    snprintf(path, sizeof path, "%s/lua", dir);
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

const char *kt_home(struct kt_error *err) {
    static char home[PATH_MAX];
    if (home[0] != '\0')
        return home;
    const char *set = kt_config_text("KONTOR_HOME");
    char dir[PATH_MAX], candidate[DIR_SIZE];
    if (*set != '\0')
        snprintf(candidate, sizeof candidate, "%s", set);
    else {
        snprintf(dir, sizeof dir, "%s", kt_program());
        char *slash = strrchr(dir, '/');
        if (slash != NULL)
            *slash = '\0';
        snprintf(candidate, sizeof candidate, "%s/../share/kontor", dir);
        if (!holds_lua(candidate))
            snprintf(candidate, sizeof candidate, "%s/..", dir);
    }
    if (!holds_lua(candidate) || realpath(candidate, home) == NULL) {
        home[0] = '\0';
        kt_fail(err, KT_NOT_FOUND, "no folder lua/ in %s: set KONTOR_HOME", candidate);
        return NULL;
    }
    return home;
}
