-- Reading the audit log, of a project and of the whole.

local audit = require "domain.audit"
local days = require "http.days"
local lists = require "domain.lists"
local project = require "domain.project"
local T = require "http.types"
local value = require "value"

local ty = audit.types.entry
local filters = {"actor", "action", "target_type", "target_id", "outcome"}
local newest = {{"at", -1}, {"_id", -1}}

local query = lists.query{
  days.query[1], days.query[2],
  {"actor", T.str(), doc = "a principal_id"}, {"action", T.str(), doc = "as project.create"},
  {"target_type", T.str()}, {"target_id", T.str()}, {"outcome", T.enum{"ok", "denied", "error"}},
}

local function list(db_of, coll)
  return function(ctx)
    local from, before = days.window(ctx.query)
    if not from then return nil, before end
    local filter = {{"at", "gte", value.date(from)}, {"at", "lt", value.date(before)}}
    for _, name in ipairs(filters) do filter[name] = ctx.query[name] end
    return lists.page(ctx, {db = db_of(ctx), coll = coll, filter = filter, type = ty, sort = newest})
  end
end

return {
  {method = "GET", path = "/api/v1/projects/{project_id}/audit-log", operation_id = "listAudit", role = "viewer", tag = "audit",
    summary = "Who did what in a project", params = {project_id = T.project_id}, query = query,
    answers = {[200] = {list = ty, doc = "A page, newest first"}},
    handler = list(function(ctx) return ctx.project.db end, "kt_p_audit_log")},
  {method = "GET", path = "/api/v1/master/audit-log", operation_id = "listMasterAudit", role = "admin", whole = true, tag = "audit",
    summary = "Who did what to master data, and who was refused", query = query,
    answers = {[200] = {list = ty, doc = "A page, newest first"}},
    handler = list(project.master, "kt_m_audit_log")},
}
