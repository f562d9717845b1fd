-- What the engine's specs share: a store of their own, a project with an agent and its instance, and
-- running an execution to its end.

local agents = require "domain.agent"
local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local engine = require "engine"
local file = require "kt.file"
local instances = require "domain.instance"
local json = require "json"
local migrations = require "domain.migrations"
local places = require "domain.store_helper"
local principals = require "http.principal"
local projects = require "domain.project"
local registry = require "scripts.registry"
local schema = require "http.schema"
local runner = require "engine.runner"
local task = require "kt.task"
local tools = require "domain.tool"
local versions = require "domain.versions"
local vms = require "engine.vms"

local M = {}

M.principal = principals.system()

local opened, number, ids = nil, 0, {}

--- Open the store, once for all specs of the process.
function M.open()
  if opened then return end
  local master
  master, opened = places.open()
  assert(migrations.load("."))
  assert(migrations.run("master", master))
end

--- Before each test: start the engine as a new worker.
function M.start()
  assert(engine.start { slot = 0, epoch = crypto.uuid7(), home = "." })
end

--- After each test: nothing runs any more, and the engine's own loops have ended.
function M.stop()
  engine.drain(5)
  vms.close()
end

--- Close it and leave nothing behind.
function M.close()
  if not opened then return end
  opened()
  opened = nil
  for _, id in ipairs(ids) do file.remove(config.get("ERP_REPORTS_DIRECTORY") .. "/" .. id) end
  ids = {}
end

local function made(type, fields)
  local plain, result = schema.check(type, fields, "create", { principal = M.principal })
  assert(plain, result and result.errors and json.encode(result.errors))
  return plain
end

--- A project with an agent whose workflow is `source`, and an instance of it.
---@param source string
---@param more {quotas: table?, settings: table?, files: table<string, string>?, tools: table[]?, variables: table[]?, input_schema: table?, output_schema: table?}? tools: made
--- with their ids, and the agent's
---@return table project, string instance_id, string agent_id
function M.project(source, more)
  M.open()
  more = more or {}
  number = number + 1
  local tag = number .. "-" .. tostring(clock.now()):gsub("%D", "")
  local id, agent_id = "spec-" .. tag, "agent-" .. tag
  ids[#ids + 1] = id
  assert(projects.create { principal = M.principal, body = made(projects.types.project, {
    project_id = id, project_name = "Spec", customer_name = "Spec", quotas = more.quotas or {} }) })
  local changes = { ["agents/" .. agent_id .. "/workflow.lua"] = source }
  for name, text in pairs(more.files or {}) do changes["agents/" .. agent_id .. "/" .. name] = text end
  assert(registry.activate(changes, { principal = M.principal }))
  local context = { principal = M.principal, params = {} }
  local names = json.array {}
  for i, fields in ipairs(more.tools or {}) do
    names[i] = fields.tool_id
    context.body = made(tools.types.tool, fields)
    local done, err = versions.create(tools.kind, context, projects.master())
    assert(done, err and json.encode(err.errors or err.message))
  end
  context.body = made(agents.types.agent,
    { agent_id = agent_id, name = "Spec", settings = more.settings or {}, tools = names, variables = more.variables,
      input_schema = more.input_schema, output_schema = more.output_schema })
  assert(versions.create(agents.kind, context, projects.master()))
  local project = assert(projects.open(id))
  context = { principal = M.principal, params = {}, project = project }
  context.body = made(instances.types.instance, { agent_id = agent_id, name = "Spec" })
  context.body.instance_id = require("domain.ids").new("inst")
  context.body.project_id = id
  assert(versions.create(instances.kind, context, project.db))
  return project, context.body.instance_id, agent_id
end

--- Accept an execution.
---@param project table
---@param instance_id string
---@param body table?
---@return table doc public form
function M.accept(project, instance_id, body)
  body = body or {}
  body.instance_id = instance_id
  local doc, err = engine.execution.accept(project, M.principal,
    made(require("domain.execution").create, body))
  assert(doc, err and (err.code .. ": " .. err.message))
  return doc
end

--- Wait for the end; the execution with its result.
---@param project table
---@param id string
---@param seconds number?
function M.ended(project, id, seconds)
  local doc = assert(engine.execution.wait(project, id, seconds or 20))
  assert(require("engine.states").FINAL[doc.status], "it is still " .. doc.status)
  return doc
end

--- Wait until `what` gives something true, and give it back.
---@generic T
---@param what fun(): T?
---@return T
function M.eventually(what)
  for _ = 1, 1000 do
    local got = what()
    if got then return got end
    task.sleep(0.01)
  end
  error("it did not happen", 2)
end

--- Wait until a run is no longer this worker's.
---@param id string
function M.gone(id)
  M.eventually(function() return not runner.get(id) end)
end

--- Run a workflow to its end.
function M.run(project, instance_id, body)
  return M.ended(project, M.accept(project, instance_id, body).execution_id)
end

--- The types of a run's numbered events; asserts that seq has no gap.
---@return string[] types, table[] events
function M.events(project, id)
  local list = assert(engine.follow.list(project.id, id, 0, 10000))
  local types = {}
  for i, event in ipairs(list) do
    assert(event.seq == i, "seq " .. event.seq .. " at place " .. i)
    types[i] = event.type
  end
  return types, list
end

--- Rules, mappings and libs of the shipped agent, for workflows that sweep.
---@return table<string, string> source by path below the agent
function M.erp_files()
  local prefix = "agents/erp-exception-management/"
  local files = {}
  for path, source in pairs(assert(require("scripts.seed").files("."))) do
    local name = path:match("^" .. prefix:gsub("%-", "%%-") .. "(.+)$")
    if name and name ~= "workflow.lua" and name:find("%.lua$") then files[name] = source end
  end
  return files
end

return M
