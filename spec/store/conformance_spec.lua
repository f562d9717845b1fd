-- The cases of tests/conformance/store_*.json on the engine in use, with and without indexes: the answers
-- must be MongoDB's, which tests/conformance/run_store.py asks of servers. For it STORE_CASES names the
-- files of cases, joined by ":", STORE_RESULTS a file that gets the names of those that hold, and
-- STORE_ASCENDING has all indexes ascending.
local helper = require "domain.store_helper"
local json = require "json"
local store = require "kt.store"
local task = require "kt.task"
local value = require "value"

local files = {}
for path in (os.getenv "STORE_CASES" or "tests/conformance/store_filters.json:tests/conformance/store_reads.json:"
  .. "tests/conformance/store_writes.json:tests/conformance/store_units.json:tests/conformance/store_limits.json"):gmatch "[^:]+" do
  files[#files + 1] = path
end

local function unhex(text)
  return (text:gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end))
end

-- {"$date": ms}, {"$int64": "1"}, {"$bin": "00ff"}, {"$repeat": ["k", 700, "tail"]}
local function decode(v)
  if type(v) ~= "table" then return v end
  if v["$date"] then return value.date(v["$date"]) end
  if v["$int64"] then return value.int64(v["$int64"]) end
  if v["$bin"] then return value.binary(unhex(v["$bin"])) end
  local rep = v["$repeat"]
  if rep then return rep[1]:rep(rep[2]) .. rep[3] end
  if v["$list"] then
    local list = json.array {}
    for i = 1, v["$list"][2] do list[i] = decode(v["$list"][1]) end
    return list
  end
  if v["$nested"] then
    local inner = {}
    for _ = 2, v["$nested"] do inner = { d = inner } end
    return inner
  end
  local out = setmetatable({}, getmetatable(v))
  for k, item in pairs(v) do
    out[k] = decode(item)
  end
  return out
end

local function conds(list)
  local out = {}
  for i, c in ipairs(list or {}) do
    if c[1] == "or" then
      out[i] = { "or" }
      for b = 2, #c do out[i][b] = conds(c[b]) end
    else
      out[i] = { c[1], c[2], decode(c[3]) }
    end
  end
  return out
end

local function update(u)
  local out = {}
  for op, changes in pairs(u) do out[op] = decode(changes) end
  return out
end

-- Text that is equal for equal values: keys sorted, numbers by value.
local function text(v)
  if v == nil then return "null" end
  if type(v) == "table" and #v == 0 and next(v) == nil then return "{}" end
  return value.json(value.encode(v))
end

local function ids(list)
  local out = {}
  for i, d in ipairs(list) do out[i] = d._id end
  return out
end

local run = {}

function run.find(db, coll, s)
  local list, err = db:find(coll, conds(s.filter), { sort = s.sort, limit = s.limit, projection = s.projection })
  if not list then return nil, err end
  if s.expect then return list end
  list = ids(list)
  if s.ids then table.sort(list) end
  return list
end

