#include "core/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/home.h"

const void *kt_module(const char *name, const char *symbol, struct kt_error *err) {
    static const char *const places[] = {"", "../lib/kontor/"};
    const char *program = kt_program(), *slash = strrchr(program, '/'), *why = "no such file";
    char path[PATH_MAX + 64];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%.*s%s%s.so", slash ? (int)(slash + 1 - program) : 0, program,
                 places[i], name);
        if (access(path, F_OK) != 0)
            continue;
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        const void *found = module ? dlsym(module, symbol) : NULL;
        if (found != NULL)
            return found;
        why = dlerror();
        break;
    }
    kt_fail(err, KT_INTERNAL, "%s: %.300s", path, why);
    return NULL;
}
