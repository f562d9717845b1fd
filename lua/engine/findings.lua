--- Findings of a finished run as rows of kt_p_findings: the list itself is the report (a blob), the
--- rows hold what people do with a finding between runs.

local crypto = require "kt.crypto"
local json = require "json"
local value = require "value"

local M = {}

local COLLECTION = "kt_p_findings"
--- Bytes of a report that is read to list its findings.
local REPORT_BYTES = 64 * 1024 * 1024
local RANK = { critical = 0, high = 1, medium = 2, low = 3 }

--- Id of a finding: the same thing found again is the same row.
---@param instance_id string
---@param rule_id string
---@param finding_key string
---@return string
function M.id(instance_id, rule_id, finding_key)
  return "find_" .. crypto.sha256(table.concat({ instance_id, rule_id, finding_key }, "\n")):sub(1, 32)
end

--- |amount| * 10^4 as int64, for sorting; 0 without an amount.
---@param amount string|userdata|nil decimal
function M.impact_sort(amount)
  local whole, decimals = tostring(amount or ""):match("^%-?(%d+)%.?(%d*)$")
  if not whole then
    return 0
  end
  local digits = (whole .. (decimals .. "0000"):sub(1, 4)):gsub("^0+", "")
  if #digits > 18 then
    digits = ("9"):rep(18)
  end
  return digits == "" and 0 or value.int64(digits)
end

local function null_to_nil(v)
  if v == json.null then
    return nil
  end
  return v
end

local function row_op(doc, at, rule, category, finding)
  local impact = null_to_nil(finding.impact) or {}
  return {
    op = "update", coll = COLLECTION, upsert = true,
    filter = { _id = M.id(doc.instance_id, rule.rule_id, finding.finding_key) },
    update = {
      set = {
        instance_id = doc.instance_id,
        rule_id = rule.rule_id,
        rule_version = null_to_nil(finding.rule_version) or null_to_nil(rule.version) or json.null,
        finding_key = finding.finding_key,
        category = category,
        reason = finding.reason,
        severity = finding.severity,
        severity_rank = RANK[finding.severity],
        impact = impact,
        impact_sort = M.impact_sort(null_to_nil(impact.amount_rc) or null_to_nil(impact.amount)),
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

--- What a report means for the rows.
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
  local ops, evaluated = {}, {}
  for _, category in ipairs(content.categories) do
    local count = 0
    for _, rule in ipairs(category.rules) do
      if rule.status == "ok" or rule.status == "partial" then
        evaluated[#evaluated + 1] = rule.rule_id
      end
      for _, finding in ipairs(rule.findings) do
        count = count + 1
        found.by_severity[finding.severity] = found.by_severity[finding.severity] + 1
        if rows then
          ops[#ops + 1] = row_op(doc, at, rule, category.id, finding)
        end
      end
    end
    found.by_category[category.id] = count
    found.total = found.total + count
  end
  if rows and #evaluated > 0 then
    -- What an evaluated rule did not find again is gone for now; its row and its history stay.
    ops[#ops + 1] = {
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
  return found, ops
end

return M
