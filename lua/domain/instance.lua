-- Agent instances (kt_p_agent_instances): a template put to work in a project, with its own
-- variables and settings.

local agent = require "domain.agent"
local choices = require "erp.choices"
local given = require "lib.given"
local places = require "lib.places"
local project = require "domain.project"
local registry = require "scripts.registry"
local T = require "http.types"
local versions = require "domain.versions"

local M = {}

M.types = {
  instance = versions.type("AgentInstance", {
    {"instance_id", T.instance_id, ro = true},
    {"project_id", T.project_id, ro = true},
    {"agent_id", T.slug, required = true, immutable = true},
    {"agent_ref", T.ref, default = "latest"},
    {"name", T.str{min = 1}, required = true},
    {"description", T.str{max = 2000}, default = ""},
    {"system_prompt_variables", T.map(), default = {}},
    {"custom_settings", agent.types.settings, default = {}},
    {"tools", agent.types.tool_ids, nullable = true},
    {"mcp_servers", agent.types.slugs, nullable = true},
  }),
}

---Values for a template's variables: their types. Names that the template does not declare may be
---there too (the map is open); what is required is asked when a run is made (check_required).
---@param variables table[] of the template, stored form
---@param values table<string, any>
---@param pointer string of the map
---@param errors kontor.FieldError[]
function M.check_variables(variables, values, pointer, errors)
  for _, v in ipairs(variables) do
    local x = given(values[v.name])
    if x ~= nil and not agent.fits(v.type, x) then
      errors[#errors + 1] = {pointer = pointer .. "/" .. v.name, code = "type", message = "must be of type " .. v.type}
    end
  end
end

---What a new run must be given: the required variables of its template that have no default.
---@param variables table[] of the template, stored form
---@param own table<string, any> the instance's values
---@param given_now table<string, any> the execution's
---@param pointer string of the execution's map
---@param errors kontor.FieldError[]
function M.check_required(variables, own, given_now, pointer, errors)
  for _, v in ipairs(variables) do
    if v.required == true and given(v.default) == nil and given(own[v.name]) == nil and given(given_now[v.name]) == nil then
      errors[#errors + 1] = {pointer = pointer .. "/" .. v.name, code = "required",
        message = "is required by the agent, here or in the instance's system_prompt_variables"}
    end
  end
end

---The instance's values over the defaults of its template.
---@param variables table[] of the template, stored form
---@param own table<string, any>
---@return table<string, any>
function M.with_defaults(variables, own)
  local values = {}
  for _, v in ipairs(variables) do values[v.name] = given(v.default) end
  for name, value in pairs(own) do values[name] = value end
  return values
end

local function check(_, plain, _, before)
  local errors, master = {}, project.master()
  local agent_id = before and before.agent_id or plain.agent_id
  local template, err = places.kept:get("template/" .. agent_id .. "/" .. plain.agent_ref, function()
    return versions.resolve(agent.kind, master, agent_id, plain.agent_ref)
  end)
  if not template then
    if err.code ~= "not_found" then return nil, err end
    local head = master:find_one("kt_m_agents", {_id = agent_id}, {projection = {"_id"}})
    errors[#errors + 1] = {pointer = head and "/agent_ref" or "/agent_id", code = "not_found", message = "does not exist"}
    return errors
  end
  M.check_variables(template.variables, plain.system_prompt_variables, "/system_prompt_variables", errors)
  local settings = plain.custom_settings
  err = agent.check_ids(master, "kt_m_tools", plain.tools, "/tools", errors)
    or agent.check_ids(master, "kt_m_mcps", plain.mcp_servers, "/mcp_servers", errors)
    or agent.check_id(master, "kt_m_model_configs", settings.model_config_id, "/custom_settings/model_config_id", errors)
  if err then return nil, err end
  local bundle = places.kept:get("bundle/" .. template._id .. "/" .. template.workflow, function()
    return registry.bundle_for(template)
  end) -- none: its workflow is not there yet
  if bundle then choices.check(bundle.files, settings, "/custom_settings", errors) end
  return errors
end

M.kind = {
  kind = "agent_instance", coll = "kt_p_agent_instances", versions = "kt_p_versions", audit = "agent_instance",
  id_field = "instance_id", type = M.types.instance, check = check,
  path = function(ctx, id)
    return ("/api/v1/projects/%s/agent-instances/%s"):format(ctx.project.id, id)
  end,
}

return M
