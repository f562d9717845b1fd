--- A sweep: runs the chosen rules of a bundle over a data set in analyst children and makes the report.
--
-- sweep.run{
--   bundle = { ["agents/…/rules/IMT-007.lua"] = source, …mappings, rules, libs… },    path -> source
--   mapping = "identity",                 the mapping script's name: …/mappings/<name>.lua
--   rules = {"IMT-007"}?, categories = {"inventory"}?        choose; both absent or empty: all rules
--   params = { ["PRD-005.mode"] = "history" }?               the run's over the project's, already merged
--   as_of = "2014-09-30"?                 key date; default: the extract date
--   extract_date = "2014-09-30"?          the date that the data (stock) are of; default: the mapping's
--   currency = "USD"?                     report currency; default: the company's
--   tables = { {name = "invoice.csv", path = "/abs", format = "csv"|"ndjson", sha256 = hex}, … }     {}: no data
--   project_id = ?, run_id = ?, previous = report? (decoded, of the previous run)
--   on_event = function(type, data)?      the numbered events of api.md 5: dataset.loaded, rule.completed, sweep.completed;
--                                         and passing: progress {done, total, unit, message}
--   dataset_id = ?                        for dataset.loaded
--   rule_deadline = 60?, load_deadline = 300?, memory = bytes?                        limits of a child
--   in_process = true?                    no child and no limits: for specs
-- } -> result | nil, err
--
-- A call yields (it waits for children). Errors: validation_failed (unknown mapping, rule, category or parameter, named),
-- script_error (the mapping), data_rejected (unreadable file). A rule that fails is no error: its status is `error`.
local crypto = require "kt.crypto"
local given = require "lib.given"
local json = require "json"
local task = require "kt.task"

local report = require "erp.report"

local M = {}

---@class erp.SweepResult
---@field report string JSON text of the report (2.8)
---@field sha256 string of that text
---@field body table the report as a table
---@field as_of string? key date used
---@field mapping string its name
---@field tables table[] accounts of the files: {name, rows, rejected, duplicates, errors}
---@field ignored string[] files that the mapping does not read
---@field rules table[] {rule_id, title, version, category, status, population, findings, by_severity, not_run, skipped, suppressed, warnings, input_hash, error, duration_ms}, by id
---@field not_run table[] {rule_id, status, not_run} of the rules that are not `ok`
---@field rows integer rows of data read
---@field findings integer
---@field by_category table<string, integer> findings
---@field by_severity table<string, integer>
---@field warnings table[] {code, message}

local function bad(...)
  return nil, { code = "validation_failed", message = string.format(...), retryable = false }
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- Rules, mappings and libs of a bundle. A rule's file is named after its id: rules/IMT-007.lua.
---@param bundle table<string, string> path -> source
---@return { rules: table<string, string>, mappings: table<string, string>, libs: table<string, string> } catalog rules and mappings: name -> path
function M.catalog(bundle)
  local catalog = { rules = {}, mappings = {}, libs = {} }
  for path, source in pairs(bundle) do
    local folder, name = path:match("([^/]+)/([^/]+)%.lua$")
    if folder == "rules" then catalog.rules[name:upper():gsub("_", "-")] = path end
    if folder == "mappings" then catalog.mappings[name] = path end
    if folder == "lib" then catalog.libs[path] = source end
  end
  return catalog
end

local function some(list) return type(list) == "table" and #list > 0 and list or nil end

