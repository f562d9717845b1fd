-- Agent templates (kt_m_agents): what an agent is, shared by all projects.

local choices = require "erp.choices"
local json = require "json"
local json_schema = require "lib.json_schema"
local registry = require "scripts.registry"
local T = require "http.types"
local versions = require "domain.versions"

local M = {}

local variable = T.object("Variable", {
  {"name", T.str{max = 64, pattern = "^[A-Za-z_][A-Za-z0-9_]{0,63}$",
    match = function(s) return s:find("^[A-Za-z_][A-Za-z0-9_]*$") end}, required = true},
  {"type", T.enum{"string", "number", "boolean", "array", "object"}, default = "string"},
  {"required", T.bool, default = false},
  {"default", T.any, nullable = true},
  {"description", T.str{max = 2000}, default = ""},
})

local rule_ids = T.list(T.str{max = 64, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$",
  match = function(s) return s:find("^[A-Za-z0-9][A-Za-z0-9._-]*$") end}, {max = 200, unique = true})

-- Those of the settings that choose what an analysis does; also known keys of input_data.
M.rule_settings = {
  {"categories", rule_ids, nullable = true, doc = "Only rules of these; null or empty: of all"},
  {"rules", rule_ids, nullable = true, doc = "Only these; null or empty: all"},
  {"rule_params", T.map(), doc = "RULE.name to a value; null makes a threshold inactive"},
  {"mapping", T.str{max = 64}, nullable = true},
  {"as_of", T.date, nullable = true},
}

local function settings()
  local list = {
    {"timeout", T.num(1, 86400)},
    {"enable_detailed_logging", T.bool},
    {"max_steps", T.int(1, 1000)},
    {"max_attempts", T.int(1, 20)},
    {"budget_usd", T.usd, nullable = true},
    {"model_config_id", T.slug, nullable = true},
    {"temperature", T.num(0, 10), nullable = true},
    {"max_output_tokens", T.int(1, 10000000), nullable = true},
  }
  for _, f in ipairs(M.rule_settings) do list[#list + 1] = f end
  return list
end

local slugs = T.list(T.slug, {max = 100, unique = true})
local tool_ids = T.list(T.tool_id, {max = 100, unique = true})

M.types = {
  variables = T.list(variable, {max = 200, unique = "name"}),
  settings = T.map(settings(), "Settings"),
  tool_ids = tool_ids,
  slugs = slugs,
}

M.types.agent = versions.type("AgentTemplate", {
  {"agent_id", T.slug, required = true, immutable = true},
  {"name", T.str{min = 1}, required = true},
  {"description", T.str{max = 2000}, default = ""},
  {"category", T.str{max = 64}, default = "general"},
  {"workflow", T.script_path, nullable = true, doc = "agents/<agent_id>/workflow.lua when absent"},
  {"system_prompt_id", T.slug, nullable = true},
  {"system_prompt_ref", T.ref, default = "latest"},
  {"model_config_id", T.slug, nullable = true},
  {"fallback_model_config_ids", slugs, default = json.array{}},
  {"tools", tool_ids, default = json.array{}},
  {"mcp_servers", slugs, default = json.array{}},
  {"variables", M.types.variables, default = json.array{}},
  {"settings", M.types.settings, default = {}},
  {"input_schema", T.json_schema, nullable = true, doc = "what input_data must be; an execution that does not fit is refused"},
  {"output_schema", T.json_schema, nullable = true, doc = "what the workflow returns; a run whose output does not fit has failed"},
})

local function missing(pointer)
  return {pointer = pointer, code = "not_found", message = "does not exist"}
end

---Every thing that a body names must exist.
---@param db table the master database
---@param coll string
---@param ids string[]|nil
---@param pointer string of the list
---@param errors kontor.FieldError[]
---@return kontor.Error|nil
local function check_ids(db, coll, ids, pointer, errors)
  if not ids or ids == json.null or #ids == 0 then return nil end
  local found, err = db:find(coll, {{"_id", "in", ids}}, {projection = {"_id"}, limit = #ids})
  if not found then return err end
  local there = {}
  for _, doc in ipairs(found) do there[doc._id] = true end
  for i, id in ipairs(ids) do
    if not there[id] then errors[#errors + 1] = missing(pointer .. "/" .. (i - 1)) end
  end
end
M.check_ids = check_ids

local function check_id(db, coll, id, pointer, errors)
  if not id or id == json.null then return nil end
  local doc, err = db:find_one(coll, {_id = id}, {projection = {"_id"}})
  if err then return err end
  if not doc then errors[#errors + 1] = missing(pointer) end
end
M.check_id = check_id

local value_types = {string = "string", number = "number", boolean = "boolean"}

---Does a value fit a declared variable's type?
---@param kind string
---@param v any
function M.fits(kind, v)
  if kind == "array" then return type(v) == "table" and getmetatable(v) == json.array_mt end
  if kind == "object" then return type(v) == "table" and getmetatable(v) ~= json.array_mt end
  return type(v) == value_types[kind]
end

local function check(_, plain, db, before)
  local errors = {}
  if plain.workflow == json.null then
    plain.workflow = "agents/" .. (before and before._id or plain.agent_id) .. "/workflow.lua"
  end
  local err = check_id(db, "kt_m_system_prompts", plain.system_prompt_id, "/system_prompt_id", errors)
    or check_id(db, "kt_m_model_configs", plain.model_config_id, "/model_config_id", errors)
    or check_ids(db, "kt_m_model_configs", plain.fallback_model_config_ids, "/fallback_model_config_ids", errors)
    or check_ids(db, "kt_m_tools", plain.tools, "/tools", errors)
    or check_ids(db, "kt_m_mcps", plain.mcp_servers, "/mcp_servers", errors)
  if err then return nil, err end
  local bundle = registry.bundle_for{_id = before and before._id or plain.agent_id, workflow = plain.workflow}
  if bundle then choices.check(bundle.files, plain.settings, "/settings", errors) end -- none: its workflow is not there yet
  for _, name in ipairs{"input_schema", "output_schema"} do
    if plain[name] ~= json.null then json_schema.check_schema(plain[name], "/" .. name, errors) end
  end
  for i, v in ipairs(plain.variables) do
    if v.default ~= json.null and v.default ~= nil and not M.fits(v.type, v.default) then
      errors[#errors + 1] = {pointer = ("/variables/%d/default"):format(i - 1), code = "type",
        message = "must be of the variable's type, " .. v.type}
    end
  end
  return errors
end

M.kind = {
  kind = "agent", coll = "kt_m_agents", versions = "kt_m_versions", audit = "agent", id_field = "agent_id",
  type = M.types.agent, check = check,
  path = function(_, id) return "/api/v1/master/agents/" .. id end,
}

return M
