--- The door's ERP calls: which data set, and the sweep over it.

local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local file = require "kt.file"
local json = require "json"
local sweep = require "erp.sweep"

local M = {}

--- Warnings of a sweep that its answer carries.
local WARNINGS = 50

local function missing(id)
  return nil, { code = "dataset_missing", message = "there is no sealed dataset " .. tostring(id), retryable = false }
end

local function given(v)
  if v == json.null then
    return nil
  end
  return v
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
  local tables = {}
  for i, t in ipairs(dataset.tables) do
    tables[i] = { name = t.name, rows = t.rows, bytes = t.bytes, sha256 = t.sha256 }
  end
  return {
    dataset_id = dataset._id,
    name = dataset.name,
    mapping = dataset.mapping,
    as_of = given(dataset.as_of),
    tables = json.array(tables),
  }
end

--- Where the tables of a run lie while analysts read them.
local function folder_of(run)
  return M.folder() .. "/" .. run.execution_id
end

--- Folder of all such tables: a cache of the store's blobs.
---@return string
function M.folder()
  return config.get("KONTOR_DATA_DIR") .. "/sweeps"
end

--- Remove what sweeps of a dead worker left.
function M.clear_all()
  file.remove(M.folder())
end

local function fetch_tables(db, dataset, folder)
  local ok, err = file.mkdir(folder)
  if not ok then
    return nil, err
  end
  local tables = {}
  for i, t in ipairs(dataset.tables) do
    local path = folder .. "/" .. i .. "." .. t.format
    ok, err = db:blob_to_file(t.sha256, path)
    if not ok then
      return nil, err
    end
    tables[i] = { name = t.name, path = path, format = t.format, sha256 = t.sha256 }
  end
  return tables
end

--- Read a data set as an analysis would, before one does.
---@param db table of the project
---@param dataset table its document
---@param files table<string, string> the mapping with its libs, by path
---@return { tables: table[], ignored: string[], warnings: table[] }? inspected, table? err
function M.inspect(db, dataset, files)
  local folder = M.folder() .. "/" .. dataset._id .. "-" .. crypto.uuid7()
  local inspected
  local tables, err = fetch_tables(db, dataset, folder)
  if tables then
    inspected, err = sweep.inspect { bundle = files, mapping = dataset.mapping, tables = tables,
      as_of = given(dataset.as_of) or clock.format(clock.now()):sub(1, 10) }
  end
  file.remove(folder)
  return inspected, err
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
  local folder = folder_of(run) .. "-" .. call.id
  local result
  options.tables, err = fetch_tables(run.db, dataset, folder)
  if options.tables then
    result, err = sweep.run(options)
  end
  file.remove(folder)
  if not result then
    return nil, err
  end
  local kept
  kept, err = run.db:blob_put(result.report)
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
end

return M
