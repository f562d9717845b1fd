-- Every migration on a database of the version before it, with documents in it: what it promises holds, the
-- rest is as it was, and the same comes of it when it is run again or dies before any of its writes.

local cases = require "domain.migration_cases"
local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local file = require "kt.file"
local helper = require "domain.store_helper"
local json = require "json"
local store = require "kt.store"

local lease_ms = 10000 -- of the lock in domain/migrations.lua
local folder = config.home() .. "/migrations"
local logs = {master = "kt_m_migrations", project = "kt_p_migrations"}
local database = store.database
local empty = crypto.sha256 "" -- of a collection's documents

-- Reads go on after a death: what matters is what was written.
local reads = {find_one = true, find = true, find_json = true, find_one_json = true, count = true, distinct = true, group = true,
  export = true, verify = true, version = true, blob_get = true}

-- Databases whose process dies before the write number `last` + 1. Gives a function that says whether it has.
local function mortal(last)
  local writes, dead = 0, false
  store.database = function(name)
    local db = database(name)
    return setmetatable({name = db.name}, {__index = function(_, method)
      return function(_, ...)
        if not reads[method] then
          dead = dead or writes >= last
          if dead then return nil, {code = "store_unavailable", message = "dead"} end
          writes = writes + 1
        end
        return db[method](db, ...)
      end
    end})
  end
  return function() return dead end
end

-- A program that knows the migrations below `number`, and that one too when `with` says so: this one has agents/.
local function program(home, number, with)
  if with and not file.stat(home .. "/agents") then
    assert(os.execute(("ln -s %s/agents %s/agents"):format(config.home(), home)) == 0)
  end
  for _, entry in ipairs(assert(file.list(folder))) do
    local n = tonumber(entry.name:match("^%d%d%d%d"))
    if n and (n < number or with and n == number) then
      assert(file.write(home .. "/migrations/" .. entry.name, assert(file.read(folder .. "/" .. entry.name))))
    end
  end
  package.loaded["domain.migrations"] = nil
  local m = require "domain.migrations"
  assert(m.load(home))
  return m
end

