/* Where outgoing requests of tools may go: public addresses, and what a list of the operator
 * (KONTOR_EGRESS_ALLOW) names beside them. Pure; any thread. */
#pragma once

#include <stdbool.h>
#include <sys/socket.h>

#include "core/err.h"

struct kt_egress;

/* The list: entries joined by commas, each a host name, an address, a network (address/bits), the
 * first two also with :port ([address]:port for IPv6). NULL: a fault, which is in *err
 * (invalid_argument, or no_memory). The caller frees it. */
struct kt_egress *kt_egress_parse(const char *list, struct kt_error *err);
void kt_egress_free(struct kt_egress *egress);

/* What is wrong with a list; NULL when nothing is. For the table of configuration variables. */
const char *kt_egress_fault(const char *list);

/* Is this host named by the list? Then any address of its is allowed. */
bool kt_egress_names(const struct kt_egress *egress, const char *host, int port);

/* May this address be connected to? Addresses of the list, and those that are public: not private,
 * loopback, link-local, shared (CGNAT), multicast, reserved, nor one of these within an IPv6 address
 * (mapped, NAT64, 6to4). Anything but IPv4 and IPv6 is refused. */
bool kt_egress_allows(const struct kt_egress *egress, const struct sockaddr *address);
