-- What is done to a project as a whole: backup, restore, clone, import (erase: units/erase.lua). Each is a
-- job (domain/job.lua), so each step may be done again.
--
-- A project that is worked at names its job (`job` in kt_m_projects) and is
--   restoring   out of use; `was` is the status that it gets back, `emptied` that its database is not whole
--   importing   not yet there for anybody; what fails is taken back

local backup = require "domain.backup"
local clock = require "kt.clock"
local fault = require "kt.fault"
local file = require "kt.file"
local given = require "lib.given"
local ids = require "domain.ids"
local jobs = require "domain.job"
local json = require "json"
local problem = require "http.problem"
local project = require "domain.project"
local schema = require "http.schema"
local store = require "kt.store"
local T = require "http.types"
local unit_files = require "domain.unit_files"
local unit_load = require "units.load"
local value = require "value"

local M = {}

local coll = "kt_m_projects"
local in_use = {active = true, suspended = true, archived = true}

local without_secrets = {"without_secrets", T.bool, default = false,
  doc = "Leave out secrets whose key is not here, instead of refusing"}

M.types = {
  without_secrets = without_secrets,
  backup = T.object("BackupCreate", {}),
  restore = T.object("RestoreProject", {{"backup_id", T.made_id("bak"), required = true}}),
  clone = T.object("CloneProject", {{"project_id", T.project_id, required = true, doc = "Of the clone"},
    {"project_name", T.str{min = 1}, nullable = true, doc = "null: as it is called now"}, without_secrets}),
}

local function master() return project.master() end

---The document of a project that a job may begin with.
---@param id string
---@return table|nil
---@return kontor.Error|nil not_found; invalid_state while another job works at it
function M.free(id)
  if not project.exists_here(id) then return nil, problem.err("not_found") end
  local doc, err = master():find_one(coll, {_id = id})
  if not doc then return nil, err or problem.err("not_found") end
  local job
  if doc.job then
    job, err = master():find_one("kt_m_jobs", {_id = doc.job, status = "running"}, {projection = {"kind"}})
  elseif doc.status == "creating" then err = problem.err("invalid_state", "The project is being created.") end
  if err then return nil, err end
  if job then return nil, problem.err("invalid_state", ("The job %s (%s) works at this project."):format(job._id, job.kind)) end
  return doc
end

-- One that has all its data.
local function usable(id)
  local doc, err = M.free(id)
  if not doc then return nil, err end
  if doc.status == "importing" or doc.status == "erasing" then return nil, problem.err("not_found") end
  if not in_use[doc.status] then return nil, problem.err("invalid_state", "The project is " .. doc.status .. ".") end
  return doc
end

-- A step of a job that changes its project's document; a job that was begun again may find it done.
local function move(job, statuses, update, what)
  local done, err = master():update_one(coll, {_id = job.project_id, {"status", "in", statuses}, job = job._id}, update)
  if not done then return nil, err end
  if done.matched == 0 then return nil, problem.err("conflict", ("the project %s is not %s any more"):format(job.project_id, what)) end
  return true
end

---- backup ----

---POST P/backups.
---@return kontor.Job|nil
---@return table[]|kontor.Error ops of the commit that begins it
function M.backup(ctx)
  local doc, err = usable(ctx.params.project_id)
  if not doc then return nil, err end
  return jobs.new(ctx.principal, ctx.req, "backup", doc._id, {backup_id = ids.new("bak")})
end

jobs.define("backup", {steps = 1, run = function(job)
  local id = job.input.backup_id
  local made, err = backup.read(job.project_id, id)
  if not made and err.code == "not_found" then made, err = backup.make(job.project_id, id) end
  if not made then return nil, err end
  return {backup_id = id}
end})

---- restore ----

---POST P/restore. The project's data as it was; its document stays as it is.
function M.restore(ctx)
  local id = ctx.params.project_id
  local doc, err = M.free(id)
  if not doc then return nil, err end
  if doc.status ~= "restoring" and not in_use[doc.status] then return nil, problem.err("not_found") end
  local one
  one, err = backup.read(id, ctx.body.backup_id)
  if not one then
    if err.code ~= "not_found" then return nil, err end
    return nil, problem.field({pointer = "/backup_id"}, "not_found", "there is no such backup of this project")
  end
  return jobs.new(ctx.principal, ctx.req, "restore", id, {backup_id = one._id},
    {{pointer = "/backup_id", from = json.null, to = one._id}})
end

