/* Module value: blobs, boxed types, views; and random damage to what is decoded. */
#include "lua_unit.h"

LUA_TEST(round_trip,
         "local json_of = function(v) return value.json(value.encode(v)) end "
         "same(json_of{b={1, 2.5, 'x', true, json.null}, a={}}, "
         "'{\"a\":{},\"b\":[1,2.5,\"x\",true,null]}')"
         "same(json_of(nil), 'null') same(value.decode(value.encode(nil)), json.null)"
         "same(json_of(json.empty_array), '[]') same(json_of(value.binary 'ab\\0'), '\"YWIA\"')"
         "same(json_of(value.int64 '9007199254740993'), '\"9007199254740993\"')"
         "local v = value.decode(value.encode{d=value.date(1719700000123), "
         "i=value.int64('-9223372036854775808'),"
         "  b=value.binary('\\0\\255'), n=-3, t='\\0x', list=json.array{}})"
         "same(v.d.ms, 1719700000123) same(tostring(v.i), '-9223372036854775808') "
         "same(tostring(v.b), '\\0\\255')"
         "same(v.n, -3) same(v.t, '\\0x') same(getmetatable(v.list), json.array_mt)")

LUA_TEST(equal_values_have_equal_bytes,
         "local a, b = {}, {} for i = 1, 200 do a['k' .. i] = i b['k' .. 201 - i] = 201 - i end "
         "same(value.encode(a), value.encode(b)) same(value.hash(value.encode(a)), "
         "value.hash(value.encode(b)))"
         "same(value.hash(''), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')"
         "check(value.encode{1} ~= value.encode{1.5}) check(value.encode{} ~= "
         "value.encode(json.array{}))")

LUA_TEST(
    boxes,
    "local a, b = value.date(1), value.date(2) check(a == value.date(1)) check(a ~= b) check(a < "
    "b) check(a <= b)"
    "same(tostring(value.date(1719705600000)), '2024-06-30T00:00:00.000Z')"
    "same(tostring(value.date(-1)), '1969-12-31T23:59:59.999Z')"
    "same(value.int64('12'), 12) check(value.int64('9007199254740993') == "
    "value.int64('9007199254740993'))"
    "check(value.int64('9007199254740993') < value.int64('9007199254740994'))"
    "fails('64 bits', value.int64, '9223372036854775808') fails('64 bits', value.int64, '1x') "
    "fails('64 bits', value.int64, 0.5)"
    "fails('attempt to compare', function() return a < value.int64('9007199254740993') end)"
    "same(value.type(a), 'date') same(value.type(json.null), 'null') same(value.type(1), 'number')"
    "same(value.type(value.binary('')), 'binary') same(getmetatable(a), 'kt.date')"
    "same(value.parse_date('2024-06-30').ms, 1719705600000)"
    "local d, err = value.parse_date('2024-02-30') same(d, nil) same(err.code, "
    "'validation_failed')")

LUA_TEST(
    refused,
    "fails('x[2].y: a function cannot be stored', value.encode, {x={1, {y=print}}})"
    "fails('NaN', value.encode, {0/0}) fails('holes', value.encode, {1, nil, 3})"
    "fails('not UTF-8', value.encode, '\\255') fails('NUL', value.encode, {['a\\0']=1})"
    "fails('a cdata cannot', value.encode, {1ULL}) local t = {} t[1] = t fails('64 levels', "
    "value.encode, t)"
    "fails('a document is a map', value.doc, {1}) fails('a userdata', value.encode, {io.stdout})"
    "fails('not an encoded value', value.decode, 'nonsense') fails('not an encoded value', "
    "value.decode, '')"
    "fails('not an encoded value', value.decode, value.doc{x=1})")

LUA_TEST(metamethods_do_not_run,
         "local hit = false local t = setmetatable({a=1}, {__index=function() hit = true end, "
         "__pairs=function() hit = true end,"
         "  __tostring=function() hit = true return '' end}) same(value.json(value.encode(t)), "
         "'{\"a\":1}')"
         "same(json.encode(t), '{\"a\":1}') check(not hit)")

