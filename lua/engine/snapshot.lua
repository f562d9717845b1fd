--- What a run depends on: pinned when it is accepted, read again by version whenever it goes on.

local agents = require "domain.agent"
local instances = require "domain.instance"
local json = require "json"
local places = require "lib.places"
local prompts = require "domain.prompt"
local registry = require "scripts.registry"
local tools = require "domain.tool"
local versions = require "domain.versions"

local M = {}

--- Version of the door's calls and of the journal's meaning.
M.DOOR = 1

local DEFAULTS = { timeout = 900, max_steps = 20, max_attempts = 3, enable_detailed_logging = false }
--- Settings that an execution may set by its input_data.
local FROM_INPUT = { "categories", "rules", "mapping", "as_of" }

local function set(value)
  return value ~= nil and value ~= json.null
end

--- Effective settings: input_data over the instance's over the template's over the defaults;
--- rule_params are merged by parameter, the project's lowest.
---@param project table
---@param template table
---@param instance table
---@param input table input_data
---@return table settings
function M.settings(project, template, instance, input)
  local settings, params = {}, {}
  local function layer(values, rule_params)
    for name, value in pairs(values or {}) do
      if set(value) and name ~= "rule_params" then
        settings[name] = value
      end
    end
    for name, value in pairs(set(rule_params) and rule_params or {}) do
      params[name] = value
    end
  end
  layer(DEFAULTS, project.doc.rule_params)
  layer(template.settings, template.settings and template.settings.rule_params)
  layer(instance.custom_settings, instance.custom_settings and instance.custom_settings.rule_params)
  local chosen = {}
  for _, name in ipairs(FROM_INPUT) do
    chosen[name] = input[name]
  end
  layer(chosen, input.rule_params)
  settings.rule_params = params
  return settings
end

---@class engine.Pinned
---@field instance table
---@field template table
---@field bundle {sha256: string, files: table<string, string>}
---@field tools table<string, table> stored form by id
---@field snapshot table

--- Ids of the agent's tools: the instance's list, else its template's.
local function tool_ids(template, instance)
  local ids = set(instance.tools) and instance.tools or template.tools
  return set(ids) and ids or {}
end

--- The agent's tools as they are now.
local function take_tools(ids)
  if #ids == 0 then
    return {}
  end
  local docs, err = places.master():find(tools.kind.coll, { { "_id", "in", ids } }, { limit = #ids })
  local found = docs and {}
  for _, doc in ipairs(docs or {}) do
    found[doc._id] = doc
  end
  return found, err
end

local function load_tools(pinned)
  local found = {}
  for id, version in pairs(set(pinned) and pinned or {}) do
    local err
    found[id], err = versions.resolve(tools.kind, places.master(), id, tostring(version))
    if not found[id] then
      return nil, err
    end
  end
  return found
end

local function versions_of(found)
  local numbers = {}
  for id, doc in pairs(found) do
    numbers[id] = doc.version
  end
  return numbers
end

local function script_paths(found)
  local paths = {}
  for _, doc in pairs(found) do
    if doc.kind == "script" then
      paths[#paths + 1] = doc.script
    end
  end
  table.sort(paths)
  return paths
end

--- What a new run of an agent takes from master data, with the tools of the instance's list where it has one.
---@return {template: table, tools: table<string, table>, bundle: table, prompt: table?}? taken, table? err
local function of_agent(_, agent_id, ref, listed)
  local master = places.master()
  local template, err = versions.resolve(agents.kind, master, agent_id, ref)
  if not template then
    return nil, err
  end
  local found, bundle
  found, err = take_tools(tool_ids(template, { tools = listed }))
  if not found then
    return nil, err
  end
  bundle, err = registry.bundle_for(template, script_paths(found))
  if not bundle then
    return nil, err
  end
  local prompt
  if set(template.system_prompt_id) then
    prompt, err = versions.resolve(prompts.kind, master, template.system_prompt_id,
      set(template.system_prompt_ref) and template.system_prompt_ref or "latest")
    if not prompt then
      return nil, err
    end
  end
  return { template = template, tools = found, bundle = bundle, prompt = prompt }
end

--- Pin everything for a new run.
---@param instance table the head
---@return engine.Pinned? pinned, table? err
function M.take(instance)
  local ref, listed = instance.agent_ref or "latest", set(instance.tools) and instance.tools or nil
  local key = ("agent/%s/%s/%s"):format(instance.agent_id, ref, listed and table.concat(listed, " ") or "*")
  local taken, err = places.kept:get(key, of_agent, instance.agent_id, ref, listed)
  if not taken then
    return nil, err
  end
  local template, bundle, prompt, found = taken.template, taken.bundle, taken.prompt, taken.tools
  return {
    instance = instance,
    template = template,
    bundle = bundle,
    tools = found,
    snapshot = {
      bundle = bundle.sha256,
      agent_version = template.version,
      instance_version = instance.version,
      prompt_version = prompt and prompt.version or json.null,
      model_config_version = json.null,
      price_version = json.null,
      tools = versions_of(found),
      door = M.DOOR,
    },
  }
end

--- What a run may do, kept with it: it acts with the rights of who started it, in this project alone,
--- and with no tool that its agent does not have. The door asks nothing else.
---@param principal kontor.Principal
---@param pinned engine.Pinned
---@return {principal_id: string, role: string, via: string, tools: string[]}
function M.capability(principal, pinned)
  return {
    principal_id = principal.id, role = principal.role, via = principal.via,
    tools = json.array { unpack(tool_ids(pinned.template, pinned.instance)) },
  }
end

--- The same things again, for a run that was accepted before.
---@param db table the project's database
---@param doc table execution
---@return engine.Pinned? pinned, table? err
function M.load(db, doc)
  local snapshot = doc.snapshot
  local instance, template, bundle, found, err
  instance, err = versions.resolve(instances.kind, db, doc.instance_id, tostring(snapshot.instance_version))
  if instance then
    template, err = versions.resolve(agents.kind, places.master(), doc.agent_id, tostring(snapshot.agent_version))
  end
  if template then
    bundle, err = registry.load(snapshot.bundle)
  end
  if bundle then
    found, err = load_tools(snapshot.tools)
  end
  if not found then
    return nil, err
  end
  return { instance = instance, template = template, bundle = bundle, tools = found, snapshot = snapshot }
end

return M
