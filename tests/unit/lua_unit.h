/* Unit tests whose cases are Lua: each case is a chunk that runs as a task in a fresh host VM, with
 * `check(value, text)` and `same(got, want)`; afterwards no task, op, VM or handle is left. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bind/host.h"
#include "vm/op.h"
#include "vm/task.h"
#include "vm/vm.h"

static const char lua_unit_head[] =
    "local json, value, task = require 'json', require 'value', require 'kt.task' "
    "local function check(v, text) if not v then error(text or 'check failed', 2) end return v end "
    "local function same(got, want) if got ~= want then "
    "error('got ' .. tostring(got) .. ', want ' .. tostring(want), 2) end end "
    "local function fails(text, fn, ...) local ok, err = pcall(fn, ...) "
    "if ok then error('did not fail', 2) end "
    "local got = type(err) == 'table' and err.code .. ': ' .. err.message or tostring(err) "
    "if not got:find(text, 1, true) then error('failed with: ' .. got .. '; want: ' .. text, 2) "
    "end end ";

static inline void lua_unit_no_leftovers(void) {
    assert_int_equal(kt_task_count(), 0);
    assert_int_equal(kt_op_count(), 0);
    assert_int_equal(kt_vm_count(), 0);
}

static inline void lua_unit(const char *name, const char *body) {
    struct kt_host host;
    struct kt_error err = {0};
    int status = -1;
    size_t size = sizeof lua_unit_head + strlen(body) + 1;
    char *source = malloc(size);
    assert_non_null(source);
    snprintf(source, size, "%s%s", lua_unit_head, body);
    assert_int_equal(kt_host_open(&host, NULL, &err), 0);
    int rc = kt_host_run(&host, source, name, 0, NULL, &status, &err);
    int left = kt_host_close(&host);
    free(source);
    if (rc != 0)
        fail_msg("%s", err.message);
    assert_int_equal(left, 0);
    lua_unit_no_leftovers();
}

/* A case: LUA_TEST(name, "chunk") … cmocka_unit_test(name) */
#define LUA_TEST(name, body)                                                                       \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        lua_unit("=" #name, body);                                                                 \
    }
