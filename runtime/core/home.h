/* Where lua/, agents/ and migrations/ are, and the program itself. */
#pragma once

#define KT_VERSION "0.1.0"

#include "core/err.h"

/* KONTOR_HOME, else <bindir>/../share/kontor when it is there, else the checkout that holds the
 * binary (the folder above the build folder). Needs kt_config_load. The text lives until the
 * process ends; the first call must be on the main thread. NULL and *err when no lua/ is found. */
const char *kt_home(struct kt_error *err);
const char *kt_program(void); /* absolute path of the running binary */
