-- An export into the database of a project: what restoring, cloning and importing share.

local finish = require "engine.finish"
local json = require "json"
local log = require "kt.log"
local migrations = require "domain.migrations"
local problem = require "http.problem"
local project = require "domain.project"
local secret = require "domain.secret"
local store = require "kt.store"
local task = require "kt.task"
local upload = require "domain.upload"

local M = {}

local executions = "kt_p_executions"
local unfinished = {"delayed", "queued", "waiting", "paused", "running"}
local page = 200
local attempts = 20
local settle_seconds = 0.5

-- What has not begun is cancelled; what was on its way has failed, and may be started again.
local function end_of(status, why)
  if status == "queued" or status == "delayed" then return {status = "cancelled", stop_reason = "cancelled", partial = false} end
  return {status = "failed", stop_reason = "worker_lost", partial = false,
    error = {code = "worker_lost", message = why, retryable = true}}
end

-- One look at all statuses: how many runs were found, and how many of them are ended now.
local function end_some(unit, why)
  local found, ended = 0, 0
  for _, status in ipairs(unfinished) do
    local list, err = unit.db:find(executions, {status = status}, {sort = {{"_id", 1}}, limit = page})
    if not list then return nil, err end
    for _, doc in ipairs(list) do
      local result
      result, err = finish.from_outside(unit, unit.db, doc, end_of(status, why))
      if not result and err.code ~= "lost" then return nil, err end
      ended = ended + (result and 1 or 0)
    end
    found = found + #list
  end
  return found, ended
end

---End all runs of a project that have not ended. Who works at one finds that it is not his any more.
---@param unit {id: string, db: table}
---@param why string in the error of those that had begun
---@return integer|nil how many
---@return kontor.Error|nil
function M.end_runs(unit, why)
  local total, idle = 0, 0
  while idle < attempts do
    local found, ended = end_some(unit, why)
    if not found then return nil, ended end
    if found == 0 then return total end
    total = total + ended
    idle = ended == 0 and idle + 1 or 0
  end
  return nil, problem.err("conflict", "the runs of " .. unit.id .. " change too fast")
end

---Before a database is dropped: its runs are ended, and requests that have it open get a moment. A database that is
---damaged or half made is no reason not to go on. Yields.
---@param unit {id: string, db: table}
---@param why string as of end_runs
function M.quiesce(unit, why)
  local ended, err = M.end_runs(unit, why)
  if not ended and err.code ~= "not_found" then
    log.warn("unit.end_runs", {project_id = unit.id, msg = tostring(err.code) .. ": " .. tostring(err.message)})
  end
  task.sleep(settle_seconds)
end

-- Secrets are sealed for their project: under another id each is sealed anew. `without`: one whose key is not
-- here is left out.
local function move_secrets(unit, from, without, warnings)
  local old, new = secret.of_project(from, unit.db), secret.of_project(unit.id, unit.db)
  local docs, err = unit.db:find(new.coll, {{"key_id", "exists", true}}, {sort = {{"_id", 1}}})
  if not docs then return nil, err end
  for _, doc in ipairs(docs) do
    local text, ok
    text, err = secret.open(old, doc)
    if text and from ~= unit.id then
      local sealed
      sealed, err = secret.seal(new, doc._id, text)
      if not sealed then return nil, err end
      ok, err = unit.db:update_one(new.coll, {_id = doc._id},
        {set = {key_id = sealed.key_id, nonce = sealed.nonce, box = sealed.box}})
      if not ok then return nil, err end
    elseif not text and without then
      warnings[#warnings + 1] = ("the secret %s was left out: %s"):format(doc._id, err.message)
      ok, err = unit.db:delete_one(new.coll, {_id = doc._id})
      if not ok then return nil, err end
    elseif not text then
      return nil, problem.err("invalid_state",
        ("the secret %s does not open here: %s (without_secrets leaves such secrets out)"):format(doc._id, err.message))
    end
  end
  return true
end

---Make a project's database out of an export. What is there under its name is dropped first, so it may be done
---again. Yields, for long.
---@param id string of the project
---@param folder string
---@param m table its manifest
---@param o {secrets: "keep"|"move"|"move_or_leave_out", why: string} why: in the error of runs that had begun
---@return string[]|nil warnings
---@return kontor.Error|nil
function M.run(id, folder, m, o)
  local name, from = project.database_name(id), m.project.project_id
  local ok, err = store.drop(name)
  if not ok and err.code ~= "not_found" then return nil, err end
  ok, err = store.create(name)
  if not ok then return nil, err end
  local unit, warnings = {id = id, db = store.database(name)}, {}
  -- Answers for repeated requests name what they were given for; here nobody repeats them.
  ok, err = unit.db:import(folder .. "/" .. m.database, {collections = m.collections, from = from, to = id,
    leave_out = json.array{"kt_p_idempotency"}})
  if ok then
    migrations.forget(name)
    ok, err = migrations.run("project", unit.db)
  end
  if ok and o.secrets ~= "keep" then
    ok, err = move_secrets(unit, from, o.secrets == "move_or_leave_out", warnings)
  end
  -- The bytes of uploads that were on their way are in no export.
  if ok then ok, err = upload.drop_all(unit) end
  local ended
  if ok then ended, err = M.end_runs(unit, o.why) end
  if not ended then return nil, err end
  if ended > 0 then warnings[#warnings + 1] = ("%d runs that had not ended were ended"):format(ended) end
  return warnings
end

return M
