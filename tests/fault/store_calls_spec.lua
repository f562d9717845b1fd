-- Makes the calls of the store that STORE_CALLS (JSON) names, one after the other, and writes what each
-- gave to STORE_ANSWERS. For tests/integration/test_mongo_faults.py, which has a faulty server beneath, and
-- test_mongo_races.py, which runs several.
local helper = require "domain.store_helper"
local json = require "json"
local store = require "kt.store"

local calls = {}

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
function calls.commit(db, id)
  return db:commit {
    { op = "insert", coll = "c", doc = { _id = id, n = 1 } },
    { op = "update", coll = "c", filter = { _id = "sum" }, update = { inc = { n = 1 } }, must_match = true },
  }
end

describe("calls of the store", function()
  it("are made", function()
    local db, close = helper.open(os.getenv "STORE_PROJECT")
    local list = assert(json.decode(os.getenv "STORE_CALLS"))
    for _, call in ipairs(list) do -- what increments and reads expect
      if call.op == "increment" or call.op == "find" then assert(db:insert("c", { _id = call.id, n = 0 })) end
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
