--- INV-007 Negative stock: a reserved material in one plant a case, a unit of which costs the case's amount.
local part = require "erp.demo.part"
local format, floor = string.format, math.floor

local function material_id(c) return format("M2%06d", c.no) end
local function move(c, k, day, qty) part.move(c, format("47%08d%d", c.no, k), material_id(c), day, qty, "transfer") end

local function key(c, fields)
  fields = fields or {}
  return table.concat({ material_id(c), fields.plant_id or c.company.plant, fields.sloc or "0001", "", fields.special or "own",
    fields.stock_type or "unrestricted" }, "|")
end

---@class erp.demo.Negative
---@field qty string|integer? -1
---@field units integer? the same in 1/10,000
---@field stock table? fields of stock
---@field plan table? fields of material_plant
---@field moves table[]? {days before the key date, qty}
---@field step integer?
---@field floor string?

local function place(c, amount, o)
  part.material(c, material_id(c), amount, o.plan)
  part.stock(c, material_id(c), o.qty or -1, o.stock)
  for k, m in ipairs(o.moves or {}) do move(c, k, c.D - m[1], m[2]) end
end

---@param o erp.demo.Negative
local function case(name, o)
  return { name, function(c)
    local amount, units = c:amount(), o.units or 10000
    local fields = o.plant and { plant_id = part.plant(c, format("PN%05d", c.no), o.plant) }
    place(c, amount, fields and { plan = fields, stock = fields } or o)
    return { key = key(c, fields or o.stock), reason = "negative", impact = floor((amount * units + 5000) / 10000),
      currency = c.company.currency, severity = { step = o.step, floor = o.floor or "high" } }
  end }
end

local function decoy(trap, o)
  return { trap, function(c)
    place(c, c:amount(), o)
    return { key = key(c, o.stock) }
  end }
end

return {
  id = "INV-007",
  population = function(world) return world.materials * 3 end,
  cases = {
    case("one unit", {}),
    case("more than a rest of rounding", { qty = "-0.0006", units = 6 }),
    case("since yesterday", { moves = { { 30, 5 }, { 1, -6 } } }),
    case("since seven days", { moves = { { 30, 5 }, { 7, -6 } } }),
    case("since eight days", { moves = { { 30, 5 }, { 8, -6 } }, step = 1 }),
    case("negative again since yesterday", { moves = { { 40, -1 }, { 20, 1 }, { 1, -1 } } }),
    case("allowed for the material", { plan = { neg_allowed = 1 }, floor = "low" }),
    case("allowed for the material and old", { plan = { neg_allowed = 1 }, moves = { { 9, -1 } }, step = 1, floor = "low" }),
    case("allowed in the plant", { plant = { neg_stock_allowed = 1 }, floor = "low" }),
    case("blocked stock", { stock = { stock_type = "blocked" } }),
    case("consignment", { stock = { special = "vendor_consign" } }),
    { "one location of two", function(c)
      local amount = c:amount()
      place(c, amount, { stock = { sloc = "0002" } })
      part.stock(c, material_id(c), 5)
      return { key = key(c, { sloc = "0002" }), reason = "negative", impact = amount, currency = c.company.currency,
        severity = { floor = "high" } }
    end },
  },
  decoys = {
    decoy("rest_of_rounding", { qty = "-0.0005" }),
    decoy("nothing", { qty = 0 }),
    decoy("negative_in_between", { qty = 4, moves = { { 40, -1 }, { 20, 5 } } }),
  },
}
