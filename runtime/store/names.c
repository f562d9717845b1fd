/* Name checks, written out by hand: they decide which file is opened. */
#include "store/names.h"

#include <stdbool.h>
#include <string.h>

static bool lower(char c) {
    return c >= 'a' && c <= 'z';
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

int kt_db_name_check(const char *name, size_t len, struct kt_error *err) {
    static const char *const reserved[] = {"admin", "local", "config"};
    bool ok = len >= 1 && len <= KT_NAME_MAX;
    for (size_t i = 0; ok && i < len; i++) {
        bool edge = i == 0 || i == len - 1;
        ok = lower(name[i]) || digit(name[i]) || (!edge && (name[i] == '-' || name[i] == '_'));
    }
    for (size_t i = 0; ok && i < sizeof reserved / sizeof *reserved; i++)
        ok = !(strlen(reserved[i]) == len && memcmp(reserved[i], name, len) == 0);
    if (!ok)
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a database name (%zu bytes)", len);
    return 0;
}

int kt_coll_name_check(const char *name, size_t len, struct kt_error *err) {
    bool ok = len >= 1 && len <= KT_NAME_MAX && lower(name[0]);
    for (size_t i = 0; ok && i < len; i++)
        ok = lower(name[i]) || digit(name[i]) || name[i] == '_';
    if (!ok)
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a collection or index name (%zu bytes)", len);
    return 0;
}

int kt_path_check(const char *path, size_t len, struct kt_error *err) {
    bool ok = len >= 1 && len <= KT_PATH_MAX && path[len - 1] != '.';
    for (size_t i = 0; ok && i < len; i++) {
        bool start = i == 0 || path[i - 1] == '.';
        ok = (unsigned char)path[i] >= 0x20 && path[i] != '\'' && path[i] != '"' &&
             !(start && (path[i] == '$' || path[i] == '.'));
    }
    if (!ok)
        return kt_fail(err, KT_INVALID_ARGUMENT, "not a field path: %.*s",
                       (int)(len > 80 ? 80 : len), path);
    return 0;
}
