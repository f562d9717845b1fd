-- What a project no longer keeps: the days of `retention_days` (0: for ever), carried out in small commits, each of
-- which leaves the project whole, so that it may be ended anywhere and be begun again. A day is a UTC day: what is of
-- a day before the first that is kept goes, and nothing else.
--
--   results      runs that ended before: the execution, its result, its report (also the copy in ERP_REPORTS_DIRECTORY),
--                its large answers, its events
--   events       the journals (kt_p_events) of runs that ended before, and the large answers that only they name. The
--                execution says so (`events_deleted_at`, storage only) before its first chunk goes
--   datasets     those sealed, or if never sealed made, before, unless an execution that has not ended reads them
--   findings     rows of kt_p_findings that no run has found since, with people's notes on them
--   token_usage  records of before
--   audit        entries of before
--
-- What a pass deletes is counted in those same commits, in kt_p_counters `retention`; its end makes one entry of the
-- audit log out of the counts. So the entry is exact also when the pass took several attempts.

local audit = require "domain.audit"
local clock = require "kt.clock"
local config = require "kt.config"
local dataset = require "domain.dataset"
local execution = require "domain.execution"
local fault = require "kt.fault"
local file = require "kt.file"
local given = require "lib.given"
local json = require "json"
local log = require "kt.log"
local principals = require "http.principal"
local upload = require "domain.upload"
local storage = require "domain.storage"
local value = require "value"

local M = {}

local DAY = 86400000
local ROWS = 500  -- deleted in a commit
local CHUNKS = 100 -- of a journal, at most 64 KiB each
local RUNS, DATASETS = 50, 20 -- read at once
local counters, counts_id = "kt_p_counters", "retention"

---@class kontor.Retention a pass over one project
---@field project kontor.Project
---@field db table
---@field go_on fun(): boolean asked before each commit
---@field batch {ops: table[], n: integer, chunks: integer}|nil events of small runs that wait for one commit

