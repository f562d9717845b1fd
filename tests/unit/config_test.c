/* The configuration: sources, precedence, faults all at once and by name. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/config.h"

static char file[] = "/tmp/kontor-env-XXXXXX";
static struct kt_buf faults;

static int load(const char *dotenv) {
    FILE *f = fopen(file, "w");
    fputs(dotenv, f);
    fclose(f);
    kt_buf_clear(&faults);
    return kt_config_load(file, &faults);
}

static int setup(void **state) {
    (void)state;
    for (int i = 0; i < kt_config_count; i++)
        unsetenv(kt_config_vars[i].name);
    close(mkstemp(file));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kt_config_free();
    kt_buf_free(&faults);
    return unlink(file);
}

static void has_defaults(void **state) {
    (void)state;
    assert_int_equal(kt_config_load("/nonexistent/.env", &faults), 0);
    assert_string_equal(kt_config_text("KONTOR_LISTEN"), "127.0.0.1:8000");
    assert_int_equal(kt_config_int("KONTOR_WORKERS"), 1);
    assert_false(kt_config_bool("KONTOR_DEV"));
    assert_string_equal(kt_config_text("KONTOR_HOSTS"), "");
}

static void reads_dotenv_below_the_environment(void **state) {
    (void)state;
    setenv("KONTOR_WORKERS", "4", 1);
    setenv("KONTOR_LOG_LEVEL", "", 1); /* empty is unset */
    int rc = load("# a comment\n\nKONTOR_WORKERS=2\n  export KONTOR_LOG_LEVEL = warn # why\r\n"
                  "KONTOR_DATA_DIR='/tmp/a b#c' \nKONTOR_HOSTS=\"a\\\"b\"x\nSOMETHING_ELSE=1\n");
    assert_int_equal(rc, -KT_VALIDATION_FAILED);
    assert_non_null(strstr(kt_buf_cstr(&faults), "KONTOR_HOSTS: "));
    rc = load("KONTOR_WORKERS=2\n  export KONTOR_LOG_LEVEL = warn # why\r\n"
              "KONTOR_DATA_DIR='/tmp/a b#c' # x\nKONTOR_HOSTS=a#b\nSOMETHING_ELSE=1\n");
    assert_string_equal(kt_buf_cstr(&faults), "");
    assert_int_equal(rc, 0);
    assert_int_equal(kt_config_int("KONTOR_WORKERS"), 4);
    assert_string_equal(kt_config_text("KONTOR_LOG_LEVEL"), "warn");
    assert_string_equal(kt_config_text("KONTOR_DATA_DIR"), "/tmp/a b#c");
    assert_string_equal(kt_config_text("KONTOR_HOSTS"), "a#b");
    unsetenv("KONTOR_WORKERS");
    unsetenv("KONTOR_LOG_LEVEL");
}

static void makes_folders_absolute(void **state) {
    (void)state;
    char cwd[PATH_MAX], wanted[PATH_MAX + 16];
    setenv("KONTOR_DATA_DIR", "./here", 1);
    setenv("KONTOR_LOG_DIR", "/there", 1);
    assert_int_equal(load(""), 0);
    assert_non_null(getcwd(cwd, sizeof cwd));
    snprintf(wanted, sizeof wanted, "%s/here", cwd);
    assert_string_equal(kt_config_text("KONTOR_DATA_DIR"), wanted);
    assert_string_equal(kt_config_text("KONTOR_LOG_DIR"), "/there");
    unsetenv("KONTOR_DATA_DIR");
    unsetenv("KONTOR_LOG_DIR");
}

static void reports_every_fault_by_name(void **state) {
    (void)state;
    assert_int_equal(load("KONTOR_WORKERS=many\nKONTOR_LISTEN=example.org:80\nKONTOR_DEV=maybe\n"
                          "KONTOR_LOG_LEVEL=loud\nKONTOR_LISTN=x\nnonsense\n"
                          "MASTER_DATABASE_NAME=../x\nPROJECT_DATABASE_PREFIX=0123456789abcdef\n"),
                     -KT_VALIDATION_FAILED);
    static const char *const expected[] = {"KONTOR_WORKERS: \"many\"", "KONTOR_LISTEN: \"example",
        "KONTOR_DEV: \"maybe\"", "KONTOR_LOG_LEVEL: \"loud\"", "KONTOR_LISTN: ", ":6: is not NAME",
        "MASTER_DATABASE_NAME: ", "PROJECT_DATABASE_PREFIX: "};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (strstr(kt_buf_cstr(&faults), expected[i]) == NULL)
            fail_msg("no \"%s\" in:\n%s", expected[i], kt_buf_cstr(&faults));
}

static void guards_the_address(void **state) {
    (void)state;
    assert_int_equal(load("KONTOR_LISTEN=0.0.0.0:8000\n"), 0);
    assert_int_equal(load("KONTOR_LISTEN=[::1]:0\n"), 0);
    assert_int_equal(load("KONTOR_LISTEN=localhost:65536\n"), -KT_VALIDATION_FAILED);
    assert_int_equal(load("KONTOR_WORKERS=0\n"), -KT_VALIDATION_FAILED);
    assert_int_equal(load("MASTER_DATABASE_NAME=ktern-project-x\n"), -KT_VALIDATION_FAILED);

    char host[64];
    int port;
    assert_true(kt_config_address("localhost:80", host, &port));
    assert_string_equal(host, "127.0.0.1");
    assert_int_equal(port, 80);
    assert_true(kt_config_address("[::1]:8000", host, &port));
    assert_string_equal(host, "::1");
    static const char *const bad[] = {"", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "1.2.3:80",
        "[::1:80", "127.0.0.1:80x", "a b:1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(kt_config_address(bad[i], host, &port));
    assert_true(kt_config_loopback("::1"));
    assert_true(kt_config_loopback("127.9.9.9"));
    assert_false(kt_config_loopback("10.0.0.1"));
}

static void exports_what_it_read(void **state) {
    (void)state;
    assert_int_equal(load("KONTOR_WORKERS=3\n"), 0);
    kt_config_export();
    assert_int_equal(load(""), 0);
    assert_int_equal(kt_config_int("KONTOR_WORKERS"), 3);
    assert_in_range(kt_config_count, 1, 64); /* the room that config.c has */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_defaults),
        cmocka_unit_test(reads_dotenv_below_the_environment),
        cmocka_unit_test(makes_folders_absolute),
        cmocka_unit_test(reports_every_fault_by_name),
        cmocka_unit_test(guards_the_address),
        cmocka_unit_test(exports_what_it_read),
    };
    return cmocka_run_group_tests_name("config", tests, setup, teardown);
}
