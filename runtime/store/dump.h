/* What dump.c and load.c share. */
#pragma once

#include <openssl/evp.h>

#include "store/store.h"

/* sha256 of what is added; zero it first. kt_hash_end frees it, kt_hash_drop at any time. */
struct kt_hash {
    EVP_MD_CTX *md;
};
int kt_hash_begin(struct kt_hash *h, struct kt_error *err);
void kt_hash_add(struct kt_hash *h, const void *data, size_t len);
void kt_hash_end(struct kt_hash *h, char hex[65]);
void kt_hash_drop(struct kt_hash *h);
