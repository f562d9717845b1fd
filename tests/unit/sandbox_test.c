/* What a script cannot reach, what order it sees, and that the analyst's rules are held the same
 * way. */
#include "lua_unit.h"

#include <lauxlib.h>

#include "bind/bind.h"

#define HEAD                                                                                       \
    "local script = require 'kt.script' "                                                          \
    "local vm = assert(script.vm{files={['w.lua']='return {run=function(source) local f, err = "   \
    "load(source, \"=t\") if not f then return {error=err} end local ok, v = pcall(f) if not ok "  \
    "then v = tostring(v) end return {ok=ok, v=v} end}'}}) "                                       \
    "local function eval(source) local r = assert(vm:start{path='w.lua', call='run', "             \
    "input=source, seed='x', now=1}) local ev repeat ev = r:next() "                               \
    "  for _, c in ipairs(ev.calls or {}) do if not c.emit then r:answer(c.id, true, c.args) end " \
    "end until ev.status ~= 'calls' "                                                              \
    "  if ev.status == 'error' then error(ev.error) end local v = value.decode(ev.value) if "      \
    "v.error then error('compile: ' .. v.error) end return v.ok, v.v end "                         \
    "local function is(want, source) local ok, v = eval(source) if not ok then error(source .. "   \
    "': ' .. tostring(v), 2) end if v ~= want then error(source .. ' gave ' .. tostring(v), 2) "   \
    "end end "                                                                                     \
    "local function refused(text, source) local ok, v = eval(source) if ok then error('not "       \
    "refused: ' .. source .. ' gave ' .. tostring(v), 2) end if not v:find(text, 1, true) then "   \
    "error(source .. ': ' .. v, 2) end end "

#define SANDBOX_TEST(name, body) LUA_TEST(name, HEAD body)

SANDBOX_TEST(nothing_of_the_host,
             "for _, name in ipairs{'io', 'os', 'debug', 'package', 'ffi', 'jit', 'getfenv', "
             "'setfenv', 'loadstring', 'loadfile', 'dofile', 'newproxy', 'collectgarbage', "
             "'gcinfo', 'module', 'print', 'json', 'rawlen'} do "
             "  is('nil', 'return type(' .. name .. ')') is('nil', 'return type(_G[\"' .. name .. "
             "'\"])') is('nil', 'return type(rawget(_G, \"' .. name .. '\"))') end "
             "is('nil', 'return type(string.dump)') is('nil', 'return type((\"\").dump)') "
             "is('nil', 'return type(math.randomseed)') is('nil', 'return type(table.new)')"
             "is(false, 'return getmetatable(\"\")') is(false, 'return getmetatable(_G)') "
             "is('kt.date', 'return getmetatable(1) or \"kt.date\"')"
             "refused('cannot change a protected metatable', 'setmetatable(_G, {})') refused('not "
             "in the bundle', 'require \"ffi\"') refused('not in the bundle', 'require \"string\"')"
             "refused('not in the bundle', 'require \"../w\"')")

SANDBOX_TEST(
    load_is_text_in_the_same_environment,
    "x = 1 is('text expected', 'local ok, e = pcall(load, function() return \"return 1\" end) "
    "return e:match(\"text expected\")')"
    "is(3, 'return load(\"return 1 + 2\")()') is('nil', 'return type(load(\"\\\\27LJ\"))') "
    "is('nil', 'return type(load(\"return io\")())')"
    "is(7, 'return load(\"return a\", \"n\", \"t\", {a=7})()') is(true, 'y = 5 return "
    "load(\"return y == 5 and _G.y == 5\")()')"
    "local code = string.dump(function() return 1 end) local r = assert(vm:start{path='w.lua', "
    "call='run', input='return 1', seed='', now=1}) r:close()"
    "is('nil', 'local f, e = load(\"x x\") return type(f)') refused('256 KiB', 'load((\" "
    "\"):rep(300000))')")

