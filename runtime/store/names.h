/* Names that reach a file system, SQL text or a server: nothing goes there unchecked. */
#pragma once

#include <stddef.h>

#include "core/err.h"

#define KT_NAME_MAX 63  /* bytes of a database or collection name */
#define KT_PATH_MAX 119 /* bytes of a dotted field path */

/* Database: ^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$, not admin, local or config. Such a name is
 * also a safe file name, and two of them never differ by case alone. -KT_INVALID_ARGUMENT else. */
int kt_db_name_check(const char *name, size_t len, struct kt_error *err);
/* Collection or index: ^[a-z][a-z0-9_]{0,62}$ */
int kt_coll_name_check(const char *name, size_t len, struct kt_error *err);
/* Field path a.b.c: no empty part, no part that begins with $, no control byte, no quote. */
int kt_path_check(const char *path, size_t len, struct kt_error *err);
