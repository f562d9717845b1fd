/* The command line: `kontor NAME …`. Commands in C are in the table; every other one is
 * lua/cli/NAME.lua, which returns function(args) -> exit code and runs as a task.
 * Exit codes: 0 done, 1 failed, 2 usage. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "core/clock.h"
#include "core/config.h"
#include "core/fault.h"
#include "core/home.h"
#include "core/log.h"
#include "core/supervisor.h"

static const char usage[] = "usage: kontor COMMAND [ARGUMENT…]\n"
                            "\n"
                            "  kontor COMMAND --help   what the command takes\n"
                            "  kontor --version\n"
                            "\n"
                            "Commands: serve";
static const char variables[] =
    "\n\n"
    "Variables, read from the environment, else from .env in the working folder:\n";

static const char serve_usage[] =
    "usage: kontor serve\n"
    "\n"
    "Serves on KONTOR_LISTEN until TERM. Signals: TERM and INT drain and end (twice: at once),\n"
    "HUP starts a new set of workers and drains the old, USR1 reopens the logs.\n";

static bool asks_help(const char *word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static int help(FILE *to) {
    struct kt_buf faults = KT_BUF_INIT;
    fputs(usage, to);
    kt_config_load("/dev/null",
                   &faults); /* for the place of the commands; faults are for a command */
    kt_cmd_lua_names(to);
    kt_buf_free(&faults);
    kt_config_free();
    fputs(variables, to);
    for (int i = 0; i < kt_config_count; i++)
        fprintf(to, "  %-24s %s\n", kt_config_vars[i].name, kt_config_vars[i].doc);
    return to == stdout ? 0 : 2;
}

/* Configuration, clock and fault points: what every command begins with. */
static int prepare(void) {
    struct kt_buf faults = KT_BUF_INIT;
    struct kt_error err;
    if (kt_config_load(".env", &faults) != 0) {
        fprintf(stderr, "kontor: the configuration has faults:\n%s", kt_buf_cstr(&faults));
        kt_buf_free(&faults);
        return 2;
    }
    kt_buf_free(&faults);
    kt_log_level((enum kt_level)kt_log_level_of(kt_config_text("KONTOR_LOG_LEVEL")));
    if (!kt_clock_from_env()) {
        fputs("kontor: KONTOR_TEST_CLOCK is no RFC 3339 time\n", stderr);
        return 2;
    }
    const char *faults_armed = getenv("KONTOR_FAULT");
    if (faults_armed != NULL && kt_fault_arm_text(faults_armed, &err) != 0) {
        fprintf(stderr, "kontor: %s\n", err.message);
        return 2;
    }
    return 0;
}

static int run(const char *name, int argc, char **argv) {
    if (strcmp(name, "serve") == 0 && argc > 0) {
        bool asked = asks_help(argv[0]);
        fputs(serve_usage, asked ? stdout : stderr);
        return asked ? 0 : 2;
    }
    if (strcmp(name, "serve") == 0)
        return kt_supervisor_run();
    if (strcmp(name, "worker") == 0)
        return kt_cmd_worker();
    return kt_cmd_lua(name, argc, argv);
}

static int command(int argc, char **argv) {
    if (argc < 2)
        return help(stderr);
    if (strcmp(argv[1], "--version") == 0) {
        puts("kontor " KT_VERSION);
        return 0;
    }
    if (asks_help(argv[1]))
        return help(stdout);
    if (strcmp(argv[1], "analyst") == 0)
        return kt_cmd_analyst(argc - 2, argv + 2);
    int rc = prepare();
    if (rc == 0)
        rc = run(argv[1], argc - 2, argv + 2);
    kt_log_close();
    kt_config_free();
    return rc;
}

/* What a command has printed may be all that it was called for (a report, a key): it has failed
 * when that is lost. Of a reader that has seen enough (head) nothing is said. */
static bool printed(void) {
    struct pollfd out = {STDOUT_FILENO, POLLOUT, 0};
    bool lost = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !lost)
        return true;
    int why = errno; /* 0: an earlier write has failed */
    if (poll(&out, 1, 0) != 1 || (out.revents & POLLERR) == 0)
        fprintf(stderr, "kontor: cannot write to standard output%s%s\n", why != 0 ? ": " : "",
                why != 0 ? strerror(why) : "");
    return false;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a peer that goes away is an error of its write, not our end */
    int rc = command(argc, argv);
    return !printed() && rc == 0 ? 1 : rc;
}
