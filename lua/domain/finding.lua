--- Findings of a finished run as rows of kt_p_findings: the list itself is the report (a blob), the
--- rows hold what people do with a finding between runs.

local crypto = require "kt.crypto"
local given = require "lib.given"
local json = require "json"
local registry = require "scripts.registry"
local sweep = require "erp.sweep"
local task = require "kt.task"
local value = require "value"

local M = {}

local COLLECTION = "kt_p_findings"
--- Bytes of a report that is read to list its findings.
local REPORT_BYTES = 64 * 1024 * 1024
--- Rows that a run writes, the worst findings first; the report has all.
M.ROWS = 10000
--- Rows made before other tasks get their turn.
local SLICE = 200
local RANK = { critical = 0, high = 1, medium = 2, low = 3 }

--- Id of a finding: the same thing found again is the same row.
---@param instance_id string
---@param rule_id string
---@param finding_key string
---@return string
function M.id(instance_id, rule_id, finding_key)
  return "find_" .. crypto.sha256(table.concat({ instance_id, rule_id, finding_key }, "\n")):sub(1, 32)
end

--- Digits of |amount| * 10^4, at most 18 of them; "0" without an amount.
local function digits_of(amount)
  local whole, decimals = tostring(amount or ""):match("^%-?(%d+)%.?(%d*)$")
  if not whole then
    return "0"
  end
  local digits = (whole .. (decimals .. "0000"):sub(1, 4)):gsub("^0+", "")
  return digits == "" and "0" or #digits > 18 and ("9"):rep(18) or digits
end

--- |amount| * 10^4 as int64, for sorting; 0 without an amount.
---@param amount string|userdata|nil decimal
function M.impact_sort(amount)
  return value.int64(digits_of(amount))
end

--- Versions of the rules that a run was accepted with. Yields.
---@param doc table execution, with snapshot and created_at
---@param ids table<string, any> the rule ids wanted, as keys
---@return table<string, integer>? versions by rule id, table? err
function M.rule_versions(doc, ids)
  local versions = {}
  if not next(ids) then
    return versions
  end
  local bundle, err = registry.load(doc.snapshot.bundle)
  if not bundle then
    return nil, err
  end
  for id, path in pairs(sweep.catalog(bundle.files).rules) do
    if ids[id] then
      versions[id], err = registry.version_at(path, bundle.files[path], doc.created_at)
      if err then
        return nil, err
      end
    end
  end
  return versions
end

local function amount_of(finding)
  local impact = given(finding.impact) or {}
  return given(impact.amount_rc) or given(impact.amount)
end

local function row_op(doc, at, entry)
  local rule, finding = entry.rule, entry.finding
  return {
    op = "update", coll = COLLECTION, upsert = true,
    filter = { _id = M.id(doc.instance_id, rule.rule_id, finding.finding_key) },
    update = {
      set = {
        instance_id = doc.instance_id,
        rule_id = rule.rule_id,
        rule_version = entry.rule_version or json.null,
        finding_key = finding.finding_key,
        category = entry.category,
        reason = finding.reason,
        severity = finding.severity,
        severity_rank = RANK[finding.severity],
        impact = given(finding.impact) or {},
        impact_sort = M.impact_sort(amount_of(finding)),
        overlap_key = finding.overlap_key,
        explanation = finding.explanation,
        evidence = finding.evidence,
        evidence_hash = value.hash(value.encode(finding.evidence)),
        input_hash = rule.input_hash,
        last_execution_id = doc._id,
        last_seen_at = at,
        present = true,
      },
      set_on_insert = {
        first_execution_id = doc._id,
        first_seen_at = at,
        status = "new",
        owner = json.null,
        due_date = json.null,
        note = json.null,
        comments = json.array {},
        version = 1,
      },
    },
  }
end

---@class engine.Found
---@field total integer
---@field by_category table<string, integer>
---@field by_severity table<string, integer>
---@field left_out integer? findings that have no row

--- The worst `M.ROWS` of a list of {finding, …}.
local function worst(list)
  if #list <= M.ROWS then
    return list
  end
  for i, entry in ipairs(list) do
    entry.rank, entry.impact, entry.place = RANK[entry.finding.severity], tonumber(digits_of(amount_of(entry.finding))), i
  end
  table.sort(list, function(a, b)
    if a.rank ~= b.rank then
      return a.rank < b.rank
    elseif a.impact ~= b.impact then
      return a.impact > b.impact
    end
    return a.place < b.place
  end)
  for i = #list, M.ROWS + 1, -1 do
    list[i] = nil
  end
  return list
end

--- What an evaluated rule did not find again is gone for now; its row and its history stay.
local function gone_op(doc, evaluated)
  return {
    op = "update", coll = COLLECTION, many = true,
    filter = {
      { "instance_id", "eq", doc.instance_id },
      { "present", "eq", true },
      { "rule_id", "in", evaluated },
      { "last_execution_id", "ne", doc._id },
    },
    update = { set = { present = false } },
  }
end

--- What a report means for the rows. Yields.
---@param db table the project's database
---@param doc table the execution
---@param report {sha256: string, bytes: integer}
---@param rows boolean make the operations too
---@param at userdata date of the end
---@return engine.Found? found, table[]|table ops or err
function M.of_report(db, doc, report, rows, at)
  local text, err = db:blob_get(report.sha256, REPORT_BYTES)
  if not text then
    return nil, err
  end
  local content
  content, err = json.decode(text)
  if not content then
    return nil, err
  end
  local found = { total = 0, by_category = {}, by_severity = { critical = 0, high = 0, medium = 0, low = 0 } }
  local list, evaluated = {}, {}
  for _, category in ipairs(content.categories) do
    found.by_category[category.id] = 0
    for _, rule in ipairs(category.rules) do
      if rule.status == "ok" or rule.status == "partial" then
        evaluated[#evaluated + 1] = rule.rule_id
      end
      for _, finding in ipairs(rule.findings) do
        found.by_severity[finding.severity] = found.by_severity[finding.severity] + 1
        list[#list + 1] = { finding = finding, rule = rule, category = category.id }
      end
      found.by_category[category.id] = found.by_category[category.id] + #rule.findings
    end
  end
  found.total = #list
  if not rows then
    return found, {}
  end
  local used = {}
  for _, entry in ipairs(list) do
    used[entry.rule.rule_id] = true
  end
  local versions, why = M.rule_versions(doc, used)
  if not versions then
    return nil, why
  end
  local ops = {}
  for i, entry in ipairs(worst(list)) do
    entry.rule_version = versions[entry.rule.rule_id]
    ops[i] = row_op(doc, at, entry)
    if i % SLICE == 0 then
      task.yield()
    end
  end
  found.left_out = found.total - #ops
  if found.left_out == 0 and #evaluated > 0 then
    ops[#ops + 1] = gone_op(doc, evaluated)
  end
  return found, ops
end

return M
