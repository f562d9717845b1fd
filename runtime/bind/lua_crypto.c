/* Module kt.crypto: OpenSSL's. Nothing here yields.
 *
 *   crypto.sha256(s) -> hex            crypto.hmac_sha256(key, s) -> 32 raw bytes
 *   crypto.random(n) -> n raw bytes    crypto.uuid7() -> 32 hex digits, sortable by time
 *   crypto.base64url_encode(s) -> text without padding
 *   crypto.base64url_decode(text) -> s | nil, err
 *   crypto.equal(a, b) -> bool, in a time that does not depend on where they differ
 *   crypto.hash_new() -> h; h:update(s) -> h; h:hex() -> hex (once) */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <string.h>

#include "bind/bind.h"
#include "core/clock.h"

static void push_hex(lua_State *L, const unsigned char *bytes, size_t n) {
    static const char digits[] = "0123456789abcdef";
    char hex[128];
    for (size_t i = 0; i < n && i < sizeof hex / 2; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    lua_pushlstring(L, hex, 2 * n);
}

static int l_sha256(lua_State *L) {
    size_t len;
    const char *s = luaL_checklstring(L, 1, &len);
    unsigned char digest[32];
    if (EVP_Digest(s, len, digest, NULL, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "crypto.sha256: not available");
    push_hex(L, digest, 32);
    return 1;
}

static int l_hmac_sha256(lua_State *L) {
    size_t key_len, len;
    const char *key = luaL_checklstring(L, 1, &key_len), *s = luaL_checklstring(L, 2, &len);
    unsigned char digest[32];
    if (HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)s, len, digest, NULL) == NULL)
        return luaL_error(L, "crypto.hmac_sha256: not available");
    lua_pushlstring(L, (char *)digest, 32);
    return 1;
}

static void fill_random(lua_State *L, unsigned char *bytes, int n) {
    if (RAND_bytes(bytes, n) != 1)
        luaL_error(L, "crypto: no random bytes from the system");
}

static int l_random(lua_State *L) {
    unsigned char bytes[1024];
    long long n = kt_check_int(L, 1);
    luaL_argcheck(L, n >= 0 && n <= (long long)sizeof bytes, 1, "0 to 1024 bytes");
    fill_random(L, bytes, (int)n);
    lua_pushlstring(L, (char *)bytes, (size_t)n);
    return 1;
}

/* RFC 9562: 48 bits of ms, version 7. The 12 bits behind the time count within one ms, so that ids
 * of one process sort in the order they were made. */
static int l_uuid7(lua_State *L) {
    static _Thread_local int64_t last;
    static _Thread_local unsigned count;
    unsigned char b[16];
    int64_t ms = kt_now_ms();
    fill_random(L, b, sizeof b);
    if (ms <= last && last - ms < 1000) { /* also a clock that stepped back a little */
        if (++count > 0xfff) {
            last++;
            count = 0;
        }
    } else {
        last = ms;
        count = b[6] & 0x7f; /* room to count */
    }
    for (int i = 0; i < 6; i++)
        b[i] = (unsigned char)(last >> (40 - 8 * i));
    b[6] = (unsigned char)(0x70 | count >> 8);
    b[7] = (unsigned char)count;
    b[8] = (b[8] & 0x3f) | 0x80;
    push_hex(L, b, 16);
    return 1;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int l_base64url_encode(lua_State *L) {
    size_t n;
    const unsigned char *s = (const unsigned char *)luaL_checklstring(L, 1, &n);
    struct kt_buf *out = kt_scratch();
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)s[i] << 16 | (i + 1 < n ? (unsigned)s[i + 1] << 8 : 0) |
                     (i + 2 < n ? s[i + 2] : 0);
        char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63], alphabet[v >> 6 & 63],
                        alphabet[v & 63]};
        kt_buf_add(out, four, n - i >= 3 ? 4 : n - i + 1);
    }
    if (out->failed)
        return luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->len ? out->data : "", out->len);
    return 1;
}

static int l_base64url_decode(lua_State *L) {
    size_t n;
    struct kt_error err;
    const char *s = luaL_checklstring(L, 1, &n);
    struct kt_buf *out = kt_scratch();
    unsigned v = 0;
    int bits = 0;
    bool ok = n % 4 != 1;
    for (size_t i = 0; ok && i < n; i++) {
        const char *at = s[i] == '\0' ? NULL : strchr(alphabet, s[i]);
        ok = at != NULL;
        if (!ok)
            break;
        v = v << 6 | (unsigned)(at - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            kt_buf_addc(out, (char)(v >> bits & 0xff));
        }
    }
    if (ok && bits > 0 && (v & ((1u << bits) - 1)) != 0)
        ok = false; /* two texts for the same bytes would make ids ambiguous */
    if (!ok) {
        kt_fail(&err, KT_VALIDATION_FAILED, "not base64url");
        return kt_push_error(L, &err);
    }
    if (out->failed)
        return luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->len ? out->data : "", out->len);
    return 1;
}

static int l_equal(lua_State *L) {
    size_t n, m;
    const char *a = luaL_checklstring(L, 1, &n), *b = luaL_checklstring(L, 2, &m);
    lua_pushboolean(L, n == m && CRYPTO_memcmp(a, b, n) == 0);
    return 1;
}

static int l_hash_new(lua_State *L) {
    EVP_MD_CTX **h = lua_newuserdata(L, sizeof *h);
    *h = NULL;
    luaL_getmetatable(L, "kt.hash");
    lua_setmetatable(L, -2);
    *h = EVP_MD_CTX_new();
    if (*h == NULL || EVP_DigestInit_ex(*h, EVP_sha256(), NULL) != 1)
        return luaL_error(L, "crypto.hash_new: not available");
    return 1;
}

static EVP_MD_CTX *check_hash(lua_State *L) {
    EVP_MD_CTX **h = luaL_checkudata(L, 1, "kt.hash");
    luaL_argcheck(L, *h != NULL, 1, "a hash that was not finished");
    return *h;
}

static int l_hash_update(lua_State *L) {
    size_t len;
    EVP_MD_CTX *h = check_hash(L);
    const char *s = luaL_checklstring(L, 2, &len);
    EVP_DigestUpdate(h, s, len);
    lua_settop(L, 1);
    return 1;
}

static int l_hash_gc(lua_State *L) {
    EVP_MD_CTX **h = luaL_checkudata(L, 1, "kt.hash");
    EVP_MD_CTX_free(*h);
    *h = NULL;
    return 0;
}

static int l_hash_hex(lua_State *L) {
    unsigned char digest[32];
    EVP_DigestFinal_ex(check_hash(L), digest, NULL);
    l_hash_gc(L);
    push_hex(L, digest, 32);
    return 1;
}

static const luaL_Reg functions[] = {{"sha256", l_sha256},
                                     {"hmac_sha256", l_hmac_sha256},
                                     {"random", l_random},
                                     {"uuid7", l_uuid7},
                                     {"base64url_encode", l_base64url_encode},
                                     {"base64url_decode", l_base64url_decode},
                                     {"equal", l_equal},
                                     {"hash_new", l_hash_new},
                                     {NULL, NULL}};
static const luaL_Reg hash_methods[] = {
    {"update", l_hash_update}, {"hex", l_hash_hex}, {"__gc", l_hash_gc}, {NULL, NULL}};

int luaopen_kt_crypto(lua_State *L) {
    luaL_newmetatable(L, "kt.hash");
    luaL_setfuncs(L, hash_methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
