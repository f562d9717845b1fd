/* Module json: exact numbers, marks, strictness, errors with a place. */
#include "lua_unit.h"

LUA_TEST(
    scalars,
    "same(json.encode(1), '1') same(json.encode(-0.0), '0') same(json.encode(0.1), '0.1')"
    "same(json.encode(1/3), '0.3333333333333333') same(json.encode(1e300), '1e+300')"
    "same(json.encode(5e-324), '4.94065645841247e-324')"
    "same(json.encode(123456789012345), '123456789012345')"
    "same(json.encode(9007199254740992), '9007199254740992')"
    "same(json.encode(true), 'true') same(json.encode(json.null), 'null') same(json.encode(nil), "
    "'null')"
    "same(json.encode('a\"\\\\\\n\\1/\\195\\164'), '\"a\\\\\"\\\\\\\\\\\\n\\\\u0001/\\195\\164\"')")

LUA_TEST(
    exact_integers,
    "same(json.decode('9007199254740992'), 9007199254740992)"
    "for _, text in ipairs{'9007199254740993', '9223372036854775807', '-9223372036854775808'} do "
    "  local v = json.decode(text) same(value.type(v), 'int64') same(json.encode(v), text) end "
    "local v, err = json.decode('9223372036854775808') same(v, nil) same(err.code, 'invalid_json')"
    "same(json.decode('0.1'), 0.1) same(json.decode('1e3'), 1000) "
    "same(json.encode(json.decode('1.0')), '1')")

LUA_TEST(
    arrays_keep_their_mark,
    "for _, text in ipairs{'[]', '{}', '[[],{}]', '[null]', '{\"a\":[],\"b\":{}}', '[1,[2,[3]]]'} "
    "do "
    "  same(json.encode(json.decode(text)), text) end "
    "same(json.encode({}), '{}') same(json.encode(json.array{}), '[]') "
    "same(json.encode(json.array()), '[]')"
    "same(json.encode(setmetatable({}, json.array_mt)), '[]') same(json.encode(json.empty_array), "
    "'[]')"
    "same(json.encode{1, 2, 3}, '[1,2,3]') same(getmetatable(json.decode('[1]')), json.array_mt)")

LUA_TEST(key_order, "local t = {b=1, a=2, B=3, ['']=4, aa=5}"
                    "same(json.encode(t), '{\"\":4,\"B\":3,\"a\":2,\"aa\":5,\"b\":1}')"
                    "same(json.encode(json.ordered(t, {'b', 'zz', 'aa'})), "
                    "'{\"b\":1,\"aa\":5,\"\":4,\"B\":3,\"a\":2}')"
                    "same(json.encode({a={1}, b={}}, {indent=2}), '{\\n  \"a\": [\\n    1\\n  "
                    "],\\n  \"b\": {}\\n}')"
                    "local n = 0 for _ in pairs(json.decode(json.encode(t, {sort=false}))) do n = "
                    "n + 1 end same(n, 5)"
                    "fails('a list of keys', json.ordered, {}, {1})")

LUA_TEST(
    refused_values,
    "fails('a.b[2]: NaN or infinity', json.encode, {a={b={1, 0/0}}})"
    "fails('NaN or infinity', json.encode, 1/0)"
    "fails('keys of an array and of a map', json.encode, {1, x=2})"
    "fails('an array with holes', json.encode, {[1]=1, [3]=3})"
    "fails('number outside 1..n', json.encode, {[0]=1}) fails('number outside 1..n', json.encode, "
    "{[1.5]=1})"
    "fails('a key is a boolean', json.encode, {[true]=1})"
    "fails('f: a function is not JSON', json.encode, {f=print})"
    "fails('not UTF-8', json.encode, '\\255') fails('not UTF-8', json.encode, {['\\192\\128']=1})"
    "fails('a cdata is not JSON', json.encode, 1LL) fails('a userdata is not JSON', json.encode, "
    "io.stdout)"
    "fails('a thread is not JSON', json.encode, coroutine.create(print))"
    "local t = {} t.t = t fails('nested more than 64', json.encode, t)"
    "fails(\"bad option 'indent'\", json.encode, 1, {indent='x'})")

LUA_TEST(refused_texts,
         "local function bad(text, why) local v, err = json.decode(text) same(v, nil) "
         "  same(err.code, 'invalid_json') check(err.line >= 1 and err.column >= 0) "
         "  check(not why or err.message:find(why, 1, true), err.message) return err end "
         "for _, text in ipairs{'', ' ', '[1,]', '{\"a\":1,}', '{a:1}', '[01]', '[0x10]', '[NaN]', "
         "'[Infinity]', "
         "  '[1] x', '\"\\\\ud800\"', '[\"\\255\"]', '\"\\1\"', '[1e999]', 'nul', '[', '{\"a\"}', "
         "\"['a']\", "
         "  '[1 2]', '[+1]', '[.5]', '[1.]', '\"\\\\x\"', '/**/1'} do bad(text) end "
         "bad('{\"a\":1,\"a\":2}', 'duplicate')"
         "local err = bad('{\\n \"a\": x}') same(err.line, 2)"
         "bad(('['):rep(65) .. (']'):rep(65), 'nested more than 64')"
         "check(json.decode(('['):rep(64) .. (']'):rep(64)))"
         "bad(('['):rep(1e6))")

LUA_TEST(texts, "same(json.decode('\"\\\\u00e4\\\\u0000\\\\ud83d\\\\ude00\"'), "
                "'\\195\\164\\0\\240\\159\\152\\128')"
                "same(json.decode(' [ 1 ] ')[1], 1) same(json.decode('null'), json.null)"
                "same(json.encode(value.date(0)), '\"1970-01-01T00:00:00.000Z\"')"
                "same(require 'cjson'.encode{1}, '[1]')"
                "local s = {} for i = 1, 1000 do s[i] = ('x'):rep(i) end "
                "same(#json.decode(json.encode(s)), 1000)")

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(scalars),
                                       cmocka_unit_test(exact_integers),
                                       cmocka_unit_test(arrays_keep_their_mark),
                                       cmocka_unit_test(key_order),
                                       cmocka_unit_test(refused_values),
                                       cmocka_unit_test(refused_texts),
                                       cmocka_unit_test(texts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
