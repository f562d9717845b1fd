-- The account of what a project keeps: one document "usage" in kt_p_counters, changed in the commits
-- that change what it counts, so that it is exact and costs no scan.
--
--   storage_bytes   bytes of all blobs (runtime/store/blob.c adds them) and what uploads have reserved
--   datasets        those that are not archived
--   added, removed  order whoever adds a use of a blob and whoever deletes blobs without use: each
--                   commits only when nothing of the other kind happened since he looked
--
-- A blob is used by the tables of datasets that are not archived, by what is pinned (reports, large
-- answers of a journal), and by nothing else. `kontor db check` counts all of it again.
--
-- A pin of a run is two rows of kt_p_pins, so that it is found both ways by `_id`: "<sha256>:<execution>" and
-- "<execution>:<sha256>". A row "<sha256>" alone is one that was made before pins knew their run.

local clock = require "kt.clock"
local crypto = require "kt.crypto"
local quota = require "domain.quota"
local value = require "value"

local M = {}

local counters, uploads, pins, blobs, datasets = "kt_p_counters", "kt_p_uploads", "kt_p_pins", "kt_p_blobs", "kt_p_datasets"
local attempts = 50
local piece = 8 -- chunks deleted in a commit
local page = 20

M.uploads = uploads

---The account as it is.
---@param db table of the project
---@return {storage_bytes: integer, datasets: integer, added: integer, removed: integer}|nil
---@return kontor.Error|nil
function M.usage(db)
  local doc, err = db:find_one(counters, {_id = "usage"})
  if not doc then return nil, err or {code = "store_corrupt", message = db.name .. ": kt_p_counters has no usage"} end
  return doc
end

---An op that changes the account; in a commit it fails as `conflict` with err.coll kt_p_counters.
---@param inc table<string, integer>
---@param only? table further conditions of its filter
---@return table op
function M.op(inc, only)
  local filter = only or {}
  filter._id = "usage"
  return {op = "update", coll = counters, filter = filter, update = {inc = inc}, must_match = true}
end

---@param err kontor.Error of a commit
---@return boolean the account was not as the op of M.op expected it
function M.refused(err) return err.code == "conflict" and err.coll == counters end

-- The two rows of a pin.
local function pin_ids(sha256, execution_id)
  return {sha256 .. ":" .. execution_id, execution_id .. ":" .. sha256}
end

