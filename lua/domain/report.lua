-- What a run left: its report and the findings in it, both immutable blobs of the project.

local answer = require "http.answer"
local cursor = require "http.cursor"
local erp_report = require "erp.report"
local execution = require "domain.execution"
local findings = require "domain.finding"
local json = require "json"
local lists = require "domain.lists"
local problem = require "http.problem"
local schema = require "http.schema"

local M = {}

local max_report = 64 * 1048576 -- bytes read at once

---@param db table of the project
---@param result_id string
---@return string|nil bytes
---@return string|kontor.Error media type
---@return string|nil sha256
function M.bytes(db, result_id)
  local doc, err = db:find_one("kt_p_results", {_id = result_id}, {projection = {"report"}})
  if not doc then return nil, err or problem.err("internal", "an ended run has no result: " .. result_id) end
  local ref = doc.report
  if not ref or ref == json.null then return nil, problem.err("not_found", "The run made no report.") end
  local bytes
  bytes, err = db:blob_get(ref.sha256, max_report)
  if not bytes then return nil, err end
  return bytes, ref.media_type, ref.sha256
end

local rank = {critical = 1, high = 2, medium = 3, low = 4}
local filters = {"rule_id", "category", "severity", "reason"}

-- Sorts decimals given as strings by their absolute value, without losing digits.
local function magnitude(amount)
  local whole, frac = tostring(amount or "0"):match("^-?(%d+)%.?(%d*)$")
  if not whole then return "" end
  whole, frac = whole:gsub("^0+", ""), frac:gsub("0+$", "")
  return ("%04d"):format(#whole) .. whole .. "." .. frac
end

local function impact_key(f)
  local impact = type(f.impact) == "table" and f.impact or {}
  local amount = impact.amount_rc
  if amount == nil or amount == json.null then amount = impact.amount end
  return magnitude(amount ~= json.null and amount or nil)
end

local orders = {
  severity = function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    if a.impact ~= b.impact then return a.impact > b.impact end
    return a.at < b.at
  end,
  impact = function(a, b)
    if a.impact ~= b.impact then return a.impact > b.impact end
    return a.at < b.at
  end,
}

-- The report's findings as the answer shows them; those that the filters of the query leave.
local function matching(report, query)
  local found, i = {}, 0
  erp_report.each_finding(report, function(f, rule)
    i = i + 1
    f.category, f.input_hash = erp_report.category(f.rule_id), rule.input_hash
    for _, name in ipairs(filters) do
      if query[name] ~= nil and f[name] ~= query[name] then return end
    end
    found[#found + 1] = {f = f, at = i, rank = rank[f.severity], impact = impact_key(f)}
  end)
  return found
end

-- The version of a rule is not in the report (`kontor analyze` knows none), but pinned by the run.
local function add_versions(ctx, page)
  local id, used = ctx.params.execution_id, {}
  local run, err = ctx.project.db:find_one("kt_p_executions", {_id = id}, {projection = {"snapshot", "created_at"}})
  if not run then return nil, err or problem.err("not_found") end
  for _, f in ipairs(page) do used[f.rule_id] = true end
  local versions
  versions, err = findings.rule_versions(run, used)
  if not versions then return nil, err end
  for _, f in ipairs(page) do f.rule_version = versions[f.rule_id] end
  return true
end

---A page of a run's findings. The list never changes, so the cursor is a place in it.
---@param ctx kontor.Context
---@param result_id string
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.findings(ctx, result_id)
  local binding, after, err = lists.place(ctx)
  if err then return nil, err end
  local run
  run, err = ctx.project.db:find_one("kt_p_results", {_id = result_id}, {projection = {"instance_id"}})
  if not run then return nil, err or problem.err("internal", "an ended run has no result: " .. result_id) end
  local bytes
  bytes, err = M.bytes(ctx.project.db, result_id)
  if not bytes and err.code == "not_found" then return answer.page("[]", nil, ctx.query.limit) end
  if not bytes then return nil, err end
  local doc
  doc, err = json.decode(bytes)
  if not doc then return nil, err end
  local found = matching(doc, ctx.query)
  table.sort(found, orders[ctx.query.sort])
  local first, limit, page, data = after and after[1] or 0, ctx.query.limit, {}, {}
  for i = first + 1, math.min(first + limit, #found) do
    local f = found[i].f
    f.finding_id = findings.id(run.instance_id, f.rule_id, f.finding_key)
    page[#page + 1] = f
  end
  local ok
  ok, err = add_versions(ctx, page)
  if not ok then return nil, err end
  for i, f in ipairs(page) do data[i] = schema.to_plain(execution.finding, f) end
  local next_cursor = first + limit < #found and cursor.seal({first + limit}, binding) or nil
  return answer.page(json.encode(json.array(data)), next_cursor, limit)
end

return M
