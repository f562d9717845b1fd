--- INV-001 Stock-out: a reserved material in one plant a case.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local part = require "erp.demo.part"
local date, money, format = calendar.text, base.money, string.format

local function material_id(c) return format("M9%06d", c.no) end

local function material(c, fields) part.material(c, material_id(c), 2500, fields) end
local function stock(c, qty, fields) part.stock(c, material_id(c), qty, fields) end
local function move(c, k, day, qty, class, fields) part.move(c, format("48%08d%d", c.no, k), material_id(c), day, qty, class, fields) end

-- A sales order of a reserved customer; `delivered` units of `qty` are issued. Net value of the whole line: amount.
local function demand(c, amount, due, opts)
  opts = opts or {}
  local order, customer = format("39%08d", c.no), format("C9%05d", c.no)
  local ordered, qty, currency = base.on_or_before(math.min(due, c.D) - 30), opts.qty or 1, c.company.currency
  c.out.customer:row { customer_id = customer, name = "Customer " .. customer, credit_account_id = customer,
    credit_limit = money(10000000000, currency), currency = currency, on_hold = 0, segment = "S9" }
  c.out.sales_order:row { order_id = order, customer_id = customer, credit_account_id = customer,
    order_date = date(opts.ordered or ordered), currency = currency, ship_complete = 0, delivery_block = 0,
    credit_status = "ok", cancelled = opts.cancelled or 0 }
  c.out.sales_line:row { order_id = order, line = "10", material_id = material_id(c), plant_id = c.company.plant, qty = qty,
    uom = "EA", net_price = money(amount / qty, currency), price_unit = 1, net_value = money(amount, currency),
    tax = c.company.tax, under_tol = 0, rejected = opts.rejected or 0 }
  c.out.sales_schedule:row { order_id = order, line = "10", sched = "1", requested_date = date(due), promised_date = date(due),
    qty = qty }
  if opts.delivered then
    c.out.delivery_line:row { delivery_id = format("89%08d", c.no), line = "10", order_id = order, order_line = "10",
      qty = opts.delivered, planned_gi = date(due), actual_gi = date(opts.shipped or c.D - 100), issued = 1,
      billed_qty = opts.delivered, is_return = 0, cancelled = 0 }
  end
end

local function component(c, qty, fields)
  local order = format("68%08d", c.no)
  local start = base.on_or_after(c.D + 10)
  c.out.production_order:row { order_id = order, plant_id = c.company.plant, material_id = "M0000004", qty = 10,
    plan_scrap_pct = 0, start_plan = date(start), finish_plan = date(start + 10), status = fields and fields.order_status or "released" }
  local row = { order_id = order, item = "10", material_id = material_id(c), plant_id = c.company.plant, need_date = date(start),
    req_qty = qty, issued_qty = 0, final_issue = 0, deleted = 0, bulk = 0, phantom = 0 }
  for name, value in pairs(fields or {}) do
    if name ~= "order_status" then row[name] = value end
  end
  c.out.prod_component:row(row)
end

-- fn(c, amount) writes the case and returns its impact (nil: the amount) and what other rules say of it.
local function case(name, floor, fn)
  return { name, function(c)
    local amount = c:amount()
    local impact, more = fn(c, amount)
    return { key = material_id(c) .. "|" .. c.company.plant, reason = "stock_out", impact = impact or amount,
      currency = c.company.currency, severity = { floor = floor }, more = more and { more } }
  end }
end

-- INV-007 sees what is below nothing: units of 25.00 each.
local function negative(c, units, sloc)
  return { rule = "INV-007", key = table.concat({ material_id(c), c.company.plant, sloc, "", "own", "unrestricted" }, "|"),
    reason = "negative", impact = units * 2500, currency = c.company.currency, severity = { floor = "high" } }
end

local function decoy(trap, fn)
  return { trap, function(c)
    fn(c, c:amount())
    return { key = material_id(c) .. "|" .. c.company.plant }
  end }
end

