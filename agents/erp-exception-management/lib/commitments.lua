--- What commits a company to an order: a receipt, an invoice, or that it was sent to the vendor.
local M = {}

local IN_DOCUMENT, OF_ORDER = { "invoice_id", "fiscal_year" }, { "po_id" }
local BILLS = { { "kind", "in", { "invoice", "subseq_debit" } } }
local NEVER = { "po_id", "null" }

-- Receipts of the orders that stand: neither reversed nor a reversal.
local function receipts(t, orders)
  local all = t.goods_receipt:only(orders, OF_ORDER)
  local undone = t.goods_receipt:where { { "reverses", "notnull" } }
  all = all:where { { "kind", "eq", "receipt" }, { "qty", "gt", 0 }, { "reverses", "null" } }
  return t:has "goods_receipt.reverses" and all:except(undone, { reverses = "gr_id" }) or all
end

-- Lines of the orders in invoices that stand, and invoices without lines that name an order at the header: with `day`, when
-- they came.
local function billed(t, orders, conditions)
  local lines = t.invoice_line:only(orders, OF_ORDER)
  if not t:has "invoice" then return lines:derive("day", "const", "d", nil), t.invoice:derive("day", "const", "d", nil) end
  local documents = t.invoice:without { { "status", "in", { "parked", "cancelled" } }, { "kind", "eq", "down_payment" } }
    :where { { "reversed_by", "null" }, { "reverses", "null" } }
    :where(conditions or {})
    :derive("day", "coalesce", "posting_date", "doc_date")
  lines = lines:with("doc", documents, IN_DOCUMENT):where { { "doc", "found" } }:derive("day", "copy", "doc.day")
  return lines, documents:only(orders, OF_ORDER):except(t.invoice_line, IN_DOCUMENT)
end

local function wanted(p)
  local set = {}
  for _, name in ipairs(p.commitments or {}) do set[name] = true end
  return set
end

--- Orders joined to what commits to them, a condition that there is any, and one that their approval came after a first one
--- that has a date.
---@param t table
---@param p table parameter commitments
---@param orders erp.Table
---@return erp.Table orders, table committed, table late
function M.join(t, p, orders)
  local kinds, committed, late = wanted(p), { "any", NEVER }, { "any", NEVER }
  local function join(alias, tab, day)
    orders = orders:with(alias, tab:group(OF_ORDER, { day = { "min", day } }), OF_ORDER)
    committed[#committed + 1], late[#late + 1] = { alias, "found" }, { "approved_date", "gt", { alias .. ".day" } }
  end
  if kinds.receipt then join("received", receipts(t, orders), "posting_date") end
  if kinds.invoice then
    local lines, headers = billed(t, orders, BILLS)
    join("billed", lines, "day")
    join("charged", headers, "day")
  end
  if kinds.sent then
    committed[#committed + 1] = { "sent", "eq", true }
    late[#late + 1] = { "all", { "sent", "eq", true }, { "approved_date", "gt", { "sent_date" } } }
  end
  return orders, committed, late
end

--- earliest(order): the first commitment of an order of `orders`, by date, then receipt, invoice, sent; undated ones last.
---@return fun(order: table): table? { kind, date, doc }
function M.earliest(t, p, orders)
  local kinds, lists = wanted(p), {}
  local function list(kind, tab, order, day, doc)
    lists[#lists + 1] = { kind = kind, ix = tab:sort(order):index(OF_ORDER), day = day, doc = doc }
  end
  if kinds.receipt then list("receipt", receipts(t, orders), { "posting_date", "gr_id", "gr_line" }, "posting_date", "gr_id") end
  if kinds.invoice then
    local lines, headers = billed(t, orders, BILLS)
    list("invoice", lines, { "day", "invoice_id", "fiscal_year", "line" }, "day", "invoice_id")
    list("invoice", headers, { "day", "invoice_id", "fiscal_year" }, "day", "invoice_id")
  end
  return function(order)
    local best
    local function offer(kind, day, doc)
      if not best or day and (not best.day or day < best.day) then best = { kind = kind, day = day, doc = doc } end
    end
    for _, from in ipairs(lists) do
      local first = from.ix:get(order.po_id)
      if first then offer(from.kind, first[from.day], first[from.doc]) end
    end
    if kinds.sent and order.sent then offer("sent", order.sent_date) end
    return best and { kind = best.kind, date = t.iso(best.day), doc = best.doc }
  end
end

--- What was received, and invoiced beyond that, before the approval of each order; all of it where `whole` holds. In the
--- currency of the order; invoices in another one at the rate of their day, and left out without one.
---@param t table
---@param orders erp.Table with money, the order's currency
---@param whole table condition on order.*
---@return table<string, erp.Decimal> by po_id
function M.value_before(t, orders, whole)
  local lines, values = {}, {} -- values of an order by line
  local function line_of(po_id, line)
    lines[po_id] = lines[po_id] or {}
    local l = lines[po_id][line]
    if not l then
      l = { received = t.zero, invoiced = t.zero }
      lines[po_id][line] = l
    end
    return l
  end
  local function before(tab, day)
    return tab:with("order", orders, OF_ORDER):where { { "any", whole, { day, "lt", { "order.approved_date" } } } }
  end

  local received = before(t.goods_receipt:only(orders, OF_ORDER), "posting_date")
    :group({ "po_id", "line" }, { qty = { "sum", "qty" } }):with("item", t.po_line, { "po_id", "line" })
  for row in received:where { { "qty", "gt", 0 } }:each() do
    local value = t.val(row, row.qty, "item.")
    if value then line_of(row.po_id, row.line).received = value end
  end

  local function in_order_currency(amount, currency, day, order_currency)
    if amount == nil or currency == nil or currency == order_currency then return amount end
    local rate = t.fx(currency, order_currency, day)
    return rate and amount * rate
  end
  local items, headers = billed(t, orders)
  for row in before(items, "day"):each() do
    local amount = in_order_currency(row.amount, row:has "doc.currency" and row["doc.currency"] or nil, row.day, row["order.money"])
    local l = line_of(row.po_id, row.po_line or "")
    if amount then l.invoiced = l.invoiced + amount end
  end
  for po_id, list in pairs(lines) do
    for _, l in pairs(list) do values[po_id] = (values[po_id] or t.zero) + l.received:max(l.invoiced) end
  end
  local charged = {}
  for row in before(headers, "day"):each() do
    local net = row.gross and row.gross - (row.tax or t.zero)
    local amount = in_order_currency(net, row.currency, row.day, row["order.money"])
    if amount then charged[row.po_id] = (charged[row.po_id] or t.zero) + amount end
  end
  for po_id, amount in pairs(charged) do values[po_id] = (values[po_id] or t.zero):max(amount) end
  return values
end

return M
