-- Makes the calls of the store that STORE_CALLS (JSON) names, one after the other, and writes what each
-- gave to STORE_ANSWERS. For tests/integration/test_mongo_faults.py and test_mongo_failpoints.py, which have a
-- faulty server beneath, and test_mongo_races.py, which runs several.
local file = require "kt.file"
local helper = require "domain.store_helper"
local json = require "json"
local store = require "kt.store"
local task = require "kt.task"

local calls = {}

-- When the store answers again, it waits for the file `id`, and says so with id.here.
function calls.wait(db, id)
  while not db:find("c", {}, { limit = 1 }) do task.sleep(0.02) end
  assert(file.write(id .. ".here", ""))
  while not file.stat(id) do task.sleep(0.005) end
  return true
end

function calls.insert(db, id) return db:insert("c", { _id = id, n = 1 }) end
function calls.increment(db, id) return db:update_one("c", { _id = id }, { inc = { n = 1 } }) end
function calls.add(db) return db:update_one("c", { _id = "sum" }, { inc = { n = 1 } }) end
function calls.find(db, id) return db:find_one("c", { _id = id }) end
-- Not of `db`: into a project's database that is named as the document, made when it is not there.
function calls.visit(_, id)
  local ok, err = store.create(helper.name(id))
  if not ok then return nil, err end
  local db = store.database(helper.name(id))
  ok, err = db:update_one("c", { _id = id }, { inc = { n = 1 } }, { upsert = true })
  if not ok then return nil, err end
  return db:find_one("c", { _id = id })
end
function calls.take(db, id) return db:find_and_modify("c", { _id = id }, { update = { inc = { n = 1 } }, new = true }) end
function calls.group(db, id) return db:group("c", { filter = { _id = id }, keys = { id = "_id" }, values = { n = { "sum", "n" } } }) end
function calls.commit(db, id)
  return db:commit {
    { op = "insert", coll = "c", doc = { _id = id, n = 1 } },
    { op = "update", coll = "c", filter = { _id = "sum" }, update = { inc = { n = 1 } }, must_match = true },
  }
end

local prepared = { increment = true, find = true, take = true, group = true } -- they expect a document

describe("calls of the store", function()
  it("are made", function()
    local db, close = helper.open(os.getenv "STORE_PROJECT")
    local list = assert(json.decode(os.getenv "STORE_CALLS"))
    for _, call in ipairs(list) do
      if prepared[call.op] then assert(db:insert("c", { _id = call.id, n = 0 })) end
    end
    local made, why = db:insert("c", { _id = "sum", n = 0 })
    assert(made or why.code == "already_exists", why and why.message)
    local answers = json.array {}
    for i, call in ipairs(list) do
      local got, err = calls[call.op](db, call.id)
      answers[i] = { id = call.id, ok = not err and got ~= nil, code = err and err.code or "", message = err and err.message or "" }
    end
    local f = assert(io.open(os.getenv "STORE_ANSWERS", "w"))
    f:write(json.encode(answers))
    f:close()
    if not os.getenv "STORE_KEEP" then close() else store.close() end
  end)
end)
