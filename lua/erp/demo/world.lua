--- The clean company: master data, purchase to pay, sales, production and stock, all consistent, built so that no rule fires.
-- Every document is a pure function of (seed, row); only sums that a later file needs (open demand, moves, loads) are kept,
-- one number for each material and plant, customer, or work center and week.
local ffi = require "ffi"
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local random = require "erp.demo.random"

local M = {}
local floor, format, max, min = math.floor, string.format, math.max, math.min
local date, money = calendar.text, base.money

-- Quantiles (1/128, 3/128, …) of a log-normal price, median 40, sigma 1.2, in cents.
local PRICES = { 220, 368, 483, 586, 683, 776, 869, 960, 1052, 1144, 1237, 1332, 1428, 1526, 1626, 1728, 1833, 1941, 2052,
  2167, 2284, 2406, 2532, 2662, 2797, 2937, 3083, 3234, 3392, 3556, 3728, 3907, 4095, 4292, 4500, 4718, 4948, 5190, 5448,
  5720, 6010, 6319, 6650, 7004, 7385, 7796, 8242, 8727, 9258, 9841, 10487, 11206, 12015, 12933, 13986, 15213, 16665, 18422,
  20609, 23440, 27317, 33125, 43432, 72774 }
local FIRST = { "Nord", "Sued", "Elbe", "Alster", "Hansa", "Baltic", "Weser", "Harbor", "Prime", "Delta", "Union", "Atlas" }
local LAST = { "Metal", "Tooling", "Bearings", "Plastics", "Electric", "Fasteners", "Logistics", "Chemicals", "Castings", "Supply" }
local VENDOR_MATERIALS = 8

---@class erp.demo.World
---@field D integer as_of as day number
---@field first integer first day of the history
local World = {}
World.__index = World

---@param opts { seed: string|number, n: integer, as_of: integer }
---@return erp.demo.World
function M.new(opts)
  local n = opts.n
  local self = setmetatable({ D = opts.as_of, first = opts.as_of - 540, n = n }, World)
  self.vendors, self.materials = max(20, floor(n / 50)), max(50, floor(n / 20))
  self.customers, self.pos = max(20, floor(n / 40)), max(2, floor(n / 3))
  self.productions = max(5, floor(n / 10))
  self.centers = 3 * max(3, floor(n / 6000))
  for id, name in ipairs { "vendor", "material", "po", "sales", "production", "stock", "customer", "plant_case" } do
    self[name .. "_draw"] = random.stream(opts.seed, id)
  end
  self.pick_vendor, self.pick_material = random.zipf(self.vendors), random.zipf(self.materials)
  local keys = self.materials * 3
  self.moved, self.demand = ffi.new("int64_t[?]", keys + 3), ffi.new("int64_t[?]", keys + 3)
  self.exposure = ffi.new("int64_t[?]", self.customers + 1)
  self.weeks = 60
  self.load = ffi.new("int64_t[?]", (self.centers + 1) * self.weeks)
  self.move_no = 0
  return self
end

local function vendor_id(v) return format("V%06d", v) end
local function material_id(m) return format("M%07d", m) end
local function customer_id(c) return format("C%06d", c) end
function World.center_id(_, w) return format("WC%04d", w) end

--- Price of one base unit in the smallest unit of a currency.
function World:unit_price(m, currency)
  local cents = PRICES[self.material_draw(m, 0, 64) + 1]
  if currency == "USD" then return cents end
  return floor(cents * (currency == "EUR" and 100 or 149) / (currency == "EUR" and 110 or 100)) + 1
end

--- Units of a box; 1 when the material is ordered in its base unit.
local function box(m) return m % 5 == 0 and 10 or 1 end
function World:home(v) local h = v % 10; return h < 6 and 1 or h < 9 and 2 or 3 end
function World:vendor_material(v, k) return (v * 5 + k * 7) % self.materials + 1 end

-- The number of lines of document i: 3 on average, exactly for each pair.
local function line_count(draw, i)
  local extra = draw(i - (i + 1) % 2, 1, 3)
  return i % 2 == 1 and 3 + extra or 3 - extra
end

