--- PRD-003 Quality failure: an inspection lot of a reserved material a case. Reason `overdue_decision` needs a parameter, so it
--- cannot be planted.
local document = require "erp.demo.document"
local part = require "erp.demo.part"
local calendar = require "erp.calendar"
local date, format = calendar.text, string.format

local function material_id(c) return format("M3%06d", c.no) end

local function lot(c, amount, fields)
  local id, day = format("72%08d", c.no), c:past(2)
  part.material(c, material_id(c), amount)
  local row = { lot_id = id, origin = "production", material_id = material_id(c), plant_id = c.company.plant, lot_qty = 100,
    inspected_qty = 100, defect_qty = 0, decision = "A", decision_date = date(day + 2), created_date = date(day) }
  for name, value in pairs(type(fields) == "function" and fields(c) or fields) do row[name] = value end
  c.out.inspection_lot:row(row)
  return id
end

-- Of a unit that costs the case's amount, `units` are lost; of the whole lot when `step` is 1.
local function case(name, reason, units, step, fields)
  return { name, function(c)
    local amount = c:amount()
    return { key = lot(c, amount, fields), reason = reason, impact = amount * units, currency = c.company.currency, severity = { step = step } }
  end }
end

local function decoy(trap, fields) return { trap, function(c) return { key = lot(c, c:amount(), fields) } end } end

return {
  id = "PRD-003",
  population = function(world) return world.productions end,
  cases = {
    case("rejected", "rejected", 10, 1, { decision = "R", lot_qty = 10, inspected_qty = "", defect_qty = "" }),
    case("rejected after a sample", "rejected", 10, 1, { decision = "R", lot_qty = 10, inspected_qty = 2, defect_qty = 1 }),
    case("rejected in part", "rejected", 3, 0, { decision = "R", lot_qty = 10, inspected_qty = 10, defect_qty = 3 }),
    case("more than two per cent", "defect_rate", 3, 0, { defect_qty = 3, decision = "", decision_date = "" }),
    case("of a sample", "defect_rate", 2, 0, { lot_qty = 1000, inspected_qty = 50, defect_qty = 2, decision = "", decision_date = "" }),
    case("nothing is good", "defect_rate", 4, 1, { lot_qty = 4, inspected_qty = "", defect_qty = 4, decision = "", decision_date = "" }),
    { "rejected receipt", function(c)
      -- The unit of the order costs the case's amount, that of the master data another one.
      local amount = c:amount()
      local po = document.order(c, { id = format("41%08d", c.no), vendor = document.vendor(c, 300000 + c.no), day = c:past(2), amount = amount })
      return { key = lot(c, 7, { decision = "R", lot_qty = 1, inspected_qty = 1, defect_qty = 1, origin = "receipt", ref_doc = po, ref_line = "10" }),
        reason = "rejected", impact = amount, currency = c.company.currency, severity = { step = 1 } }
    end },
  },
  decoys = {
    decoy("two_per_cent", { defect_qty = 2 }),
    decoy("fewer_defects_than_the_least", { lot_qty = 10, inspected_qty = 10, defect_qty = "0.9" }),
    decoy("accepted", {}),
    decoy("not_inspected", { inspected_qty = 0, decision = "", decision_date = "" }),
    decoy("no_decision_for_long", { decision = "", decision_date = "" }),
    decoy("rejected_after_key_date", function(c) return { decision = "R", decision_date = date(c.D + 1) } end),
    decoy("created_after_key_date", function(c) return { decision = "R", created_date = date(c.D + 1), decision_date = date(c.D + 1) } end),
  },
}
