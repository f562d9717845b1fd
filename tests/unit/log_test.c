/* Log lines: one event is one line whatever its values hold; files; levels; reopening. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

static char dir[] = "/tmp/kontor-log-XXXXXX";
static char path[64], moved[64], executions[64];
static int real_stderr;

static int setup(void **state) {
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/app.log", dir);
    snprintf(moved, sizeof moved, "%s/app.log.1", dir);
    snprintf(executions, sizeof executions, "%s/executions.log", dir);
    real_stderr = dup(STDERR_FILENO);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    close(null);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    kt_log_close();
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    unlink(path);
    unlink(moved);
    unlink(executions);
    return rmdir(dir);
}

static char *content(const char *file) {
    static char text[20000];
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void writes_one_line(void **state) {
    (void)state;
    assert_int_equal(kt_log_open(path, NULL), 0);
    kt_log(KT_INFO, "run.started", "project_id", "acme", "absent", NULL, "msg", "a \"b\"\\\nlevel=x",
           "note", "two words", "odd", "x\x1b[31m\xe2\x80\xa8y", "empty", "", NULL);
    char *text = content(path);
    assert_int_equal(strchr(text, '\n') - text, strlen(text) - 1);
    assert_non_null(strstr(text, " level=info event=run.started project_id=acme msg=\"a \\\"b\\\"\\\\\\n"
                                 "level=x\" note=\"two words\" odd=\"x\\x1b[31m\\xe2\\x80\\xa8y\" "
                                 "empty=\"\"\n"));
    assert_memory_equal(text, "ts=20", 5);
    unlink(path);
}

static void cuts_long_values(void **state) {
    (void)state;
    assert_int_equal(kt_log_open(path, NULL), 0);
    char value[KT_LOG_VALUE_MAX * 2 + 1];
    for (size_t i = 0; i + 1 < sizeof value; i += 2)
        memcpy(value + i, "é", 2);
    value[1999] = 'x', value[0] = 'x'; /* the cut falls into the middle of a letter */
    memmove(value + 1, value, sizeof value - 2);
    value[sizeof value - 1] = '\0';
    kt_log(KT_INFO, "long", "v", value, NULL);
    char *text = content(path);
    assert_true(strlen(text) < KT_LOG_VALUE_MAX + 100);
    assert_string_equal(text + strlen(text) - 5, "…\"\n");
    unlink(path);
}

static void obeys_the_level(void **state) {
    (void)state;
    assert_int_equal(kt_log_open(path, NULL), 0);
    kt_log(KT_DEBUG, "quiet", NULL);
    kt_log_level(KT_DEBUG);
    kt_log(KT_DEBUG, "loud", NULL);
    kt_log_level(KT_INFO);
    char *text = content(path);
    assert_null(strstr(text, "quiet"));
    assert_non_null(strstr(text, "level=debug event=loud"));
    assert_int_equal(kt_log_level_of("warn"), KT_WARN);
    assert_int_equal(kt_log_level_of("loud"), -1);
    unlink(path);
}

static void goes_on_in_a_new_file(void **state) {
    (void)state;
    assert_int_equal(kt_log_open(path, NULL), 0);
    kt_log(KT_INFO, "before", NULL);
    assert_int_equal(rename(path, moved), 0);
    kt_log(KT_INFO, "between", NULL);
    kt_log_reopen();
    kt_log(KT_INFO, "after", NULL);
    assert_null(strstr(content(path), "between"));
    assert_non_null(strstr(content(path), "after"));
    assert_non_null(strstr(content(moved), "between"));
    assert_null(strstr(content(moved), "after"));
}

static void keeps_executions_apart(void **state) {
    (void)state;
    assert_int_equal(kt_log_open_executions(executions, NULL), 0);
    const struct kt_log_field fields[] = {{"project_id", "acme", 4}, {"status", "completed", 9},
                                          {"bad name", "x", 1}};
    kt_log_execution(fields, 3);
    char *text = content(executions);
    assert_non_null(strstr(text, " project_id=acme status=completed\n"));
    assert_null(strstr(content(path), "completed"));
}

static void says_what_it_cannot_open(void **state) {
    (void)state;
    struct kt_error err;
    assert_int_equal(kt_log_open("/nonexistent/dir/app.log", &err), -KT_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nonexistent/dir/app.log"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_one_line),       cmocka_unit_test(cuts_long_values),
        cmocka_unit_test(obeys_the_level),       cmocka_unit_test(goes_on_in_a_new_file),
        cmocka_unit_test(keeps_executions_apart), cmocka_unit_test(says_what_it_cannot_open),
    };
    return cmocka_run_group_tests_name("log", tests, setup, teardown);
}
