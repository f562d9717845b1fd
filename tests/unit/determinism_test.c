/* A run gives the same bytes in every process: addresses and hash seeds differ between them, and
 * nothing of it may show in what a script does. */
#include "lua_unit.h"

#include <stdio.h>

static const char chunk[] =
    "local script = require 'kt.script' "
    "local vm = assert(script.vm{files={['lib.lua']='return {f=function(t) local o = {} for k, v "
    "in pairs(t) do o[#o + 1] = k .. \"=\" .. tostring(v) end return o end}', "
    "['w.lua']=[[local lib = require 'lib' workflow{name='w', run=function(run, input) "
    "  local t = {} for i = 1, 500 do t['key' .. random(1, 1e6)] = i t[random(1, 1e6) * 1.5] = {} "
    "end "
    "  local first = next(t) local o = lib.f(t) local shown = tostring(print or type) .. "
    "tostring({}) .. ('%s %s'):format(coroutine.create(type), {}) "
    "  local r = parallel{function() return tool.call('a', t2) end, function() log('info', shown) "
    "return tool.call('b', {list=lib.f{x=1, y=2, [1]=3}}) end} "
    "  local json = require 'json' table.sort(o, function(a, b) return #a < #b end) "
    "  local ok, err = pcall(function() return nothing.x end) "
    "  return {o, first, shown, r, uuid(), time.now(), json.encode{z=1, y=2, x={}}, err} end}]]}}) "
    "local r = assert(vm:start{path='w.lua', seed='seed', now=1700000000000, input={}}) local log "
    "= {} local ev "
    "repeat ev = assert(r:next()) for _, c in ipairs(ev.calls or {}) do log[#log + 1] = c.name .. "
    "c.hash if not c.emit then r:answer(c.id, true, c.args) end end until ev.status ~= 'calls' "
    "assert(ev.status == 'done', ev.error) "
    "io.write(#log, ' ', value.hash(table.concat(log)), ' ', value.hash(ev.value), '\\n')";

static int print_hashes(void) {
    struct kt_host host;
    struct kt_error err = {0};
    int status;
    char source[sizeof lua_unit_head + sizeof chunk];
    snprintf(source, sizeof source, "%s%s", lua_unit_head, chunk);
    int rc = kt_host_open(&host, NULL, &err);
    if (rc == 0)
        rc = kt_host_run(&host, source, "=run", 0, NULL, &status, &err);
    if (rc != 0)
        printf("failed: %s\n", err.message);
    return kt_host_close(&host) != 0 || rc != 0;
}

static const char *self;

static void same_in_every_process(void **state) {
    char command[1024], first[200] = "", line[200];
    (void)state;
    snprintf(command, sizeof command, "'%s' print", self);
    for (int i = 0; i < 5; i++) {
        FILE *child = popen(command, "r");
        assert_non_null(child);
        assert_non_null(fgets(line, sizeof line, child));
        assert_int_equal(pclose(child), 0);
        assert_memory_equal(line, "3 ", 2); /* three calls and emits */
        if (i == 0)
            memcpy(first, line, sizeof first);
        assert_string_equal(line, first);
    }
}

int main(int argc, char **argv) {
    self = argv[0];
    if (argc > 1)
        return print_hashes();
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_in_every_process)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
