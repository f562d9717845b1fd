--- data.get(kind, id) and data.list(kind, filter): documents of the run's own project, as the API
--- shows them. Which project that is comes from the run; a script cannot name one.

local json = require "json"
local value = require "value"

local M = {}

--- Answers of data.list.
local LIST_LIMIT = 100

---@class door.Kind
---@field collection string
---@field filters table<string, boolean> fields that data.list may compare
---@field view userdata

local function kind(collection, id, filters, fields)
  local set = {}
  for _, name in ipairs(filters) do
    set[name] = true
  end
  local view = { { "_id", id } }
  for i, field in ipairs(fields) do
    view[i + 1] = { field, field }
  end
  return { collection = collection, filters = set, view = value.view(view) }
end

---@type table<string, door.Kind>
local KINDS = {
  dataset = kind("kt_p_datasets", "dataset_id", { "status", "mapping", "source" }, {
    "name", "status", "source", "mapping", "as_of", "parent_id", "tables", "bytes", "warnings",
    "metadata", "created_at", "sealed_at" }),
  execution = kind("kt_p_executions", "execution_id", { "status", "instance_id", "agent_id" }, {
    "instance_id", "agent_id", "status", "stop_reason", "attempt", "input_data", "variables",
    "metadata", "created_at", "started_at", "finished_at", "duration_ms", "error" }),
  result = kind("kt_p_results", "result_id", { "execution_id", "instance_id", "agent_id", "status" }, {
    "execution_id", "instance_id", "agent_id", "status", "stop_reason", "partial", "output", "report",
    "artifacts", "metrics", "warnings", "error", "created_at" }),
  finding = kind("kt_p_findings", "finding_id", { "instance_id", "rule_id", "category", "severity", "status", "present",
    "last_execution_id" }, {
    "rule_id", "rule_version", "finding_key", "category", "reason", "severity", "impact",
    "overlap_key", "explanation", "evidence", "instance_id", "first_execution_id", "last_execution_id",
    "first_seen_at", "last_seen_at", "present", "status", "owner", "due_date", "note" }),
  instance = kind("kt_p_agent_instances", "instance_id", { "agent_id" }, {
    "agent_id", "agent_ref", "name", "description", "system_prompt_variables",
    "custom_settings", "version", "created_at" }),
}

local function invalid(message)
  return nil, { code = "validation_failed", message = message, retryable = false }
end

local function kind_of(name)
  local k = type(name) == "string" and KINDS[name]
  if not k then
    return invalid("there is no kind " .. tostring(name) .. " of data")
  end
  return k
end

--- data.get(kind, id) -> document, or json.null
M.get = { class = "read" }

---@param call door.Call
function M.get.run(call)
  local k, bad = kind_of(call.args.kind)
  if not k then
    return nil, bad
  end
  local id = call.args.id
  if type(id) ~= "string" or #id > 200 then
    return invalid("data.get wants an id")
  end
  local filter = { _id = id }
  if k.collection == "kt_p_results" then
    filter = { execution_id = id }
  end
  local text, err = call.run.db:find_one_json(k.collection, filter, k.view)
  if not text then
    return nil, err
  end
  return json.decode(text)
end

--- data.list(kind, filter) -> up to 100 documents, the newest first
M.list = { class = "read" }

---@param call door.Call
function M.list.run(call)
  local k, bad = kind_of(call.args.kind)
  if not k then
    return nil, bad
  end
  local filter = {}
  for name, wanted in pairs(type(call.args.filter) == "table" and call.args.filter or {}) do
    if not k.filters[name] then
      return invalid("data.list cannot filter by " .. tostring(name))
    end
    local scalar = type(wanted)
    if scalar ~= "string" and scalar ~= "number" and scalar ~= "boolean" then
      return invalid("the filter " .. name .. " must be a text, number or boolean")
    end
    filter[name] = wanted
  end
  local text, err = call.run.db:find_json(k.collection, filter,
    { sort = { { "_id", -1 } }, limit = LIST_LIMIT, view = k.view })
  if not text then
    return nil, err
  end
  return json.decode(text)
end

return M
