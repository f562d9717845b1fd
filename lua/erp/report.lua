--- The report of an analysis (erp-rules.md, 2.8): the same data gives the same bytes.
local given = require "lib.given"
local json = require "json"
local T = require "erp.table"

local M = {}

M.version = "1"
M.categories = { "financial", "procurement", "inventory", "order_fulfillment", "production", "invoice_matching" }
M.severities = { "critical", "high", "medium", "low" }
M.kinds = { "cash", "exposure", "misstatement", "capital", "revenue", "cost", "control" }

local PREFIX = { FIN = "financial", PRO = "procurement", INV = "inventory", OFU = "order_fulfillment", PRD = "production",
  IMT = "invoice_matching" }
-- These restate other rules' facts and are never added.
local COMPOSITE = { ["IMT-001"] = true, ["OFU-005"] = true, ["PRD-006"] = true }
local RANK = { low = 0, medium = 1, high = 2, critical = 3 }
-- Evidence that names the dimension, the first that is there.
local DIMENSIONS = {
  { "vendor", { "vendor_id", "vendor" } },
  { "customer", { "customer_id", "customer" } },
  { "plant", { "plant_id", "plant" } },
  { "user", { "created_by", "creator", "user", "users" } },
}
local NO_DECIMALS = { JPY = 0, KRW = 0, CLP = 0, HUF = 0, KWD = 3, BHD = 3, TND = 3 }

--- Category of a rule, nil for an id of no category.
---@param rule_id string
---@return string?
function M.category(rule_id) return PREFIX[tostring(rule_id):match("^(%u+)%-%d+$") or ""] end

local function null(v) if v == nil then return json.null end return v end

local function object(keys, values) return json.ordered(values, keys) end

