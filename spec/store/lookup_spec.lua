-- Documents asked for by _id at the same time: an engine may ask for them with one command, and each task gets its own.

local helper = require "domain.store_helper"
local json = require "json"
local task = require "kt.task"

describe("lookups at the same time", function()
  local db, close

  setup(function()
    db, close = helper.open("lookup")
    local docs = {}
    for i = 1, 100 do docs[i] = {_id = ("d%03d"):format(i), n = i, inner = {list = json.array{i, "x"}}} end
    assert(db:insert("things", docs))
    assert(db:insert("others", {{_id = "d001", n = -1}, {_id = 7, n = -7}}))
  end)
  teardown(function() close() end)

  -- What each of the calls gives, all of them begun before the first is answered.
  local function together(calls)
    local tasks, got = {}, {}
    for i, call in ipairs(calls) do
      tasks[i] = task.spawn(function()
        local doc, err = call()
        got[i] = {doc = doc, err = err}
      end)
    end
    for _, t in ipairs(tasks) do t:join() end
    return got
  end

  it("gives each its own", function()
    local calls = {}
    for i = 1, 200 do
      calls[i] = function() return db:find_one("things", {_id = ("d%03d"):format((i - 1) % 100 + 1)}) end
    end
    for i, g in ipairs(together(calls)) do
      local n = (i - 1) % 100 + 1
      assert.is_nil(g.err)
      assert.same({_id = ("d%03d"):format(n), n = n, inner = {list = json.array{n, "x"}}}, g.doc)
    end
  end)

  it("keeps apart what is not there, JSON, other collections, other filters and other kinds of ids", function()
    local calls = {}
    for i = 1, 60, 6 do
      local id = ("d%03d"):format(i)
      calls[i] = function() return db:find_one("things", {_id = "none" .. i}) end
      calls[i + 1] = function() return db:find_one_json("things", {_id = id}) end
      calls[i + 2] = function() return db:find_one("others", {_id = "d001"}) end
      calls[i + 3] = function() return db:find_one("things", {_id = id, n = 1000}) end
      calls[i + 4] = function() return db:find_one("others", {_id = 7}) end
      calls[i + 5] = function() return db:find_one("things", {_id = id}, {projection = {"n"}}) end
    end
    local got = together(calls)
    for i = 1, 60, 6 do
      for j = i, i + 5 do assert.is_nil(got[j].err) end
      assert.is_nil(got[i].doc)
      assert.equal(i, json.decode(got[i + 1].doc).n)
      assert.equal(-1, got[i + 2].doc.n)
      assert.is_nil(got[i + 3].doc)
      assert.equal(-7, got[i + 4].doc.n)
      assert.same({_id = ("d%03d"):format(i), n = i}, got[i + 5].doc)
    end
  end)

  it("sees what was written before it was asked", function()
    local calls = {}
    for i = 1, 40 do
      local id = "w" .. i
      calls[i] = function()
        assert(db:insert("things", {_id = id, n = i}))
        return db:find_one("things", {_id = id})
      end
    end
    for i, g in ipairs(together(calls)) do assert.equal(i, g.doc and g.doc.n) end
  end)

  it("fails each when there is no such database", function()
    local nowhere, calls = require("kt.store").database("lookup-nowhere"), {}
    for i = 1, 5 do calls[i] = function() return nowhere:find_one("things", {_id = "d" .. i}) end end
    for _, g in ipairs(together(calls)) do
      assert.is_nil(g.doc)
      assert.equal("not_found", g.err.code)
    end
  end)
end)
