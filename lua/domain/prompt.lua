-- System prompts (kt_m_system_prompts): Jinja2 templates with declared variables. One with a fault in its text is
-- refused; that an included prompt is there shows only when a run renders it.

local json = require "json"
local agent = require "domain.agent"
local problem = require "http.problem"
local template = require "template"
local T = require "http.types"
local versions = require "domain.versions"

local M = {}

M.types = {
  prompt = versions.type("SystemPrompt", {
    {"prompt_id", T.slug, required = true, immutable = true},
    {"name", T.str{min = 1}, required = true},
    {"description", T.str{max = 2000}, default = ""},
    {"template", T.text(262144), required = true},
    {"variables", agent.types.variables, default = json.array{}},
    {"undefined", T.enum{"strict", "default"}, default = "strict"},
  }),
}

local function check(_, plain, _, before)
  local ok, err = template.compile(plain.template, before and before._id or plain.prompt_id)
  if ok then return nil end
  return nil, problem.err("template_error", err.message,
    {errors = {{pointer = "/template", code = "invalid", message = err.message}}})
end

M.kind = {
  kind = "system_prompt", coll = "kt_m_system_prompts", versions = "kt_m_versions", audit = "system_prompt",
  id_field = "prompt_id", type = M.types.prompt, check = check,
  path = function(_, id) return "/api/v1/master/system-prompts/" .. id end,
}

return M
