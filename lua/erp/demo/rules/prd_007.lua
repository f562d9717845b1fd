--- PRD-007 Production order late: an order of a reserved material a case, one unit of which costs the case's amount.
local base = require "erp.demo.base"
local part = require "erp.demo.part"
local calendar = require "erp.calendar"
local date, money, format = calendar.text, base.money, string.format

local function material_id(c) return format("MP%06d", c.no) end

-- Finished `days` after its planned day.
local function finished(days, fields)
  return function(c)
    local day = c.D - 60
    local row = { finish_actual = date(day + days) }
    for name, value in pairs(fields or {}) do row[name] = value end
    return part.production(c, format("66%08d", c.no), material_id(c), day, row)
  end
end

-- Planned to end `days` before the key date and not finished then.
local function unfinished(days, fields)
  return function(c)
    local row = { finish_actual = "", yield_qty = "", scrap_qty = "", status = "released" }
    for name, value in pairs(fields or {}) do row[name] = type(value) == "function" and value(c) or value end
    return part.production(c, format("66%08d", c.no), material_id(c), c.D - days, row)
  end
end

-- A sales order of one unit that waits for the order, promised on `day`; `shipped`: delivered from stock on that day.
local function sale(c, day, shipped)
  local id, customer, currency = format("37%08d", c.no), format("C7%05d", c.no), c.company.currency
  c.out.customer:row { customer_id = customer, name = "Customer " .. customer, credit_account_id = customer,
    credit_limit = money(10000000000, currency), currency = currency, on_hold = 0, segment = "S7" }
  c.out.sales_order:row { order_id = id, customer_id = customer, credit_account_id = customer, order_date = date(day - 40), currency = currency,
    ship_complete = 0, delivery_block = 0, credit_status = "ok", cancelled = 0 }
  c.out.sales_line:row { order_id = id, line = "10", material_id = material_id(c), plant_id = c.company.plant, qty = 1, uom = "EA",
    net_price = money(50000, currency), price_unit = 1, net_value = money(50000, currency), tax = c.company.tax, under_tol = 0, rejected = 0 }
  c.out.sales_schedule:row { order_id = id, line = "10", sched = "1", requested_date = date(day), promised_date = date(day), qty = 1 }
  if shipped then
    c.out.delivery_line:row { delivery_id = format("87%08d", c.no), line = "10", order_id = id, order_line = "10", qty = 1,
      planned_gi = date(day), actual_gi = date(shipped), issued = 1, billed_qty = 1, is_return = 0, cancelled = 0 }
  end
  return id
end

local function case(name, reason, step, build)
  return { name, function(c)
    local amount = c:amount()
    part.material(c, material_id(c), amount)
    return { key = build(c), reason = reason, impact = amount, currency = c.company.currency, severity = { step = step } }
  end }
end

local function decoy(trap, build)
  return { trap, function(c)
    part.material(c, material_id(c), c:amount())
    return { key = build(c) }
  end }
end

local function pegged(build, promised, shipped)
  return function(c)
    local day = c.D - 60 + promised
    return build(c, sale(c, day, shipped and day))
  end
end

-- Finished `days` late for a sales order.
local function for_sale(days) return function(c, order) return finished(days, { sales_order_id = order })(c) end end

return {
  id = "PRD-007",
  population = function(world) return world.productions end,
  cases = {
    case("one day", "late", 0, finished(1)),
    case("fourteen days", "late", 0, finished(14)),
    case("fifteen days", "late", 1, finished(15)),
    case("since yesterday", "overdue", 0, unfinished(1)),
    case("for fifteen days", "overdue", 1, unfinished(15)),
    case("finished after the key date", "overdue", 0, unfinished(2, { finish_actual = function(c) return date(c.D + 3) end, yield_qty = 1,
      scrap_qty = 0, status = "delivered" })),
    case("a sale becomes late", "late", 1, pegged(for_sale(3), 2)),
    case("a sale becomes late by far", "late", 2, pegged(for_sale(20), 2)),
    case("the sale is in time", "late", 0, pegged(for_sale(3), 3)),
    case("the sale was delivered from stock", "late", 0, pegged(for_sale(3), 2, true)),
    { "an operation was late", function(c)
      local amount = c:amount()
      part.material(c, material_id(c), amount)
      local id, day = finished(4)(c), c.D - 60
      c.out.prod_operation:row { order_id = id, op = "0010", work_center_id = "WC0001", start_plan = date(day - 2), finish_plan = date(day - 1),
        start_actual = date(day - 2), finish_actual = date(day + 4), plan_hours = 4, actual_hours = 9, yield_qty = 1, scrap_qty = 0, done = 1 }
      return { key = id, reason = "late", impact = amount, currency = c.company.currency, severity = {} }
    end },
  },
  decoys = {
    decoy("on_time", finished(0)),
    decoy("early", finished(-3)),
    decoy("cancelled", finished(9, { status = "cancelled" })),
    decoy("due_today", unfinished(0)),
    decoy("not_released", unfinished(9, { status = "created", start_actual = "" })),
    decoy("closed_without_date", unfinished(9, { status = "teco" })),
  },
}