---Keep bytes that no dataset names: a report, a large answer. They stay until the run lets them go (M.unpin).
---@param db table of the project
---@param bytes string
---@param execution_id string the run that they are of
---@return {sha256: string, bytes: integer}|nil
---@return kontor.Error|nil
function M.keep(db, bytes, execution_id)
  local account = M.op{added = 1}
  account.must_match = false -- as in blob.c: not every database has one
  local ops = {account}
  for _, id in ipairs(pin_ids(crypto.sha256(bytes), execution_id)) do
    ops[#ops + 1] = {op = "update", coll = pins, filter = {_id = id}, update = {set = {kept = true}}, upsert = true}
  end
  local done, err = db:commit(ops)
  if not done then return nil, err end
  return db:blob_put(bytes)
end

---What a run has pinned.
---@param db table of the project
---@param execution_id string
---@return string[]|nil hashes
---@return kontor.Error|nil
function M.pinned(db, execution_id)
  local rows, err = db:find(pins, {{"_id", "prefix", execution_id .. ":"}}, {projection = {"_id"}})
  if not rows then return nil, err end
  local list = {}
  for i, row in ipairs(rows) do list[i] = row._id:sub(#execution_id + 2) end
  return list
end

---Ops that let a pinned blob of a run go. It is freed after their commit (upload.drop_all).
---@param sha256 string
---@param execution_id string
---@return table[] ops
function M.unpin(sha256, execution_id)
  local ops = {M.free(sha256)}
  for _, id in ipairs(pin_ids(sha256, execution_id)) do
    ops[#ops + 1] = {op = "delete", coll = pins, filter = {_id = id}}
  end
  return ops
end

---An op that notes a blob which loses a use; its bytes are freed soon after the commit (upload.drop_all).
---@param sha256 string
---@return table op
function M.free(sha256)
  return {op = "update", coll = uploads, filter = {_id = "free:" .. sha256}, upsert = true,
    update = {set = {sha256 = sha256, reserved = 0, touched_at = value.date(clock.now())}}}
end

---Reserve bytes for an upload before they come.
---@param project kontor.Project
---@param id string of its row
---@param need integer so many at least
---@param want integer so many when there is room
---@return integer|nil reserved
---@return kontor.Error|nil quota_exceeded; conflict: the upload was given up
function M.reserve(project, id, need, want)
  local limit = project.doc.quotas.storage_bytes
  for _ = 1, attempts do
    local done, err = project.db:commit{
      M.op({storage_bytes = want}, {{"storage_bytes", "lte", limit - want}}),
      {op = "update", coll = uploads, filter = {_id = id}, update = {inc = {reserved = want}}, must_match = true},
    }
    if done then return want end
    if err.code ~= "conflict" or err.index ~= 1 then return nil, err end
    local usage
    usage, err = M.usage(project.db)
    if not usage then return nil, err end
    if usage.storage_bytes + need > limit then return nil, quota.exceeded("storage_bytes", usage.storage_bytes, limit) end
    want = math.max(need, math.min(want, limit - usage.storage_bytes))
  end
  return nil, quota.exceeded("storage_bytes", limit, limit)
end

-- Does a dataset or a pin name the blob?
local function used(db, sha256)
  local pin, err = db:find_one(pins, {{"_id", "prefix", sha256}}, {projection = {"_id"}})
  if pin or err then return pin and true, err end
  local after
  while true do
    local list
    list, err = db:find(datasets, {{"status", "ne", "archived"}}, {sort = {{"_id", 1}}, limit = page, after = after,
      projection = {"tables"}})
    if not list then return nil, err end
    for _, doc in ipairs(list) do
      for _, t in ipairs(doc.tables) do if t.sha256 == sha256 then return true end end
    end
    if #list < page then return false end
    after = {list[#list]._id}
  end
end

-- The chunks behind the first one, a few a commit. Stops when someone put the blob again.
local function delete_rest(db, sha256, chunks)
  local i = 1
  while i < chunks do
    local usage, err = M.usage(db)
    if not usage then return nil, err end
    local again
    again, err = db:find_one(blobs, {_id = sha256 .. ":0"}, {projection = {"chunks"}})
    if err or again then return again and true, err end
    local ops = {M.op({removed = 1}, {added = usage.added})}
    for k = i, math.min(i + piece, chunks) - 1 do
      ops[#ops + 1] = {op = "delete", coll = blobs, filter = {_id = ("%s:%d"):format(sha256, k)}}
    end
    local done
    done, err = db:commit(ops)
    if done then i = i + piece
    elseif err.code ~= "conflict" then return nil, err end
  end
  return true
end

---Delete a blob that nothing uses any more; one that is used, or not there, stays as it is.
---@param db table of the project
---@param sha256 string
---@return true|nil
---@return kontor.Error|nil
function M.release(db, sha256)
  for _ = 1, attempts do
    local usage, err = M.usage(db)
    if not usage then return nil, err end
    local in_use
    in_use, err = used(db, sha256)
    if err then return nil, err end
    if in_use then return true end
    local first
    first, err = db:find_one(blobs, {_id = sha256 .. ":0"}, {projection = {"bytes", "chunks"}})
    if err then return nil, err end
    if not first then return true end
    local done
    done, err = db:commit{
      M.op({storage_bytes = -first.bytes, removed = 1}, {added = usage.added}),
      {op = "delete", coll = blobs, filter = {_id = first._id}, must_match = true},
    }
    if done then return delete_rest(db, sha256, first.chunks) end
    if err.code ~= "conflict" then return nil, err end
  end
  return nil, {code = "conflict", message = "the datasets change too fast", retryable = true}
end

return M
