--- The door's ERP calls: which data set, and the sweep over it.

local given = require "lib.given"
local json = require "json"
local storage = require "domain.storage"
local sweep = require "erp.sweep"
local tables = require "domain.tables"

local M = {}

--- Warnings of a sweep that its answer carries.
local WARNINGS = 50

local function missing(id)
  return nil, { code = "dataset_missing", message = "there is no sealed dataset " .. tostring(id), retryable = false }
end

--- erp.load(dataset_id?) -> {dataset_id, name, mapping, as_of, tables}; without an id the newest
--- sealed one; {} when the project has none.
M.load = { class = "read" }

---@param call door.Call
function M.load.run(call)
  local id, db = given(call.args.dataset_id), call.run.db
  local dataset, err
  if id ~= nil then
    if type(id) ~= "string" then
      return missing(id)
    end
    dataset, err = db:find_one("kt_p_datasets", { _id = id, status = "sealed" })
    if not dataset and not err then
      return missing(id)
    end
  else
    dataset, err = db:find_one("kt_p_datasets", { status = "sealed" },
      { sort = { { "sealed_at", -1 }, { "_id", -1 } } })
  end
  if err then
    return nil, err
  elseif not dataset then
    return {}
  end
  local listed = {}
  for i, t in ipairs(dataset.tables) do
    listed[i] = { name = t.name, rows = t.rows, bytes = t.bytes, sha256 = t.sha256 }
  end
  return {
    dataset_id = dataset._id,
    name = dataset.name,
    mapping = dataset.mapping,
    as_of = given(dataset.as_of),
    tables = json.array(listed),
  }
end

--- The report of the newest completed run of this instance with this mapping.
local function previous_report(run, mapping)
  local results = run.db:find("kt_p_results",
    { instance_id = run.execution.instance_id, status = "completed", mapping = mapping },
    { sort = { { "created_at", -1 }, { "_id", -1 } }, limit = 1, projection = { "report" } })
  local report = results and results[1] and given(results[1].report)
  local text = report and run.db:blob_get(report.sha256, 64 * 1024 * 1024)
  return text and json.decode(text) or nil
end

local function read_dataset(run, id)
  if id == nil then
    return { tables = {} }
  end
  local dataset, err = run.db:find_one("kt_p_datasets", { _id = id, status = "sealed" })
  if err then
    return nil, err
  elseif not dataset then
    return missing(id)
  end
  return dataset
end

local function chosen(args, dataset, run)
  local mapping = given(args.mapping) or given(dataset.mapping) or "identity"
  return {
    bundle = run.files,
    mapping = mapping,
    rules = given(args.rules),
    categories = given(args.categories),
    params = given(args.params),
    as_of = given(args.as_of) or given(dataset.as_of),
    extract_date = given(dataset.as_of),
    currency = run.currency,
    project_id = run.project_id,
    run_id = run.execution_id,
    dataset_id = dataset._id,
    previous = previous_report(run, mapping),
  }
end

--- erp.sweep{dataset?, mapping?, rules?, categories?, params?, as_of?} -> {summary, report, mapping,
--- as_of, not_run, warnings, rows, findings}; `report` is {sha256, bytes}.
M.sweep = { class = "read" }

---@param call door.Call
function M.sweep.run(call)
  local args, run = call.args, call.run
  local dataset, err = read_dataset(run, given(args.dataset))
  if not dataset then
    return nil, err
  end
  local options = chosen(args, dataset, run)
  options.on_event = function(type, data)
    if type == "progress" then
      call.publish(type, data)
    else
      call.emit(type, data)
    end
  end
  local result
  result, err = tables.with(run.db, dataset, run.execution_id .. "-" .. call.id, function(files)
    options.tables = files
    return sweep.run(options)
  end)
  if not result then
    return nil, err
  end
  local kept
  kept, err = storage.keep(run.db, result.report, run.execution_id)
  if not kept then
    return nil, err
  end
  local warnings = {}
  for i = 1, math.min(#result.warnings, WARNINGS) do
    warnings[i] = result.warnings[i]
  end
  return {
    summary = result.body.summary,
    report = { sha256 = kept.sha256, bytes = kept.bytes },
    mapping = result.mapping,
    as_of = result.as_of,
    not_run = json.array(result.not_run),
    warnings = json.array(warnings),
    rows = result.rows,
    findings = result.findings,
  }
end

--- The run's report is that of its last sweep.
---@param run door.Context
---@param answer table
function M.sweep.noted(run, answer)
  run.progress.report = answer.report
  run.progress.rows = answer.rows
  run.progress.mapping = answer.mapping
  run.progress.warnings = answer.warnings
end

return M
