--- Purchase orders: their values, what was received and invoiced.
local money = require "money"

local M = {}

local UNPOSTED = { { "status", "in", { "parked", "cancelled" } } }

local function add(into, key, amount)
  if amount ~= nil then into[key] = into[key] and into[key] + amount or amount end
end

--- po_value of each order (erp-rules.md, section 0): the sum of its lines that are not deleted, or
--- the order's own net_value when it has no such line or one without a value. Of few orders: the
--- lines are chosen first.
---@param t table
---@param orders erp.Table of purchase_order rows
---@return table<string, erp.Decimal> by po_id; no entry: not known
function M.po_values(t, orders)
  local lines = t.po_line:only(orders, { "po_id" }):without { { "deleted", "eq", true } }
    :group({ "po_id" }, { value = { "sum", "net_value" }, lines = { "count" }, valued = { "count", "net_value" } })
  local values = {}
  for line in lines:where { { "lines", "eq", { "valued" } } }:each() do values[line.po_id] = line.value end
  for order in orders:each() do
    values[order.po_id] = values[order.po_id] or order.net_value
  end
  return values
end

--- Orders that are not deleted with the columns value, their po_value, and value_cc, the same in the currency of the company (cc)
--- at the order date. Orders without value or rate are skipped. `lines.*` are sums over the lines that are not deleted:
--- lines (their number) and what `sums` asks for.
---@param t table
---@param orders erp.Table of purchase_order rows
---@param sums table<string, table>? aggregates, as of group
---@return erp.Table
function M.valued(t, orders, sums)
  local of_line = { value = { "sum", "net_value" }, lines = { "count" }, valued = { "count", "net_value" } }
  for name, sum in pairs(sums or {}) do of_line[name] = sum end
  local lines = t.po_line:without { { "deleted", "eq", true } }:group({ "po_id" }, of_line)
  orders = orders:with("lines", lines, { "po_id" })
    :with("whole", lines:where { { "lines", "eq", { "valued" } } }, { "po_id" })
    :derive("value", "coalesce", "whole.value", "net_value")
    :skip("no_net_value", { { "value", "null" } })
  return money.with_rate(t, orders, { currency = "currency", date = "order_date" })
    :skip("no_rate", { { "rate", "null" } })
    :derive("value_cc", "times", "value", "rate")
end

--- Value received and invoiced so far, for evidence.
---@return table<string, erp.Decimal> received, table<string, erp.Decimal> invoiced both by po_id
function M.progress(t, orders)
  local received, invoiced = {}, {}
  local receipts = t.goods_receipt:only(orders, { "po_id" }):group({ "po_id", "line" }, { qty = { "sum", "qty" } })
    :with("item", t.po_line, { "po_id", "line" })
  for row in receipts:where { { "item", "found" } }:each() do
    add(received, row.po_id, t.val(row, row.qty, "item."))
  end
  local lines = t.invoice_line:only(orders, { "po_id" })
  local documents = t.invoice:only(lines, { "invoice_id", "fiscal_year" }):without(UNPOSTED)
  lines = lines:only(documents, { "invoice_id", "fiscal_year" }):group({ "po_id" }, { amount = { "sum", "amount" } })
  for row in lines:each() do add(invoiced, row.po_id, row.amount) end
  -- Invoices that are linked to their order at the header and have no lines.
  local headers = t.invoice:only(orders, { "po_id" }):without(UNPOSTED):except(t.invoice_line, { "invoice_id", "fiscal_year" })
  for row in headers:each() do
    if row.gross ~= nil then add(invoiced, row.po_id, row.gross - (row.tax or t.zero)) end
  end
  return received, invoiced
end

return M
