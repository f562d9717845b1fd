/* kt.script: declarations, runs, the door's order, errors with a place, environments of their own.
 */
#include "lua_unit.h"

#define SCRIPT_HEAD                                                                                \
    "local script = require 'kt.script' "                                                          \
    "local function vm_of(files, cap) return assert(script.vm{files=files, cap=cap}) end "         \
    "local function start(vm, o) o.path = o.path or 'main.lua' o.seed = o.seed or 'ab' o.now = "   \
    "o.now or 1000 "                                                                               \
    "  return assert(vm:start(o)) end "                                                            \
    "local function run(source, o, files) files = files or {} files['main.lua'] = source "         \
    "  local vm = vm_of(files, o and o.cap) local r = start(vm, o or {}) return r, vm end "        \
    "local function finish(r) local ev = assert(r:next()) while ev.status == 'calls' do "          \
    "  for _, c in ipairs(ev.calls) do if not c.emit then assert(r:answer(c.id, true, c.args)) "   \
    "end end "                                                                                     \
    "  ev = assert(r:next()) end "                                                                 \
    "  if ev.status == 'done' then return value.json(ev.value), ev end return nil, ev.error end "  \
    "local function once(source, o, files) local r, vm = run(source, o, files) local v, e = "      \
    "finish(r) vm:close() return v, e end "

#define SCRIPT_TEST(name, body) LUA_TEST(name, SCRIPT_HEAD body)

SCRIPT_TEST(check_gives_the_declaration,
            "local d = assert(script.check{path='r.lua', source=[[rule{id='X-1', title='t', "
            "category='c', params={n={default=3}}, reasons={'a', 'b'}, run=function() end}]]})"
            "same(d.kind, 'rule') same(d.id, 'X-1') same(d.run, true) same(d.params.n.default, 3) "
            "same(d.reasons[2], 'b')"
            "same(assert(script.check{path='l.lua', source='return {f=1}'}).kind, 'lib')"
            "same(assert(script.check{path='w.lua', source=[[local l = require 'a.lib' "
            "workflow{name=l.name, run=print or function() end}]], libs={['a/lib.lua']=[[return "
            "{name='w'}]]}}).name, 'w')"
            "local function bad(source, text, line) local d, e = script.check{path='dir/bad.lua', "
            "source=source} same(d, nil) same(e.code, 'script_error') "
            "  check(e.message:find(text, 1, true), e.message) same(e.where and e.where.script, "
            "'dir/bad.lua') same(e.where.line, line) end "
            "bad('local x =\\n\\n+', 'unexpected symbol', 3) bad('\\nworkflow{name=1, "
            "run=function() end}', \"field 'name' must be a string\", 2)"
            "bad('workflow{name=[[a]]}', \"field 'run'\", 1) bad('\\n\\nerror([[boom]])', 'boom', "
            "3) bad('rule{}', \"field 'category'\", 1)"
            "bad('local f = function() end workflow{name=[[a]], run=f} workflow{name=[[a]], "
            "run=f}', 'declares once', 1)"
            "bad('model.call{}', 'not while a script loads', 1) bad('require [[nope]]', \"module "
            "'nope' is not in the bundle\", 1)"
            "bad('workflow(1)', 'a table is expected', 1)"
            "local d, e = script.check{path='loop.lua', source='while true do end'} same(e.code, "
            "'instruction_limit') same(e.where.line, 1)"
            "d, e = script.check{path='mem.lua', source='local t = {} for i = 1, 1e7 do t[i] = "
            "(\"x\"):rep(100) .. i end'} check(e.code == 'memory_limit' or e.code == "
            "'instruction_limit', e.code)"
            "d, e = script.check{path='big.lua', source=('--x\\n'):rep(300000)} "
            "check(e.message:find('1 MiB'))"
            "d, e = script.check{path='bc.lua', source=string.dump(function() end)} same(e.code, "
            "'script_error')"
            "same(task.counts().vms, 1)")

