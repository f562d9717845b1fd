/* Commands in Lua: lua/cli/NAME.lua returns function(args) -> exit code, run as a task. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/host.h"
#include "cmd/cmd.h"
#include "core/buf.h"
#include "core/files.h"
#include "core/home.h"
#include "core/log.h"

static const char boot[] = "local name = ...\n"
                           "return require('cli.' .. name)({select(2, ...)})\n";

/* A name is one word of a-z and -, and its file is there. */
static bool known(const char *home, const char *name) {
    char path[4200];
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz-") != strlen(name) || *name == '-')
        return false;
    snprintf(path, sizeof path, "%s/lua/cli/%s.lua", home, name);
    return access(path, R_OK) == 0;
}

void kt_cmd_lua_names(FILE *to) {
    struct kt_buf names = KT_BUF_INIT;
    char path[4200];
    int count;
    const char *home = kt_home(NULL);
    snprintf(path, sizeof path, "%s/lua/cli", home != NULL ? home : "");
    if (home != NULL && kt_file_list(path, &names, &count, NULL) == 0)
        for (const char *at = names.data; count-- > 0; at += strlen(at) + 1) {
            int len = (int)strlen(at + 1) - 4;
            if (at[0] == 'f' && len > 0 && strcmp(at + 1 + len, ".lua") == 0)
                fprintf(to, " %.*s", len, at + 1);
        }
    kt_buf_free(&names);
}

int kt_cmd_lua(const char *name, int argc, char **argv) {
    struct kt_error err;
    struct kt_host host;
    int status = 1;
    const char *home = kt_home(&err);
    if (home == NULL) {
        fprintf(stderr, "kontor: %s\n", err.message);
        return 1;
    }
    if (!known(home, name)) {
        fprintf(stderr, "kontor: there is no command %s; see kontor --help\n", name);
        return 2;
    }
    char **args = malloc(sizeof *args * (size_t)(argc + 1));
    if (args == NULL)
        return 1;
    args[0] = (char *)name;
    memcpy(args + 1, argv, sizeof *args * (size_t)argc);
    if (kt_host_open(&host, home, &err) != 0 ||
        kt_host_run(&host, boot, "=kontor", argc + 1, args, &status, &err) != 0) {
        fprintf(stderr, "kontor: %s\n", err.message);
        status = 1;
    }
    free(args);
    int left = kt_host_close(&host);
    if (left != 0) {
        fprintf(stderr, "kontor: %d handles were left open\n", left);
        status = status == 0 ? 1 : status;
    }
    return status;
}