-- Ids of the chosen rules, sorted.
local function choose(catalog, rules, categories)
  local wanted = {}
  for _, category in ipairs(categories or {}) do
    local known = false
    for _, id in ipairs(report.categories) do known = known or id == category end
    if not known then return bad("there is no category '%s'", tostring(category)) end
  end
  for _, id in ipairs(rules or {}) do
    if not catalog.rules[id] then
      return bad("there is no rule '%s' (there are: %s)", tostring(id), table.concat(sorted_keys(catalog.rules), ", "))
    end
    wanted[id] = true
  end
  local chosen = {}
  for _, id in ipairs(sorted_keys(catalog.rules)) do
    local take = not rules or wanted[id]
    if take and categories then
      take = false
      for _, category in ipairs(categories) do take = take or report.category(id) == category end
    end
    if take then chosen[#chosen + 1] = id end
  end
  if #chosen == 0 then return bad("no rule is chosen") end
  return chosen
end

local function make_job(opts, catalog, chosen)
  local mapping_path = catalog.mappings[opts.mapping]
  if not mapping_path then
    return bad("there is no mapping '%s' (there are: %s)", tostring(opts.mapping),
      table.concat(sorted_keys(catalog.mappings), ", "))
  end
  local rules = {}
  for i, id in ipairs(chosen) do
    local path = catalog.rules[id]
    rules[i] = { rule_id = id, path = path, source = opts.bundle[path] }
  end
  local files = {}
  for i, file in ipairs(opts.tables) do
    files[i] = { name = file.name, path = file.path, format = file.format, sha256 = file.sha256 }
  end
  table.sort(files, function(a, b) return a.name < b.name end)
  return { as_of = opts.as_of, extract_date = opts.extract_date, currency = opts.currency, project_id = opts.project_id, run_id = opts.run_id,
    mapping = { path = mapping_path, source = opts.bundle[mapping_path] }, libs = catalog.libs, rules = json.array(rules),
    known = json.array(sorted_keys(catalog.rules)), params = opts.params or {}, tables = json.array(files) }
end

-- Messages of the analyst, in order: from children, or from this process.
local function messages(opts, job)
  if opts.in_process then
    local list = {}
    local ok, err = require("erp.analyst")(job, function(message) list[#list + 1] = message end, { close = function() end })
    local i = 0
    return function()
      if not ok then return nil, err end
      i = i + 1
      return list[i]
    end, function() end
  end
  local child, err = require("kt.analyst").start { job = job, rule_deadline = opts.rule_deadline,
    load_deadline = opts.load_deadline, memory = opts.memory }
  if not child then return function() return nil, err end, function() end end
  -- A cancelled run must not leave the process behind.
  task.defer(function() child:close() end)
  return function() return child:next() end, function() child:close() end
end

local function rule_summary(rule)
  return { rule_id = rule.rule_id, title = rule.title, version = rule.version, category = report.category(rule.rule_id),
    status = rule.status, population = rule.population, findings = rule.findings, by_severity = rule.by_severity,
    not_run = rule.not_run, skipped = rule.skipped, suppressed = rule.suppressed, warnings = rule.warnings,
    input_hash = rule.input_hash, error = rule.error, duration_ms = rule.duration_ms }
end

-- What the messages say, until the last one.
local function collect(opts, next_message, count, on_event)
  local got = { accounts = {}, rules = {}, mapped = nil, rows = 0 }
  local items, done = {}, 0
  while true do
    local message, err = next_message()
    if err then return nil, err end
    if not message or message.type == "done" then break end
    if message.type == "table" then
      got.accounts[#got.accounts + 1] = { name = message.name, rows = message.rows, rejected = message.rejected,
        duplicates = message.duplicates, errors = message.errors }
      got.rows = got.rows + message.rows
    elseif message.type == "mapped" then
      got.mapped = message
      local tables = {}
      for i, a in ipairs(got.accounts) do tables[i] = { name = a.name, rows = a.rows, rejected = a.rejected } end
      on_event("dataset.loaded", { dataset_id = opts.dataset_id or json.null, tables = json.array(tables) })
      on_event("progress", { done = 0, total = count, unit = "rules", message = "tables loaded" })
    elseif message.type == "begin" then
      items = {}
    elseif message.type == "findings" then
      for _, item in ipairs(message.items) do items[#items + 1] = item end
    elseif message.type == "rule" then
      -- A rule that was killed left pieces behind: they do not count.
      message.items = message.status == "error" and {} or items
      message.title, message.params = message.title or message.rule_id, message.params or {}
      message.population, message.findings = message.population or 0, message.findings or 0
      message.by_severity = message.by_severity or { low = 0, medium = 0, high = 0, critical = 0 }
      message.skipped, message.not_run = message.skipped or {}, message.not_run or json.array {}
      items, done = {}, done + 1
      got.rules[#got.rules + 1] = message
      on_event("rule.completed", { rule_id = message.rule_id, status = message.status, population = message.population,
        findings = message.findings, by_severity = message.by_severity, duration_ms = message.duration_ms or 0 })
      on_event("progress", { done = done, total = count, unit = "rules", message = message.rule_id })
    end
  end
  if not got.mapped then
    return nil, { code = "internal", message = "the analyst ended before it had loaded the data", retryable = true }
  end
  return got
end

local function data_warnings(got, as_of)
  local warnings = {}
  local function warn(code, ...) warnings[#warnings + 1] = { code = code, message = string.format(...) } end
  if got.rows == 0 and #got.mapped.ignored > 0 then
    warn("no_data", "the mapping '%s' reads none of the files: %s", got.mapped.mapping, table.concat(got.mapped.ignored, ", "))
  elseif got.rows == 0 then
    warn("no_data", "there is no data: no table that a rule could read")
  end
  for _, a in ipairs(got.accounts) do
    if a.rejected > 0 then warn("data_rejected", "%s: %d cells or rows were rejected", a.name, a.rejected) end
    if a.duplicates > 0 then warn("dup_row", "%s: %d duplicate rows were removed", a.name, a.duplicates) end
  end
  for _, rule in ipairs(got.rules) do
    for _, w in ipairs(rule.warnings or {}) do
      if type(w) == "string" then warn(w, "%s: %s at %s", rule.rule_id, w, as_of or "no key date")
      else warn(w.code, "%s: %s", rule.rule_id, w.message) end
    end
    if rule.status == "error" then
      local e = rule.error or {}
      warn(e.code or "internal", "%s: %s", rule.rule_id, e.message or "failed")
    end
  end
  return warnings
end

--- Load a data set through its mapping and run no rule: what of its cells and rows is wrong.
---@param opts table as for M.run: bundle, mapping, tables, as_of?, load_deadline?, memory?
---@return { tables: table[], ignored: string[], warnings: table[], extract_date: string? }? inspected
---@return table? err
function M.inspect(opts)
  local job, err = make_job(opts, M.catalog(opts.bundle), {})
  if not job then return nil, err end
  local next_message, close = messages(opts, job)
  local got
  got, err = collect(opts, next_message, 0, function() end)
  close()
  if not got then return nil, err end
  return { tables = got.accounts, ignored = got.mapped.ignored, warnings = data_warnings(got),
    extract_date = given(got.mapped.extract_date) }
end

--- Run a sweep; see the head of this file.
---@param opts table
---@return erp.SweepResult? result
---@return table? err
function M.run(opts)
  local on_event = opts.on_event or function() end
  local catalog = M.catalog(opts.bundle)
  local chosen, err = choose(catalog, some(opts.rules), some(opts.categories))
  if not chosen then return nil, err end
  local job
  job, err = make_job(opts, catalog, chosen)
  if not job then return nil, err end
  local next_message, close = messages(opts, job)
  local got
  got, err = collect(opts, next_message, #chosen, on_event)
  close()
  if not got then return nil, err end

  table.sort(got.rules, function(a, b) return a.rule_id < b.rule_id end)
  local as_of = got.mapped.as_of ~= json.null and got.mapped.as_of or nil
  local body = report.build { project_id = opts.project_id, run_id = opts.run_id, as_of = as_of, currency = got.mapped.currency,
    files = got.mapped.files, mapping_sha256 = got.mapped.mapping_sha256, rules = got.rules, previous = opts.previous }
  local result = { body = body, as_of = as_of, mapping = got.mapped.mapping, tables = got.accounts, ignored = got.mapped.ignored,
    rules = {}, not_run = {}, rows = got.rows, findings = 0, by_category = {},
    by_severity = { critical = 0, high = 0, medium = 0, low = 0 }, warnings = data_warnings(got, as_of) }
  for _, id in ipairs(report.categories) do result.by_category[id] = 0 end
  for i, rule in ipairs(got.rules) do
    result.rules[i] = rule_summary(rule)
    if rule.status ~= "ok" then
      table.insert(result.not_run, { rule_id = rule.rule_id, status = rule.status, not_run = rule.not_run })
    end
    local category = report.category(rule.rule_id)
    result.findings = result.findings + rule.findings
    result.by_category[category] = result.by_category[category] + rule.findings
    for severity, n in pairs(rule.by_severity) do result.by_severity[severity] = result.by_severity[severity] + n end
  end
  result.report = json.encode(body)
  result.sha256 = crypto.sha256(result.report)
  on_event("sweep.completed", { rules = #got.rules, findings = result.findings, by_category = result.by_category,
    by_severity = result.by_severity })
  return result
end

return M
