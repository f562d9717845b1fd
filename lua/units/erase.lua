-- Erasing a project: its database, its files, and every line of the master database that is about it. What stays
-- is one entry of the audit log that says that it happened, under the number of the job.
--
-- Entries of the audit log about keys for several projects, and what logs hold, are not the project's.

local audit = require "domain.audit"
local backup = require "domain.backup"
local config = require "kt.config"
local fault = require "kt.fault"
local file = require "kt.file"
local given = require "lib.given"
local jobs = require "domain.job"
local json = require "json"
local problem = require "http.problem"
local project = require "domain.project"
local store = require "kt.store"
local T = require "http.types"
local unit = require "units.copy"
local unit_load = require "units.load"

local M = {}

local page = 500

M.types = {
  erase = T.object("EraseProject", {{"confirm", T.str(), required = true, doc = "The project's id once more"}}),
}

local function master() return project.master() end

---POST P/erase.
---@return kontor.Job|nil
---@return table[]|kontor.Error ops of the commit that begins it
function M.begin(ctx)
  local id = ctx.params.project_id
  if ctx.body.confirm ~= id then
    return nil, problem.field({pointer = "/confirm"}, "invalid", "must be the project's id")
  end
  local doc, err = unit.free(id)
  if not doc then return nil, err end
  local job, ops = jobs.new(ctx.principal, ctx.req, "erase", id, {})
  table.insert(ops, {op = "update", coll = "kt_m_projects", must_match = true,
    filter = {_id = id, status = doc.status, job = doc.job or json.null},
    update = {set = {status = "erasing", job = job._id}, unset = {"was", "emptied"}}})
  return job, ops
end

local function drop(id)
  local ok, err = store.drop(project.database_name(id))
  return (ok or err.code == "not_found") and true or nil, err
end

