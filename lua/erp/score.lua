--- Measures a report against the labels of the generator (erp-rules.md, 5): precision, recall, and exactness of reason,
-- severity and impact.
local report = require "erp.report"

local M = {}

---@class erp.Label a row of labels.csv
---@field rule_id string
---@field finding_key string
---@field must string fire or must_not
---@field reason string
---@field severity string
---@field impact_amount string
---@field impact_currency string
---@field case_id string
---@field trap string

--- Read labels.csv: the generator's file, no quotes in it.
---@param text string
---@return erp.Label[]
function M.labels(text)
  local names, labels = {}, {}
  for line in text:gmatch("[^\r\n]+") do
    local cells, n = {}, 0
    for cell in (line .. ","):gmatch("([^,]*),") do
      n = n + 1
      cells[n] = cell
    end
    if not names[1] then
      names = cells
    else
      local label = {}
      for i, name in ipairs(names) do label[name] = cells[i] or "" end
      labels[#labels + 1] = label
    end
  end
  return labels
end

local function amount_key(text) return (text:gsub("(%.%d-)0+$", "%1"):gsub("%.$", "")) end

---@class erp.Score of one rule
---@field rule_id string
---@field tp integer
---@field fp integer
---@field fn integer
---@field traps table<string, integer> false positives that are decoys, by trap
---@field reason integer true positives with the label's reason
---@field severity integer
---@field impact integer
---@field wrong string[] what differs, at most 20 lines

--- Score a report; every rule of the report or the labels has an entry.
---@param body table report
---@param labels erp.Label[]
---@return table<string, erp.Score>
function M.score(body, labels)
  local scores, fire, trap = {}, {}, {}
  local function of(rule_id)
    scores[rule_id] = scores[rule_id]
      or { rule_id = rule_id, tp = 0, fp = 0, fn = 0, traps = {}, reason = 0, severity = 0, impact = 0, wrong = {} }
    return scores[rule_id]
  end
  local function wrong(score, ...)
    if #score.wrong < 20 then table.insert(score.wrong, string.format(...)) end
  end
  for _, label in ipairs(labels) do
    local key = label.rule_id .. "\0" .. label.finding_key
    of(label.rule_id)
    if label.must == "fire" then fire[key] = label else trap[key] = label.trap end
  end
  report.each_finding(body, function(finding)
    local score, key = of(finding.rule_id), finding.rule_id .. "\0" .. finding.finding_key
    local label = fire[key]
    if not label then
      score.fp = score.fp + 1
      local name = trap[key] or "unlabelled"
      score.traps[name] = (score.traps[name] or 0) + 1
      wrong(score, "%s found, %s", finding.finding_key, name)
      return
    end
    fire[key] = nil
    score.tp = score.tp + 1
    local function compare(what, got, want)
      if got == want then
        score[what] = score[what] + 1
      else
        wrong(score, "%s (%s): %s %s, label %s", finding.finding_key, label.case_id, what, got, want)
      end
    end
    compare("reason", finding.reason, label.reason)
    compare("severity", finding.severity, label.severity)
    compare("impact", amount_key(finding.impact.amount) .. " " .. finding.impact.currency,
      amount_key(label.impact_amount) .. " " .. label.impact_currency)
  end)
  for _, label in ipairs(labels) do
    if fire[label.rule_id .. "\0" .. label.finding_key] then
      local score = of(label.rule_id)
      score.fn = score.fn + 1
      wrong(score, "%s (%s) not found", label.finding_key, label.case_id)
    end
  end
  return scores
end

--- Whether precision, recall and all exactness are 1.
---@param score erp.Score
---@return boolean
function M.perfect(score)
  return score.fp == 0 and score.fn == 0 and score.reason == score.tp and score.severity == score.tp and score.impact == score.tp
end

return M