LUA_TEST(
    views,
    "local sub = value.view{{'n'}} "
    "local v = value.view{{'_id', 'id'}, {'cost', 'cost_usd', as='nano_usd'}, {'gone'}, {'rows', "
    "sub=sub}, {'one', sub=sub}, {'a.b', 'ab'}}"
    "local doc = value.doc{_id='x', cost=1250, secret=1, rows={{n=1, m=2}, {m=3}}, "
    "one={n=value.date(0)}, a={b=true}}"
    "same(value.doc_json(doc, v), '{\"id\":\"x\",\"cost_usd\":\"0.00000125\",\"gone\":null,"
    "\"rows\":[{\"n\":1},{\"n\":null}],\"one\":{\"n\":\"1970-01-01T00:00:00.000Z\"},\"ab\":true}')"
    "local c = value.view{{'c', as='nano_usd'}} "
    "local function usd(n) return value.doc_json(value.doc{c=n}, c) end "
    "same(usd(0), '{\"c\":\"0\"}') same(usd(2e9), '{\"c\":\"2\"}') same(usd(-1), "
    "'{\"c\":\"-0.000000001\"}')"
    "same(usd(1500000000), '{\"c\":\"1.5\"}') same(usd(value.int64('-9223372036854775808')), "
    "'{\"c\":\"-9223372036.854775808\"}')"
    "same(usd(json.null), '{\"c\":null}')"
    "fails('field 1 is not', value.view, {{}}) fails('as is', value.view, {{'a', as='x'}}) "
    "fails('kt.view', value.view, {{'a', sub={}}})"
    "local links = value.view{{'', 'self', text={'/x/', '_id'}}, {'', 'more', text={'/', '_id', "
    "'/y'}}, {'', 'no', text={'', 'cost'}}}"
    "same(value.doc_json(doc, value.view{{'', 'links', sub=links}}),"
    " '{\"links\":{\"self\":\"/x/x\",\"more\":\"/x/y\",\"no\":null}}')"
    "fails('string expected', value.view, {{'', 'a', text={{}}}})"
    "same(value.doc_json(doc), "
    "'{\"_id\":\"x\",\"a\":{\"b\":true},\"cost\":1250,\"one\":{\"n\":\"1970-01-01T00:00:00.000Z\"},"
    "\"rows\":[{\"m\":2,\"n\":1},{\"m\":3}],\"secret\":1}')")

LUA_TEST(
    crypto,
    "local c = require 'kt.crypto' same(c.sha256('abc'), "
    "'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')"
    "same(c.hash_new():update('a'):update('bc'):hex(), c.sha256('abc'))"
    "same(c.base64url_encode(c.hmac_sha256('Jefe', 'what do ya want for nothing?')), "
    "'W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM')"
    "for n = 0, 70 do local s = c.random(n) same(c.base64url_decode(c.base64url_encode(s)), s) end "
    "for _, bad in ipairs{'a', 'a=', 'a+b/', 'ab\\0c', 'AB'} do local s, err = "
    "c.base64url_decode(bad) same(s, nil) same(err.code, 'validation_failed') end "
    "local last = '' for i = 1, 20000 do local id = c.uuid7() same(#id, 32) check(id > last, id) "
    "last = id end "
    "check(c.equal('ab', 'ab')) check(not c.equal('ab', 'ac')) check(not c.equal('a', 'ab'))"
    "local h = c.hash_new() h:hex() fails('not finished', h.hex, h) fails('0 to 1024', c.random, "
    "1025)")

LUA_TEST(
    damaged_bytes_never_crash,
    "local blob = value.encode{a={1, 2, {b='text', c=value.binary('xyz')}}, d=value.date(5), e=1.5}"
    "math.randomseed(7) for i = 1, 20000 do local at = math.random(#blob) "
    "  local bad = blob:sub(1, at - 1) .. string.char(math.random(0, 255)) .. blob:sub(at + 1) "
    "  pcall(value.decode, bad) pcall(value.json, bad) pcall(value.doc_json, bad:sub(1, at)) end")

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip),
                                       cmocka_unit_test(equal_values_have_equal_bytes),
                                       cmocka_unit_test(boxes),
                                       cmocka_unit_test(refused),
                                       cmocka_unit_test(metamethods_do_not_run),
                                       cmocka_unit_test(views),
                                       cmocka_unit_test(crypto),
                                       cmocka_unit_test(damaged_bytes_never_crash)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
