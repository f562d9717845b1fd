-- Jobs (kt_m_jobs): work on a whole project that outlasts its request. The row is committed with what the job
-- begins with, and a worker's task does the rest:
--
--   {_id, kind, project_id, input, status, done, total, error, result, owner, by, request_id, created_at, finished_at}
--
-- `owner` is the incarnation that works at it (engine/lease.lua). Every kind can be done again from its start,
-- whatever had been done of it: a job whose worker died is begun again by the next one, and so is one that met
-- a store that was away. `done` and `total` count the steps of its kind.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local commit = require "domain.commit"
local given = require "lib.given"
local ids = require "domain.ids"
local json = require "json"
local log = require "kt.log"
local patient = require "lib.patient"
local places = require "lib.places"
local principals = require "http.principal"
local problem = require "http.problem"
local schema = require "http.schema"
local T = require "http.types"
local task = require "kt.task"
local value = require "value"

local M = {}

local coll = "kt_m_jobs"
local first_pause, longest_pause = 0.2, 10 -- seconds, while the store is away

M.types = {
  job = T.object("Job", {
    {"job_id", T.made_id("job"), from_id = true},
    {"kind", T.enum{"backup", "restore", "clone", "import", "erase"}},
    {"project_id", T.project_id},
    {"status", T.enum{"running", "completed", "failed"}},
    {"done", T.int(0), doc = "Steps that are done"}, {"total", T.int(1)},
    {"result", T.map(), nullable = true, doc = "What it made: backup {backup_id}, import and clone {warnings}"},
    {"error", T.object("JobError", {{"code", T.str()}, {"message", T.str{max = 4000}}}), nullable = true},
    {"created_at", T.ts}, {"finished_at", T.ts, nullable = true},
  }),
  id = T.made_id("job"),
}
local ty = M.types.job

---@class kontor.Job a row of kt_m_jobs
---@field _id string
---@field kind string
---@field project_id string
---@field input table what its kind wants to know
---@field by kontor.Principal
---@field request_id string|userdata

---@class kontor.JobKind
---@field steps integer
---@field run fun(job: kontor.Job, step: fun(done: integer)): table|nil, kontor.Error|nil gives its result. May be
--- called again after it was cut off anywhere.
---@field failed? fun(job: kontor.Job): true|nil, kontor.Error|nil takes back what a failed job began

---@type table<string, kontor.JobKind>
local kinds = {}
---@type string|nil incarnation whose jobs run here
local owner
local running = 0

---@param name string
---@param kind kontor.JobKind
function M.define(name, kind) kinds[name] = kind end

---Jobs that run in this process.
---@return integer
function M.running() return running end

---Who works at the jobs of this process. Before the first one.
---@param epoch string
function M.own(epoch) owner = epoch end

local function note(job, text, err)
  local level = err and "error" or "info"
  log[level]("job." .. text, {project_id = job.project_id,
    msg = ("%s %s%s"):format(job.kind, job._id, err and ": " .. tostring(err.code) .. ": " .. tostring(err.message) or "")})
end

local function set(job, update)
  return places.master():update_one(coll, {_id = job._id, owner = owner, status = "running"}, update)
end

