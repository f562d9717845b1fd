--- Purchase to pay of the clean company: orders with their lines, receipts and invoices. Methods of erp.demo.World.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"

---@class erp.demo.World
local M = {}
local floor, format = math.floor, string.format
local date, money = calendar.text, base.money
local vendor_id, material_id, box = base.vendor_id, base.material_id, base.box

--- Purchase order p with its lines, quantities in order units, amounts in the order's currency.
function M:po(p)
  local draw, D = self.po_draw, self.D
  local v = self.pick_vendor(draw(p, 0, 2097152))
  local home = base.companies[self:home(v)]
  local company = draw(p, 2, 4) == 0 and base.companies[draw(p, 3, 3) + 1] or home
  local ordered = base.on_or_before(self.first + 10 + floor((p - 1) * 529 / self.pos))
  local due = base.on_or_after(ordered + 10 + self.vendor_draw(v, 1, 51))
  local po = { id = format("45%08d", p), vendor = v, company = company, currency = home.currency, ordered = ordered, due = due,
    creator = format("BUYER%02d", p % self.buyers + 1), partial = draw(p, 5, 10) < 3, lines = {}, net = 0 }
  local k0 = draw(p, 6, base.vendor_materials)
  for l = 1, base.line_count(draw, p) do
    local m = self:vendor_material(v, (k0 + l) % base.vendor_materials)
    local units, per = box(m), (m % 20 < 3) and 100 or 1
    local qty = (draw(p, 10 + l, 50) + 1) * (units == 1 and 10 or 1)
    local price = self:unit_price(m, po.currency) * units
    po.lines[l] = { no = tostring(l * 10), material = m, qty = qty, units = units, uom = units == 1 and "EA" or "BOX",
      price = price, per = per, net = price * qty, draw = l }
    po.net = po.net + price * qty
  end
  po.steps = po.partial and { base.on_or_before(due - 3), base.on_or_before(due - 1) } or { base.on_or_before(due - 1) }
  po.received = 0
  for i, day in ipairs(po.steps) do
    if day <= D then po.received = i end
  end
  return po
end

-- Quantity of a line that step i of the order brings.
local function step_qty(po, line, i)
  if not po.partial then return line.qty end
  local first = floor(line.qty / 2)
  return i == 1 and first or line.qty - first
end

local company_index = { ["1000"] = 1, ["2000"] = 2, ["3000"] = 3 }

function M:write_po(out, p)
  local po = self:po(p)
  local company, currency = po.company, po.currency
  local rate = base.rate_text(currency, company.currency)
  -- Everything above half the limit is approved, which is always right and needs no exact comparison here.
  local limit = company.currency == "JPY" and 375000 or 250000
  local approved = base.convert(po.net, currency, company.currency) >= limit
  local complete = po.received == #po.steps
  out.purchase_order:row { po_id = po.id, company_id = company.id, vendor_id = vendor_id(po.vendor), doc_type = "NB",
    created_date = date(po.ordered), created_by = po.creator, order_date = date(po.ordered), currency = currency,
    fx_rate = rate, approval = approved and "approved" or "not_required", approved_date = approved and date(po.ordered) or "",
    approved_by = approved and "MGR01" or "", net_value = money(po.net, currency), purch_group = "G0" .. company.id:sub(1, 1),
    sent = 1, sent_date = date(po.ordered), deleted = 0 }
  local index = company_index[company.id]
  for l, line in ipairs(po.lines) do
    local agreed = line.material == self:vendor_material(po.vendor, 0)
    out.po_line:row { po_id = po.id, line = line.no, material_id = material_id(line.material), plant_id = company.plant,
      qty = line.qty, uom = line.uom, price = money(line.price * line.per, currency), price_unit = line.per,
      price_uom = line.uom, net_value = money(line.net, currency), tax_code = company.tax_code, item_cat = "standard",
      gr_required = 1, ir_expected = 1, over_tol = 0, under_tol = 0, delivered_flag = complete and 1 or 0,
      invoiced_flag = 0, is_return = 0, free = 0, est_price = 0, contract_id = agreed and base.contract_id(po.vendor) or "",
      contract_line = agreed and "10" or "", deleted = 0 }
    out.po_schedule:row { po_id = po.id, line = line.no, sched = "1", due_date = date(po.due), qty = line.qty }
    for i = 1, po.received do
      local qty, day = step_qty(po, line, i), po.steps[i]
      if qty > 0 then
        local gr = format("50%09d%d%d", p, l, i)
        out.goods_receipt:row { gr_id = gr, fiscal_year = date(day):sub(1, 4), gr_line = "1", po_id = po.id, line = line.no,
          posting_date = date(day), entry_date = date(day), qty = qty,
          amount_cc = money(base.convert(qty * line.price, currency, company.currency), company.currency), movement = "101",
          kind = "receipt" }
        self:move(out, line.material, index, day, qty * line.units, "receipt", gr)
      end
    end
  end
  for i = 1, po.received do self:write_invoice(out, p, po, i, rate) end
end

--- The invoice of receipt step i, when its date is not after D; three in a hundred come with a reversed forerunner.
function M:write_invoice(out, p, po, i, rate)
  local draw, D, company, currency = self.po_draw, self.D, po.company, po.currency
  local day = po.steps[i] + 1 + draw(p, 20 + i, 8)
  if day > D then return end
  local net = 0
  for _, line in ipairs(po.lines) do net = net + step_qty(po, line, i) * line.price end
  if net == 0 then return end
  local tax = floor((net * company.tax + 50) / 100)
  local year, reference = date(day):sub(1, 4), format("F%d-%d%s", po.vendor, p, i == 1 and "A" or "B")
  local due = day + 30
  local function post(id, fields)
    local row = { invoice_id = id, fiscal_year = year, company_id = company.id, vendor_id = vendor_id(po.vendor),
      reference = reference, doc_date = date(day), posting_date = date(day), entry_date = date(day), currency = currency,
      fx_rate = rate, gross = money(net + tax, currency), tax = money(tax, currency), kind = "invoice", status = "posted",
      created_by = format("CLERK%02d", p % 12 + 1), due_date = date(due), is_recurring = 0 }
    for name, value in pairs(fields) do row[name] = value end
    out.invoice:row(row)
    local sign = row.kind == "credit_memo" and -1 or 1
    out.tax_item:row { company_id = company.id, doc_id = id, fiscal_year = year, line = "1", tax_code = company.tax_code,
      tax_date = date(day), direction = "in", base_doc = money(sign * net, currency), tax_doc = money(sign * tax, currency),
      base_lines = #po.lines, currency = currency, direct = 0, partner_id = row.vendor_id }
    for l, line in ipairs(po.lines) do
      local qty = step_qty(po, line, i)
      if qty > 0 then
        out.invoice_line:row { invoice_id = id, fiscal_year = year, line = tostring(l), po_id = po.id, po_line = line.no,
          gr_id = format("50%09d%d%d", p, l, i), qty = sign * qty, amount = money(sign * qty * line.price, currency),
          tax_code = company.tax_code, line_kind = "goods" }
      end
    end
  end
  local id = format("51%09d%d", p, i)
  if draw(p, 24 + i, 100) < 3 then
    post(id .. "R", { status = "cancelled", reversed_by = id .. "S" })
    post(id .. "S", { kind = "credit_memo", reverses = id .. "R", reference = reference .. "-ST",
      gross = money(-net - tax, currency), tax = money(-tax, currency) })
  end
  local pay = base.on_or_after(due - 3)
  post(id, pay <= D and { status = "paid", pay_date = date(pay) } or {})
end

return M