-- Exact amount as text with at least the currency's decimals.
local function amount_text(amount, currency)
  local text = tostring(amount)
  local decimals = NO_DECIMALS[currency] or 2
  if decimals == 0 then return text end
  local whole, fraction = text:match("^(%-?%d+)%.?(%d*)$")
  return whole .. "." .. fraction .. ("0"):rep(decimals - #fraction)
end

local zero = T.decimal "0"

local function compare_rank(a, b)
  local x, y = a.rank, b.rank
  if x == nil or y == nil then
    if x == y then return 0 end
    return x and -1 or 1
  end
  if x == y then return 0 end
  return y < x and -1 or 1
end

--- Section 0: severity, |impact| (NULL last), rule, key.
local function before(a, b)
  if a.severity ~= b.severity then return RANK[a.severity] > RANK[b.severity] end
  local order = compare_rank(a, b)
  if order ~= 0 then return order < 0 end
  if a.rule_id ~= b.rule_id then return a.rule_id < b.rule_id end
  return a.finding_key < b.finding_key
end

-- Sums by impact kind; findings that share an overlap key count once a kind, with the largest amount.
local function totals(entries)
  local best, sums = {}, {}
  for _, kind in ipairs(M.kinds) do sums[kind] = { amount = zero, findings = 0, from = 0 } end
  for _, e in ipairs(entries) do
    local sum = sums[e.kind]
    if sum and e.amount and not COMPOSITE[e.rule_id] then
      sum.from = sum.from + 1
      local key = e.kind .. "\0" .. e.overlap
      local other = best[key]
      local larger = not other
      if other then
        local x, y = e.amount:abs(), other.amount:abs()
        larger = y < x or x == y and (e.rule_id < other.rule_id or e.rule_id == other.rule_id and e.finding_key < other.finding_key)
      end
      if larger then best[key] = e end
    end
  end
  for _, e in pairs(best) do
    local sum = sums[e.kind]
    sum.amount, sum.findings = sum.amount + e.amount, sum.findings + 1
  end
  return sums
end

local function impact_by_kind(entries, currency)
  local sums, out = totals(entries), {}
  for _, kind in ipairs(M.kinds) do out[kind] = amount_text(sums[kind].amount, currency) end
  return object(M.kinds, out), sums
end

local function counted(entries, currency)
  local by_severity = { critical = 0, high = 0, medium = 0, low = 0 }
  for _, e in ipairs(entries) do by_severity[e.severity] = by_severity[e.severity] + 1 end
  return object({ "count", "by_severity", "impact_by_kind" },
    { count = #entries, by_severity = object(M.severities, by_severity), impact_by_kind = (impact_by_kind(entries, currency)) })
end

local function dimension_keys(evidence, names)
  for _, name in ipairs(names) do
    local value = given(evidence[name])
    if type(value) == "string" and value ~= "" then return { value } end
    if type(value) == "table" then
      local keys, seen = {}, {}
      for _, v in ipairs(value) do
        if type(v) == "string" and not seen[v] then keys[#keys + 1], seen[v] = v, true end
      end
      if #keys > 0 then return keys end
    end
  end
  return {}
end

local function concentration(entries, currency)
  local out = {}
  for _, dimension in ipairs(DIMENSIONS) do
    local groups, list = {}, {}
    for _, e in ipairs(entries) do
      if e.amount then
        for _, key in ipairs(dimension_keys(e.evidence, dimension[2])) do
          if not groups[key] then
            groups[key] = { key = key, entries = {} }
            list[#list + 1] = groups[key]
          end
          table.insert(groups[key].entries, e)
        end
      end
    end
    for _, group in ipairs(list) do
      group.amounts, group.sums = impact_by_kind(group.entries, currency)
      group.largest = zero
      for _, kind in ipairs(M.kinds) do
        local size = group.sums[kind].amount:abs()
        if group.largest < size then group.largest = size end
      end
    end
    table.sort(list, function(a, b)
      if a.largest == b.largest then return a.key < b.key end
      return b.largest < a.largest
    end)
    for i = 1, math.min(10, #list) do
      out[#out + 1] = object({ "dimension", "key", "amount_by_kind" },
        { dimension = dimension[1], key = list[i].key, amount_by_kind = list[i].amounts })
    end
  end
  return json.array(out)
end

local function each_finding(report, fn)
  for _, category in ipairs(report.categories) do
    for _, rule in ipairs(category.rules) do
      for _, finding in ipairs(rule.findings) do fn(finding, rule) end
    end
  end
end

-- Findings are the same when rule and key are.
local function trend(entries, previous)
  local keys = { "new", "resolved", "unchanged" }
  if not previous then return object(keys, { new = json.null, resolved = json.null, unchanged = json.null }) end
  local was, count, unchanged = {}, 0, 0
  each_finding(previous, function(finding)
    was[finding.rule_id .. "\0" .. finding.finding_key] = true
    count = count + 1
  end)
  for _, e in ipairs(entries) do
    if was[e.rule_id .. "\0" .. e.finding_key] then unchanged = unchanged + 1 end
  end
  return object(keys, { new = #entries - unchanged, resolved = count - unchanged, unchanged = unchanged })
end

local function finding_object(f)
  return object({ "rule_id", "finding_key", "reason", "severity", "impact", "evidence", "overlap_key", "explanation" }, {
    rule_id = f.rule_id, finding_key = f.finding_key, reason = f.reason, severity = f.severity,
    impact = object({ "amount", "currency", "amount_rc", "kind" }, { amount = f.impact.amount, currency = f.impact.currency,
      amount_rc = null(f.impact.amount_rc), kind = f.impact.kind }),
    evidence = f.evidence, overlap_key = f.overlap_key, explanation = f.explanation })
end

local function not_run_list(rule)
  local out = {}
  for i, entry in ipairs(rule.not_run or {}) do
    out[i] = object({ "reason", "missing" }, { reason = null(entry.reason), missing = json.array(entry.missing or {}) })
  end
  return json.array(out)
end

---@class erp.ReportRule a rule's outcome
---@field rule_id string
---@field title string
---@field status string ok partial not_evaluable error
---@field params table<string, any> effective
---@field input_hash string?
---@field not_run table[] {reason, missing}
---@field population integer
---@field skipped table<string, integer>
---@field items table[] findings in the order of section 0, rank = |amount_rc| unrounded as text or null

---@class erp.ReportInput
---@field project_id string?
---@field run_id string?
---@field as_of string?
---@field currency string report currency
---@field files table[] {name, rows, sha256}
---@field mapping_sha256 string
---@field rules erp.ReportRule[]
---@field previous table? report of the previous run, decoded

--- Build the report; encode it with `json.encode`.
---@param input erp.ReportInput
---@return table report with its keys in order
function M.build(input)
  local currency = input.currency
  local rules, by_category, entries = {}, {}, {}
  for i, rule in ipairs(input.rules) do rules[i] = rule end
  table.sort(rules, function(a, b) return a.rule_id < b.rule_id end)
  for _, id in ipairs(M.categories) do by_category[id] = { rules = {}, entries = {} } end
  for _, rule in ipairs(rules) do
    local category = by_category[M.category(rule.rule_id)]
    local findings = {}
    for i, f in ipairs(rule.items) do
      findings[i] = finding_object(f)
      local rc, rank = given(f.impact.amount_rc), given(f.rank)
      local entry = { rule_id = f.rule_id, finding_key = f.finding_key, severity = f.severity, kind = f.impact.kind,
        overlap = f.overlap_key, evidence = f.evidence, amount = rc and T.decimal(rc), rank = rank and T.decimal(rank) }
      entries[#entries + 1] = entry
      table.insert(category.entries, entry)
    end
    table.insert(category.rules, object({ "rule_id", "title", "status", "params", "input_hash", "findings" }, {
      rule_id = rule.rule_id, title = rule.title, status = rule.status, params = rule.params,
      input_hash = null(rule.input_hash), findings = json.array(findings) }))
  end

  local files, coverage, top, categories, summary = {}, {}, {}, {}, {}
  for i, file in ipairs(input.files) do
    files[i] = object({ "name", "rows", "sha256" }, { name = file.name, rows = file.rows, sha256 = file.sha256 })
  end
  for i, id in ipairs(M.categories) do
    categories[i] = object({ "id", "rules" }, { id = id, rules = json.array(by_category[id].rules) })
    summary[id] = counted(by_category[id].entries, currency)
  end
  for i, rule in ipairs(rules) do
    coverage[i] = object({ "rule_id", "status", "not_run", "population", "skipped" }, { rule_id = rule.rule_id,
      status = rule.status, not_run = not_run_list(rule), population = null(rule.population), skipped = rule.skipped or {} })
  end
  local ranked = {}
  for i, e in ipairs(entries) do ranked[i] = e end
  table.sort(ranked, before)
  for i = 1, math.min(10, #ranked) do
    top[i] = object({ "rule_id", "finding_key" }, { rule_id = ranked[i].rule_id, finding_key = ranked[i].finding_key })
  end

  local sums, business = totals(entries), {}
  local business_keys = {}
  for i, kind in ipairs(M.kinds) do
    business_keys[i] = kind
    business[kind] = object({ "amount", "currency", "findings", "deduplicated_from" }, {
      amount = amount_text(sums[kind].amount, currency), currency = currency, findings = sums[kind].findings,
      deduplicated_from = sums[kind].from })
  end
  business_keys[#business_keys + 1], business.concentration = "concentration", concentration(entries, currency)
  business_keys[#business_keys + 1], business.trend_vs_previous_run = "trend_vs_previous_run", trend(entries, input.previous)

  return object({ "report_version", "project_id", "run_id", "as_of", "report_currency", "data", "summary", "categories",
      "business_impact", "narrative" }, {
    report_version = M.version, project_id = null(input.project_id), run_id = null(input.run_id), as_of = null(input.as_of),
    report_currency = currency,
    data = object({ "tables", "coverage", "mapping_sha256" }, { tables = json.array(files), coverage = json.array(coverage),
      mapping_sha256 = input.mapping_sha256 }),
    summary = object({ "by_category", "total", "top" }, { by_category = object(M.categories, summary),
      total = counted(entries, currency), top = json.array(top) }),
    categories = json.array(categories),
    business_impact = object(business_keys, business),
    narrative = json.null })
end

--- Walk over all findings of a report in its order.
---@param report table
---@param fn fun(finding: table, rule: table)
function M.each_finding(report, fn) each_finding(report, fn) end

return M