local function remove_files(id)
  local folders = {backup.dir(id), config.get("KONTOR_DATA_DIR") .. "/uploads/" .. id}
  local reports = config.get("ERP_REPORTS_DIRECTORY")
  if reports ~= "" then folders[#folders + 1] = reports .. "/" .. id end
  for _, folder in ipairs(folders) do
    local ok, err = file.remove(folder)
    if not ok and err.code ~= "not_found" then return nil, err end
  end
  return true
end

-- Every document of a query that `about` says yes to is deleted.
local function delete_about(coll, filter, fields, about)
  local after
  while true do
    local list, err = master():find(coll, filter, {sort = {{"_id", 1}}, limit = page, after = after, projection = fields})
    if not list then return nil, err end
    local found = json.array{}
    for _, doc in ipairs(list) do if about(doc) then found[#found + 1] = doc._id end end
    if #found > 0 then
      local ok
      ok, err = master():delete_many(coll, {{"_id", "in", found}})
      if not ok then return nil, err end
    end
    if #list < page then return true end
    after = {list[#list]._id}
  end
end

-- For what `about` says no to. Raises when it fails, and the job ends with that.
local function change(coll, id, update)
  local done, err = master():update_one(coll, {_id = id}, update)
  if not done then error(err, 0) end
end

-- Keys of this project alone go; those of several lose it.
local function remove_keys(id)
  local ok, err = master():delete_many("kt_m_api_keys", {scope = id})
  if not ok then return nil, err end
  return delete_about("kt_m_api_keys", {scope = "several"}, {"projects"}, function(doc)
    local left = json.array{}
    for _, one in ipairs(doc.projects) do if one ~= id then left[#left + 1] = one end end
    if #left == #doc.projects or #left == 0 then return #left == 0 end
    change("kt_m_api_keys", doc._id, {set = {projects = left, scope = #left == 1 and left[1] or "several"}})
    return false
  end)
end

-- An entry about a key that was for this project alone.
local function about_key(id)
  return function(entry)
    for _, c in ipairs(entry.changes) do
      local to = c.pointer == "/projects" and c.to
      if type(to) == "table" and #to == 1 and to[1] == id then return true end
    end
    return false
  end
end

-- The first `_id` of the audit log that an entry since `ms` can have: it begins with the time (ids.lua).
local function audit_since(ms) return ("aud_%012x"):format(ms) end

local function remove_audit(id, created_ms)
  local list, err
  repeat
    list, err = master():find("kt_m_audit_log", {target_id = id, target_type = "project"},
      {sort = {{"at", 1}, {"_id", 1}}, limit = page, projection = {"_id"}})
    if not list then return nil, err end
    local found = json.array{}
    for i, doc in ipairs(list) do found[i] = doc._id end
    local ok = true
    if #found > 0 then ok, err = master():delete_many("kt_m_audit_log", {{"_id", "in", found}}) end
    if not ok then return nil, err end
  until #list < page
  local keys = {}
  local ok
  ok, err = delete_about("kt_m_audit_log", {{"_id", "gte", audit_since(created_ms)}, target_type = "key"},
    {"target_id", "changes"}, function(entry)
      local yes = about_key(id)(entry)
      if yes then keys[entry.target_id] = true end
      return yes
    end)
  if not ok or not next(keys) then return ok, err end
  return delete_about("kt_m_audit_log", {{"_id", "gte", audit_since(created_ms)}, target_type = "key"}, {"target_id"},
    function(entry) return keys[entry.target_id] end)
end

-- Answers that are kept for repeated requests, to make it or to make something in it.
local function remove_answers(id)
  local quoted = {'"project_id":"' .. id .. '"', '"projects":["' .. id .. '"]', "/projects/" .. id .. '"', "/projects/" .. id .. "/"}
  return delete_about("kt_m_idempotency", {{"_id", "gte", ""}}, {"body", "headers"}, function(row)
    local text = row.body .. json.encode(row.headers)
    for _, part in ipairs(quoted) do if text:find(part, 1, true) then return true end end
    return false
  end)
end

-- Jobs of the project go; one that made a clone of it forgets of what.
local function remove_jobs(id, own)
  return delete_about("kt_m_jobs", {{"_id", "gte", ""}}, {"project_id", "input"}, function(doc)
    if doc.input.source == id then change("kt_m_jobs", doc._id, {unset = {"input.source"}}) end
    return doc.project_id == id and doc._id ~= own
  end)
end

local function remove_lines(id, job, created_ms)
  local ok, err = master():delete_one("kt_m_ready", {_id = id})
  if ok then ok, err = master():delete_one("kt_m_daily", {_id = id}) end
  if ok then ok, err = remove_keys(id) end
  if ok then ok, err = remove_answers(id) end
  if ok then ok, err = remove_jobs(id, job._id) end
  if ok then ok, err = remove_audit(id, created_ms) end
  return ok, err
end

jobs.define("erase", {steps = 4, run = function(job, step)
  local id = job.project_id
  local doc, err = master():find_one("kt_m_projects", {_id = id, status = "erasing", job = job._id})
  if not doc then return nil, err or problem.err("conflict", ("the project %s is not being erased any more"):format(id)) end
  unit_load.quiesce({id = id, db = store.database(project.database_name(id))}, "the project was erased")
  local ok
  ok, err = drop(id)
  if not ok then return nil, err end
  step(1)
  fault.kill("unit.dropped")
  ok, err = remove_files(id)
  if not ok then return nil, err end
  step(2)
  fault.kill("unit.removed")
  ok, err = remove_lines(id, job, doc.created_at.ms)
  -- A commit that was on its way may have made the database again.
  if ok then ok, err = drop(id) end
  if not ok then return nil, err end
  step(3)
  fault.kill("unit.erased")
  local entry = audit.entry(job.by, "project.erase", "project", id, nil, {id = given(job.request_id)})
  entry.doc._id, entry.doc.created_at = jobs.audit_id(job._id), job.created_at
  ok, err = master():commit{
    {op = "delete", coll = "kt_m_projects", filter = {_id = id, job = job._id}, must_match = true},
    {op = "delete", coll = "kt_m_jobs", filter = {_id = job._id}, must_match = true},
    entry,
  }
  return ok and {} or nil, err
end})

return M