return {
  id = "INV-001",
  population = function(world) return world.materials * 3 end,
  cases = {
    case("sales demand", "medium", function(c, amount) material(c) stock(c, 0) demand(c, amount, base.on_or_after(c.D + 5)) end),
    case("overdue demand", "high", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D - 1) end),
    case("demand on the last day", "medium", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D + 30) end),
    case("negative stock", "medium", function(c, amount)
      material(c) stock(c, -3) demand(c, amount, c.D + 1)
      return nil, negative(c, 3, "0001")
    end),
    case("partly delivered", "medium", function(c, amount)
      material(c) stock(c, 0) demand(c, amount * 2, c.D + 3, { qty = 2, delivered = 1 })
    end),
    case("component demand", "medium", function(c, amount)
      material(c, { unit_cost = money(amount, c.company.currency) }) stock(c, 0) component(c, 1)
    end),
    case("reorder point only", "medium", function(c)
      material(c, { reorder_point = 1 }) stock(c, 0)
      return 0, { rule = "INV-002", key = material_id(c) .. "|" .. c.company.plant, trap = "stock_out" }
    end),
    case("consumption only", "medium", function(c)
      material(c) stock(c, 0)
      move(c, 1, c.D - 200, 5, "receipt") move(c, 2, c.D - 89, -5, "issue_sales")
      return 0
    end),
    case("stock in quality inspection", "medium", function(c, amount)
      material(c) stock(c, 100, { stock_type = "quality" }) demand(c, amount, c.D + 2)
    end),
    case("consignment stock", "medium", function(c, amount)
      material(c) stock(c, 0) stock(c, 50, { special = "vendor_consign" }) demand(c, amount, c.D + 2)
    end),
    case("two locations net to nothing", "medium", function(c, amount)
      material(c) stock(c, 4) stock(c, -4, { sloc = "0002" }) demand(c, amount, c.D + 2)
      return nil, negative(c, 4, "0002")
    end),
  },
  decoys = {
    decoy("smallest_stock", function(c, amount) material(c) stock(c, "0.0001") demand(c, amount, c.D + 2) end),
    decoy("no_demand", function(c) material(c) stock(c, 0) end),
    decoy("demand_after_horizon", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D + 31) end),
    decoy("phased_out_at_key_date", function(c, amount)
      material(c, { phase_out = date(c.D) }) stock(c, 0) demand(c, amount, c.D + 2)
    end),
    decoy("never_stocked", function(c, amount) material(c) demand(c, amount, c.D + 2) end),
    decoy("order_cancelled", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D + 2, { cancelled = 1 }) end),
    decoy("line_rejected", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D + 2, { rejected = 1 }) end),
    decoy("demand_delivered", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D - 100, { delivered = 1 }) end),
    decoy("consumption_before_window", function(c)
      material(c) stock(c, 0)
      move(c, 1, c.D - 200, 5, "receipt") move(c, 2, c.D - 91, -5, "issue_sales")
    end),
    decoy("consumption_reversed", function(c)
      material(c) stock(c, 0)
      move(c, 1, c.D - 20, -5, "issue_sales")
      move(c, 2, c.D - 19, 5, "issue_sales", { reverses = format("48%08d1", c.no) })
    end),
    decoy("transfer_only", function(c) material(c) stock(c, 0) move(c, 1, c.D - 30, 5, "receipt") move(c, 2, c.D - 20, -5, "transfer") end),
    decoy("component_deleted", function(c) material(c) stock(c, 0) component(c, 5, { deleted = 1 }) end),
    decoy("component_phantom", function(c) material(c) stock(c, 0) component(c, 5, { phantom = 1 }) end),
    decoy("component_issued", function(c) material(c) stock(c, 0) component(c, 5, { issued_qty = 5 }) end),
    decoy("production_cancelled", function(c) material(c) stock(c, 0) component(c, 5, { order_status = "cancelled" }) end),
    decoy("order_after_key_date", function(c, amount) material(c) stock(c, 0) demand(c, amount, c.D + 5, { ordered = c.D + 1 }) end),
  },
}
