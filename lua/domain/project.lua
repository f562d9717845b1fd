-- Projects: the tenants. Each has a database of its own; creating one is a saga over two databases
-- (creating -> database and migrations -> active) that a worker finishes at its start when it broke. What is
-- done to a project as a whole (restoring, importing, erasing) is units/copy.lua's.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local commit = require "domain.commit"
local config = require "kt.config"
local given = require "lib.given"
local if_match = require "http.if_match"
local log = require "kt.log"
local migrations = require "domain.migrations"
local places = require "lib.places"
local principals = require "http.principal"
local problem = require "http.problem"
local schema = require "http.schema"
local store = require "kt.store"
local T = require "http.types"
local value = require "value"

local M = {}

local coll = "kt_m_projects"
local replace_attempts = 5

local budget = T.object("Budget", {
  {"scope", T.enum{"project", "agent", "execution"}, required = true},
  {"agent_id", T.slug, nullable = true},
  {"period", T.enum{"day", "month", "total"}, required = true},
  {"limit_usd", T.usd, required = true},
  {"action", T.enum{"stop", "warn"}, default = "stop"},
})

local secret_ref = T.str{max = 200, pattern = "^(?:env|secret):[A-Za-z_][A-Za-z0-9_]*$",
  match = function(s) return s:find("^env:[A-Za-z_][A-Za-z0-9_]*$") or s:find("^secret:[A-Za-z_][A-Za-z0-9_]*$") end}

local days = T.int(0, 36500)

M.types = {
  project = T.object("Project", {
    {"project_id", T.project_id, required = true, immutable = true, from_id = true},
    {"version", T.int(1), ro = true},
    {"project_name", T.str{min = 1}, required = true},
    {"customer_name", T.str{min = 1}, required = true},
    {"description", T.str{max = 2000}, default = ""},
    {"created_by", T.str(), immutable = true, default = function(ctx) return ctx.principal.name end},
    {"status", T.enum{"creating", "importing", "active", "suspended", "restoring", "erasing", "archived"}, ro = true},
    {"number", T.int(1), ro = true},
    {"settings", T.object("ProjectSettings", {
      {"currency", T.str{max = 3, pattern = "^[A-Z]{3}$", match = function(s) return s:find("^%u%u%u$") end}, nullable = true,
        doc = "currency of reports; null: that of the data's company. Where the data has no rate to it, amounts stay in no total"},
      {"time_zone", T.str{min = 1, max = 64}, default = "UTC"},
      {"log_level", T.enum{"debug", "info", "warn", "error"}, nullable = true,
        doc = "lowest level of the project's lines in the log; null: KONTOR_LOG_LEVEL"},
      {"sync_wait_seconds", T.int(1, 3600), default = 60},
      {"trace_content", T.bool, default = false},
      {"langfuse", T.object("Langfuse", {
        {"host", T.str{min = 1}, required = true}, {"public_key_ref", secret_ref, required = true},
        {"secret_key_ref", secret_ref, required = true},
      }), nullable = true},
    }), default = {}},
    {"quotas", T.object("Quotas", {
      {"running", T.int(0, 10000), default = 20}, {"queued", T.int(0, 1000000), default = 1000},
      {"datasets", T.int(0, 1000000), default = 100}, {"storage_bytes", T.int(0), default = 10737418240},
      {"requests_per_minute", T.int(0, 1000000000), default = 600},
    }), default = {}},
    {"budgets", T.list(budget, {max = 100}), default = require("json").array{}},
    -- UTC days that are kept before today; 0: for ever (domain/retention.lua).
    {"retention_days", T.object("RetentionDays", {
      {"events", days, default = 90, doc = "journals of runs, by their end"},
      {"datasets", days, default = 365, doc = "datasets with their bytes, by their sealing or else their making"},
      {"findings", days, default = 365, doc = "rows of the worklist, by the end of the last run that found them"},
      {"results", days, default = 0, doc = "whole runs: execution, result, report and events, by their end"},
      {"token_usage", days, default = 0, doc = "records of usage"},
      {"audit", days, default = 0, doc = "entries of the project's audit log"},
    }), default = {}},
    -- Carried out by engine/daily.lua.
    {"backup", T.object("BackupSettings", {
      {"at", T.str{pattern = "^(?:[01][0-9]|2[0-3]):[0-5][0-9]$", match = function(s)
        return s:find("^[01]%d:[0-5]%d$") or s:find("^2[0-3]:[0-5]%d$")
      end}, required = true, doc = "UTC"},
      {"keep", T.int(1, 1000), default = 7, doc = "backups, the newest"},
    }), nullable = true},
    {"rule_params", T.map(), default = {}},
    {"created_at", T.ts, ro = true},
    {"updated_at", T.ts, ro = true},
  }),
}

