--- Documents of planted cases: purchase orders of one or more lines, receipts, invoices. What a case does not say is in order.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local date, money, format = calendar.text, base.money, string.format

local M = {}

local function merged(row, fields)
  for name, value in pairs(fields or {}) do row[name] = value end
  return row
end

--- Vendor row of a reserved vendor.
---@param c erp.demo.Case
---@param number integer
---@param fields table?
---@return string vendor_id
function M.vendor(c, number, fields)
  local row = merged(c.world:vendor_row(number), fields)
  c.out.vendor:row(row)
  return row.vendor_id
end

---@class erp.demo.Order
---@field id string
---@field vendor string
---@field day integer order date
---@field amount integer? net value of the only line, in the smallest unit
---@field lines table[]? instead of amount: fields of each line; `net` and `price` in the smallest unit
---@field currency string? the company's
---@field fields table? of purchase_order

--- Purchase order. A line without material is a text line, so no price or stock is touched.
---@param c erp.demo.Case
---@param o erp.demo.Order
---@return string po_id
function M.order(c, o)
  local currency = o.currency or c.company.currency
  local lines, net = o.lines or { { net = o.amount, price = o.amount } }, 0
  for _, line in ipairs(lines) do net = net + line.net end
  c.out.purchase_order:row(merged({ po_id = o.id, company_id = c.company.id, vendor_id = o.vendor, doc_type = "NB",
    created_date = date(o.day), created_by = format("BUYER%02d", c.no % 40 + 1), order_date = date(o.day), currency = currency,
    fx_rate = base.rate_text(currency, c.company.currency), approval = "approved", approved_date = date(o.day), approved_by = "MGR02",
    net_value = money(net, currency), purch_group = "G09", sent = 1, sent_date = date(o.day), deleted = 0 }, o.fields))
  for i, line in ipairs(lines) do
    local row = merged({ po_id = o.id, line = tostring(i * 10), plant_id = c.company.plant, qty = 1, uom = "EA", price_unit = 1,
      price_uom = "EA", tax_code = c.company.tax_code, item_cat = "standard", gr_required = 1, ir_expected = 1, over_tol = 0,
      under_tol = 0, delivered_flag = 0, invoiced_flag = 0, is_return = 0, free = 0, est_price = 0, deleted = 0 }, line)
    row.net_value, row.price, row.net = money(line.net, currency), money(line.price, currency), nil
    c.out.po_line:row(row)
    c.out.po_schedule:row { po_id = o.id, line = row.line, sched = "1", due_date = date(base.on_or_after(c.D + 20)), qty = row.qty }
  end
  return o.id
end

--- Goods receipt of line 10.
---@param fields table? of goods_receipt
---@return string gr_id
function M.receipt(c, id, po_id, day, qty, fields)
  c.out.goods_receipt:row(merged({ gr_id = id, fiscal_year = date(day):sub(1, 4), gr_line = "1", po_id = po_id, line = "10",
    posting_date = date(day), entry_date = date(day), qty = qty, movement = "101", kind = "receipt" }, fields))
  return id
end

--- Invoice of line 10 over a net amount.
---@param fields table? of invoice
---@return string invoice_id
function M.invoice(c, id, po_id, vendor, day, net, fields)
  local currency, year = c.company.currency, date(day):sub(1, 4)
  local tax = math.floor((math.abs(net) * c.company.tax + 50) / 100) * (net < 0 and -1 or 1)
  c.out.invoice:row(merged({ invoice_id = id, fiscal_year = year, company_id = c.company.id, vendor_id = vendor, reference = "P" .. id,
    doc_date = date(day), posting_date = date(day), entry_date = date(day), currency = currency, fx_rate = "1.0000",
    gross = money(net + tax, currency), tax = money(tax, currency), kind = net < 0 and "credit_memo" or "invoice", status = "posted",
    created_by = "CLERK05", due_date = date(day + 30), is_recurring = 0 }, fields))
  c.out.invoice_line:row { invoice_id = id, fiscal_year = year, line = "1", po_id = po_id, po_line = "10", qty = net < 0 and -1 or 1,
    amount = money(net, currency), tax_code = c.company.tax_code, line_kind = "goods" }
  return id
end

return M
