--- INV-002 Below safety stock or reorder point: a reserved material in one plant a case, a unit of which costs the case's amount.
local part = require "erp.demo.part"
local calendar = require "erp.calendar"
local format, floor = string.format, math.floor

local function material_id(c) return format("M1%06d", c.no) end

-- Stock of qty units against the two thresholds.
local function low(c, amount, reorder, safety, qty, fields)
  local id = part.material(c, material_id(c), amount, { reorder_point = reorder, safety_stock = safety, phase_out = fields and fields.phase_out })
  if qty then part.stock(c, id, qty) end
  return id
end

-- `missing` units (in 1/10,000) below the threshold that is the reason.
local function case(name, reason, missing, step, build)
  return { name, function(c)
    local amount = c:amount()
    local id = build(c, amount)
    return { key = id .. "|" .. c.company.plant, reason = reason, impact = floor((amount * missing + 5000) / 10000),
      currency = c.company.currency, severity = { step = step } }
  end }
end

local function thresholds(reorder, safety, qty)
  return function(c, amount) return low(c, amount, reorder, safety, qty) end
end

local function decoy(trap, build)
  return { trap, function(c) return { key = build(c, c:amount()) .. "|" .. c.company.plant } end }
end

return {
  id = "INV-002",
  population = function(world) return world.materials * 3 end,
  cases = {
    case("below the reorder point", "reorder", 10000, 0, thresholds(10, 5, 9)),
    case("the smallest unit below", "reorder", 1, 0, thresholds(10, 5, "9.9999")),
    case("below both", "safety", 10000, 0, thresholds(10, 5, 4)),
    case("half of the safety stock", "safety", 30000, 0, thresholds(10, 6, 3)),
    case("less than half of the safety stock", "safety", 30001, 1, thresholds(10, 6, "2.9999")),
    case("safety stock above the reorder point", "reorder", 10000, 1, thresholds(5, 10, 4)),
    case("below the safety stock only", "safety", 30000, 0, thresholds(5, 10, 7)),
    case("equal thresholds", "reorder", 10000, 0, thresholds(10, 10, 9)),
    case("nothing left and nothing needed", "safety", 50000, 1, thresholds(0, 5, 0)),
    case("other stock does not count", "reorder", 10000, 0, function(c, amount)
      local id = low(c, amount, 10, 5, 9)
      part.stock(c, id, 100, { stock_type = "quality" })
      part.stock(c, id, 100, { special = "vendor_consign" })
      return id
    end),
  },
  decoys = {
    decoy("at_reorder_point", thresholds(10, 5, 10)),
    decoy("at_safety_stock", thresholds(0, 5, 5)),
    decoy("not_planned", thresholds(0, 0, 1)),
    decoy("no_stock_row", thresholds(10, 5, nil)),
    decoy("phased_out_today", function(c, amount) return low(c, amount, 10, 5, 4, { phase_out = calendar.text(c.D) }) end),
    decoy("two_locations_reach_it", function(c, amount)
      local id = low(c, amount, 10, 5, 4)
      part.stock(c, id, 6, { sloc = "0002" })
      return id
    end),
  },
}
