local clock = require "kt.clock"
local file = require "kt.file"
local helper = require "domain.store_helper"
local store = require "kt.store"
local task = require "kt.task"
local value = require "value"

-- A fresh module each time: it remembers which databases are done.
local function fresh()
  package.loaded["domain.migrations"] = nil
  return require "domain.migrations"
end

local function write(dir, name, scope, body)
  assert(file.write(("%s/migrations/%s"):format(dir, name), ('return {scope = "%s", run = function(db) %s end}'):format(scope, body)))
end

describe("migrations", function()
  local db, close, home

  before_each(function()
    db, close = helper.open()
    home = os.tmpname()
    os.remove(home)
    assert(file.mkdir(home .. "/migrations"))
  end)
  after_each(function()
    close()
    assert(file.remove(home))
    fresh()
  end)

  it("run in order, once, each in its scope", function()
    write(home, "0002_b.lua", "master", 'return db:insert("kt_m_ran", {_id = "b", after = db:count("kt_m_ran", {})})')
    write(home, "0001_a.lua", "master", 'return db:insert("kt_m_ran", {_id = "a", after = db:count("kt_m_ran", {})})')
    write(home, "0003_c.lua", "project", 'return db:insert("kt_m_ran", {_id = "c"})')
    write(home, "README.md", "master", "")
    for _ = 1, 2 do
      local m = fresh()
      assert(m.load(home))
      assert(m.run("master", db))
    end
    local ran = assert(db:find("kt_m_ran", {}, {sort = {{"_id", 1}}}))
    assert.equal(2, #ran)
    assert.same({"a", 0, "b", 1}, {ran[1]._id, ran[1].after, ran[2]._id, ran[2].after})
    assert.equal(2, db:count("kt_m_migrations", {}))
  end)

  it("that fail stop what follows, and go on from there", function()
    write(home, "0001_a.lua", "master", 'return db:insert("kt_m_ran", {_id = "a"})')
    write(home, "0002_b.lua", "master", 'return nil, {code = "storage_full", message = "full"}')
    write(home, "0003_c.lua", "master", 'return db:insert("kt_m_ran", {_id = "c"})')
    local m = fresh()
    assert(m.load(home))
    local ok, err = m.run("master", db)
    assert.is_nil(ok)
    assert.equal("storage_full", err.code)
    assert.equal(1, db:count("kt_m_ran", {}))
    write(home, "0002_b.lua", "master", 'return db:insert("kt_m_ran", {_id = "b"})')
    m = fresh()
    assert(m.load(home))
    assert(m.run("master", db))
    assert.equal(3, db:count("kt_m_ran", {}))
  end)

  it("run once also when two workers begin at the same time", function()
    write(home, "0001_slow.lua", "master",
      'require("kt.task").sleep(0.1) return db:find_and_modify("kt_m_ran", {_id = "n"}, {update = {inc = {n = 1}}, upsert = true, new = true})')
    local workers = {}
    for i = 1, 3 do
      local m = fresh()
      assert(m.load(home))
      workers[i] = task.spawn(function() return m.run("master", store.database(helper.name())) end)
    end
    for _, w in ipairs(workers) do assert(w:join()) end
    assert.equal(1, db:find_one("kt_m_ran", {_id = "n"}).n)
    assert.is_nil(db:find_one("kt_m_migrations", {_id = "lock"}))
  end)

  it("wait for a dead worker's lock until its lease is over, then take it", function()
    write(home, "0001_a.lua", "master", 'return db:insert("kt_m_ran", {_id = "a"})')
    assert(db:insert("kt_m_migrations", {_id = "lock", owner = "dead", until_at = value.date(clock.now() + 10000)}))
    local m = fresh()
    assert(m.load(home))
    local worker = task.spawn(function() return m.run("master", db) end)
    task.sleep(0.2)
    assert.equal(0, db:count("kt_m_ran", {}))
    clock.set(clock.now() + 10000)
    assert(worker:join())
    clock.set()
    assert.equal(1, db:count("kt_m_ran", {}))
    assert.is_nil(db:find_one("kt_m_migrations", {_id = "lock"}))
  end)

  it("that the next one has done too, after a lost lease, are done", function()
    write(home, "0001_a.lua", "master", 'return db:insert("kt_m_migrations", {_id = "0001", number = 1, name = "0001_a.lua"})')
    write(home, "0002_b.lua", "master", 'return db:insert("kt_m_ran", {_id = "b"})')
    local m = fresh()
    assert(m.load(home))
    assert(m.run("master", db))
    assert.equal(1, db:count("kt_m_ran", {}))
  end)

  it("must not have one number twice", function()
    write(home, "0001_a.lua", "master", "return true")
    write(home, "0001_b.lua", "master", "return true")
    assert.has_error(function() fresh().load(home) end)
  end)
end)
