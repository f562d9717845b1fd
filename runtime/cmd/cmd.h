/* The commands that main.c knows, each the whole of a process. They return the exit code. */
#pragma once

#include <stdio.h>

#include "core/err.h"

int kt_cmd_worker(void);                       /* started by the supervisor */
int kt_cmd_analyst(int argc, char **argv);     /* started by kt.analyst */
int kt_cmd_lua(const char *name, int argc, char **argv); /* lua/cli/NAME.lua */
void kt_cmd_lua_names(FILE *to); /* " NAME" of each of these, sorted; needs kt_config_load */
