/* Reading and checking the configuration. */
#include "core/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <strings.h>

#define VARS_MAX 64

static char *values[VARS_MAX]; /* beside kt_config_vars */
static long long numbers[VARS_MAX];

const struct kt_config_var *kt_config_find(const char *name) {
    for (int i = 0; i < kt_config_count; i++)
        if (strcmp(kt_config_vars[i].name, name) == 0)
            return &kt_config_vars[i];
    return NULL;
}

static int index_of(const char *name) {
    const struct kt_config_var *var = kt_config_find(name);
    if (var == NULL) {
        fprintf(stderr, "kontor: no configuration variable %s\n", name);
        abort();
    }
    return (int)(var - kt_config_vars);
}

const char *kt_config_text(const char *name) {
    int i = index_of(name);
    return values[i] != NULL ? values[i] : "";
}

long long kt_config_int(const char *name) {
    return numbers[index_of(name)];
}

bool kt_config_bool(const char *name) {
    return numbers[index_of(name)] != 0;
}

static void fault(struct kt_buf *faults, const char *name, const char *text, const char *what) {
    kt_buf_addf(faults, "%s: \"%s\" %s\n", name, text, what);
}

/* --- .env ---------------------------------------------------------------------------------- */

static bool name_char(char c, bool first) {
    return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (!first && c >= '0' && c <= '9');
}

static char *skip_space(char *s) {
    return s + strspn(s, " \t");
}

/* The value at s, unquoted in place; what is wrong with it, or NULL. */
static const char *unquote(char *s, char **value) {
    *value = s;
    char *out = s;
    if (*s == '\'' || *s == '"') {
        char quote = *s++;
        for (; *s != quote; s++) {
            if (*s == '\0')
                return "has no closing quote";
            if (quote == '"' && *s == '\\' && s[1] != '\0') {
                s++;
                *out++ = *s == 'n' ? '\n' : *s == 't' ? '\t' : *s;
            } else
                *out++ = *s;
        }
        s = skip_space(s + 1);
        *out = '\0';
        return *s == '\0' || *s == '#' ? NULL : "has text after the closing quote";
    }
    char *end = s;
    for (; *s != '\0' && !(*s == '#' && (s == *value || s[-1] == ' ' || s[-1] == '\t')); s++)
        if (*s != ' ' && *s != '\t')
            end = s + 1;
    *end = '\0';
    return NULL;
}

static void dotenv_line(char *line, int number, const char *path, char *found[],
                        struct kt_buf *faults) {
    char *s = skip_space(line), *name, *value;
    if (*s == '\0' || *s == '#')
        return;
    if (strncmp(s, "export ", 7) == 0)
        s = skip_space(s + 7);
    name = s;
    while (name_char(*s, s == name))
        s++;
    char *end = s;
    s = skip_space(s);
    if (end == name || *s != '=') {
        kt_buf_addf(faults, "%s:%d: is not NAME=value\n", path, number);
        return;
    }
    s = skip_space(s + 1);
    *end = '\0';
    const char *wrong = unquote(s, &value);
    const struct kt_config_var *var = kt_config_find(name);
    if (wrong != NULL)
        kt_buf_addf(faults, "%s: %s:%d: %s\n", name, path, number, wrong);
    else if (var != NULL) {
        free(found[var - kt_config_vars]); /* the last line of a name holds, as in a shell */
        found[var - kt_config_vars] = strdup(value);
    } else if (strncmp(name, "KONTOR_", 7) == 0)
        /* Only here: in the environment KONTOR_… may be another program's (Kubernetes sets them).
         */
        kt_buf_addf(faults, "%s: %s:%d: there is no such variable\n", name, path, number);
}

static void dotenv_read(const char *path, char *found[], struct kt_buf *faults) {
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        if (errno != ENOENT)
            kt_buf_addf(faults, "%s: cannot read: %s\n", path, strerror(errno));
        return;
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    for (int number = 1; (n = getline(&line, &cap, file)) >= 0; number++) {
        if (strlen(line) != (size_t)n) {
            kt_buf_addf(faults, "%s:%d: holds a NUL byte\n", path, number);
            continue;
        }
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            line[--n] = '\0';
        dotenv_line(line, number, path, found, faults);
    }
    free(line);
    fclose(file);
}

/* --- Checks -------------------------------------------------------------------------------- */

static bool one_of(const char *text, const char *const words[]) {
    for (; *words != NULL; words++)
        if (strcasecmp(text, *words) == 0)
            return true;
    return false;
}