SCRIPT_TEST(
    run_calls_in_order,
    "local r, vm = run[[workflow{name='w', run=function(run, input) "
    "  local a = model.call{messages={input.text}} log('info', 'hello', {n=1}) progress(1, 2) "
    "  local ok, e = pcall(tool.call, 't', {x=1}) time.sleep(5) "
    "  return {a=a, code=e.code, retryable=e.retryable, id=run.id, now=time.now()} end}]] "
    "vm:close()"
    "local vm = vm_of{['main.lua']=[[workflow{name='w', run=function(run, input) "
    "  local a = model.call{messages={input.text}} log('info', 'hello', {n=1}) progress(1, 2) "
    "  local ok, e = pcall(tool.call, 't', {x=1}) time.sleep(5) "
    "  return {a=a, code=e.code, retryable=e.retryable, id=run.id, now=time.now()} end}]]} "
    "local r = start(vm, {input={text='hi'}, run={id='exec_1'}})"
    "local ev = r:next() same(ev.status, 'calls') same(#ev.calls, 1) same(ev.calls[1].id, 1) "
    "same(ev.calls[1].name, 'model.call')"
    "same(value.json(ev.calls[1].args), '{\"messages\":[\"hi\"]}') same(ev.calls[1].hash, "
    "value.hash(ev.calls[1].args)) same(ev.calls[1].emit, false)"
    "same(#r:next().calls, 0)"
    "assert(r:answer(1, true, value.encode{text='yo'}, 2000)) "
    "local ok, err = r:answer(1, true, value.encode(1)) same(ok, nil) same(err.code, "
    "'invalid_argument')"
    "local names = {} repeat ev = r:next() for _, c in ipairs(ev.calls) do names[#names + 1] = "
    "c.name .. (c.emit and '!' or '') .. tostring(c.id) end until #ev.calls > 0 and not "
    "ev.calls[#ev.calls].emit "
    "same(table.concat(names, ' '), 'log!nil progress!nil tool.call2')"
    "assert(r:answer(2, false, {code='tool_denied', message='no', retryable=false})) ev = r:next() "
    "same(value.json(ev.calls[1].args), '{\"seconds\":5}') same(ev.calls[1].id, 3)"
    "assert(r:answer(3, true, value.encode(nil), 7000)) ev = r:next() same(ev.status, 'done') "
    "check(ev.steps > 0)"
    "same(value.json(ev.value), "
    "'{\"a\":{\"text\":\"yo\"},\"code\":\"tool_denied\",\"id\":\"exec_1\",\"now\":7000,"
    "\"retryable\":false}')"
    "ok, err = r:next() same(err.code, 'invalid_state') r:close() ok, err = r:next() "
    "same(err.code, 'invalid_state') vm:close()")

SCRIPT_TEST(
    errors_have_a_place,
    "local function bad(source, code, text, line, path) local v, e = once(source, nil, "
    "{['lib.lua']='return {f=function()\\n\\n error(\"deep\") end}'}) same(v, nil) same(e.code, "
    "code) "
    "  check(e.message:find(text, 1, true), e.message) same(e.where and e.where.line, line) "
    "same(e.where and e.where.script, line and (path or 'main.lua')) return e end "
    "bad('workflow{name=[[w]], run=function() error([[a\\0b]]) end}', 'script_error', 'a?b', 1)"
    "bad('workflow{name=[[w]], run=function() error{message=[[a\\0b]]} end}', 'script_error', "
    "'a?b', 1)"
    "bad('workflow{name=[[w]], run=function()\\n local x = nil\\n return x.y end}', "
    "'script_error', \"attempt to index\", 3)"
    "bad('local l = require [[lib]] workflow{name=[[w]], run=function()\\n l.f() end}', "
    "'script_error', 'deep', 3, 'lib.lua')"
    "bad('workflow{name=[[w]], run=function()\\n error{code=[[budget_exceeded]], message=[[m]], "
    "details={a=1}} end}', 'budget_exceeded', 'm', 2)"
    "local e = bad('workflow{name=[[w]], run=function()\\n error{code=[[mine]], message=[[m]], "
    "details={a=1}, retryable=true} end}', 'mine', 'm', 2) same(e.details.a, 1) same(e.retryable, "
    "true)"
    "bad('workflow{name=[[w]], run=function() return {f=function() end} end}', 'script_error', "
    "'the result: f: a function cannot be stored')"
    "bad('workflow{name=[[w]], run=function() return ([[x]]):rep(2^21) end}', 'output_limit', "
    "'larger than 1024 KiB')"
    "bad('workflow{name=[[w]], run=function()\\n\\n coroutine.wrap(function()\\n error(0) end)() "
    "end}', 'script_error', '0', 4)"
    "bad('return {}', 'script_error', 'declares nothing')"
    "bad('workflow{name=[[w]], run=function() model.call(type) end}', 'script_error', 'table "
    "expected', 1)"
    "bad('workflow{name=[[w]], run=function() model.call{type} end}', 'validation_failed', "
    "'model.call: [1]: a function', 1)"
    "local v, e = script.vm{files={['a.lua']='return 1', ['b.lua']='\\nx x'}} same(v, nil) "
    "same(e.where.script, 'b.lua') same(e.where.line, 2)"
    "v, e = script.vm{files={['a.lua']='end return function()'}} same(e.code, 'script_error')"
    "local vm = vm_of{['a.lua']='x=1'} v, e = vm:start{path='b.lua'} same(e.code, 'not_found') "
    "vm:close()")