SANDBOX_TEST(
    shared_tables_cannot_be_changed,
    "is('own', 'string.upper = function() return \"own\" end return string.upper(\"a\")') is('A', "
    "'return (\"a\"):upper()') is('A', 'return string.upper(\"a\")')"
    "eval('math.floor = nil table.sort = nil coroutine.wrap = nil bit.band = nil pairs = nil "
    "_G.pairs = 1 type = nil') is(1, 'return math.floor(1.5)') is(1, 'local n = 0 for k in "
    "pairs{1} do n = n + k end return n')"
    "is('string', 'rawset(_G, \"type\", nil) return type(\"\")') eval('model.call = 1 erp = 2 tool "
    "= 3 time.now = nil') is('function', 'return type(model.call)') is('table', 'return "
    "type(erp)') is(1, 'return time.now()')"
    "is(false, 'return getmetatable(tool)') refused('protected', 'setmetatable(tool, nil)')"
    "is('nil', 'leak = 1 return type(nothing)') is('nil', 'return type(leak)')")

SANDBOX_TEST(
    order_is_defined,
    "is('1 2 3 10 B a b ba true', 'local t = {[10]=1, b=1, a=1, [1]=1, B=1, [3]=1, [2]=1, ba=1, "
    "[true]=1} local o = {} for k in pairs(t) do o[#o + 1] = tostring(k) end return "
    "table.concat(o, \" \")')"
    "is('1 2 3 10 B a b', 'local t = {[10]=1, b=1, a=1, [1]=1, B=1, [3]=1, [2]=1} local o, k = {}, "
    "next(t) while k do o[#o + 1] = k k = next(t, k) end return table.concat(o, \" \")')"
    "is('nil', 'return type(next({}))') is('-1 0.5 1', 'local o = {} for k in pairs{[0.5]=1, "
    "[-1]=1, [1]=1} do o[#o + 1] = k end return table.concat(o, \" \")')"
    "is(2, 'local t, n = {a=1, b=2, c=3}, 0 for k in pairs(t) do n = n + 1 if k == \"a\" then t.b "
    "= nil end end return n')"
    "is(3, 'local t, n = {a=1, b=2, c=3}, 0 for k in pairs(t) do n = n + 1 t[k] = nil end return "
    "n') is(0, 'local t, n = {a=1}, 0 t.a = nil for k in pairs(t) do n = n + 1 end return n')"
    "refused('has no order', 'for k in pairs{[{}]=1} do end') refused('has no order', 'return "
    "next{[print or type]=1}') refused('not in the table', 'return next({a=1}, \"zz\")') "
    "refused('table expected', 'pairs(nil)')"
    "is('a1 b2 c3', 'local o = {} for k, v in next, {c=3, a=1, b=2} do o[#o + 1] = k .. v end "
    "return table.concat(o, \" \")')"
    "is('table function table: 1 nil thread', 'return tostring({}) .. \" \" .. tostring(type) .. "
    "\" \" .. tostring(setmetatable({}, {__tostring=function() return \"table: 1\" end})) .. \" \" "
    ".. tostring(nil) .. \" \" .. tostring(coroutine.create(type))')"
    "is('table 5 x nil true', 'return (\"%s %d %s %s %s\"):format({}, 5, \"x\", nil, true)') "
    "refused('%p is not available', 'return (\"%p\"):format({})') refused('%p is not available', "
    "'return (\"%-20p\"):format({})') is('100%', 'return (\"%d%%\"):format(100)')"
    "is('1LL', 'return tostring(1LL)')")

SANDBOX_TEST(sort_is_stable_and_right,
             "is('1a 1b 2a 2b', 'local t = {{2, \"a\"}, {1, \"a\"}, {2, \"b\"}, {1, \"b\"}} "
             "table.sort(t, function(x, y) return x[1] < y[1] end) local o = {} for i, v in "
             "ipairs(t) do o[i] = v[1] .. v[2] end return table.concat(o, \" \")')"
             "for _, n in ipairs{0, 1, 2, 3, 7, 100, 5000} do is(true, 'local t, x = {}, 7 for i = "
             "1, ' .. n .. ' do x = x * 1103515245 % 2147483647 t[i] = x end table.sort(t) for i = "
             "2, #t do if t[i - 1] > t[i] then return i end end return #t == ' .. n) end "
             "refused('attempt to compare', 'table.sort({1, \"a\"})') refused('attempt to "
             "compare', 'table.sort({{}, {}})') refused('table expected', 'table.sort()') "
             "refused('function expected', 'table.sort({}, 1)')")

