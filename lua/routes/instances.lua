-- Agent instances of a project.

local crud = require "routes.crud"
local ids = require "domain.ids"
local instance = require "domain.instance"
local T = require "http.types"
local versions = require "domain.versions"

return crud.routes{
  kind = instance.kind, name = "AgentInstance", base = "/api/v1/projects/{project_id}/agent-instances",
  id_type = T.instance_id, params = {project_id = T.project_id}, role = "author", tag = "agent-instances",
  what = "an agent instance", filters = {{"agent_id", T.slug, doc = "of this template"}},
  filter = function(ctx, filter) filter.agent_id = ctx.query.agent_id end,
  create = function(ctx)
    ctx.body.instance_id, ctx.body.project_id = ids.new("inst"), ctx.project.id
    return versions.create(instance.kind, ctx, ctx.project.db)
  end,
  example = {agent_id = "erp-exception-management", name = "Exceptions of Acme",
    custom_settings = {rule_params = {["INV-001.horizon_days"] = "14"}}},
  replace_example = {name = "Exceptions of Acme, renamed"},
}
