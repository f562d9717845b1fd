-- Agent templates.

local agent = require "domain.agent"
local crud = require "routes.crud"
local lists = require "domain.lists"
local T = require "http.types"

return crud.routes{
  kind = agent.kind, name = "Agent", base = "/api/v1/master/agents", id_type = T.slug, role = "author",
  tag = "agents", what = "an agent template", sort = lists.by_id,
  example = {agent_id = "invoice-watch", name = "Invoice watch", category = "erp",
    workflow = "agents/erp-exception-management/workflow.lua",
    variables = require("json").array{{name = "company", type = "string", description = "Whose books they are"}},
    settings = {timeout = 600}},
  replace_example = {name = "ERP exception management", category = "erp",
    workflow = "agents/erp-exception-management/workflow.lua", settings = {timeout = 900}},
  example_id = "erp-exception-management",
}
