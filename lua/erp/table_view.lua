--- A report as text that a controller can read: by category and severity with impact, the ten worst explained, what was not
-- evaluated and why, what was wrong with the data.
local json = require "json"
local printable = require "lib.printable"
local report = require "erp.report"

local M = {}

local TITLES = { financial = "Financial", procurement = "Procurement", inventory = "Inventory",
  order_fulfillment = "Order fulfilment", production = "Production", invoice_matching = "Invoice matching" }

--- Amount with thousands separators.
---@param text string decimal
---@return string
function M.money(text)
  local sign, whole, rest = text:match("^(%-?)(%d+)(.*)$")
  if not whole then return text end
  local grouped = whole:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", "")
  return sign .. grouped .. rest
end

local function is_zero(text) return not text:find("[1-9]") end

local function impacts(by_kind)
  local parts = {}
  for _, kind in ipairs(report.kinds) do
    if not is_zero(by_kind[kind]) then parts[#parts + 1] = kind .. " " .. M.money(by_kind[kind]) end
  end
  return table.concat(parts, ", ")
end

local function summary_lines(add, body)
  add("%-18s %7s %9s %7s %7s %7s   %s", "", "found", "critical", "high", "medium", "low", "impact in " .. body.report_currency)
  local function line(title, s)
    local n = s.by_severity
    add("%-18s %7d %9d %7d %7d %7d   %s", title, s.count, n.critical, n.high, n.medium, n.low, impacts(s.impact_by_kind))
  end
  for _, id in ipairs(report.categories) do line(TITLES[id], body.summary.by_category[id]) end
  line("All", body.summary.total)
  add("(impacts of different kinds are never added; facts that several findings share count once)")
end

local function worst_lines(add, body)
  if #body.summary.top == 0 then return end
  local findings, titles = {}, {}
  report.each_finding(body, function(finding, rule)
    findings[finding.rule_id .. "\0" .. finding.finding_key] = finding
    titles[finding.rule_id] = rule.title
  end)
  add("")
  add(#body.summary.top == 10 and "The ten worst:" or "The worst:")
  for i, top in ipairs(body.summary.top) do
    local f = findings[top.rule_id .. "\0" .. top.finding_key]
    add("%3d. %-8s %16s %s %s   %s %s", i, f.severity, M.money(f.impact.amount), f.impact.currency, f.impact.kind, f.rule_id,
      titles[f.rule_id])
    add("     %s: %s", f.finding_key, f.explanation)
  end
end

-- What is missing: for a rule that ran in part by reason, for one that did not run at all together.
local function missing_text(status, not_run)
  local parts = {}
  if status == "not_evaluable" then
    local seen = {}
    for _, entry in ipairs(not_run) do
      for _, path in ipairs(entry.missing) do
        if not seen[path] then parts[#parts + 1], seen[path] = path, true end
      end
    end
    return "missing " .. table.concat(parts, ", ")
  end
  for _, entry in ipairs(not_run) do
    local reason = entry.reason ~= nil and entry.reason ~= json.null and entry.reason ~= "" and entry.reason .. " needs " or "needs "
    parts[#parts + 1] = reason .. table.concat(entry.missing, ", ")
  end
  return table.concat(parts, "; ")
end

local function coverage_lines(add, result)
  local headed = false
  for _, rule in ipairs(result.rules) do
    if rule.status ~= "ok" then
      if not headed then add("") add("Not evaluated, or only in part:") end
      headed = true
      local why = missing_text(rule.status, rule.not_run)
      if rule.error and rule.error ~= json.null then why = tostring(rule.error.message) end
      local skipped = {}
      for reason, n in pairs(rule.skipped) do skipped[#skipped + 1] = n .. " rows skipped (" .. reason .. ")" end
      table.sort(skipped)
      if #skipped > 0 then why = why .. (why ~= "" and "; " or "") .. table.concat(skipped, ", ") end
      add("  %s %-14s %s: %s", rule.rule_id, rule.status, rule.title, why)
    end
  end
end

local function warning_lines(add, result)
  local snapshot = {}
  for _, rule in ipairs(result.rules) do
    for _, w in ipairs(rule.warnings or {}) do
      if w == "stock_snapshot" then snapshot[#snapshot + 1] = rule.rule_id end
    end
  end
  if #snapshot > 0 then
    add("")
    add("The stock is of another day than the key date: read %s with care.", table.concat(snapshot, ", "))
  end
end

local function problem_lines(add, result)
  if result.rows == 0 and #result.tables == 0 then
    add("")
    add("There is no data: no file of the folder is a table that the mapping '%s' reads.", result.mapping)
  end
  local headed = false
  local function head()
    if not headed then add("") add("Problems of the data:") end
    headed = true
  end
  for _, t in ipairs(result.tables) do
    if t.duplicates > 0 then head() add("  %s: %d duplicate rows removed", t.name, t.duplicates) end
    for i, e in ipairs(t.errors) do
      head()
      if i > 10 then add("  %s: … %d rejected in all", t.name, t.rejected) break end
      add("  %s:%s%s: %s", t.name, tostring(e.line), e.column and e.column ~= json.null and " " .. tostring(e.column) or "",
        tostring(e.message or e.code))
    end
  end
end

--- The whole text.
---@param result erp.SweepResult
---@return string
function M.render(result)
  local lines = {}
  local function add(format, ...)
    local line = select("#", ...) > 0 and string.format(format, ...) or format
    lines[#lines + 1] = printable.text((line:gsub("%s+$", "")))
  end
  local body = result.body
  local function count(n, what) return n == 1 and "1 " .. what or M.money(tostring(n)) .. " " .. what .. "s" end
  add("Exceptions at %s: %s over %s of %s (mapping %s)", result.as_of or "no key date", count(#result.rules, "rule"),
    count(result.rows, "row"), count(#result.tables, "file"), result.mapping)
  add("")
  summary_lines(add, body)
  worst_lines(add, body)
  coverage_lines(add, result)
  warning_lines(add, result)
  problem_lines(add, result)
  return table.concat(lines, "\n") .. "\n"
end

return M
