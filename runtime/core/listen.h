/* Listening sockets, opened by the supervisor and kept for as long as it lives: a worker that dies
 * leaves its queue of connections to its successor. */
#pragma once

#include "core/err.h"

/* `count` SO_REUSEPORT sockets on address (HOST:PORT as in kt_config_address, port 0: any), into
 * fds. Refuses an address where another process listens, although SO_REUSEPORT would share it.
 * On success *port is the real one. Close-on-exec. */
int kt_listen_tcp(const char *address, int count, int fds[], int *port, struct kt_error *err);
/* A unix socket (0600) at path; a leftover file there is removed: hold the data directory's lock. */
int kt_listen_unix(const char *path, struct kt_error *err);