SANDBOX_TEST(
    errors_stay_inside,
    "is('boom', 'local ok, e = xpcall(error, function(e) return e end, \"boom\") return e') is(3, "
    "'return select(2, xpcall(function(...) return select(\"#\", ...) end, error, 1, 2, 3))')"
    "refused('function expected', 'xpcall(error)') is('x', 'return select(2, pcall(error, \"x\", "
    "0))')"
    "refused('has no order', 'return next({}, {})') ")

static const char analyst_chunk[] =
    "local script = require 'kt.script' local ffi = require 'ffi' assert(jit.status()) "
    "local env = script.sandbox_env() local env2 = script.sandbox_env() assert(env ~= env2 and "
    "env.string ~= env2.string and env._G == env) "
    "for _, name in ipairs{'io', 'os', 'debug', 'package', 'ffi', 'jit', 'require', 'load', "
    "'loadstring', 'getfenv', 'setfenv', 'dofile', 'newproxy', 'collectgarbage', 'module', "
    "'print'} do assert(env[name] == nil, name) end "
    "env.out = {} local f = assert(script.load([[for k, v in pairs{b=2, a=1, [1]=0} do out[#out + "
    "1] = tostring(k) .. v end "
    "  table.sort(out, function(a, b) return a > b end) string.upper = nil return ('x'):upper() .. "
    "tostring({}) ]], 'rules/r.lua', env)) "
    "assert(f() == 'Xtable') assert(table.concat(env.out, ' ') == 'b2 a1 10') assert(('y'):upper() "
    "== 'Y' and env2.string.upper) "
    "local bad, err = script.load('x =', 'rules/bad.lua', env) assert(bad == nil and err.code == "
    "'script_error' and err.where.script == 'rules/bad.lua' and err.where.line == 1) "
    "assert(script.load('\\27LJ', 'b.lua', env) == nil) "
    "local ok, e = pcall(assert(script.load('\\n\\nreturn nothing.x', 'rules/r2.lua', env))) "
    "assert(e:find('rules/r2.lua:3:', 1, true), e) "
    "assert(assert(script.load('return getmetatable(\"\")', 'm.lua', env))() == false) "
    "assert(assert(script.load('return (\"\").dump', 'm.lua', env))() == nil) "
    /* compiled: a hot loop over ordered keys and cdata from the host */
    "env.column = ffi.new('int64_t[1000]') local sum = assert(script.load([[local s = 0 for r = 1, "
    "200 do for i = 0, 999 do s = s + tonumber(column[i]) + i end end return s]], 's.lua', env)) "
    "assert(sum() == 99900000)";

static int run_analyst(lua_State *L, void *ud) {
    (void)ud;
    kt_modules_preload(L);
    if (luaL_loadbuffer(L, analyst_chunk, strlen(analyst_chunk), "=analyst") != 0)
        return lua_error(L);
    lua_call(L, 0, 0);
    return 0;
}

static void analyst_rules(void **state) {
    struct kt_error err = {0};
    struct kt_vm *vm = kt_vm_new(NULL, KT_VM_ANALYST, 0, &err);
    (void)state;
    assert_non_null(vm);
    if (kt_vm_call(vm, run_analyst, NULL, &err) != 0)
        fail_msg("%s", err.message);
    kt_vm_free(vm);
    lua_unit_no_leftovers();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_of_the_host),
                                       cmocka_unit_test(load_is_text_in_the_same_environment),
                                       cmocka_unit_test(shared_tables_cannot_be_changed),
                                       cmocka_unit_test(order_is_defined),
                                       cmocka_unit_test(sort_is_stable_and_right),
                                       cmocka_unit_test(errors_stay_inside),
                                       cmocka_unit_test(analyst_rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