function run.pages(db, coll, s)
  local out, after = {}, nil
  repeat
    local list, n, last = db:find_json(coll, conds(s.filter), { sort = s.sort, limit = s.limit, after = after })
    if not list then return nil, n end
    for _, d in ipairs(assert(json.decode(list))) do out[#out + 1] = d._id end
    after = last
  until not last
  return out
end

function run.find_one(db, coll, s) return db:find_one(coll, conds(s.filter)) end
function run.count(db, coll, s) return db:count(coll, conds(s.filter), s.max) end
function run.distinct(db, coll, s) return db:distinct(coll, s.field, conds(s.filter)) end
function run.delete_one(db, coll, s) return db:delete_one(coll, conds(s.filter)) end
function run.delete_many(db, coll, s) return db:delete_many(coll, conds(s.filter)) end
function run.ensure_index(db, coll, s) return db:ensure_index(coll, s.index) end

function run.group(db, coll, s)
  local list, err = db:group(coll, { filter = conds(s.filter), keys = s.keys, values = s.values, sort = s.sort, limit = s.limit })
  if list and s.set then table.sort(list, function(a, b) return text(a) < text(b) end) end
  return list, err
end

function run.insert(db, coll, s) return db:insert(coll, decode(s.docs)) end
function run.update_one(db, coll, s) return db:update_one(coll, conds(s.filter), update(s.update), { upsert = s.upsert }) end
function run.update_many(db, coll, s) return db:update_many(coll, conds(s.filter), update(s.update)) end
function run.replace_one(db, coll, s) return db:replace_one(coll, conds(s.filter), decode(s.doc), { upsert = s.upsert }) end

function run.find_and_modify(db, coll, s)
  return db:find_and_modify(coll, conds(s.filter), {
    sort = s.sort, update = s.update and update(s.update), remove = s.remove, upsert = s.upsert, new = s.new,
    projection = s.projection,
  })
end

function run.commit(db, coll, s)
  local ops = {}
  for i, w in ipairs(s.writes) do
    ops[i] = {
      op = w.op, coll = coll, filter = w.filter and conds(w.filter), update = w.update and update(w.update),
      docs = w.docs and decode(w.docs), doc = w.doc and decode(w.doc), many = w.many, upsert = w.upsert, must_match = w.must_match,
    }
  end
  return db:commit(ops)
end

-- `clients` at once take the step until it gives null, or `times` times: how often each answer came.
function run.race(db, coll, s)
  local tally, clients = {}, {}
  for i = 1, s.clients do
    clients[i] = task.spawn(function()
      for _ = 1, s.times do
        local got, err = run[s.step.op](db, coll, s.step)
        local key = err and err.code or text(got)
        tally[key] = (tally[key] or 0) + 1
        if got == nil and not err then break end
      end
    end)
  end
  for _, client in ipairs(clients) do client:join() end
  return tally
end

local function expected(s)
  if s.set then
    local list = decode(s.set)
    table.sort(list, function(a, b) return text(a) < text(b) end)
    return list
  end
  local want = s.expect
  if want == nil then want = s.order or s.ids end
  return decode(want)
end

local function check(db, coll, s, where)
  local got, err = run[s.op](db, coll, s)
  if s.error then
    assert(err, where .. ": did not fail")
    assert.equal(s.error, err.code, where .. ": " .. tostring(err.message))
    if s.key then assert.equal(s.key, err.key, where) end
    if s.at then assert.equal(s.at, err.index, where) end
    if err.number then assert.equal(s.number, err.number, where) end
    return
  end
  assert(not err, where .. ": " .. (err and err.code .. ": " .. tostring(err.message) or ""))
  assert.equal(text(expected(s)), text(got), where)
end

-- Every scalar path that a case asks by, to be indexed, sorted.
local function paths(case)
  local out, list_of = {}, {}
  local function add(list)
    for _, c in ipairs(list or {}) do
      if c[1] == "or" then for b = 2, #c do add(c[b]) end
      elseif c[1] ~= "_id" and not c[1]:find("$", 1, true) and not c[1]:find("..", 1, true) then out[c[1]] = true end
    end
  end
  for _, s in ipairs(case.steps) do
    add(s.filter)
    for _, k in ipairs(s.sort or {}) do if k[1] ~= "_id" and s.op ~= "group" then out[k[1]] = true end end
  end
  for p in pairs(out) do list_of[#list_of + 1] = p end
  table.sort(list_of)
  return list_of
end

describe("the store", function()
  local db, close
  local n, good = 0, {}

  setup(function() db, close = helper.open("conformance", { sync_normal = true }) end)
  teardown(function()
    close()
    if os.getenv "STORE_RESULTS" then
      local f = assert(io.open(os.getenv "STORE_RESULTS", "w"))
      f:write(table.concat(good, "\n"))
      f:close()
    end
  end)

  it("is on the engine that was asked for", function()
    assert.equal(os.getenv "MONGODB_URL" and "mongodb" or "sqlite", store.stats().engine)
  end)

  for _, path in ipairs(files) do
    local f = assert(io.open(path))
    local data = assert(json.decode(f:read "*a"))
    f:close()
    for _, case in ipairs(data.cases) do
      for _, indexed in ipairs(case.arrays and { false } or { false, true }) do
        it(case.name .. (indexed and ", indexed" or ""), function()
          n = n + 1
          local coll = "c" .. n
          for _, i in ipairs(case.indexes or {}) do assert(db:ensure_index(coll, i)) end
          if #case.docs > 0 then assert(db:insert(coll, decode(case.docs))) end
          if indexed then
            local i = 0
            for _, p in ipairs(paths(case)) do
              i = i + 1
              local direction = os.getenv "STORE_ASCENDING" and 1 or i % 2 * 2 - 1
              assert(db:ensure_index(coll, { name = "p" .. i, keys = { { p, direction }, { "_id", 1 } } }))
            end
          end
          for i, s in ipairs(case.steps) do check(db, coll, s, s.op .. " " .. i) end
          good[#good + 1] = case.name .. (indexed and ", indexed" or "")
        end)
      end
    end
  end

  it("is whole after all of it", function()
    assert.same({}, assert(store.check(db.name)).problems)
  end)
end)
