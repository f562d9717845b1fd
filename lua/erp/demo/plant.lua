--- Plants exceptions and decoys in the demo company and keeps the labels: what must fire, with which reason, severity and
-- impact, and what must not. Each case has documents and reserved entities of its own, so that cases never touch.
local base = require "erp.demo.base"
local random = require "erp.demo.random"

local M = {}
local floor, format = math.floor, string.format

-- One module a rule: {id, cases = {{name, fn}, …}, decoys = {{trap, fn}, …}, population = fn(world)}. fn(case) writes the
-- rows and returns the label's key and, for a case, reason, impact, currency and what moves the severity.
local planters = {
  require "erp.demo.rules.imt_007",
  require "erp.demo.rules.inv_001",
  require "erp.demo.rules.prd_005",
  require "erp.demo.rules.pro_001",
  require "erp.demo.rules.fin_008",
  require "erp.demo.rules.ofu_004",
  require "erp.demo.rules.pro_002",
  require "erp.demo.rules.pro_005",
  require "erp.demo.rules.pro_006",
  require "erp.demo.rules.pro_009",
  require "erp.demo.rules.inv_002",
  require "erp.demo.rules.inv_007",
  require "erp.demo.rules.prd_003",
  require "erp.demo.rules.prd_004",
  require "erp.demo.rules.prd_006",
  require "erp.demo.rules.prd_007",
}

-- Cents around the limits of the severity bands.
local EDGES = { 99999, 100000, 100001, 999999, 1000000, 1000001, 9999999, 10000000, 10000001 }

---@class erp.demo.Case what a planter works with
---@field no integer number of the case within its rule, decoys go on counting
---@field D integer
---@field out table<string, erp.demo.Sheet>
---@field company erp.demo.Company
local Case = {}
Case.__index = Case

--- Integer 0..range-1 of this case.
function Case:draw(k, range) return self.stream(self.no, k, range) end

--- An amount in the smallest unit of the company's currency, log-uniform from 100 to 200,000 dollars; every fifth at the edge
--- of a severity band.
---@return integer
function Case:amount()
  local cents
  if self.no % 5 == 1 then
    cents = EDGES[floor(self.no / 5) % #EDGES + 1]
  else
    local octave = 10000 * 2 ^ self:draw(0, 11)
    cents = octave + floor(self:draw(1, 1048576) * octave / 1048576)
  end
  if self.company.currency == "JPY" then return cents + floor(cents * 49 / 100) end
  return cents
end

--- A working day some weeks before the key date.
function Case:past(k) return base.on_or_before(self.D - 40 - self:draw(k, 300)) end

local function severity(impact, currency, s)
  if s.level then return s.level end
  local band = math.max(0, math.min(3, base.band(impact, currency) + (s.step or 0)))
  local floors = { low = 0, medium = 1, high = 2, critical = 3 }
  return base.severities[math.max(band, floors[s.floor or "low"])]
end

---@class erp.demo.Planted
---@field key string finding_key
---@field reason string? nil: it must not fire
---@field impact integer? smallest unit
---@field currency string?
---@field severity { step: integer?, floor: string?, level: string? }?
---@field rule string? of a further finding: another rule that fires (co-firing), or must not with `trap`
---@field trap string? of a further finding: it must not fire, whatever the case does
---@field more erp.demo.Planted[]? further findings of the same case

--- Whether cases of a rule can be planted.
---@param id string
---@return boolean
function M.has_rule(id)
  for _, planter in ipairs(planters) do
    if planter.id == id then return true end
  end
  return false
end

--- Plant all rules. The share is planted / decoys for each million grain units, at least one of each kind and five cases.
---@param world erp.demo.World
---@param out table<string, erp.demo.Sheet>
---@param opts { seed: string|number, per_million: integer, decoys_per_case: integer, rules: table<string, boolean>? }
---@return table[] labels sorted by rule and key
function M.write(world, out, opts)
  local labels = {}
  for index, planter in ipairs(planters) do
    if not opts.rules or opts.rules[planter.id] then
      local stream = random.stream(opts.seed, 100 + index)
      local no = 0
      local function case(name, fn)
        no = no + 1
        local c = setmetatable({ no = no, D = world.D, out = out, world = world, stream = stream,
          company = base.companies[(no + floor(no / 3)) % 3 + 1] }, Case)
        local planted = fn(c)
        local id = format("%s-%05d", planter.id, no)
        for i, p in ipairs { planted, unpack(planted.more or {}) } do
          local sev, fire = p.severity or {}, p.reason ~= nil
          labels[#labels + 1] = { rule_id = p.rule or planter.id, finding_key = p.key, must = fire and "fire" or "must_not",
            reason = fire and p.reason or "", severity = fire and severity(p.impact, p.currency, sev) or "",
            impact_amount = fire and base.money(p.impact, p.currency) or "", impact_currency = fire and p.currency or "",
            case_id = id, primary = i == 1 and 1 or 0, trap = fire and "" or p.trap or name }
        end
      end
      if opts.per_million > 0 then
        local count = math.max(5, #planter.cases, floor(planter.population(world) * opts.per_million / 1000000))
        for i = 0, count - 1 do
          local kind = planter.cases[i % #planter.cases + 1]
          case(kind[1], kind[2])
        end
        for i = 0, math.max(#planter.decoys, count * opts.decoys_per_case) - 1 do
          local kind = planter.decoys[i % #planter.decoys + 1]
          case(kind[1], kind[2])
        end
      end
    end
  end
  table.sort(labels, function(a, b)
    if a.rule_id ~= b.rule_id then return a.rule_id < b.rule_id end
    return a.finding_key < b.finding_key
  end)
  return labels
end

return M