SCRIPT_TEST(
    parallel_is_deterministic,
    /* Three branches; answers in any order give ids in the order of the answers. */
    "local source = [[workflow{name='w', run=function() "
    "  local function branch(n) return function() local x = tool.call('a', {n=n}) local y = "
    "tool.call('b', {n=n}) return {n, x, y} end end "
    "  local r = parallel{branch(1), branch(2), function() local rs = parallel{branch(3), "
    "branch(4)} return rs end} "
    "  return r end}]] "
    "local function play(order, batch) local r, vm = run(source) local log, ready = {}, {} "
    "  local ev = r:next() while ev.status == 'calls' do for _, c in ipairs(ev.calls) do local a = "
    "value.decode(c.args) "
    "    log[#log + 1] = c.id .. a.tool_id .. a.args.n ready[#ready + 1] = c.id end "
    "    for i = 1, batch do if #ready > 0 then local id = table.remove(ready, order == 'last' and "
    "#ready or 1) assert(r:answer(id, true, value.encode(id))) end end ev = r:next() end "
    "  local out = ev.status == 'done' and value.json(ev.value) or ev.error.message r:close() "
    "vm:close() return table.concat(log, ' '), out end "
    "local log, out = play('first', 1) same(log, '1a1 2a2 3a3 4a4 5b1 6b2 7b3 8b4') same(out, "
    "'[[1,1,5],[2,2,6],[[3,3,7],[4,4,8]]]')"
    "log, out = play('last', 1) same(log, '1a1 2a2 3a3 4a4 5b4 6b3 7b2 8b1') same(out, "
    "'[[1,1,8],[2,2,7],[[3,3,6],[4,4,5]]]')"
    "for batch = 2, 4 do local l, o = play('first', batch) same(l, '1a1 2a2 3a3 4a4 5b1 6b2 7b3 "
    "8b4') same(o, '[[1,1,5],[2,2,6],[[3,3,7],[4,4,8]]]') end "
    "local v, e = once[[workflow{name='w', run=function() local seen = {} local ok, err = "
    "pcall(parallel, {function() error('first') end, function() time.sleep(1) seen[1] = true end, "
    "function() error{code='x'} end}) "
    "  return {ok, tostring(err):sub(-5), seen[1]} end}]] same(v, '[false,\"first\",true]')"
    "v, e = once[[workflow{name='w', run=function() return parallel{function() local co = "
    "coroutine.wrap(function() coroutine.yield(time.sleep(1)) return tool.call('x', 1) end) co() "
    "return co() end, "
    "  function() local n = 0 for i = 1, 3e6 do n = n + i end return n end} end}]] same(v, "
    "'[{\"args\":1,\"tool_id\":\"x\"},4500001500000]')"
    "v, e = once[[workflow{name='w', run=function() parallel{1} end}]] check(e.message:find('item "
    "1 is a number')) "
    "v, e = once[[workflow{name='w', run=function() parallel{function() coroutine.yield(1) end} "
    "end}]] check(e.message:find('outside a coroutine'))"
    "v, e = once[[workflow{name='w', run=function() return #parallel{} end}]] same(v, '0')")

SCRIPT_TEST(runs_do_not_share,
            "local vm = vm_of({['main.lua']=[[local lib = require 'lib' count = (count or 0) + 1 "
            "local n = 0 "
            "  workflow{name='w', run=function(_, input) n = n + 1 lib.n = lib.n + 1 string.format "
            "= 1 table.x = 2 _G.y = (y or 0) + 1 time.sleep(1) "
            "  math.floor = nil rawset(_G, 'pairs', nil) return {n, lib.n, count, y, input, "
            "table.x} end}]], ['lib.lua']='return {n=0}'}) "
            "local rs = {} for i = 1, 20 do rs[i] = start(vm, {input=i}) end for i = 1, 20 do "
            "local ev = rs[i]:next() same(#ev.calls, 1) end "
            "same(vm:stats().runs, 20) "
            "for i = 1, 20 do rs[i]:answer(1, true, value.encode(nil)) end "
            "for i = 1, 20 do local ev = rs[i]:next() same(ev.status, 'done') "
            "same(value.json(ev.value), '[1,1,1,1,' .. i .. ',2]') end "
            "local ok = start(vm, {}) same(ok:next().status, 'calls') ok:close() vm:close()")