--- Purchase order p with its lines, quantities in order units, amounts in the order's currency.
function World:po(p)
  local draw, D = self.po_draw, self.D
  local v = self.pick_vendor(draw(p, 0, 2097152))
  local home = base.companies[self:home(v)]
  local company = draw(p, 2, 4) == 0 and base.companies[draw(p, 3, 3) + 1] or home
  local ordered = base.on_or_before(self.first + 10 + floor((p - 1) * 529 / self.pos))
  local due = base.on_or_after(ordered + 10 + self.vendor_draw(v, 1, 51))
  local po = { id = format("45%08d", p), vendor = v, company = company, currency = home.currency, ordered = ordered, due = due,
    creator = format("BUYER%02d", draw(p, 4, 40) + 1), partial = draw(p, 5, 10) < 3, lines = {}, net = 0 }
  local k0 = draw(p, 6, VENDOR_MATERIALS)
  for l = 1, line_count(draw, p) do
    local m = self:vendor_material(v, (k0 + l) % VENDOR_MATERIALS)
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

function World:move(out, m, company, day, qty, class, ref)
  self.move_no = self.move_no + 1
  out.stock_move:row { move_id = format("49%010d", self.move_no), line = "1", material_id = material_id(m),
    plant_id = base.companies[company].plant, sloc = "0001", special = "own", posting_date = date(day), qty = qty,
    move_class = class, ref_doc = ref }
  local key = (m - 1) * 3 + company
  self.moved[key] = self.moved[key] + qty
end

local company_index = { ["1000"] = 1, ["2000"] = 2, ["3000"] = 3 }

function World:write_po(out, p)
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
    out.po_line:row { po_id = po.id, line = line.no, material_id = material_id(line.material), plant_id = company.plant,
      qty = line.qty, uom = line.uom, price = money(line.price * line.per, currency), price_unit = line.per,
      price_uom = line.uom, net_value = money(line.net, currency), tax_code = company.tax_code, item_cat = "standard",
      gr_required = 1, ir_expected = 1, over_tol = 0, under_tol = 0, delivered_flag = complete and 1 or 0,
      invoiced_flag = 0, is_return = 0, free = 0, deleted = 0 }
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
function World:write_invoice(out, p, po, i, rate)
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

function World:write_sales(out, s)
  local draw, D = self.sales_draw, self.D
  local c = draw(s, 0, self.customers) + 1
  local index = c % 3 + 1
  local company = base.companies[index]
  local ordered = base.on_or_before(self.first + 10 + floor((s - 1) * 529 / self.pos))
  local promised = base.on_or_after(ordered + 7 + draw(s, 2, 14))
  local shipped = base.on_or_before(promised - draw(s, 3, 2))
  local id = format("30%08d", s)
  out.sales_order:row { order_id = id, customer_id = customer_id(c), credit_account_id = customer_id(c),
    order_date = date(ordered), currency = company.currency, ship_complete = 0, delivery_block = 0, credit_status = "ok",
    cancelled = 0 }
  for l = 1, line_count(draw, s) do
    local m = self.pick_material(draw(s, 10 + l, 2097152))
    local qty, no = draw(s, 20 + l, 50) + 1, tostring(l * 10)
    local price = floor(self:unit_price(m, company.currency) * 7 / 5)
    out.sales_line:row { order_id = id, line = no, material_id = material_id(m), plant_id = company.plant, qty = qty, uom = "EA",
      net_price = money(price, company.currency), price_unit = 1, net_value = money(price * qty, company.currency),
      tax = company.tax, under_tol = 0, rejected = 0 }
    out.sales_schedule:row { order_id = id, line = no, sched = "1", requested_date = date(promised),
      promised_date = date(promised), qty = qty }
    if shipped <= D then
      local first = (qty > 1 and draw(s, 30 + l, 5) == 0) and floor(qty / 2) or qty
      for part = 1, first < qty and 2 or 1 do
        local q = part == 1 and first or qty - first
        local delivery = format("80%08d%d%d", s, l, part)
        out.delivery_line:row { delivery_id = delivery, line = "10", order_id = id, order_line = no, qty = q,
          planned_gi = date(promised), actual_gi = date(shipped), issued = 1, billed_qty = q, is_return = 0, cancelled = 0 }
        self:move(out, m, index, shipped, -q, "issue_sales", delivery)
      end
    else
      local key = (m - 1) * 3 + index
      self.demand[key] = self.demand[key] + qty
      self.exposure[c] = self.exposure[c] + price * qty
    end
  end
