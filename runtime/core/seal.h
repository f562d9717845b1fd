/* Sealing short texts: AES-256-GCM under a key of 32 bytes. Any thread; nothing is kept.
 *
 * What a text belongs to goes in as additional data, so that a box that was copied somewhere else
 * does not open there; the id of the key is always part of it. */
#pragma once

#include "core/buf.h"
#include "core/err.h"

#define KT_SEAL_KEY 32
#define KT_SEAL_NONCE 12
#define KT_SEAL_TAG 16
#define KT_SEAL_ID 19 /* "k_", 16 hex digits of a hash of the key, NUL */

struct kt_seal_key {
    unsigned char bytes[KT_SEAL_KEY];
    char id[KT_SEAL_ID];
};

/* 32 bytes as 64 hex digits, or as base64 (either alphabet, with or without its padding). False
 * when the text is neither; *out is then wiped. */
bool kt_seal_key_parse(const char *text, size_t len, struct kt_seal_key *out);
/* A new key, of random bytes; its text (44 characters and NUL) into text. */
int kt_seal_key_new(struct kt_seal_key *out, char text[45], struct kt_error *err);

/* 64 hex digits and NUL that come from the key and `what` alone, and tell nothing of the key
 * (HMAC-SHA256): a password that is kept nowhere. The caller wipes it. */
int kt_seal_password(const struct kt_seal_key *key, const char *what, char text[65],
                     struct kt_error *err);

/* nonce: made here, random; box: the sealed bytes and their tag are appended. */
int kt_seal(const struct kt_seal_key *key, const char *what, const void *text, size_t len,
            unsigned char nonce[KT_SEAL_NONCE], struct kt_buf *box, struct kt_error *err);
/* Appends to *text, which is left as it was when the box does not open: KT_STORE_CORRUPT. */
int kt_unseal(const struct kt_seal_key *key, const char *what, const void *nonce, size_t nonce_len,
              const void *box, size_t box_len, struct kt_buf *text, struct kt_error *err);