-- Out of use from now on, unless it is already, for this job or for one that has failed.
local function take_out(job)
  local doc, err = M.free(job.project_id)
  if not doc then
    -- Held by a running job: by this one.
    local mine = err.code == "invalid_state" and master():find_one(coll, {_id = job.project_id, job = job._id, status = "restoring"})
    return mine and true or nil, err
  end
  if doc.status ~= "restoring" and not in_use[doc.status] then
    return nil, problem.err("invalid_state", "The project is " .. doc.status .. ".")
  end
  local done
  done, err = master():update_one(coll, {_id = doc._id, status = doc.status, version = doc.version, job = doc.job or json.null},
    {set = {status = "restoring", job = job._id, was = doc.was or doc.status}})
  if not done then return nil, err end
  return done.matched == 1 or nil, problem.err("conflict", "The project was changed meanwhile.")
end

jobs.define("restore", {steps = 5, run = function(job, step)
  local id = job.project_id
  local folder = backup.folder(id, job.input.backup_id)
  local db = store.database(project.database_name(id))
  local m, err = unit_files.manifest(folder)
  if not m then return nil, err end
  local ok
  ok, err = db:verify(folder .. "/" .. m.database, {collections = m.collections})
  if not ok then return nil, err end
  step(1)
  ok, err = take_out(job)
  if not ok then return nil, err end
  local began = clock.monotonic()
  step(2)
  fault.kill("unit.taken_out")
  unit_load.quiesce({id = id, db = db}, "the project was restored from a backup")
  ok, err = move(job, {"restoring"}, {set = {emptied = true}}, "being restored")
  if not ok then return nil, err end
  step(3)
  local warnings
  warnings, err = unit_load.run(id, folder, m, {secrets = "keep", why = "the project was restored from a backup"})
  if not warnings then return nil, err end
  step(4)
  fault.kill("unit.loaded")
  local doc
  doc, err = master():find_one(coll, {_id = id}, {projection = {"was"}})
  if not doc then return nil, err end
  ok, err = move(job, {"restoring"}, {set = {status = doc.was}, unset = {"job", "was", "emptied"}}, "being restored")
  if not ok then return nil, err end
  return {backup_id = job.input.backup_id, out_of_use_seconds = clock.monotonic() - began, warnings = json.array(warnings)}
end, failed = function(job)
  -- Nothing of its data was touched: it goes on as it was. Else it waits for a restore that succeeds.
  local doc, err = master():find_one(coll, {_id = job.project_id, job = job._id, status = "restoring"})
  if not doc or doc.emptied then return not err or nil, err end
  return move(job, {"restoring"}, {set = {status = doc.was}, unset = {"job", "was"}}, "being restored")
end})

---- a new project ----

-- The number that an imported project had is in the ids of its runs: it keeps it when no other project has it.
local function number_for(wanted)
  local taken, err = master():find_one(coll, {number = wanted}, {projection = {"_id"}})
  if err then return nil, err end
  if taken then return project.next_number() end
  local ok
  ok, err = master():update_one("kt_m_counters", {_id = "project_number"}, {max = {value = wanted}}, {upsert = true})
  return ok and wanted, err
end

-- The op that takes the id for a project out of another one's public form.
local function reserve(ctx, job, plain, id, name, number)
  local copy = {}
  for _, f in ipairs(project.types.project.fields) do
    if not f.ro then copy[f[1]] = plain[f[1]] end
    plain[f[1]] = nil
  end
  local unknown = next(plain)
  if unknown then return nil, problem.err("data_rejected", "the project's document has a field that is not known here: " .. tostring(unknown)) end
  copy.project_id, copy.project_name = id, name or copy.project_name
  local checked, faults = schema.check(project.types.project, copy, "create", {principal = ctx.principal})
  if not checked then
    return nil, problem.err("data_rejected", ("the project's document: %s %s"):format(faults.errors[1].pointer, faults.errors[1].message))
  end
  local there, err = store.exists(project.database_name(id))
  if err then return nil, err end
  if there then return nil, problem.err("already_exists", "There is a database " .. project.database_name(id) .. " of no project.") end
  local stored, now = schema.to_stored(project.types.project, checked), value.date(clock.now())
  stored.version, stored.number, stored.created_at, stored.updated_at = 1, number, now, now
  stored.status, stored.job = "importing", job._id
  return {op = "insert", coll = coll, doc = stored}
end

---May a new project have this id?
---@param id string
---@return true|nil
---@return kontor.Error|nil already_exists, forbidden
function M.refuse_taken(id)
  if not project.exists_here(id) then return nil, problem.err("forbidden", "This service has one project only (ENABLE_MULTI_TENANT).") end
  local doc, err = master():find_one(coll, {_id = id}, {projection = {"_id"}})
  if err then return nil, err end
  if doc then return nil, problem.err("already_exists", "A project of this id exists.") end
  return true
end

