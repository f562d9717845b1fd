--- kontor db check [NAME]: are the databases whole? Of every database (or the one named): the file itself, every index
--- against a scan, every document. Of a project's, what the engine promises: the events of an execution are numbered
--- without a gap (unless it says that they are deleted), an execution that has ended has its result, and what is stored
--- is what the account says. Reads only.
local config = require "kt.config"
local store = require "kt.store"

local PAGE = 500
local ENDED = { "completed", "failed", "cancelled", "timed_out" }

-- Every document of a query, in the order of `_id`.
local function each(db, coll, filter, fields, visit)
  local after
  while true do
    local list, err = db:find(coll, filter, { sort = { { "_id", 1 } }, limit = PAGE, after = after, projection = fields })
    if not list then return nil, err end
    for _, doc in ipairs(list) do visit(doc) end
    if #list < PAGE then return true end
    after = { list[#list]._id }
  end
end

-- A chunk's `_id` is "<execution>:<first seq, ten digits>": chunks of one run come in order. Where some are missing, the
-- execution must say that its events are deleted (domain/retention.lua), or be deleted too meanwhile.
local function events(db, problems)
  local run, expected
  local gaps = {}
  local ok, err = each(db, "kt_p_events", {}, { "n" }, function(chunk)
    local id, first = tostring(chunk._id):match("^(.*):(%d+)$")
    if not id or type(chunk.n) ~= "number" then
      problems[#problems + 1] = "kt_p_events: " .. tostring(chunk._id) .. " is no chunk"
      return
    end
    first = tonumber(first)
    if id ~= run then
      run, expected = id, 1
    end
    if first ~= expected then
      gaps[#gaps + 1] = { id = id, text = ("kt_p_events: %s goes on with event %d after %d"):format(id, first, expected - 1) }
    end
    expected = first + chunk.n
  end)
  if not ok then return nil, err end
  for _, gap in ipairs(gaps) do
    local doc
    doc, err = db:find_one("kt_p_executions", { _id = gap.id }, { projection = { "events_deleted_at" } })
    local left = doc and not doc.events_deleted_at
    if not doc and not err then
      left, err = db:find_one("kt_p_events", { { "_id", "prefix", gap.id .. ":" } }, { projection = { "n" } })
    end
    if err then return nil, err end
    if left then problems[#problems + 1] = gap.text end
  end
  return true
end

local function results(db, problems)
  local docs, failed = {}, nil
  local function flush()
    local ids = {}
    for i, doc in ipairs(docs) do ids[i] = doc._id .. ":" .. tostring(doc.token) end
    local found, err = db:find("kt_p_results", { { "_id", "in", ids } }, { projection = { "_id" } })
    failed = failed or err
    local there = {}
    for _, result in ipairs(found or {}) do there[result._id] = true end
    for i, id in ipairs(ids) do
      -- Both may have been deleted between the two looks.
      local still
      if not failed and not there[id] then
        still, failed = db:find_one("kt_p_executions", { _id = docs[i]._id }, { projection = { "_id" } })
      end
      if still then problems[#problems + 1] = "kt_p_executions: " .. id .. " has ended without a result" end
    end
    docs = {}
  end
  local ok, err = each(db, "kt_p_executions", { { "status", "in", ENDED } }, { "token" }, function(doc)
    docs[#docs + 1] = doc
    if #docs == PAGE then flush() end
  end)
  if not ok then return nil, err end
  if #docs > 0 then flush() end
  if failed then return nil, failed end
  return true
end

local function sum(db, coll, filter, field)
  local total = 0
  local ok, err = each(db, coll, filter, { field }, function(doc) total = total + doc[field] end)
  return ok and total, err
end

-- The account of storage against what there is. Of a service that runs it is read again until nothing
-- has changed it meanwhile.
local function account(db, problems)
  for _ = 1, 20 do
    local before, err = db:find_one("kt_p_counters", { _id = "usage" })
    if not before then return not err or nil, err end
    local bytes, reserved, datasets, after
    bytes, err = sum(db, "kt_p_blobs", { { "bytes", "gte", 0 } }, "bytes")
    if bytes then reserved, err = sum(db, "kt_p_uploads", {}, "reserved") end
    if reserved then datasets, err = db:count("kt_p_datasets", { { "status", "ne", "archived" } }) end
    if datasets then after, err = db:find_one("kt_p_counters", { _id = "usage" }) end
    if not after then return nil, err end
    local still = true
    for name, v in pairs(before) do still = still and after[name] == v end
    if still then
      if before.storage_bytes ~= bytes + reserved then
        problems[#problems + 1] = ("kt_p_counters: storage_bytes is %.0f, there are %.0f in blobs and %.0f in uploads")
          :format(before.storage_bytes, bytes, reserved)
      end
      if before.datasets ~= datasets then
        problems[#problems + 1] = ("kt_p_counters: datasets is %.0f, there are %.0f"):format(before.datasets, datasets)
      end
      return true
    end
  end
  return true -- too much goes on: nothing can be said
end

-- Prints one line, and one more for each problem; true when there is none.
local function check(name)
  local report, err = store.check(name)
  if not report then
    print(name .. ": cannot be checked: " .. tostring(err.message))
    return false
  end
  local problems = report.problems
  if #problems == 0 then -- else the rest would only repeat it
    local db = store.database(name)
    local ok
    ok, err = events(db, problems)
    if ok then ok, err = results(db, problems) end
    if ok then ok, err = account(db, problems) end
    if not ok then problems[1] = tostring(err.message) end
  end
  local documents = 0
  for _, n in pairs(report.collections) do documents = documents + n end
  print(("%s: %s, %d documents"):format(name, #problems == 0 and "ok" or "BROKEN", documents))
  for _, text in ipairs(problems) do print("  " .. text) end
  return #problems == 0
end

---@param name string? a database
---@return integer exit code
return function(name)
  local names = { name }
  if name then
    local there, err = store.exists(name)
    if not there then
      io.stderr:write("kontor db: ", err and err.message or "no database " .. name, "\n")
      return 1
    end
  else
    local found, err = store.list()
    if not found then
      io.stderr:write("kontor db: ", err.message, "\n")
      return 1
    end
    -- A server may hold other programs' databases: ours are known by their names.
    local master, prefix = config.get("MASTER_DATABASE_NAME"), config.get("PROJECT_DATABASE_PREFIX")
    for _, one in ipairs(found) do
      if one == master or one:sub(1, #prefix) == prefix then names[#names + 1] = one end
    end
  end
  local ok = true
  for _, one in ipairs(names) do ok = check(one) and ok end
  return ok and 0 or 1
end
