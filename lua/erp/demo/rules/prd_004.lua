--- PRD-004 Scrap above plan: a finished order of a reserved material a case.
local part = require "erp.demo.part"
local calendar = require "erp.calendar"
local format, floor = string.format, math.floor

local function material_id(c) return format("M4%06d", c.no) end

local function order(c, cost, yield, scrap, plan, fields)
  part.material(c, material_id(c), cost)
  local row = { qty = 100, yield_qty = yield, scrap_qty = scrap, plan_scrap_pct = plan }
  for name, value in pairs(fields or {}) do row[name] = value end
  return part.production(c, format("65%08d", c.no), material_id(c), c:past(2), row)
end

-- `excess`: scrap beyond plan in 1/10,000 units.
local function case(name, yield, scrap, plan, excess, free)
  return { name, function(c)
    local amount = free and 0 or c:amount()
    return { key = order(c, amount, yield, scrap, plan), reason = "scrap", impact = floor((amount * excess + 5000) / 10000),
      currency = c.company.currency }
  end }
end

local function decoy(trap, yield, scrap, plan, fields)
  return { trap, function(c) return { key = order(c, c:amount(), yield, scrap, plan, fields and fields(c)) } end }
end

return {
  id = "PRD-004",
  population = function(world) return world.productions end,
  cases = {
    case("three of a hundred", 97, 3, 0, 30000),
    case("just above the limit", "97.9999", "2.0001", 0, 20001),
    case("above a planned rate", 92, 8, 5, 30000),
    case("nothing but scrap", 0, 1, 0, 10000),
    case("one of ten", "0.9", "0.1", 1, 900),
    case("a material without value", 50, 50, 0, 0, true),
  },
  decoys = {
    decoy("at_the_limit", 98, 2, 0),
    decoy("just_below_the_limit", "98.0001", "1.9999", 0),
    decoy("as_planned", 93, 7, 5),
    decoy("no_scrap", 100, 0, 0),
    decoy("order_open", 40, 10, 0, function(c)
      return { finish_actual = "", status = "released", finish_plan = calendar.text(c.D + 20) }
    end),
    decoy("finished_after_key_date", 40, 10, 0, function(c)
      return { finish_actual = calendar.text(c.D + 1), finish_plan = calendar.text(c.D + 1) }
    end),
  },
}