-- Carry out ops that delete `n` of a kind.
local function commit(pass, kind, n, ops)
  if not pass.go_on() then return nil, {code = "cancelled", message = "the pass was ended", retryable = true} end
  if n > 0 then
    ops[#ops + 1] = {op = "update", coll = counters, filter = {_id = counts_id}, update = {inc = {[kind] = n}}, upsert = true}
  end
  local done, err = pass.db:commit(ops)
  fault.kill("retention.committed")
  return done, err
end

local function ids_of(docs)
  local ids = {}
  for i, doc in ipairs(docs) do ids[i] = doc._id end
  return ids
end

-- Ops that free what a run has pinned; with `keep_named` only what its result does not name.
local function unpin(db, id, keep_named)
  local pinned, err = storage.pinned(db, id)
  if not pinned then return nil, err end
  local result = ""
  if keep_named and #pinned > 0 then
    result, err = db:find_json("kt_p_results", {execution_id = id}, {limit = 1})
    if not result then return nil, err end
  end
  local ops = {}
  for _, sha256 in ipairs(pinned) do
    if not result:find(sha256, 1, true) then
      for _, op in ipairs(storage.unpin(sha256, id)) do ops[#ops + 1] = op end
    end
  end
  return ops
end

local function free_blobs(pass) return upload.drop_all(pass.project, {{"_id", "prefix", "free:"}}) end

-- Carry out what several small runs gathered.
local function flush(pass)
  local batch = pass.batch
  pass.batch = nil
  if not batch or #batch.ops == 0 then return true end
  return commit(pass, "events", batch.n, batch.ops)
end

-- Delete the events of a run: marked first, then from the front, so that what is left is never taken for a whole. What
-- is little waits in pass.batch for other runs. `run`: its document; nil when there is none.
local function delete_events(pass, id, run)
  local db, n = pass.db, 0
  local ops, err = unpin(db, id, true)
  if not ops then return nil, err end
  local freed = #ops > 0
  if run and not run.events_deleted_at then
    n = 1
    table.insert(ops, 1, {op = "update", coll = "kt_p_executions", filter = {_id = id}, must_match = true,
      update = {set = {events_deleted_at = value.date(clock.now())}}})
  end
  while true do
    local chunks
    chunks, err = db:find("kt_p_events", {{"_id", "prefix", id .. ":"}},
      {sort = {{"_id", 1}}, limit = CHUNKS, projection = {"_id"}})
    if not chunks then return nil, err end
    local batch = pass.batch or {ops = {}, n = 0, chunks = 0}
    pass.batch = batch
    for _, op in ipairs(ops) do batch.ops[#batch.ops + 1] = op end
    if #chunks > 0 then
      batch.ops[#batch.ops + 1] = {op = "delete", coll = "kt_p_events", filter = {{"_id", "in", ids_of(chunks)}}, many = true}
    end
    batch.n, batch.chunks = batch.n + n, batch.chunks + #chunks
    ops, n = {}, 0
    local done = true
    if freed or batch.chunks >= CHUNKS or #batch.ops >= ROWS then done, err = flush(pass) end
    if not done then return nil, err end
    if #chunks < CHUNKS then return not freed or free_blobs(pass) end
  end
end

local function ended_before(run, before)
  return execution.ended[run.status] and run.finished_at.ms < before
end

local run_fields = {"status", "finished_at", "events_deleted_at"}

-- Journals lie by the time at which their runs were accepted, which their ids tell: each is looked at once, up to the
-- first that is too young, and one that stays is stepped over.
local function events(pass, before)
  local after = "exec_"
  while true do
    local list, err = pass.db:find("kt_p_events", {{"_id", "gt", after}}, {sort = {{"_id", 1}}, limit = 1, projection = {"_id"}})
    if not list then return nil, err end
    if not list[1] then return flush(pass) end
    local id = list[1]._id:match("^[^:]*")
    local number, hex = id:match("^exec_(%d+)_(%x+)$")
    if not hex then
      return nil, {code = "store_corrupt", message = pass.db.name .. ": kt_p_events: " .. list[1]._id .. " is no chunk"}
    elseif tonumber(hex:sub(1, 12), 16) >= before then
      after = ("exec_%s_g"):format(number) -- behind all of this number; a clone may have its parent's too
    else
      local run
      run, err = pass.db:find_one("kt_p_executions", {_id = id}, {projection = run_fields})
      if err then return nil, err end
      if not run or ended_before(run, before) then
        local done
        done, err = delete_events(pass, id, run)
        if not done then return nil, err end
      end
      after = id .. ";" -- behind its last chunk
    end
  end
end

-- The copy of a report that people look at. On another host's disk it is out of reach.
local function remove_copy(pass, id)
  local folder = config.get("ERP_REPORTS_DIRECTORY")
  if not folder or folder == "" then return end
  local path = ("%s/%s/%s.json"):format(folder, pass.project.id, id)
  local ok, err = file.remove(path)
  if not ok and err.code ~= "not_found" then
    log.warn("retention.copy", {project_id = pass.project.id, execution_id = id, msg = path .. ": " .. tostring(err.message)})
  end
end

local function delete_run(pass, result)
  local id = result.execution_id
  local run, err = pass.db:find_one("kt_p_executions", {_id = id}, {projection = run_fields})
  if err then return nil, err end
  local done
  done, err = delete_events(pass, id, run)
  if done then done, err = flush(pass) end
  if not done then return nil, err end
  remove_copy(pass, id)
  local ops
  ops, err = unpin(pass.db, id)
  if not ops then return nil, err end
  local report = given(result.report)
  if report then
    -- A report names its run, so nothing else has these bytes: a pin from before pins knew their run goes too.
    ops[#ops + 1] = {op = "delete", coll = "kt_p_pins", filter = {_id = report.sha256}}
    ops[#ops + 1] = storage.free(report.sha256)
  end
  local freed = #ops > 0
  ops[#ops + 1] = {op = "delete", coll = "kt_p_results", filter = {_id = result._id}}
  ops[#ops + 1] = {op = "delete", coll = "kt_p_executions", filter = {_id = id}}
  done, err = commit(pass, "results", 1, ops)
  if not done then return nil, err end
  return not freed or free_blobs(pass)
end

local function day_of(before) return tostring(value.date(before)):sub(1, 10) end

local function results(pass, before)
  repeat
    local list, err = pass.db:find("kt_p_results", {{"day", "lt", day_of(before)}},
      {limit = RUNS, projection = {"execution_id", "report"}})
    if not list then return nil, err end
    for _, result in ipairs(list) do
      local done
      done, err = delete_run(pass, result)
      if not done then return nil, err end
    end
  until #list < RUNS
  return true
end

local function datasets(pass, before)
  local after, last = "ds_", ("ds_%012x"):format(before)
  while true do
    local list, err = pass.db:find("kt_p_datasets", {{"_id", "gt", after}, {"_id", "lt", last}}, {sort = {{"_id", 1}},
      limit = DATASETS, projection = {"status", "revision", "tables", "sealed_at"}})
    if not list then return nil, err end
    for _, doc in ipairs(list) do
      local sealed = given(doc.sealed_at)
      if not sealed or sealed.ms < before then
        if not pass.go_on() then return nil, {code = "cancelled", message = "the pass was ended", retryable = true} end
        local deleted
        deleted, err = dataset.delete(pass.project, doc, {{op = "update", coll = counters, filter = {_id = counts_id},
          update = {inc = {datasets = 1}}, upsert = true}})
        if deleted == nil then return nil, err end
      end
    end
    if #list < DATASETS then return true end
    after = list[#list]._id
  end
end

-- All rows are read by `_id`, once a day: an index on last_seen_at would be written anew for every finding of every run.
local function findings(pass, before)
  local after, old = nil, value.date(before)
  while true do
    local list, err = pass.db:find("kt_p_findings", {}, {sort = {{"_id", 1}}, limit = ROWS, after = after and {after},
      projection = {"last_seen_at"}})
    if not list then return nil, err end
    local ids = {}
    for _, doc in ipairs(list) do
      if doc.last_seen_at and doc.last_seen_at < old then ids[#ids + 1] = doc._id end
    end
    -- One that a run finds again at this moment stays.
    local done = true
    if #ids > 0 then
      done, err = commit(pass, "findings", #ids, {{op = "delete", coll = "kt_p_findings", many = true,
        filter = {{"_id", "in", ids}, {"last_seen_at", "lt", old}}}})
    end
    if not done then return nil, err end
    if #list < ROWS then return true end
    after = list[#list]._id
  end
end

-- Rows of a collection that nothing refers to.
local function rows(kind, coll, condition, sort)
  return function(pass, before)
    repeat
      local list, err = pass.db:find(coll, {condition(before)}, {sort = sort, limit = ROWS, projection = {"_id"}})
      if not list then return nil, err end
      local done = true
      if #list > 0 then
        done, err = commit(pass, kind, #list, {{op = "delete", coll = coll, many = true, filter = {{"_id", "in", ids_of(list)}}}})
      end
      if not done then return nil, err end
    until #list < ROWS
    return true
  end
end

-- In this order: a run goes as a whole before its events are looked at.
local kinds = {
  {"results", results},
  {"events", events},
  {"datasets", datasets},
  {"findings", findings},
  {"token_usage", rows("token_usage", "kt_p_token_usage", function(before) return {"day", "lt", day_of(before)} end)},
  {"audit", rows("audit", "kt_p_audit_log", function(before) return {"at", "lt", value.date(before)} end, {{"at", 1}, {"_id", 1}})},
}

-- The first ms that is kept of a kind; nil: all of it is.
local function kept_from(doc, kind)
  local days = (given(doc.retention_days) or {})[kind] or 0
  if days <= 0 then return nil end
  return math.max(0, (math.floor(clock.now() / DAY) - days) * DAY)
end

-- The entry of the audit log, out of the counts, which begin anew; what was deleted. Nothing for nothing.
local function note(pass)
  local counted, err = pass.db:find_one(counters, {_id = counts_id})
  if not counted then return not err and {} or nil, err end
  local changes, deleted, same = {}, {}, {_id = counts_id}
  for _, kind in ipairs(kinds) do
    local name, n = kind[1], counted[kind[1]]
    if n then
      local from = kept_from(pass.project.doc, name)
      changes[#changes + 1] = {pointer = "/" .. name, from = json.null, to = {deleted = n, before = from and day_of(from) or json.null}}
      deleted[name], same[name] = n, n
    end
  end
  local done
  done, err = pass.db:commit{
    {op = "delete", coll = counters, filter = same, must_match = true},
    audit.entry(principals.system(), "retention.applied", "retention", pass.project.id, changes),
  }
  if not done then return nil, err end
  return deleted
end

---Does the project's policy delete anything at all?
---@param doc table of kt_m_projects
---@return boolean
function M.wanted(doc)
  for _, kind in ipairs(kinds) do
    if kept_from(doc, kind[1]) then return true end
  end
  return false
end

---Delete what the project no longer keeps. Yields, for long; may be begun again wherever it ended.
---@param project kontor.Project
---@param go_on fun(): boolean asked before each commit; false ends the pass as `cancelled`
---@return table<string, integer>|nil deleted by kind, with what an attempt before this one that broke off did
---@return kontor.Error|nil
function M.apply(project, go_on)
  local pass = {project = project, db = project.db, go_on = go_on}
  -- Blobs that an attempt before let go and did not come to free.
  local ok, err = free_blobs(pass)
  for _, kind in ipairs(kinds) do
    local before = kept_from(project.doc, kind[1])
    if ok and before then ok, err = kind[2](pass, before) end
  end
  if not ok then return nil, err end
  return note(pass)
end

return M