local ty = M.types.project

local function master() return store.database(config.get("MASTER_DATABASE_NAME")) end
M.master = master

---@param id string
---@return string
function M.database_name(id) return config.get("PROJECT_DATABASE_PREFIX") .. id end

---@class kontor.Project
---@field id string
---@field number integer
---@field db table kt.store database
---@field doc table stored form

---@type table<string, string> by project: the level of its settings that holds in this worker
local log_levels = {}

---Its lines in the log have the level of its settings from here on; asked once, so that another level
---set by the console stays.
---@param doc table stored form
---@param again? boolean also when the settings are the same: the console's is taken back
---@return true|nil
---@return kontor.Error|nil too many projects have one
function M.hold_log_level(doc, again)
  local level = given(doc.settings.log_level)
  if log_levels[doc._id] == level and not again then return true end
  log_levels[doc._id] = level
  return log.set_level(doc._id, level)
end

local function opened(doc)
  local held, why = M.hold_log_level(doc)
  if not held then log.warn("project.log_level", {project_id = doc._id, msg = why.message}) end
  local db = store.database(M.database_name(doc._id))
  -- New code may bring migrations: a project's run when a worker first opens it.
  local ok, err = migrations.run("project", db)
  if not ok then return nil, err end
  return {id = doc._id, number = doc.number, db = db, doc = doc}
end

-- Without tenants there is only the default project.
---@param id string
---@return boolean
function M.exists_here(id)
  return config.get("ENABLE_MULTI_TENANT") or id == config.get("DEFAULT_PROJECT_ID")
end

-- Not there yet, or no more.
local absent = {creating = true, importing = true, erasing = true}

local function usable(doc)
  if not doc or absent[doc.status] or not M.exists_here(doc._id) then return nil, problem.err("not_found") end
  if doc.status == "restoring" then return nil, problem.err("restoring", nil, {retry_after = 5}) end
  return opened(doc)
end

local function read_by_id(_, id)
  local doc, err = master():find_one(coll, {_id = id})
  if err then return nil, err end
  return usable(doc)
end

local function read_by_number(_, number)
  local doc, err = master():find_one(coll, {number = number})
  if err then return nil, err end
  return usable(doc)
end

---An existing, usable project. Everybody gets the same table: it is not to be changed.
---@param id string well-formed
---@return kontor.Project|nil
---@return kontor.Error|nil not_found also for one that is being made or erased; restoring
function M.open(id)
  if not M.exists_here(id) then return nil, problem.err("not_found") end
  return places.kept:get("project/" .. id, read_by_id, id)
end

---The project of an execution id.
---@param number integer
---@return kontor.Project|nil
---@return kontor.Error|nil
function M.by_number(number) return places.kept:get("project number/" .. number, read_by_number, number) end

-- The second half of the saga; every step may be repeated.
local function make_database(id)
  local name = M.database_name(id)
  local ok, err = store.create(name)
  if not ok and err.code ~= "already_exists" then return nil, err end
  -- One of this name may have been erased, by another worker.
  migrations.forget(name)
  return migrations.run("project", store.database(name))
end

local function activate(id)
  return master():update_one(coll, {_id = id, status = "creating"}, {set = {status = "active"}})
end

