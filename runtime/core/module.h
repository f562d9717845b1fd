/* Parts of the program in files of their own, for libraries that only some processes need: what
 * such a library brings costs every process that is linked to it memory and time to start. */
#pragma once

#include "core/err.h"

/* The object `symbol` of the module `name` ("kontor-mongodb"), beside the program or in
 * ../lib/kontor. Stays loaded for the life of the process. Any thread; blocks while it loads.
 * NULL and *err (internal) when it cannot be loaded. */
const void *kt_module(const char *name, const char *symbol, struct kt_error *err);