-- The end of a job in the store, with an entry in the audit log when it failed. One that is not there any more
-- (an erased project's) has been ended by its own last commit.
local function finish(job, result, err)
  local change = {status = "completed", done = kinds[job.kind].steps, result = result, finished_at = value.date(clock.now())}
  local ops = {{op = "update", coll = coll, filter = {_id = job._id, owner = owner, status = "running"}, update = {set = change},
    must_match = true}}
  if err then
    change.status, change.done, change.result = "failed", nil, nil
    change.error = {code = err.code, message = tostring(err.message or err.code):sub(1, 4000)}
    ops[2] = audit.entry(job.by, "project." .. job.kind, "project", job.project_id, nil, {id = given(job.request_id)},
      {outcome = "error", code = err.code})
  end
  local done, failed = places.master():commit(ops)
  if not done and failed.code == "conflict" then return true end
  return done and true, failed
end

-- The same as soon as the store takes it: a job that nobody works at must not stay running. Its worker's end
-- leaves it to the next one.
local function finished(job, result, err)
  local pause = first_pause
  while true do
    local ok, failed = finish(job, result, err)
    if ok then return true end
    note(job, "end_waits", failed)
    if not task.sleep(pause) then return nil, failed end
    pause = math.min(2 * pause, longest_pause)
  end
end

-- The store is away, or an answer of it was lost: what is begun again finds what was done.
local function passing(err) return err.code == "store_unavailable" or err.code == "outcome_unknown" end

local function attempt(job)
  local kind = kinds[job.kind]
  local function step(done)
    local ok, err = set(job, {set = {done = done}})
    if not ok then log.warn("job.step", {project_id = job.project_id, msg = tostring(err.message)}) end
  end
  local ok, result, err = pcall(kind.run, job, step)
  if not ok then
    result, err = nil, type(result) == "table" and result or {code = "internal", message = tostring(result)}
  end
  if not result and not passing(err) and kind.failed then
    local back, failed = kind.failed(job)
    if not back then
      if passing(failed) then return nil, failed end
      note(job, "not_taken_back", failed)
    end
  end
  if not result and passing(err) then return nil, err end
  note(job, result and "completed" or "failed", err)
  local ended, failed = finished(job, result, err)
  if not ended then return nil, failed end
  return {result = result, error = err}
end

---Do a job that this process owns, to its end. Yields.
---@param job kontor.Job
---@return table|nil result
---@return kontor.Error|nil what it ended with; it is in the store too
function M.work(job)
  local pause = first_pause
  running = running + 1
  local ended, err
  repeat
    ended, err = attempt(job)
    if not ended then
      note(job, "waits", err)
      if not passing(err) or not task.sleep(pause) then break end
      pause = math.min(2 * pause, longest_pause)
    end
  until ended
  running = running - 1
  if not ended then return nil, err end
  return ended.result, ended.error
end

---The row of a new job and its entry in the audit log; for the commit that begins it.
---@param principal kontor.Principal
---@param req table|nil
---@param kind string
---@param project_id string
---@param input table
---@param changes? table[] for the audit log
---@return kontor.Job
---@return table[] ops
function M.new(principal, req, kind, project_id, input, changes)
  local job = {_id = ids.new("job"), kind = kind, project_id = project_id, input = input, status = "running", done = 0,
    total = kinds[kind].steps, result = json.null, error = json.null, owner = owner,
    by = {id = principal.id, name = principal.name, role = principal.role, via = principal.via, address = principal.address},
    request_id = req and req.id or json.null, created_at = value.date(clock.now()), finished_at = json.null}
  return job, {{op = "insert", coll = coll, doc = job},
    audit.entry(principal, "project." .. kind, "project", project_id, changes, req)}
end

-- Whether it was begun is not known yet: who asked was told so.
local function work_if_there(job)
  local there, err = patient.call(places.master().find_one, places.master(), coll, {_id = job._id}, {projection = {"_id"}})
  if there then M.work(job)
  elseif err then note(job, "not_looked_up", err) end
end

---Commit a new job with what it begins with, and set it going. For a request.
---@param ctx kontor.Context
---@param job kontor.Job
---@param ops table[]
---@return kontor.Answer|nil 202
---@return kontor.Error|nil with `coll` of the op that failed
function M.start(ctx, job, ops)
  local result = answer.text(202, schema.to_json(ty, job), {Location = "/api/v1/master/jobs/" .. job._id})
  -- A client that goes away must not take the task from a job whose commit is on its way: nobody would work at it.
  return task.detach(function()
    local done, err = commit.run(ctx, places.master(), ops, result)
    if done then task.detach(M.work, job)
    elseif err.code == "outcome_unknown" then task.detach(work_if_there, job) end
    return done, err
  end):join()
end

---Take over the running jobs of dead incarnations.
---@param gone table<string, boolean> epochs
---@return true|nil
---@return kontor.Error|nil
function M.take_over(gone)
  local list, err = places.master():find(coll, {status = "running"}, {sort = {{"_id", 1}}})
  if not list then return nil, err end
  for _, row in ipairs(list) do
    if gone[row.owner] then
      local job
      job, err = places.master():find_and_modify(coll, {_id = row._id, owner = row.owner, status = "running"},
        {update = {set = {owner = owner, done = 0}}, new = true})
      if err then return nil, err end
      if job then
        note(job, "taken_over")
        task.detach(M.work, job)
      end
    end
  end
  return true
end

-- An erased project has no row left; that it was erased is in the audit log, under the job's own number.
---@param job_id string
---@return string audit_id
function M.audit_id(job_id) return (job_id:gsub("^job", "aud")) end

local function erased(job_id)
  local entry, err = places.master():find_one("kt_m_audit_log", {_id = M.audit_id(job_id), action = "project.erase"})
  if not entry then return nil, err or problem.err("not_found") end
  local steps = kinds.erase.steps
  return {_id = job_id, kind = "erase", project_id = entry.target_id, status = "completed", done = steps, total = steps,
    result = json.null, error = json.null, created_at = entry.created_at, finished_at = entry.at}
end

---GET /master/jobs/{job_id}, of one's own projects.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.get(ctx)
  local job, err = places.master():find_one(coll, {_id = ctx.params.job_id})
  if not job and not err then job, err = erased(ctx.params.job_id) end
  if not job then return nil, err end
  if not principals.sees(ctx.principal, job.project_id) then return nil, problem.err("not_found") end
  return answer.text(200, schema.to_json(ty, job))
end

return M
