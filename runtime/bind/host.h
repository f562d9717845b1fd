/* A loop with a host VM: what `kontor worker`, the commands and the tests run Lua in.
 *
 *     struct kt_host host;
 *     if (kt_host_open(&host, home, &err) == 0)
 *         rc = kt_host_run(&host, "return require('app').start(...)", "=app", argc, argv, &status,
 * &err); left = kt_host_close(&host); */
#pragma once

#include <uv.h>

#include "vm/vm.h"

struct kt_host {
    uv_loop_t loop;
    struct kt_vm *vm;
};

/* package.path becomes <home>/lua/?.lua;<home>/lua/?/init.lua and nothing else (home NULL: it stays
 * as it is); the modules of modules.c are preloaded. Sets host->loop.data to the host. */
int kt_host_open(struct kt_host *host, const char *home, struct kt_error *err);
/* Run the chunk as a root task with argv[0..argc) as its arguments, and the loop until that task
 * has ended (other tasks may be left). *status: its first result if that is a number, 0 for nothing
 * or true, else 1. A failure of the task is *err, with the traceback's first lines. */
int kt_host_run(struct kt_host *host, const char *source, const char *chunk_name, int argc,
                char *const *argv, int *status, struct kt_error *err);
/* Kills what is left, closes the state, lets the loop close its handles: up to 3 s for what is on its
 * way out, a killed child say. Returns how many handles were still open (0: clean); the loop is
 * closed only then. Call it also after a failed open. */
int kt_host_close(struct kt_host *host);
