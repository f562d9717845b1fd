-- The quotas of a project: what is used of them, and the refusal when one is used up. Each is
-- enforced where its thing is made: running and queued in engine/queue.lua, requests in
-- http/rate.lua, datasets in domain/dataset.lua, storage in
-- domain/table_upload.lua.

local answer = require "http.answer"
local json = require "json"
local problem = require "http.problem"
local rate = require "http.rate"
local schema = require "http.schema"
local T = require "http.types"

local M = {}

local names = {"running", "queued", "datasets", "storage_bytes", "requests_per_minute"}

M.types = {
  quotas = T.object("QuotaUse", {
    {"project_id", T.project_id},
    {"quotas", T.list(T.object("QuotaState", {{"name", T.enum(names)}, {"used", T.int(0)}, {"limit", T.int(0)}}))},
  }),
}

---@param name string a quota that refuses with 403
---@param used integer
---@param limit integer
---@param why? string what does not fit
---@return kontor.Error
function M.exceeded(name, used, limit, why)
  return problem.err("quota_exceeded", ("The project's quota %s is used up: %.0f of %.0f%s."):format(name, used, limit,
    why and ", " .. why or ""), {quota = {name = name, used = used, limit = limit}})
end

---What a project uses of each quota now.
---@param project kontor.Project
---@return table<string,integer>|nil by name
---@return kontor.Error|nil
function M.used(project)
  local db, used, err = project.db, {}
  used.running, err = db:count("kt_p_executions", {status = "running"})
  if not used.running then return nil, err end
  used.queued, err = db:count("kt_p_executions", {{"status", "in", {"queued", "delayed"}}})
  if not used.queued then return nil, err end
  local usage
  usage, err = db:find_one("kt_p_counters", {_id = "usage"})
  if not usage then return nil, err or {code = "store_corrupt", message = db.name .. ": kt_p_counters has no usage"} end
  used.datasets, used.storage_bytes = usage.datasets, usage.storage_bytes
  used.requests_per_minute = rate.used(project)
  return used
end

---GET …/quotas.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.get(ctx)
  local used, err = M.used(ctx.project)
  if not used then return nil, err end
  local list = {}
  for i, name in ipairs(names) do list[i] = {name = name, used = used[name], limit = ctx.project.doc.quotas[name]} end
  return answer.text(200, schema.to_json(M.types.quotas, {project_id = ctx.project.id, quotas = json.array(list)}))
end

return M
