/* `kontor serve`: one process that opens the listening sockets, starts a worker per slot, watches
 * and replaces them. It runs no Lua and owns no data, so that nothing in it can go wrong with a
 * tenant's request.
 *
 * TERM, INT: drain all, end with 0 (a second one: kill). HUP: start a new set, and when all of it
 * is ready drain the old; a set that fails leaves the old one serving. USR1: reopen the logs. */
#pragma once

/* Needs kt_config_load. Returns the exit code of the program. */
int kt_supervisor_run(void);