bool kt_config_address(const char *text, char host[64], int *port) {
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon - text >= 64 || colon[1] == '\0')
        return false;
    size_t len = (size_t)(colon - text);
    if (text[0] == '[' && colon[-1] == ']' && len > 2) {
        text++;
        len -= 2;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    if (strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    unsigned char address[16];
    if (inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1)
        return false;
    char *end;
    long n = strtol(colon + 1, &end, 10);
    if (*end != '\0' || colon[1] < '0' || colon[1] > '9' || n > 65535)
        return false;
    *port = (int)n;
    return true;
}

bool kt_config_loopback(const char *host) {
    struct in6_addr v6;
    if (strcmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0)
        return true;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static void check(int i, struct kt_buf *faults) {
    static const char *const yes[] = {"1", "true", "yes", "on", NULL};
    static const char *const no[] = {"0", "false", "no", "off", NULL};
    const struct kt_config_var *var = &kt_config_vars[i];
    const char *text = values[i];
    if (*text == '\0')
        return;
    char host[64], *end;
    int port;
    switch (var->type) {
    case KT_CONFIG_INT:
        errno = 0;
        numbers[i] = strtoll(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0')
            fault(faults, var->name, text, "is not a whole number");
        else if (numbers[i] < var->min || numbers[i] > var->max)
            kt_buf_addf(faults, "%s: \"%s\" is not from %lld to %lld\n", var->name, text, var->min,
                        var->max);
        break;
    case KT_CONFIG_BOOL:
        numbers[i] = one_of(text, yes);
        if (!numbers[i] && !one_of(text, no))
            fault(faults, var->name, text, "is not 1 or 0, true or false, yes or no, on or off");
        break;
    case KT_CONFIG_ADDRESS:
        if (!kt_config_address(text, host, &port))
            fault(faults, var->name, text, "is not HOST:PORT with a numeric address or localhost");
        break;
    case KT_CONFIG_TEXT:
    case KT_CONFIG_SECRET:
    case KT_CONFIG_FOLDER:
        break;
    }
    const char *wrong = var->check != NULL ? var->check(text) : NULL;
    if (wrong != NULL && var->type == KT_CONFIG_SECRET)
        kt_buf_addf(faults, "%s: %s\n", var->name, wrong);
    else if (wrong != NULL)
        fault(faults, var->name, text, wrong);
}

/* What only several variables together can get wrong. */
static void check_together(struct kt_buf *faults) {
    const char *prefix = kt_config_text("PROJECT_DATABASE_PREFIX");
    const char *master = kt_config_text("MASTER_DATABASE_NAME");
    if (strncmp(master, prefix, strlen(prefix)) == 0)
        fault(faults, "MASTER_DATABASE_NAME", master,
              "begins with PROJECT_DATABASE_PREFIX, as a project's database would");
}

/* A copy of the value, a folder with the working folder before it; NULL without memory. */
static char *value_of(const struct kt_config_var *var, const char *text) {
    char cwd[PATH_MAX], *absolute;
    if (var->type != KT_CONFIG_FOLDER || *text == '\0' || *text == '/' ||
        getcwd(cwd, sizeof cwd) == NULL)
        return strdup(text);
    while (text[0] == '.' && text[1] == '/')
        text += 2;
    return asprintf(&absolute, "%s/%s", cwd, text) < 0 ? NULL : absolute;
}

int kt_config_load(const char *dotenv, struct kt_buf *faults) {
    char *found[VARS_MAX] = {0};
    size_t before = faults->len;
    kt_config_free();
    dotenv_read(dotenv, found, faults);
    for (int i = 0; i < kt_config_count; i++) {
        const struct kt_config_var *var = &kt_config_vars[i];
        const char *text = getenv(var->name);
        if (text == NULL || *text == '\0')
            text = found[i] != NULL && *found[i] != '\0' ? found[i] : var->fallback;
        values[i] = value_of(var, text);
        if (values[i] == NULL)
            kt_buf_addf(faults, "%s: no memory\n", var->name);
        else
            check(i, faults);
    }
    if (faults->len == before)
        check_together(faults);
    for (int i = 0; i < kt_config_count; i++)
        free(found[i]);
    return faults->len == before ? 0 : -KT_VALIDATION_FAILED;
}

void kt_config_export(void) {
    for (int i = 0; i < kt_config_count; i++)
        if (values[i] != NULL && *values[i] != '\0')
            setenv(kt_config_vars[i].name, values[i], 1);
}

void kt_config_free(void) {
    for (int i = 0; i < kt_config_count; i++) {
        free(values[i]);
        values[i] = NULL;
        numbers[i] = 0;
    }
}
