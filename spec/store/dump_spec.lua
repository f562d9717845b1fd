-- A database as files: all of it, in mongodump's layout, and back.

local fault = require "kt.fault"
local file = require "kt.file"
local helper = require "domain.store_helper"
local json = require "json"
local store = require "kt.store"
local task = require "kt.task"
local value = require "value"

local function names(list)
  local out = {}
  for i, entry in ipairs(list) do out[i] = entry.name end
  table.sort(out)
  return out
end

describe("a database as files", function()
  local db, close, dir, n = nil, nil, nil, 0

  setup(function() db, close = helper.open("dump-from") end)
  teardown(function() close() end)
  before_each(function()
    dir = helper.folder()
  end)
  after_each(function()
    fault.clear()
    assert(file.remove(dir))
    for _, name in ipairs(assert(store.list())) do
      if name:find("^dump%-to") then assert(store.drop(name)) end
    end
  end)

  local function target()
    n = n + 1
    assert(store.create("dump-to-" .. n))
    return store.database("dump-to-" .. n)
  end

  local function fill()
    assert(db:delete_many("things", {}))
    assert(db:ensure_index("things", {name = "by_day", keys = {{"day", 1}, {"_id", -1}}}))
    assert(db:ensure_index("things", {name = "one", keys = {{"key", 1}}, unique = true}))
    assert(db:ensure_collection("empty"))
    local docs = {}
    for i = 1, 300 do
      docs[i] = {_id = ("t%03d"):format(i), project_id = i % 2 == 0 and "old" or "other", key = i, day = value.date(i),
        nested = {project_id = "old", list = json.array{1, "x", json.null}}}
    end
    assert(db:insert("things", docs))
  end

  it("comes back as it was, with its indexes, and empty collections too", function()
    fill()
    local summary = assert(db:export(dir))
    local found, documents = names(summary.collections), {}
    if found[2] == "kt_p_migrations" then table.remove(found, 2) end -- what a database of MongoDB begins with
    assert.same({"empty", "things"}, found)
    for _, entry in ipairs(summary.collections) do documents[entry.name] = entry.documents end
    assert.equal(300, documents.things)
    local meta = assert(json.decode(assert(file.read(dir .. "/things.metadata.json"))))
    assert.same({"_id_", "by_day", "one"}, names(meta.indexes))
    assert.equal("things", meta.collectionName)
    assert.is_true(db:verify(dir, summary))
    local to = target()
    assert(to:import(dir, summary))
    assert.same(assert(db:find("things", {}, {sort = {{"_id", 1}}})), assert(to:find("things", {}, {sort = {{"_id", 1}}})))
    local _, err = to:insert("things", {_id = "new", key = 7})
    assert.equal("already_exists", err.code)
    assert.equal("one", err.key)
    assert.same({}, assert(store.check(to.name)).problems)
  end)

  it("gets another project's id where a document says whose it is", function()
    fill()
    local summary = assert(db:export(dir))
    summary.from, summary.to, summary.leave_out = "old", "new", json.array{"empty"}
    local to = target()
    assert(to:import(dir, summary))
    assert.equal(150, assert(to:count("things", {project_id = "new"})))
    assert.equal(0, assert(to:count("things", {project_id = "old"})))
    assert.equal(300, assert(to:count("things", {["nested.project_id"] = "old"})))
    assert.is_nil(assert(store.check(to.name)).collections.empty)
  end)

  it("is of one point of time while others write it", function()
    fill()
    local stop, pairs_written = false, 0
    local writer = task.spawn(function()
      while not stop do -- two documents a commit: an export has both or neither
        pairs_written = pairs_written + 1
        assert(db:commit{
          {op = "insert", coll = "left", doc = {_id = pairs_written}},
          {op = "insert", coll = "right", doc = {_id = pairs_written}},
        })
      end
    end)
    while pairs_written < 5 do assert(task.sleep(0.001)) end
    local before = pairs_written - 1 -- acknowledged
    local summary = assert(db:export(dir))
    stop = true
    writer:join()
    local to = target()
    assert(to:import(dir, summary))
    local left, right = assert(to:count("left", {})), assert(to:count("right", {}))
    assert.equal(left, right)
    assert.is_true(left >= before)
  end)

  it("is refused when a file is not what the summary says, and the file is named", function()
    fill()
    local summary = assert(db:export(dir))
    local path = dir .. "/things.bson"
    local bytes = assert(file.read(path))
    local function refused(word)
      local to = target()
      for _, call in ipairs{"verify", "import"} do
        local ok, err = to[call](to, dir, summary)
        assert.is_nil(ok)
        assert.equal("data_rejected", err.code)
        assert.is_truthy(err.message:find("things", 1, true), err.message)
        assert.is_truthy(err.message:find(word, 1, true), err.message)
      end
      local left = assert(store.check(to.name)).collections
      left.kt_p_migrations = nil -- what a database of MongoDB begins with
      assert.same({}, left)
    end
    assert(file.write(path, bytes:sub(1, -2)))
    refused("bytes")
    assert(file.write(path, (bytes:gsub("t001", "t00X"))))
    refused("sha256")
    assert(file.write(path, ("x"):rep(#bytes)))
    refused("no BSON")
    assert(file.remove(path))
    refused("missing")
    assert(file.write(path, bytes))
    assert(file.write(dir .. "/things.metadata.json", "{}"))
    refused("metadata.json")
  end)

  it("says that the disk is full, on both ways", function()
    fill()
    fault.arm("store.export", 1)
    local ok, err = db:export(dir)
    assert.is_nil(ok)
    assert.equal("storage_full", err.code)
    assert(file.remove(dir))
    assert(file.mkdir(dir))
    local summary = assert(db:export(dir))
    fault.arm("store.import", 1)
    ok, err = target():import(dir, summary)
    assert.is_nil(ok)
    assert.equal("storage_full", err.code)
  end)
end)
