/* Opening the listening sockets. */
#include "core/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/config.h"

#define BACKLOG 1024

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t fill(union address *a, const char *host, int port) {
    memset(a, 0, sizeof *a);
    if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
        a->v4.sin_family = AF_INET;
        a->v4.sin_port = htons((uint16_t)port);
        return sizeof a->v4;
    }
    inet_pton(AF_INET6, host, &a->v6.sin6_addr);
    a->v6.sin6_family = AF_INET6;
    a->v6.sin6_port = htons((uint16_t)port);
    return sizeof a->v6;
}

/* A bound socket or -1 with errno. Without `share`, binding fails where someone listens. */
static int bound(const char *host, int port, bool share) {
    union address a;
    socklen_t len = fill(&a, host, port);
    int on = 1;
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        (!share || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) &&
        bind(fd, &a.any, len) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static int port_of(int fd) {
    union address a;
    socklen_t len = sizeof a;
    if (getsockname(fd, &a.any, &len) != 0)
        return 0;
    return ntohs(a.any.sa_family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
}

int kt_listen_tcp(const char *address, int count, int fds[], int *port, struct kt_error *err) {
    char host[64];
    int made = 0, saved;
    if (!kt_config_address(address, host, port))
        return kt_fail(err, KT_INVALID_ARGUMENT, "%s is not HOST:PORT", address);
    if (*port != 0) {
        int probe = bound(host, *port, false);
        if (probe < 0)
            goto failed;
        close(probe);
    }
    for (; made < count; made++) {
        fds[made] = bound(host, *port, true);
        if (fds[made] < 0)
            goto failed;
        *port = port_of(fds[made]);
        if (listen(fds[made], BACKLOG) != 0) {
            made++;
            goto failed;
        }
    }
    return 0;
failed:
    saved = errno;
    while (made > 0)
        close(fds[--made]);
    return kt_fail(err, KT_CONFLICT, "cannot listen on %s: %s", address, strerror(saved));
}

int kt_listen_unix(const char *path, struct kt_error *err) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path)
        return kt_fail(err, KT_INVALID_ARGUMENT, "the path of the admin socket is longer than %zu: %s",
                       sizeof a.sun_path - 1, path);
    strcpy(a.sun_path, path);
    if (unlink(path) != 0 && errno != ENOENT)
        return kt_fail(err, KT_INTERNAL, "cannot remove %s: %s", path, strerror(errno));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(0177); /* never, not for a moment, open to others */
    int rc = fd < 0 ? -1 : bind(fd, (struct sockaddr *)&a, sizeof a);
    umask(old);
    if (rc == 0 && listen(fd, 64) == 0)
        return fd;
    rc = kt_fail(err, kt_code_of_errno(errno), "cannot listen on %s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}
