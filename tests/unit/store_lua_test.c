/* kt.store as Lua sees it: every call, its bad input, and what is left afterwards. */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lua_unit.h"

#define HEAD                                                                                       \
    "local store = require 'kt.store' "                                                            \
    "assert(store.open{dir=os.getenv('STORE_DIR')}) "                                              \
    "assert(store.create('t-db')) local db = store.database('t-db') "                              \
    "task.defer(function() store.close() end) "

LUA_TEST(
    documents, HEAD
    "check(db:insert('things', {_id='a', n=1, s='x', at=value.date(5)}))"
    "same(db:insert('things', {{_id='b', n=2, s='y'}, {_id='c', n=3}}), 2)"
    "local d = check(db:find_one('things', {_id='a'}))"
    "same(d.n, 1) same(d.at.ms, 5) same(db:find_one('things', {_id='nope'}), nil)"
    "local l = check(db:find('things', {{'n','gte',2}}, {sort={{'n',-1}}}))"
    "same(#l, 2) same(l[1]._id, 'c')"
    "l = check(db:find('things', {{'or', {s='x'}, {n=3}}}, {sort={{'_id',1}}, projection={'n'}}))"
    "same(#l, 2) same(l[1].s, nil) same(l[2]._id, 'c')"
    "same(db:count('things', {}), 3) same(db:count('things', nil, 2), 2)"
    "local r = check(db:update_one('things', {_id='a'}, {set={s='z', ['m.k']=true}, inc={n=4}}))"
    "same(r.matched, 1) same(r.modified, 1) d = db:find_one('things', {_id='a'})"
    "same(d.n, 5) same(d.m.k, true)"
    "r = check(db:update_many('things', {}, {push={l={each={1,2}}}, unset={'at'}})) "
    "same(r.matched, 3)"
    "same(#db:find_one('things', {_id='b'}).l, 2)"
    "r = check(db:update_one('things', {_id='u'}, {inc={n=1}, set_on_insert={x=json.null}}, "
    "{upsert=true}))"
    "same(r.upserted_id, 'u') same(r.matched, 0)"
    "d = check(db:find_and_modify('things', {{'n','lt',3}}, {sort={{'n',1}}, update={set={w=1}}, "
    "new=true}))"
    "same(d._id, 'u') same(d.w, 1)"
    "same(db:find_and_modify('things', {_id='zz'}, {update={set={w=1}}}), nil)"
    "d = check(db:find_and_modify('things', {_id='u'}, {remove=true})) same(d.w, 1)"
    "r = check(db:replace_one('things', {_id='b'}, {n=9})) same(db:find_one('things', "
    "{_id='b'}).s, nil)"
    "same(#check(db:distinct('things', 'n')), 3)"
    "same(db:delete_one('things', {_id='b'}), 1) same(db:delete_many('things', {}), 2)"
    "same(#check(db:find('things')), 0) same(#check(db:find('never')), 0) same(db:count('never'), "
    "0)")