SCRIPT_TEST(derived_values_repeat,
            "local source = [[workflow{name='w', run=function() local t = {} for i = 1, 5 do t[i] "
            "= random(1, 1000) end return {random(), math.random(), uuid(), uuid(), t, time.now(), "
            "time.format(time.now())} end}]] "
            "local a, b, c = once(source, {seed='aa'}), once(source, {seed='aa'}), once(source, "
            "{seed='ab'}) same(a, b) check(a ~= c)"
            "local t = json.decode(a) check(t[1] ~= t[2] and t[3] ~= t[4]) "
            "check(t[3]:match('^%x+%-%x+%-4%x+%-[89ab]%x+%-%x+$') and #t[3] == 36, t[3]) for i = "
            "1, 5 do check(t[5][i] >= 1 and t[5][i] <= 1000) end same(t[6], 1000) same(t[7], "
            "'1970-01-01T00:00:01.000Z')"
            "local v, e = once[[workflow{name='w', run=function() return random(2, 1) end}]] "
            "check(e.message:find('interval is empty'))")

SCRIPT_TEST(other_ways_to_start,
            "local vm = vm_of{['t.lua']=[[tool{name='t', description='d', run=function(args) "
            "return args.x * 2 end}]], ['lib.lua']=[[return {render=function(v) return 'hello ' .. "
            "v.name end}]], ['x.j2']='{{ not lua'} "
            "same(finish(start(vm, {path='t.lua', input={x=21}})), '42') same(finish(start(vm, "
            "{path='lib.lua', call='render', input={name='me'}})), '\"hello me\"')"
            "local v, e = finish(start(vm, {path='lib.lua', call='nope'})) "
            "check(e.message:find(\"no function 'nope'\")) vm:close()")

SCRIPT_TEST(
    closing_in_every_state,
    "local vm = vm_of{['main.lua']=[[workflow{name='w', run=function(_, how) if how == 'spin' then "
    "while true do end end time.sleep(1) end}]]} "
    "start(vm, {}):close() local r = start(vm, {}) r:next() r:close() r = start(vm, "
    "{input='spin'}) task.yield() task.yield() r:close() "
    "r = start(vm, {}) r:next() same(#r:next().calls, 0) r:answer(1, true, value.encode(1)) "
    "local waiter = task.spawn(function() return r:next() end) same(waiter:join().status, 'done')"
    "r = start(vm, {input='spin'}) waiter = task.spawn(function() return r:next() end) "
    "task.sleep(0.02) r:close() local ev, err = waiter:join() same(err.code, 'cancelled')"
    "r = start(vm, {input='spin'}) waiter = task.spawn(function() return r:next() end) "
    "task.sleep(0.02) vm:close() ev, err = waiter:join() same(ev.error.code, 'cancelled')"
    "vm = vm_of{['main.lua']=[[workflow{name='w', run=function() while true do end end}]]} "
    "ev = start(vm, {deadline=0.05}):next() same(ev.error.code, 'deadline_exceeded') "
    "same(ev.error.where.line, 1)"
    "start(vm, {}) vm = nil collectgarbage() collectgarbage()")

SCRIPT_TEST(json_inside,
            "same(once[[local json = require 'json' workflow{name='w', run=function() local a = "
            "json.decode('[]') local t = setmetatable({}, json.array_mt) "
            "  local marked = getmetatable(a) == json.array_mt setmetatable(a, {__index={q=1}}) "
            "  return {json.encode{a=t, b=json.decode('[1]')}, marked, a.q, json.null == nil, "
            "pcall(function() json.array_mt.__index = function() return 1 end return "
            "json.decode('[]').zz end)} end}]], "
            "'[\"{\\\\\"a\\\\\":[],\\\\\"b\\\\\":[1]}\",true,1,false,true]')"
            "same(once[[workflow{name='w', run=function() return json end}]], 'null')")

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(check_gives_the_declaration),
                                       cmocka_unit_test(run_calls_in_order),
                                       cmocka_unit_test(errors_have_a_place),
                                       cmocka_unit_test(parallel_is_deterministic),
                                       cmocka_unit_test(runs_do_not_share),
                                       cmocka_unit_test(derived_values_repeat),
                                       cmocka_unit_test(other_ways_to_start),
                                       cmocka_unit_test(closing_in_every_state),
                                       cmocka_unit_test(json_inside)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