local function activate(job)
  fault.kill("unit.loaded")
  return move(job, {"importing"}, {set = {status = "active"}, unset = {"job"}}, "being imported")
end

-- Takes back a project that was not finished: nobody has seen it.
local function take_back(job)
  local mine, err = master():find_one(coll, {_id = job.project_id, job = job._id, status = "importing"}, {projection = {"_id"}})
  if err then return nil, err end
  if mine then
    local ok
    ok, err = store.drop(project.database_name(job.project_id))
    if not ok and err.code ~= "not_found" then return nil, err end
    ok, err = master():delete_one(coll, {_id = job.project_id, job = job._id, status = "importing"})
    if not ok then return nil, err end
  end
  file.remove(unit_files.work_folder(job._id))
  return true
end

local function load(job, folder)
  local m, err = unit_files.manifest(folder)
  if not m then return nil, err end
  return unit_load.run(job.project_id, folder, m, {why = "the project was exported while this ran",
    secrets = job.input.without_secrets and "move_or_leave_out" or "move"})
end

---POST P/clone.
function M.clone(ctx)
  local source, err = usable(ctx.params.project_id)
  if not source then return nil, err end
  local id = ctx.body.project_id
  local ok
  ok, err = M.refuse_taken(id)
  if not ok then return nil, err end
  local number
  number, err = project.next_number()
  if not number then return nil, err end
  local job, ops = jobs.new(ctx.principal, ctx.req, "clone", id,
    {source = source._id, without_secrets = ctx.body.without_secrets}, {{pointer = "/source", from = json.null, to = source._id}})
  local plain = schema.to_plain(project.types.project, source)
  plain.created_by = nil
  local op
  op, err = reserve(ctx, job, plain, id, given(ctx.body.project_name), number)
  if not op then return nil, err end
  table.insert(ops, 1, op)
  return job, ops
end

jobs.define("clone", {steps = 3, failed = take_back, run = function(job, step)
  local work = unit_files.work_folder(job._id)
  local ok, err = file.stat(work) and file.remove(work) or true, nil
  if ok then ok, err = file.mkdir(work) end
  if ok then ok, err = unit_files.export(job.input.source, work .. "/unit") end
  if not ok then return nil, err end
  step(1)
  local warnings
  warnings, err = load(job, work .. "/unit")
  if not warnings then return nil, err end
  step(2)
  ok, err = activate(job)
  if ok then ok, err = file.remove(work) end
  if not ok then return nil, err end
  return {warnings = json.array(warnings)}
end})

---A new project out of an export. The folder is the job's from now on when it is the work folder of `job_id`.
---@param ctx kontor.Context its params.project_id is the new one's; query.without_secrets
---@param folder string of an export
---@param job_id? string where the folder was unpacked for this job
---@return kontor.Job|nil
---@return table[]|kontor.Error ops of the commit that begins it
function M.import(ctx, folder, job_id)
  local id = ctx.params.project_id
  local ok, err = M.refuse_taken(id)
  if not ok then return nil, err end
  local m
  m, err = unit_files.manifest(folder)
  if not m then return nil, err end
  local number
  number, err = number_for(m.project.number)
  if not number then return nil, err end
  local job, ops = jobs.new(ctx.principal, ctx.req, "import", id,
    {folder = folder, without_secrets = ctx.query.without_secrets or false}, {{pointer = "/source", from = json.null, to = m.project.project_id}})
  if job_id then job._id = job_id end
  local op
  op, err = reserve(ctx, job, m.project, id, nil, number)
  if not op then return nil, err end
  table.insert(ops, 1, op)
  return job, ops
end

jobs.define("import", {steps = 2, failed = take_back, run = function(job, step)
  local warnings, err = load(job, job.input.folder)
  if not warnings then return nil, err end
  step(1)
  local ok
  ok, err = activate(job)
  if not ok then return nil, err end
  file.remove(unit_files.work_folder(job._id))
  return {warnings = json.array(warnings)}
end})

---What begins a job, as a handler.
---@param begin fun(ctx: kontor.Context): kontor.Job|nil, table[]|kontor.Error
---@return fun(ctx: kontor.Context): kontor.Answer|nil, kontor.Error|nil
function M.handler(begin)
  return function(ctx)
    local job, ops = begin(ctx)
    if not job then return nil, ops end
    local result, err = jobs.start(ctx, job, ops)
    return result, err and M.taken(err)
  end
end

---The error of a commit that begins a job, in the words of the request.
---@param err kontor.Error
---@return kontor.Error
function M.taken(err)
  if err.code ~= "already_exists" or err.coll ~= coll then return err end
  return err.key == "_id" and problem.err("already_exists", "A project of this id exists.") or problem.err("conflict")
end

return M
