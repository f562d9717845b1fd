--- What is in stock of materials in plants, and which of them have run out. Shared by the rules of stock (INV).
local demand = require "demand"

local M = {}

local PART = demand.PART

-- Stock that belongs to one customer, project or order does not serve others: a material that has no
-- other stock is made to order.
local DEDICATED = { "special", "in", { "customer", "project", "sales_order" } }

--- Condition on stock: it counts as available to the company.
function M.mine(p) return { "special", "in", p.count_consignment and { "own", "vendor_consign" } or { "own" } } end

--- One row a material and plant that is stocked and not phased out: available and what `more` asks for; plan.* of material_plant.
---@param t table
---@param p table count_consignment
---@param more table<string, table>? aggregates of stock, as of group
---@return erp.Table
function M.parts(t, p, more)
  local sums = { available = { "sum", "qty", where = { M.mine(p), { "stock_type", "eq", "unrestricted" } } } }
  for name, sum in pairs(more or {}) do sums[name] = sum end
  return t.stock:need { "qty" }:without { DEDICATED }:group(PART, sums)
    :with("plan", t.material_plant, PART)
    :without { { "plan.phase_out", "le", t.as_of } }
end

--- The parts that have run out (INV-001): nothing is available, and they are in demand, planned or were used of late. Columns
--- sales.qty, sales.first, components.qty, components.first, used.qty.
---@param t table
---@param p table horizon_days, look_back_days
---@param parts erp.Table of parts
---@return erp.Table out, erp.Table sales demand of the empty parts (demand.sales)
function M.find(t, p, parts)
  local empty = parts:where { { "available", "le", 0 } }
  local horizon, look_back = p.horizon_days and t.as_of + p.horizon_days, p.look_back_days and t.as_of - p.look_back_days
  local sales, components = demand.sales(t, empty, horizon), demand.components(t, empty, horizon)
  local used = demand.consumption(t, empty, look_back)
  local sales_of = sales:group(demand.OF_LINE, { qty = { "sum", "base_open" }, first = { "min", "need_date" } })
  local components_of = components:group(PART, { qty = { "sum", "open" }, first = { "min", "need_date" } })
  local out = empty
    :with("sales", sales_of, PART)
    :with("components", components_of, PART)
    :with("used", used:group(PART, { qty = { "sum", "qty" } }), PART)
    :where { { "any",
      { "sales.qty", "gt", 0 }, { "components.qty", "gt", 0 },
      { "plan.reorder_point", "gt", 0 }, { "used.qty", "lt", 0 } } }
  return out, sales
end

return M