end

function World:write_production(out, i)
  local draw, D = self.production_draw, self.D
  local index = draw(i, 0, 3) + 1
  local plant = base.companies[index].plant
  local m = floor((draw(i, 1, max(1, floor(self.materials / 4))))) * 4 + 4
  m = m <= self.materials and m or 4
  local qty = (draw(i, 2, 20) + 1) * 10
  local days = { base.on_or_after(self.first + 340 + floor((i - 1) * 260 / self.productions)) }
  days[2] = base.on_or_after(days[1] + 1)
  days[3] = base.on_or_after(days[2] + 1)
  local id = format("60%08d", i)
  local started, finished = days[1] <= D, days[3] <= D
  out.production_order:row { order_id = id, plant_id = plant, material_id = material_id(m), qty = qty, plan_scrap_pct = 0,
    start_plan = date(days[1]), finish_plan = date(days[3]), start_actual = started and date(days[1]) or "",
    finish_actual = finished and date(days[3]) or "", yield_qty = finished and qty or "", scrap_qty = finished and 0 or "",
    status = finished and "delivered" or started and "released" or "created" }
  if finished then self:move(out, m, index, days[3], qty, "receipt", id) end
  for item = 1, 4 do
    local component = (draw(i, 4 + item, self.materials - 1) + m) % self.materials + 1
    local need = qty * (draw(i, 9 + item, 3) + 1)
    out.prod_component:row { order_id = id, item = tostring(item * 10), material_id = material_id(component), plant_id = plant,
      need_date = date(days[1]), req_qty = need, issued_qty = started and need or 0, final_issue = started and 1 or 0,
      deleted = 0, bulk = 0, phantom = 0 }
    if started then
      self:move(out, component, index, days[1], -need, "issue_prod", id)
    else
      local key = (component - 1) * 3 + index
      self.demand[key] = self.demand[key] + need
    end
  end
  for op = 1, 3 do
    local per_plant = self.centers / 3
    local w = (draw(i, 15 + op, per_plant)) * 3 + index
    local tenths = 5 + draw(i, 20 + op, 76)
    local hours, done = format("%d.%d", floor(tenths / 10), tenths % 10), days[op] <= D
    out.prod_operation:row { order_id = id, op = format("%04d", op * 10), work_center_id = self:center_id(w),
      start_plan = date(days[op]), finish_plan = date(days[op]), start_actual = done and date(days[op]) or "",
      finish_actual = done and date(days[op]) or "", plan_hours = hours, actual_hours = done and hours or "",
      yield_qty = done and qty or "", scrap_qty = done and 0 or "", done = done and 1 or 0 }
    local week = min(self.weeks - 1, floor((days[op] - self.first - 330) / 7))
    local slot = w * self.weeks + week
    self.load[slot] = self.load[slot] + tenths
  end
end

--- Tables that do not depend on n.
function World:write_basics(out)
  for _, c in ipairs(base.companies) do
    out.company:row { company_id = c.id, name = c.name, currency = c.currency, country = c.country }
    out.plant:row { plant_id = c.plant, company_id = c.id, calendar_id = base.calendar_id, neg_stock_allowed = 0 }
    out.currency:row { currency = c.currency, decimals = base.decimals[c.currency] }
    out.tax_code:row { country = c.country, tax_code = c.tax_code, valid_from = "2000-01-01", rate = c.tax, kind = "input" }
    local limit = c.currency == "JPY" and 750000 or 500000
    out.approval_policy:row { company_id = c.id, doc_type = "NB", level = 1, min_amount = money(limit, c.currency),
      currency = c.currency, approver_limit = money(limit * 100000, c.currency) }
  end
  for _, from in ipairs { "EUR", "JPY", "USD" } do
    for _, to in ipairs { "EUR", "JPY", "USD" } do
      if from ~= to then
        for day = self.first - 30, self.D, 28 do
          out.fx_rate:row { rate_type = "M", from_cur = from, to_cur = to, valid_from = date(day), rate = base.rate_text(from, to) }
        end
      end
    end
  end
  for day = self.first - 400, self.D + 400 do
    out.calendar_day:row { calendar_id = base.calendar_id, date = date(day), working = base.is_working(day) and 1 or 0 }
  end
