/* AES-256-GCM by OpenSSL, and the texts and ids of keys. */
#include "core/seal.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

/* In the additional data: whoever changes what is sealed, or how, changes this. */
#define FORMAT "kontor secret 1\n"

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool from_hex(const char *text, size_t len, unsigned char out[KT_SEAL_KEY]) {
    if (len != 2 * KT_SEAL_KEY)
        return false;
    for (int i = 0; i < KT_SEAL_KEY; i++) {
        int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* 43 characters and at most one '='. OpenSSL's decoder wants the padding and the common alphabet,
 * and does not mind bits after the end: those must be zero, one key has one text. */
static bool from_base64(const char *text, size_t len, unsigned char out[KT_SEAL_KEY]) {
    char common[45];
    unsigned char bytes[33], again[45];
    if (len == 44 && text[43] == '=')
        len = 43;
    if (len != 43)
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
        bool fits = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                    c == '+' || c == '/';
        if (!fits)
            return false;
        common[i] = c;
    }
    memcpy(common + 43, "=", 2);
    bool ok = EVP_DecodeBlock(bytes, (unsigned char *)common, 44) == 33 &&
              EVP_EncodeBlock(again, bytes, KT_SEAL_KEY) == 44 && memcmp(again, common, 44) == 0;
    if (ok)
        memcpy(out, bytes, KT_SEAL_KEY);
    OPENSSL_cleanse(common, sizeof common);
    OPENSSL_cleanse(bytes, sizeof bytes);
    OPENSSL_cleanse(again, sizeof again);
    return ok;
}

/* The id names a key in records and messages; a hash of it gives nothing of it away. */
static bool name_key(struct kt_seal_key *key) {
    static const char label[] = "kontor key id 1\n";
    unsigned char input[sizeof label - 1 + KT_SEAL_KEY], digest[EVP_MAX_MD_SIZE];
    memcpy(input, label, sizeof label - 1);
    memcpy(input + sizeof label - 1, key->bytes, KT_SEAL_KEY);
    bool ok = EVP_Digest(input, sizeof input, digest, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(input, sizeof input);
    memcpy(key->id, "k_", 2);
    for (int i = 0; i < 8; i++)
        snprintf(key->id + 2 + 2 * i, 3, "%02x", digest[i]);
    return ok;
}

bool kt_seal_key_parse(const char *text, size_t len, struct kt_seal_key *out) {
    if ((from_hex(text, len, out->bytes) || from_base64(text, len, out->bytes)) && name_key(out))
        return true;
    OPENSSL_cleanse(out, sizeof *out);
    return false;
}

int kt_seal_key_new(struct kt_seal_key *out, char text[45], struct kt_error *err) {
    if (RAND_priv_bytes(out->bytes, KT_SEAL_KEY) != 1 || !name_key(out))
        return kt_fail(err, KT_INTERNAL, "no random bytes from the system");
    EVP_EncodeBlock((unsigned char *)text, out->bytes, KT_SEAL_KEY);
    return 0;
}

int kt_seal_password(const struct kt_seal_key *key, const char *what, char text[65],
                     struct kt_error *err) {
    static const char label[] = "kontor password 1\n";
    char input[sizeof label + 256];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int len = 0;
    int n = snprintf(input, sizeof input, "%s%s", label, what);
    if (n >= (int)sizeof input || HMAC(EVP_sha256(), key->bytes, KT_SEAL_KEY,
                                       (unsigned char *)input, (size_t)n, digest, &len) == NULL)
        return kt_fail(err, KT_INTERNAL, "no password can be made of the key");
    for (unsigned int i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    OPENSSL_cleanse(digest, sizeof digest);
    return 0;
}

/* Key, nonce and additional data, in either direction. */
static bool begin(EVP_CIPHER_CTX *ctx, const struct kt_seal_key *key, const char *what,
                  const unsigned char *nonce, int sealing) {
    int n;
    const char *parts[] = {FORMAT, key->id, "\n", what};
    bool ok = EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key->bytes, nonce, sealing) == 1;
    for (int i = 0; ok && i < 4; i++)
        ok = EVP_CipherUpdate(ctx, NULL, &n, (const unsigned char *)parts[i],
                              (int)strlen(parts[i])) == 1;
    return ok;
}

int kt_seal(const struct kt_seal_key *key, const char *what, const void *text, size_t len,
            unsigned char nonce[KT_SEAL_NONCE], struct kt_buf *box, struct kt_error *err) {
    int n = 0, rest = 0;
    if (len > INT_MAX / 2)
        return kt_fail(err, KT_INVALID_ARGUMENT, "too long to be sealed");
    char *out = kt_buf_reserve(box, len + KT_SEAL_TAG);
    EVP_CIPHER_CTX *ctx = out != NULL ? EVP_CIPHER_CTX_new() : NULL;
    if (ctx == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory to seal");
    unsigned char *at = (unsigned char *)out;
    /* Random nonces: a key may seal 2^32 texts before a collision is worth a thought (SP 800-38D).
     */
    bool ok = RAND_bytes(nonce, KT_SEAL_NONCE) == 1 && begin(ctx, key, what, nonce, 1) &&
              EVP_CipherUpdate(ctx, at, &n, text, (int)len) == 1 &&
              EVP_CipherFinal_ex(ctx, at + n, &rest) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, KT_SEAL_TAG, at + len) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok)
        return kt_fail(err, KT_INTERNAL, "AES-256-GCM is not available");
    box->len += len + KT_SEAL_TAG;
    return 0;
}

int kt_unseal(const struct kt_seal_key *key, const char *what, const void *nonce, size_t nonce_len,
              const void *box, size_t box_len, struct kt_buf *text, struct kt_error *err) {
    int n = 0, rest = 0;
    unsigned char tag[KT_SEAL_TAG];
    if (nonce_len != KT_SEAL_NONCE || box_len < KT_SEAL_TAG || box_len > INT_MAX / 2)
        return kt_fail(err, KT_STORE_CORRUPT, "it is not what was sealed");
    size_t len = box_len - KT_SEAL_TAG;
    memcpy(tag, (const char *)box + len, KT_SEAL_TAG);
    char *out = kt_buf_reserve(text, len + 1); /* +1: a place also for the empty text */
    EVP_CIPHER_CTX *ctx = out != NULL ? EVP_CIPHER_CTX_new() : NULL;
    if (ctx == NULL)
        return kt_fail(err, KT_NO_MEMORY, "no memory to unseal");
    unsigned char *at = (unsigned char *)out;
    bool ok = begin(ctx, key, what, nonce, 0) &&
              EVP_CipherUpdate(ctx, at, &n, box, (int)len) == 1 &&
              EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, KT_SEAL_TAG, tag) == 1 &&
              EVP_CipherFinal_ex(ctx, at + n, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!ok) {
        OPENSSL_cleanse(out, len); /* unauthenticated bytes are nobody's to see */
        return kt_fail(err, KT_STORE_CORRUPT, "it was changed, or sealed for another place");
    }
    text->len += len;
    return 0;
}
