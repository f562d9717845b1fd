/* The keys that secrets are sealed under. In this order, each once:
 *
 *   KONTOR_MASTER_KEY                 seals and opens
 *   KONTOR_MASTER_KEY_OLD             open: keys of before, joined by commas
 *   DIR/master.key                    open; without KONTOR_MASTER_KEY the first one also seals
 *
 * The file has a key a line (base64), the newest first; # begins a comment. It is only written
 * here: made with the first secret, with one key more for a rotation. It is refused unless it is a
 * plain file of our own that nobody else may read. Blocks: for pool threads and commands. */
#pragma once

#include "core/seal.h"

#define KT_KEYS_MAX 64

struct kt_keyring {
    struct kt_seal_key keys[KT_KEYS_MAX];
    int count;
    int current;   /* the one that seals, -1: none */
    bool from_env; /* current is KONTOR_MASTER_KEY */
};

/* What is wrong with the text of a variable, or NULL; no part of the text is in it. */
const char *kt_keyring_fault(const char *text);

/* Read what there is. use_file: a key of the file may seal. KT_INVALID_STATE says why the file is
 * refused. */
int kt_keyring_load(const char *dir, bool use_file, struct kt_keyring *ring, struct kt_error *err);
/* The same, with a new key first in the file if the first one there still is `after` ("": the file
 * has none). Of several that ask at once one makes it, all get it. */
int kt_keyring_next(const char *dir, const char *after, struct kt_keyring *ring,
                    struct kt_error *err);
const struct kt_seal_key *kt_keyring_find(const struct kt_keyring *ring, const char *id);
void kt_keyring_wipe(struct kt_keyring *ring);
