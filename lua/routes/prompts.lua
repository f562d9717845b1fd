-- System prompts.

local crud = require "routes.crud"
local json = require "json"
local lists = require "domain.lists"
local prompt = require "domain.prompt"
local T = require "http.types"

return crud.routes{
  kind = prompt.kind, name = "SystemPrompt", base = "/api/v1/master/system-prompts", id_type = T.slug, role = "author",
  tag = "system-prompts", what = "a system prompt", sort = lists.by_id,
  example = {prompt_id = "greeting", name = "Greeting", template = "You work for {{ company }}.",
    variables = json.array{{name = "company", required = true}}},
  replace_example = {name = "ERP exceptions", template = "You look at the books of {{ company }}.",
    variables = json.array{{name = "company", default = "the company"}}},
  example_id = "erp-exception-management",
}