LUA_TEST(
    errors, HEAD
    "local _, e = db:find_one('Bad Name', {}) same(e.code, 'invalid_argument')"
    "_, e = db:find('things', {{'a','$gt',1}}) same(e.code, 'invalid_argument')"
    "_, e = db:find('things', {['$where']='x'}) same(e.code, 'invalid_argument')"
    "_, e = db:find('things', {{'a','gt',json.null}}) same(e.code, 'invalid_argument')"
    "_, e = db:find('things', {}, {sort={{'a',2}}}) same(e.code, 'invalid_argument')"
    "_, e = db:update_one('things', {}, {rename={a='b'}}) same(e.code, 'invalid_argument')"
    "_, e = db:update_one('things', {}, {set={a=1}, inc={['a.b']=1}}) same(e.code, "
    "'invalid_argument')"
    "_, e = db:insert('things', {_id='a', f=function() end}) same(e.code, 'validation_failed')"
    "check(db:insert('things', {_id='a', n='text'}))"
    "_, e = db:insert('things', {_id='a'}) same(e.code, 'already_exists') same(e.key, '_id')"
    "_, e = db:update_one('things', {_id='a'}, {inc={n=1}}) same(e.number, 14)"
    "_, e = db:update_one('things', {_id='a'}, {set={['n.x']=1}}) same(e.number, 28)"
    "check(db:ensure_index('things', {name='by_u', keys={{'u',1}}, unique=true}))"
    "check(db:ensure_index('things', {name='by_u', keys={{'u',1}}, unique=true}))"
    "_, e = db:ensure_index('things', {name='by_u', keys={{'v',1}}}) same(e.code, 'conflict')"
    "_, e = db:insert('things', {_id='b'}) same(e.key, 'by_u')"
    "_, e = db:insert('things', {_id='c', u={1,2}}) check(e.message:find('array'), e.message)"
    "_, e = db:insert('things', {_id='big', s=('x'):rep(9*2^20)}) same(e.code, 'body_too_large')"
    "_, e = store.database('no-such'):find_one('things', {}) same(e.code, 'not_found')"
    "_, e = store.database('no-such'):insert('things', {}) same(e.code, 'not_found')"
    "same(store.exists('no-such'), false)"
    "for _, n in ipairs{'../x', 'a/b', '', 'A', 'admin', ('x'):rep(64), 'a\\0b', '-a'} do "
    "fails('database name', store.database, n) end "
    "local rc = db:commit{{op='insert', coll='things', doc={_id='n1', u=1}},"
    "{op='update', coll='things', filter={_id='gone'}, update={set={a=1}}}} same(rc[2].matched, 0)"
    "_, e = db:commit{{op='insert', coll='things', doc={_id='n2', u=2}},"
    "{op='update', coll='things', filter={_id='gone'}, update={set={a=1}}, must_match=true}}"
    "same(e.code, 'conflict') same(e.index, 2) same(db:find_one('things', {_id='n2'}), nil)"
    "_, e = db:commit{{op='insert', coll='things', doc={_id='n3', u=3}},"
    "{op='insert', coll='things', docs={{_id='n4', u=4}, {_id='n5', u=1}}}}"
    "same(e.code, 'already_exists') same(e.index, 2) same(e.key, 'by_u')"
    "same(db:count('things', {{'_id','prefix','n'}}), 1)")

LUA_TEST(
    pages, HEAD
    "check(db:ensure_index('p', {name='list', keys={{'at',-1},{'_id',-1}}}))"
    "local docs = {} for i = 1, 97 do docs[i] = {_id=('i%03d'):format(i), "
    "at=value.date(math.floor(i/10)), cost_nano=i} end "
    "check(db:insert('p', docs))"
    "local view = value.view{{'_id', 'id'}, {'cost_nano', 'cost_usd', as='nano_usd'}, {'none'}}"
    "local seen, after, pages = {}, nil, 0 "
    "repeat local text, n, last = db:find_json('p', {}, {sort={{'at',-1}}, limit=10, after=after, "
    "view=view})"
    " for _, d in ipairs(check(json.decode(text))) do check(not seen[d.id]) seen[d.id]=true "
    "seen[#seen+1]=d.id same(d.none, json.null) end "
    " pages = pages + 1 after = last until not last "
    "same(#seen, 97) same(pages, 10) same(seen[1], 'i097') same(seen[97], 'i001')"
    "local one = check(db:find_one_json('p', {_id='i005'}, view))"
    "same(one, '{\"id\":\"i005\",\"cost_usd\":\"0.000000005\",\"none\":null}')"
    "same(db:find_one_json('p', {_id='x'}), nil)"
    "local rows = check(db:group('p', {filter={{'cost_nano','gt',10}}, keys={at='at'}, "
    "values={n={'count'}, sum={'sum','cost_nano'}, top={'max','cost_nano'}}, sort={{'at',1}}}))"
    "same(rows[1].at.ms, 1) same(rows[1].n, 9) same(rows[#rows].top, 97)")

LUA_TEST(many_tasks, HEAD
         "check(db:insert('c', {_id='n', v=0})) local ts = {} "
         "for i = 1, 300 do ts[i] = task.spawn(function() return db:update_one('c', {_id='n'}, "
         "{inc={v=1}}) end) end "
         "for _, t in ipairs(ts) do check(t:join()) end same(db:find_one('c', {_id='n'}).v, 300) "
         "local t = task.spawn(function() return db:insert('c', {_id='late'}) end) task.yield() "
         "t:cancel() "
         "same(store.stats().open_databases, 1) same(store.stats().engine, 'sqlite')")

