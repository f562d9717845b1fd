--- What cases of stock and production stand on: a reserved material in a plant, its stock, movements and production orders. What
--- a case does not say is in order.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local date, money = calendar.text, base.money

local M = {}

local function merged(row, fields)
  for name, value in pairs(fields or {}) do row[name] = value end
  return row
end

--- Material of the case's plant, without thresholds.
---@param c erp.demo.Case
---@param id string
---@param cost integer of one unit, in the smallest unit of the company's currency
---@param fields table? of material_plant
---@return string id
function M.material(c, id, cost, fields)
  c.out.material:row { material_id = id, type = "ROH", base_uom = "EA", group = "G99", abc = "C", procurement = "buy",
    batch_managed = 0, valuated = 1, first_receipt = date(c.D - 500) }
  c.out.material_plant:row(merged({ material_id = id, plant_id = c.company.plant, safety_stock = 0, reorder_point = 0,
    lead_time_days = 20, unit_cost = money(cost, c.company.currency), price_unit = 1, currency = c.company.currency, neg_allowed = 0 },
    fields))
  return id
end

---@param fields table? of stock
function M.stock(c, id, qty, fields)
  c.out.stock:row(merged({ material_id = id, plant_id = c.company.plant, sloc = "0001", special = "own", stock_type = "unrestricted",
    qty = qty }, fields))
end

---@param fields table? of stock_move
function M.move(c, move_id, id, day, qty, class, fields)
  c.out.stock_move:row(merged({ move_id = move_id, line = "1", material_id = id, plant_id = c.company.plant, sloc = "0001",
    special = "own", posting_date = date(day), qty = qty, move_class = class }, fields))
end

--- Production order of one unit, finished on `day` as planned.
---@param fields table? of production_order
---@return string order_id
function M.production(c, order_id, id, day, fields)
  c.out.production_order:row(merged({ order_id = order_id, plant_id = c.company.plant, material_id = id, qty = 1, plan_scrap_pct = 0,
    start_plan = date(day - 5), finish_plan = date(day), start_actual = date(day - 5), finish_actual = date(day), yield_qty = 1,
    scrap_qty = 0, status = "delivered" }, fields))
  return order_id
end

--- A plant of its own for the case, of the case's company.
---@param fields table? of plant
---@return string plant_id
function M.plant(c, id, fields)
  c.out.plant:row(merged({ plant_id = id, company_id = c.company.id, calendar_id = base.calendar_id, neg_stock_allowed = 0 }, fields))
  return id
end

return M