-- "name key:direction…" of each index but _id_, in the order of the names.
local function indexes_of(text)
  local out = {}
  for key, rest in text:gmatch('"key":(%b{})(.-)[}%]],?') do
    local parts = {rest:match('"name":"([^"]+)"')}
    for path, direction in key:gmatch('"([^"$]+)":{"$numberInt":"(%-?1)"}') do parts[#parts + 1] = path .. ":" .. direction end
    if rest:find('"unique":true', 1, true) then parts[#parts + 1] = "unique" end
    if parts[1] ~= "_id_" then out[#out + 1] = table.concat(parts, " ") end
  end
  table.sort(out)
  return out
end

---@return table coll -> {indexes, sha256 of its documents, documents by _id}
local function state(db, log)
  local dir, out = helper.folder(), {}
  for _, c in ipairs(assert(db:export(dir)).collections) do
    if c.name ~= log then
      local documents = {}
      for _, doc in ipairs(assert(db:find(c.name, {}))) do documents[doc._id] = doc end
      out[c.name] = {indexes = indexes_of(assert(file.read(("%s/%s.metadata.json"):format(dir, c.name)))), sha256 = c.sha256,
        documents = documents}
    end
  end
  assert(file.remove(dir))
  return out
end

-- Indexes of every collection.
local function indexes(of)
  local out = {}
  for name, c in pairs(of) do out[name] = c.indexes end
  return out
end

-- After the migration all is as it was and as its case says; gives what it has written, without what differs at
-- every run.
local function check(before, after, case)
  local want = {}
  for name, c in pairs(before) do want[name] = {unpack(c.indexes)} end
  for name, added in pairs(case.adds) do
    want[name] = want[name] or {}
    for _, index in ipairs(added) do table.insert(want[name], index) end
    table.sort(want[name])
  end
  assert.same(want, indexes(after))
  local written = {}
  for name, c in pairs(after) do
    local was, write, change = before[name], case.writes and case.writes[name], case.changes and case.changes[name]
    if change then
      local want_documents = {}
      for id, doc in pairs(was.documents) do want_documents[id] = change(doc) end
      assert.same(want_documents, c.documents)
    elseif not write then
      assert.equal(was and was.sha256 or empty, c.sha256, name .. " is not as it was")
    else
      written[name] = {}
      for id, doc in pairs(was and was.documents or {}) do assert.same(doc, c.documents[id]) end
      for id, doc in pairs(c.documents) do
        if not (was and was.documents[id]) then table.insert(written[name], json.encode(write(doc))) end
      end
      table.sort(written[name])
      assert.is_true(#written[name] > 0, "nothing is written in " .. name)
    end
  end
  return written
end

describe("a migration from the version before it:", function()
  local db, close, home, log

  -- The database as it was before the number, with the case's documents.
  local function old(scope, number, case)
    local name = helper.name(scope == "project" and "acme" or nil)
    if store.exists(name) then assert(store.drop(name)) end
    assert(store.create(name))
    db, home, log = store.database(name), helper.folder(), logs[scope]
    assert(file.mkdir(home .. "/migrations"))
    assert(program(home, number).run(scope, db))
    for coll, documents in pairs(case.documents) do assert(db:insert(coll, documents)) end
    return state(db, log)
  end

  setup(function() db, close = helper.open() end) -- once: to close it takes MongoDB's driver half a second
  teardown(function() close() end)
  before_each(function() home = nil end)
  after_each(function()
    store.database = database
    clock.set()
    if home then assert(file.remove(home)) end
    package.loaded["domain.migrations"] = nil
  end)

  for _, entry in ipairs(assert(file.list(folder))) do
    local number = tonumber(entry.name:match("^(%d%d%d%d)_.*%.lua$"))
    local case = cases[entry.name]
    local scope = number and assert(loadfile(folder .. "/" .. entry.name))().scope

    if number and not case then
      it(entry.name .. " has a case", function()
        error("spec/domain/migration_cases.lua has none for migrations/" .. entry.name)
      end)
    elseif number then
      it(entry.name, function()
        local before = old(scope, number, case)
        assert(next(case.documents), "a case has documents")
        assert(program(home, number, true).run(scope, db))

        local after = state(db, log)
        local written = check(before, after, case)
        if case.holds then case.holds(db) end
        assert.equal(1, db:count(log, {number = number}))
        assert.is_nil(db:find_one(log, {_id = "lock"}))

        -- Again, as whoever died before its row was written would.
        assert(db:delete_one(log, {number = number}))
        assert(program(home, number, true).run(scope, db))
        local again = state(db, log)
        for name, c in pairs(after) do assert.equal(c.sha256, again[name].sha256, name .. " changes at a second run") end
        assert.same(written, check(before, again, case))
      end)

      it(entry.name .. ", dead before any of its writes", function()
        local want, died
        local last = -1
        repeat
          last = last + 1
          local before = old(scope, number, case)
          local dead = mortal(last)
          local ok, err = program(home, number, true).run(scope, store.database(db.name))
          died = dead()
          assert.is_true(ok or died and err.message == "dead")
          store.database = database
          clock.set(clock.now() + lease_ms) -- or the next one waits for the dead one's lock
          assert(program(home, number, true).run(scope, db))
          local now = check(before, state(db, log), case)
          want = want or now
          assert.same(want, now)
          local lock = db:find_one(log, {_id = "lock"})
          assert.is_true(not lock or lock.until_at.ms <= clock.now())
          assert.equal(1, db:count(log, {number = number}))
          if died then assert(file.remove(home)) end
        until not died
        assert.is_true(last >= 3, "the lock, the row and the lock again at least")
      end)
    end
  end

  it("each case has its migration", function()
    for name in pairs(cases) do assert.truthy(file.stat(folder .. "/" .. name), name) end
  end)
end)