LUA_TEST(blobs, HEAD
         "local big = ('0123456789abcdef'):rep(600000) local b = check(db:blob_put(big)) "
         "same(b.bytes, #big)"
         "same(check(db:blob_get(b.sha256)), big) same(db:blob_put(big).sha256, b.sha256)"
         "same(db:count('kt_p_blobs', {}), 3)"
         "local path = os.getenv('STORE_DIR') .. '/copy' check(db:blob_to_file(b.sha256, path))"
         "local c = check(db:blob_put{path=path}) same(c.sha256, b.sha256) os.remove(path)"
         "local _, e = db:blob_get(b.sha256, 100) same(e.code, 'body_too_large')"
         "_, e = db:blob_get(('0'):rep(64)) same(e.code, 'not_found')"
         "_, e = db:blob_put{path='/nonexistent/x'} same(e.code, 'not_found')"
         "local z = check(db:blob_put('')) same(db:blob_get(z.sha256), '')"
         "check(db:delete_one('kt_p_blobs', {_id=b.sha256 .. ':1'})) _, e = db:blob_get(b.sha256) "
         "same(e.code, 'store_corrupt')")

LUA_TEST(databases, HEAD "same(db.name, 't-db') same(db.nothing, nil) check(db:insert('x', "
                         "{_id='1'})) same(store.list()[1], 't-db') check(store.create('t-db'))"
                         "same(db:count('x', {}), 1) local r = check(store.check('t-db')) "
                         "same(#r.problems, 0) same(r.collections.x, 1)"
                         "check(store.drop('t-db')) same(store.exists('t-db'), false) local _, e = "
                         "db:count('x', {}) same(e.code, 'not_found')"
                         "check(store.create('t-db')) same(db:count('x', {}), 0)")

/* More than may wait is refused, at once; what was accepted is there. */
LUA_TEST(
    bounded,
    "local store = require 'kt.store' "
    "assert(store.open{dir=os.getenv('STORE_DIR'), queue_max=4, readers=1, writers=1}) "
    "task.defer(function() store.close() end) assert(store.create('t-db')) local db = "
    "store.database('t-db') "
    "local ok, refused, ts = 0, 0, {} "
    "for i = 1, 200 do ts[i] = task.spawn(function() local n, e = db:insert('c', {_id='d' .. i}) "
    "if n then ok = ok + 1 else same(e.code, 'overloaded') same(e.retryable, true) refused = "
    "refused + 1 end return true end) end "
    "for _, t in ipairs(ts) do check(t:join()) end "
    "check(ok >= 1 and refused >= 1, ok .. ' ' .. refused) same(ok + refused, 200) "
    "same(db:count('c'), ok)")

/* Closing makes what was accepted, also when its task is gone. */
LUA_TEST(
    closing,
    "local store = require 'kt.store' local dir = os.getenv('STORE_DIR') "
    "assert(store.open{dir=dir}) assert(store.create('t-db')) local db = store.database('t-db') "
    "for i = 1, 50 do task.spawn(function() return db:insert('c', {_id='d' .. i}) end) end "
    "task.yield() task.yield() store.close() assert(store.open{dir=dir}) "
    "task.defer(function() store.close() end) same(db:count('c'), 50)")

/* A task that is past its deadline hears so (a call made after it raises); the call it left behind leaves nothing. */
LUA_TEST(deadlines,
         HEAD "local docs = {} for i = 1, 20000 do docs[i] = {_id='d' .. i, n=i} end "
              "check(db:insert('c', docs)) "
              "local t = task.spawn(function() task.deadline(0.02) local _, e repeat _, e = "
              "db:find('c', {{'n','gt',0}}, {sort={{'n',1}}}) until e return e.code end) "
              "local code, why = t:join() same(code or why.code, 'deadline_exceeded') "
              "t = task.spawn(function() return db:count('c', {{'n','gt',0}}) end) task.yield() "
              "t:cancel() t:join() "
              "same(db:count('c'), 20000)")

static char dir[] = "/tmp/kt-store-XXXXXX";

static int fresh(void **state) {
    (void)state;
    strcpy(dir, "/tmp/kt-store-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return setenv("STORE_DIR", dir, 1);
}

/* Nothing but the databases and their locks may be left: no journal, no half file. */
static int gone(void **state) {
    DIR *d = opendir(dir);
    struct dirent *entry;
    int strange = 0;
    (void)state;
    while ((entry = readdir(d)) != NULL) {
        char path[400];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (strcmp(entry->d_name, "t-db.db") != 0 && strcmp(entry->d_name, "t-db.db.lock") != 0) {
            strange++;
            fprintf(stderr, "left: %s\n", entry->d_name);
        }
        unlink(path);
    }
    closedir(d);
    rmdir(dir);
    return strange;
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fresh, gone)
    const struct CMUnitTest tests[] = {CASE(documents),  CASE(errors),  CASE(pages),
                                       CASE(many_tasks), CASE(bounded), CASE(closing),
                                       CASE(deadlines),  CASE(blobs),   CASE(databases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
