/* Every address is looked at in its 16 bytes of IPv6, IPv4 as ::ffff:a.b.c.d. */
#include "core/egress.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HOST_MAX = 253 };

struct entry {
    char host[HOST_MAX + 1]; /* empty: a network */
    uint8_t net[16];
    int bits, port; /* port 0: any */
};

struct kt_egress {
    size_t count;
    struct entry entries[];
};

struct network {
    uint8_t net[16];
    int bits;
};

#define V4(a, b, c, n) {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, 0}, 96 + (n)}

/* IANA's special-purpose IPv4 addresses, multicast and class E. */
static const struct network special4[] = {
    V4(0, 0, 0, 8),      V4(10, 0, 0, 8),    V4(100, 64, 0, 10),  V4(127, 0, 0, 8),
    V4(169, 254, 0, 16), V4(172, 16, 0, 12), V4(192, 0, 0, 24),   V4(192, 0, 2, 24),
    V4(192, 88, 99, 24), V4(192, 168, 0, 16), V4(198, 18, 0, 15), V4(198, 51, 100, 24),
    V4(203, 0, 113, 24), V4(224, 0, 0, 4),   V4(240, 0, 0, 4),
};

static const struct network mapped = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96};
static const struct network nat64 = {{0, 0x64, 0xff, 0x9b}, 96};
static const struct network sixtofour = {{0x20, 0x02}, 16};
static const struct network global = {{0x20}, 3};
/* Within the global ones: protocol assignments (Teredo, ORCHID, benchmarks), documentation. */
static const struct network special6[] = {
    {{0x20, 0x01, 0x00}, 23}, {{0x20, 0x01, 0x0d, 0xb8}, 32}, {{0x3f, 0xff}, 20}};

static bool within(const uint8_t address[16], const uint8_t net[16], int bits) {
    int bytes = bits / 8, rest = bits % 8;
    if (memcmp(address, net, (size_t)bytes) != 0)
        return false;
    return rest == 0 || (address[bytes] ^ net[bytes]) >> (8 - rest) == 0;
}

static bool in_network(const uint8_t address[16], const struct network *network) {
    return within(address, network->net, network->bits);
}

static void map4(uint8_t out[16], const void *four) {
    memcpy(out, mapped.net, 12);
    memcpy(out + 12, four, 4);
}

static bool is_public(const uint8_t address[16]) {
    uint8_t inner[16];
    if (in_network(address, &mapped)) {
        for (size_t i = 0; i < sizeof special4 / sizeof *special4; i++)
            if (in_network(address, &special4[i]))
                return false;
        return true;
    }
    if (in_network(address, &nat64) || in_network(address, &sixtofour)) {
        map4(inner, in_network(address, &nat64) ? address + 12 : address + 2);
        return is_public(inner);
    }
    for (size_t i = 0; i < sizeof special6 / sizeof *special6; i++)
        if (in_network(address, &special6[i]))
            return false;
    return in_network(address, &global);
}

/* The address in `text`, IPv4 or IPv6; its own number of bits, 0 when it is none. */
static int read_address(const char *text, uint8_t out[16]) {
    uint8_t four[4];
    if (inet_pton(AF_INET, text, four) == 1) {
        map4(out, four);
        return 32;
    }
    return inet_pton(AF_INET6, text, out) == 1 ? 128 : 0;
}

/* A decimal number up to max; -1 when it is none. */
static int read_number(const char *text, int max) {
    int n = 0;
    if (*text == '\0' || strlen(text) > 5)
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        n = n * 10 + (*text - '0');
    }
    return n <= max ? n : -1;
}

static bool is_host(const char *text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    size_t len = strlen(text);
    return len > 0 && strspn(text, letters) == len && text[0] != '.' && text[0] != '-' &&
           strspn(text, "0123456789.") != len; /* an address that is none */
}