end

function World:vendor_row(v)
  local country = base.companies[self:home(v)].country
  return { vendor_id = vendor_id(v), name = format("%s %s %d", FIRST[self.vendor_draw(v, 2, #FIRST) + 1],
      LAST[self.vendor_draw(v, 3, #LAST) + 1], v), country = country, status = "active", approved_from = "2015-01-01",
    rating = self.vendor_draw(v, 4, 3) + 1, tax_id = format("%s%09d", country, v * 7 + 100000000),
    bank_key = format("BK%08d", v), one_time = 0, intercompany = 0, role_supplier = 1, po_required = 0 }
end

function World:write_masters(out)
  for v = 1, self.vendors do
    out.vendor:row(self:vendor_row(v))
    local currency = base.companies[self:home(v)].currency
    for k = 0, VENDOR_MATERIALS - 1 do
      local m = self:vendor_material(v, k)
      out.vendor_price:row { vendor_id = vendor_id(v), material_id = material_id(m), valid_from = "2015-01-01",
        price = money(self:unit_price(m, currency), currency), price_unit = 1, uom = "EA", currency = currency }
    end
  end
  for m = 1, self.materials do
    local id = material_id(m)
    out.material:row { material_id = id, type = m % 4 == 0 and "FERT" or "ROH", base_uom = "EA", group = format("G%02d", m % 30),
      abc = m % 10 == 0 and "A" or m % 3 == 0 and "B" or "C", procurement = m % 4 == 0 and "make" or "buy", batch_managed = 0,
      valuated = 1, first_receipt = date(self.first) }
    if box(m) > 1 then out.uom_conv:row { material_id = id, from_uom = "BOX", to_uom = "EA", num = 10, den = 1 } end
    for index, c in ipairs(base.companies) do
      local reorder = 10 + self.stock_draw(m, index, 90)
      out.material_plant:row { material_id = id, plant_id = c.plant, safety_stock = floor(reorder / 2), reorder_point = reorder,
        lead_time_days = 20, unit_cost = money(self:unit_price(m, c.currency), c.currency), price_unit = 1, currency = c.currency }
    end
  end
end

--- Tables that close what the documents left open: stock with its opening move, credit limits, capacities.
function World:write_balances(out)
  for m = 1, self.materials do
    for index, c in ipairs(base.companies) do
      local key = (m - 1) * 3 + index
      local reorder = 10 + self.stock_draw(m, index, 90)
      local closing = reorder * 2 + tonumber(self.demand[key]) * 2 + self.stock_draw(m, 5 + index, 50)
      local opening = closing - tonumber(self.moved[key])
      -- More came than went: the surplus left for another site at the end, else the year began with it.
      if opening ~= 0 then
        self:move(out, m, index, opening > 0 and self.first or self.D, opening, opening > 0 and "other" or "transfer", "")
      end
      out.stock:row { material_id = material_id(m), plant_id = c.plant, sloc = "0001", special = "own",
        stock_type = "unrestricted", qty = closing }
    end
  end
  for c = 1, self.customers do
    local currency = base.companies[c % 3 + 1].currency
    local limit = tonumber(self.exposure[c]) * 2 + 10000000
    out.customer:row { customer_id = customer_id(c), name = format("Customer %d", c), credit_account_id = customer_id(c),
      credit_limit = money(limit, currency), currency = currency, on_hold = 0, segment = "S" .. c % 4 }
  end
  for w = 1, self.centers do
    local peak = 0
    for week = 0, self.weeks - 1 do peak = max(peak, tonumber(self.load[w * self.weeks + week])) end
    local index = (w - 1) % 3 + 1
    out.work_center:row { work_center_id = self:center_id(w), plant_id = base.companies[index].plant,
      calendar_id = base.calendar_id, hours_per_week = max(40, floor(peak / 5) + 1), cost_rate = money(6000, base.companies[index].currency) }
  end
end

--- Write the whole clean company.
---@param out table<string, erp.demo.Sheet>
function World:write(out)
  self:write_basics(out)
  self:write_masters(out)
  for p = 1, self.pos do self:write_po(out, p) end
  for s = 1, self.pos do self:write_sales(out, s) end
  for i = 1, self.productions do self:write_production(out, i) end
  self:write_balances(out)
end

return M
