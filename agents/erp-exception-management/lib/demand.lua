--- Open demand, open supply and consumption of materials, shared by the rules of stock, sales and
--- production. Each takes `parts`, a Table with material_id and plant_id: only these are looked at.
local M = {}

local PART = { "material_id", "plant_id" }
M.PART = PART

--- Open schedule lines of sales orders that are due up to `until_` (nil: all): columns need_date
--- (promised, else requested), open (sales units), base_open, line.* and line.order.*
---@param t table
---@param parts erp.Table
---@param until_ integer?
---@return erp.Table
function M.sales(t, parts, until_)
  local lines = t.sales_line:only(parts, PART):without { { "rejected", "eq", true } }
    :with("order", t.sales_order, { "order_id" })
    :without { { "order.cancelled", "eq", true } }
  local due = t.sales_schedule:derive("need_date", "coalesce", "promised_date", "requested_date")
  if until_ then due = due:where { { "need_date", "le", until_ } } end
  due = due:with("line", lines, { "order_id", "line" }):where { { "line", "found" } }:need { "qty" }
  local delivered = t.delivery_line
    :only(due, { order_id = "order_id", line = "order_line" })
    :without { { "cancelled", "eq", true }, { "is_return", "eq", true } }
    :where { { "any", { "issued", "eq", true }, { "all", { "issued", "null" }, { "actual_gi", "notnull" } } } }
    :group({ "order_id", "order_line" }, { qty = { "sum", "qty" } })
  return due:with("delivered", delivered, { order_id = "order_id", order_line = "line" })
    :fifo { by = { "order_id", "line" }, order = { "need_date", "sched" }, qty = "qty", used = "delivered.qty", as = "open" }
    :where { { "open", "gt", 0 } }
    :to_base { qty = "open", material = "line.material_id", uom = "line.uom", as = "base_open" }
end

--- Where a sales demand belongs: keys of `parts` in its columns.
M.OF_LINE = { material_id = "line.material_id", plant_id = "line.plant_id" }

--- Open components of production orders that are not finished, needed up to `until_` (nil: all):
--- columns of prod_component and open.
---@return erp.Table
function M.components(t, parts, until_)
  local rows = t.prod_component:only(parts, PART)
    :without { { "final_issue", "eq", true }, { "deleted", "eq", true }, { "bulk", "eq", true }, { "phantom", "eq", true } }
  if until_ then rows = rows:where { { "need_date", "le", until_ } } end
  return rows:with("order", t.production_order, { "order_id" })
    :without { { "order.status", "in", { "confirmed", "delivered", "teco", "closed", "cancelled" } } }
    :need { "req_qty" }
    :derive("none", "const", "q", 0):derive("issued", "coalesce", "issued_qty", "none")
    :derive("open", "sub", "req_qty", "issued"):where { { "open", "gt", 0 } }
end

--- Open schedule lines of purchase orders: columns expected (confirmed, else due date), open (order
--- units), base_open, line.*
---@return erp.Table
function M.receipts(t, parts)
  local lines = t.po_line:only(parts, PART)
    :without { { "deleted", "eq", true }, { "delivered_flag", "eq", true }, { "is_return", "eq", true } }
    :with("order", t.purchase_order, { "po_id" }):without { { "order.deleted", "eq", true } }
  local due = t.po_schedule:derive("expected", "coalesce", "confirmed_date", "due_date")
    :with("line", lines, { "po_id", "line" }):where { { "line", "found" } }:need { "qty" }
  local received = t.goods_receipt:only(due, { "po_id", "line" }):group({ "po_id", "line" }, { qty = { "sum", "qty" } })
  return due:with("received", received, { "po_id", "line" })
    :fifo { by = { "po_id", "line" }, order = { "due_date", "sched" }, qty = "qty", used = "received.qty", as = "open" }
    :where { { "open", "gt", 0 } }
    :to_base { qty = "open", material = "line.material_id", uom = "line.uom", as = "base_open" }
end

--- Movements of consumption after day `from` (nil: all): issues and scrap; a reversal has the
--- opposite sign, so a sum of qty nets it (consumption is -sum).
---@return erp.Table
function M.consumption(t, parts, from)
  local moves = t.stock_move:where { { "move_class", "in", { "issue_sales", "issue_prod", "scrap" } } }
  if from then moves = moves:where { { "posting_date", "gt", from } } end
  return moves:only(parts, PART)
end

return M