/* Reads one entry, which it cuts up. False: it is none. */
static bool read_entry(char *text, struct entry *e) {
    char *slash = strchr(text, '/'), *port = NULL;
    int own;
    memset(e, 0, sizeof *e);
    if (slash != NULL) {
        *slash = '\0';
        own = read_address(text, e->net);
        e->bits = read_number(slash + 1, own);
        if (own == 0 || e->bits < 0)
            return false;
        e->bits += own == 32 ? 96 : 0;
        return true;
    }
    if (*text == '[') {
        char *end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        port = end[1] == ':' ? end + 2 : NULL;
        *end = '\0';
        own = read_address(text, e->net);
        if (own != 128)
            return false;
    } else {
        own = read_address(text, e->net);
        port = own == 0 ? strchr(text, ':') : NULL;
        if (port != NULL) {
            *port++ = '\0';
            own = read_address(text, e->net);
        }
    }
    if (port != NULL && (e->port = read_number(port, 65535)) <= 0)
        return false;
    if (own != 0) {
        e->bits = 128;
        return true;
    }
    if (!is_host(text))
        return false;
    strcpy(e->host, text); /* an entry is no longer than HOST_MAX */
    return true;
}

struct kt_egress *kt_egress_parse(const char *list, struct kt_error *err) {
    size_t room = 1;
    for (const char *c = list; *c != '\0'; c++)
        room += *c == ',';
    struct kt_egress *egress = calloc(1, sizeof *egress + room * sizeof *egress->entries);
    if (egress == NULL) {
        kt_fail(err, KT_NO_MEMORY, "out of memory");
        return NULL;
    }
    for (const char *at = list; *at != '\0';) {
        size_t whole = strcspn(at, ","), skip = strspn(at, " \t");
        size_t len = whole > skip ? whole - skip : 0;
        char text[HOST_MAX + 1];
        while (len > 0 && (at[skip + len - 1] == ' ' || at[skip + len - 1] == '\t'))
            len--;
        if (len >= sizeof text) {
            kt_fail(err, KT_INVALID_ARGUMENT, "an entry is longer than %d bytes", HOST_MAX);
            goto failed;
        }
        if (len > 0) {
            memcpy(text, at + skip, len);
            text[len] = '\0';
            if (!read_entry(text, &egress->entries[egress->count])) {
                kt_fail(err, KT_INVALID_ARGUMENT,
                        "'%.*s' is no host, host:port, address or network", (int)len, at + skip);
                goto failed;
            }
            egress->count++;
        }
        at += whole + (at[whole] == ',');
    }
    return egress;
failed:
    free(egress);
    return NULL;
}

void kt_egress_free(struct kt_egress *egress) {
    free(egress);
}

const char *kt_egress_fault(const char *list) {
    struct kt_egress *egress = kt_egress_parse(list, NULL);
    kt_egress_free(egress);
    return egress != NULL ? NULL
                          : "is not a list of host, host:port, address or network, joined by commas";
}

bool kt_egress_names(const struct kt_egress *egress, const char *host, int port) {
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '.') /* the same name, said to be whole */
        len--;
    for (size_t i = 0; i < egress->count; i++) {
        const struct entry *e = &egress->entries[i];
        if (len > 0 && strlen(e->host) == len && strncasecmp(e->host, host, len) == 0 &&
            (e->port == 0 || e->port == port))
            return true;
    }
    return false;
}

bool kt_egress_allows(const struct kt_egress *egress, const struct sockaddr *address) {
    uint8_t bytes[16];
    int port;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        map4(bytes, &in->sin_addr);
        port = ntohs(in->sin_port);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        memcpy(bytes, &in6->sin6_addr, 16);
        port = ntohs(in6->sin6_port);
    } else {
        return false;
    }
    for (size_t i = 0; i < egress->count; i++) {
        const struct entry *e = &egress->entries[i];
        if (e->host[0] == '\0' && (e->port == 0 || e->port == port) &&
            within(bytes, e->net, e->bits))
            return true;
    }
    return is_public(bytes);
}
