/* The configuration: one table of variables (config_vars.c), read once when the process starts,
 * from the environment, else from `.env` in the working folder; an empty value counts as unset.
 * All faults are found before any is reported. Later reads cannot fail and are thread-safe.
 *
 * A worker gets what the supervisor read: kt_config_export puts every variable into the
 * environment, so that a `.env` edited meanwhile never splits a running service. */
#pragma once

#include "core/buf.h"
#include "core/err.h"

enum kt_config_type {
    KT_CONFIG_TEXT,
    KT_CONFIG_SECRET, /* text that no message shows */
    KT_CONFIG_FOLDER, /* made absolute when it is read: children run elsewhere */
    KT_CONFIG_INT,
    KT_CONFIG_BOOL,   /* 1 true yes on / 0 false no off */
    KT_CONFIG_ADDRESS /* HOST:PORT, the host a numeric address or localhost */
};

struct kt_config_var {
    const char *name;
    enum kt_config_type type;
    const char *fallback;                  /* "" = unset */
    long long min, max;                    /* of an INT */
    const char *(*check)(const char *text); /* of a set text: NULL or what is wrong with it */
    const char *doc;                       /* for .env.example and --help */
};

/* The table, in the order of .env.example. */
extern const struct kt_config_var kt_config_vars[];
extern const int kt_config_count;

/* Read everything; dotenv: path of the file, which need not exist. On faults: -KT_VALIDATION_FAILED
 * and one line a fault in *faults, "NAME: what is wrong". */
int kt_config_load(const char *dotenv, struct kt_buf *faults);
void kt_config_export(void); /* setenv of every variable that is not empty */
void kt_config_free(void);

/* Of a variable of the table; another name is a programming mistake and ends the process. */
const char *kt_config_text(const char *name); /* "" when unset */
long long kt_config_int(const char *name);
bool kt_config_bool(const char *name);
const struct kt_config_var *kt_config_find(const char *name); /* NULL: no such variable */

/* HOST:PORT of an ADDRESS -> host (no brackets) and port. False when it is none. */
bool kt_config_address(const char *text, char host[64], int *port);
bool kt_config_loopback(const char *host); /* a numeric address or localhost */