-- Takes back what the first commit made: nothing was served under this id yet.
local function take_back(ctx, stored, why)
  local ops = {
    {op = "delete", coll = coll, filter = {_id = stored._id, status = "creating"}},
    audit.entry(ctx.principal, "project.create", "project", stored._id, nil, ctx.req,
      {outcome = "error", code = why.code}),
  }
  if ctx.idem then ops[#ops + 1] = {op = "delete", coll = ctx.idem.coll, filter = {_id = ctx.idem.id}} end
  local _, err = master():commit(ops)
  if err then
    log.error("project.take_back", {project_id = stored._id, msg = err.code .. ": " .. tostring(err.message)})
  elseif ctx.idem then ctx.idem.written = false end
end

---A number that no project has had.
---@return integer|nil
---@return kontor.Error|nil
function M.next_number()
  local filter = {_id = "project_number"}
  for _ = 1, 2 do
    local counter, err = master():find_and_modify("kt_m_counters", filter, {update = {inc = {value = 1}}, new = true})
    if counter or err then return counter and counter.value, err end
    -- The first project of all. Two upserts at once are an error for one of them on some servers; an insert says so.
    local made, failed = master():insert("kt_m_counters", {_id = "project_number", value = 0})
    if not made and failed.code ~= "already_exists" then return nil, failed end
  end
  return nil, problem.err("conflict", "the counter of projects was removed")
end

---POST /master/projects.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.create(ctx)
  if not M.exists_here(ctx.body.project_id) then
    return nil, problem.err("forbidden", "This service has one project only (ENABLE_MULTI_TENANT).")
  end
  local db, stored = master(), schema.to_stored(ty, ctx.body)
  local there, err = db:find_one(coll, {_id = stored._id}, {projection = {"_id"}})
  if err then return nil, err end
  if there then return nil, problem.err("already_exists", "A project of this id exists.") end
  local number
  number, err = M.next_number()
  if not number then return nil, err end
  local now = value.date(clock.now())
  stored.version, stored.number, stored.created_at, stored.updated_at = 1, number, now, now
  stored.status = "active"
  local result = answer.created("/api/v1/master/projects/" .. stored._id, schema.to_json(ty, stored), 1)
  local changes = audit.changes(ty, nil, schema.to_plain(ty, stored))
  stored.status = "creating"
  local done
  done, err = commit.run(ctx, db, {
    {op = "insert", coll = coll, doc = stored},
    audit.entry(ctx.principal, "project.create", "project", stored._id, changes, ctx.req),
  }, result)
  if not done then
    if err.code == "already_exists" and err.coll == coll then
      return nil, problem.err("already_exists", "A project of this id exists.")
    end
    return nil, err
  end
  local ok
  ok, err = make_database(stored._id)
  if ok then ok, err = activate(stored._id) end
  if not ok then
    take_back(ctx, stored, err)
    return nil, err
  end
  return result
end

---Finish what a worker that died left in `creating`. At worker start. One that cannot be made now is left to
---the next start: the other projects are served.
---@return true|nil
---@return kontor.Error|nil
function M.finish_pending()
  local list, err = master():find(coll, {status = "creating"}, {projection = {"_id"}, sort = {{"_id", 1}}})
  if not list then return nil, err end
  for _, doc in ipairs(list) do
    local ok
    ok, err = make_database(doc._id)
    if ok then ok, err = activate(doc._id) end
    if ok then log.info("project.finished", {project_id = doc._id})
    else log.error("project.unfinished", {project_id = doc._id, msg = tostring(err.code) .. ": " .. tostring(err.message)}) end
  end
  return true
end

---The project that DEFAULT_PROJECT_ID names is made at the first start.
---@return true|nil
---@return kontor.Error|nil
function M.ensure_default()
  local id = config.get("DEFAULT_PROJECT_ID")
  local there, err = master():find_one(coll, {_id = id}, {projection = {"_id"}})
  if err then return nil, err end
  if there then return true end
  local principal = principals.system()
  local plain = assert(schema.check(ty, {project_id = id, project_name = "Default", customer_name = "Default"},
    "create", {principal = principal}))
  local made
  made, err = M.create{principal = principal, body = plain}
  -- Another worker may have been first.
  if not made and err.code ~= "already_exists" then return nil, err end
  return true
end

---PUT /master/projects/{project_id}. The project keeps no history.
function M.replace(ctx)
  local db = master()
  if not M.exists_here(ctx.params.project_id) then return nil, problem.err("not_found") end
  for _ = 1, replace_attempts do
    local before, err = db:find_one(coll, {_id = ctx.params.project_id})
    if not before then return nil, err or problem.err("not_found") end
    local ok
    ok, err = if_match.check(ctx, before.version)
    if not ok then return nil, err end
    local old = schema.to_plain(ty, before)
    local errors = schema.check_repeated(ctx.checked, old)
    if #errors > 0 then return nil, problem.err("validation_failed", nil, {errors = errors}) end
    if before.status ~= "active" and before.status ~= "suspended" then return nil, problem.err("invalid_state") end
    local after = schema.to_stored(ty, ctx.body)
    for _, name in ipairs{"_id", "created_by", "status", "number", "created_at"} do after[name] = before[name] end
    after.version, after.updated_at = before.version + 1, value.date(clock.now())
    local result = answer.text(200, schema.to_json(ty, after), {ETag = answer.etag(after.version)})
    local done
    done, err = commit.run(ctx, db, {
      {op = "replace", coll = coll, filter = {_id = before._id, version = before.version, status = before.status},
        doc = after, must_match = true},
      audit.entry(ctx.principal, "project.update", "project", before._id,
        audit.changes(ty, old, schema.to_plain(ty, after)), ctx.req),
    }, result)
    if done then return done end
    if err.code ~= "conflict" then return nil, err end
  end
  return nil, problem.err("conflict")
end

return M
