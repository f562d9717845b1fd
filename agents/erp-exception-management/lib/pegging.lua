--- Sales that wait for what is produced.
local M = {}

--- delays(sales_order, material, day): whether a line of the sales order over that material becomes late when the goods come
--- on `day`: a schedule line was due before and is not delivered on time.
---@param t table
---@param found erp.Table only its sales orders are looked at
---@param column string of found: the sales order
---@return fun(sales_order: string, material: string, day: integer): boolean
function M.delays(t, found, column)
  local pegged = found:where { { column, "notnull" } }
  if not t:has "production_order.sales_order_id" or pegged:count() == 0 then return function() return false end end
  local lines = t.sales_line:only(pegged, { [column] = "order_id" }):without { { "rejected", "eq", true } }
    :with("sale", t.sales_order, { "order_id" }):without { { "sale.cancelled", "eq", true } }
  local due = t.sales_schedule:only(lines, { "order_id", "line" }):with("line", lines, { "order_id", "line" })
    :derive("target", "coalesce", "promised_date", "requested_date")
  local deliveries = t.delivery_line:only(due, { order_id = "order_id", line = "order_line" }):where { { "actual_gi", "notnull" } }
    :without { { "cancelled", "eq", true }, { "is_return", "eq", true } }
  local open = due:serve(deliveries, { by = { order_id = "order_id", order_line = "line" }, order = { "target", "sched" }, qty = "qty",
    limit = "target", supply_order = { "actual_gi", "delivery_id", "line" }, supply_qty = "qty", date = "actual_gi", filled = "filled",
    last = "last", late = "late" })
    :where { { "any", { "filled", "lt", { "qty" } }, { "late", "gt", 0 } } }
  local first_due = open:derive("material_id", "copy", "line.material_id"):group({ "order_id", "material_id" }, { day = { "min", "target" } })
    :index { "order_id", "material_id" }
  return function(sales_order, material, day)
    local first = first_due:get(sales_order, material)
    return first ~= nil and first.day ~= nil and first.day < day
  end
end

return M
