--- OFU-004 Delivery delay: a sales order of a reserved customer and material a case. Reason `overdue` needs a parameter, so it
--- cannot be planted.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local date, money, format = calendar.text, base.money, string.format

local function material_id(c) return format("M5%06d", c.no) end

-- A line over `qty` units at `amount` each. schedule: {promised day, qty, requested day?, promised = ""?}; deliveries: {day, qty, fields?}.
local function order(c, amount, schedule, deliveries, fields)
  local id, customer, currency, qty = format("38%08d", c.no), format("C8%05d", c.no), c.company.currency, 0
  for _, s in ipairs(schedule) do qty = qty + s[2] end
  c.out.material:row { material_id = material_id(c), type = "FERT", base_uom = "EA", group = "G95", abc = "C", procurement = "make",
    batch_managed = 0, valuated = 1, first_receipt = date(c.D - 500) }
  c.out.customer:row { customer_id = customer, name = "Customer " .. customer, credit_account_id = customer,
    credit_limit = money(10000000000, currency), currency = currency, on_hold = 0, segment = "S8" }
  c.out.sales_order:row { order_id = id, customer_id = customer, credit_account_id = customer, order_date = date(schedule[1][1] - 30),
    currency = currency, ship_complete = 0, delivery_block = 0, credit_status = "ok", cancelled = 0 }
  local row = { order_id = id, line = "10", material_id = material_id(c), plant_id = c.company.plant, qty = qty, uom = "EA",
    net_price = money(amount, currency), price_unit = 1, net_value = money(amount * qty, currency), tax = c.company.tax, under_tol = 0,
    rejected = 0 }
  for name, value in pairs(fields or {}) do row[name] = value end
  c.out.sales_line:row(row)
  for k, s in ipairs(schedule) do
    c.out.sales_schedule:row { order_id = id, line = "10", sched = tostring(k), requested_date = date(s[3] or s[1]),
      promised_date = s.promised or date(s[1]), qty = s[2] }
  end
  for k, d in ipairs(deliveries) do
    local delivery = { delivery_id = format("88%08d%d", c.no, k), line = "10", order_id = id, order_line = "10", qty = d[2],
      planned_gi = date(schedule[1][1]), actual_gi = date(d[1]), issued = 1, billed_qty = d[2], is_return = 0, cancelled = 0 }
    for name, value in pairs(d[3] or {}) do delivery[name] = value end
    c.out.delivery_line:row(delivery)
  end
  return id
end

local function planted(c, id, impact, days, sched)
  return { key = id .. "|10|" .. (sched or "1"), reason = "late", impact = impact, currency = c.company.currency,
    severity = { step = days > 14 and 1 or 0 } }
end

-- build(c, due, amount) writes the order; it returns its id, the units that are late, the days and the schedule line.
local function case(name, build)
  return { name, function(c)
    local amount = c:amount()
    local id, units, days, sched = build(c, c:past(2), amount)
    return planted(c, id, amount * units, days, sched)
  end }
end

local function decoy(trap, build, sched)
  return { trap, function(c) return { key = build(c, c:past(2), c:amount()) .. "|10|" .. (sched or "1") } end }
end

local function one(days, fields)
  return function(c, due, amount) return order(c, amount, { { due, 1 } }, { { due + days, 1, fields } }), 1, days end
end

return {
  id = "OFU-004",
  population = function(world) return world.pos * 3 end,
  cases = {
    case("one day late", one(1)),
    case("fourteen days late", one(14)),
    case("fifteen days late", one(15)),
    case("any", function(c, due, amount) return one(2 + c:draw(3, 36))(c, due, amount) end),
    case("the second part late", function(c, due, amount)
      return order(c, amount, { { due, 3 } }, { { due, 1 }, { due + 4, 2 } }), 2, 4
    end),
    case("part of it delivered, late", function(c, due, amount) return order(c, amount, { { due, 3 } }, { { due + 2, 1 } }, { rejected = 0 }), 1, 2 end),
    case("the second of two dates", function(c, due, amount)
      return order(c, amount, { { due, 2 }, { due + 10, 2 } }, { { due, 3 }, { due + 12, 1 } }), 1, 2, "2"
    end),
    case("only a date asked for", function(c, due, amount)
      return order(c, amount, { { due, 1, promised = "" } }, { { due + 3, 1 } }), 1, 3
    end),
    { "both of two dates", function(c)
      local due, amount = c:past(2), c:amount()
      local id = order(c, amount, { { due, 1 }, { due + 5, 2 } }, { { due + 20, 3 } })
      local first = planted(c, id, amount, 20, "1")
      first.more = { planted(c, id, amount * 2, 15, "2") }
      return first
    end },
  },
  decoys = {
    decoy("on_the_day", one(0)),
    decoy("early", one(-5)),
    decoy("late_delivery_cancelled", function(c, due, amount)
      return order(c, amount, { { due, 1 } }, { { due + 20, 1, { cancelled = 1 } }, { due, 1 } })
    end),
    decoy("late_return", function(c, due, amount)
      return order(c, amount, { { due, 1 } }, { { due, 1 }, { due + 20, 1, { is_return = 1 } } })
    end),
    decoy("more_than_ordered", function(c, due, amount) return order(c, amount, { { due, 2 } }, { { due, 2 }, { due + 20, 1 } }) end),
    decoy("first_date_served_first", function(c, due, amount)
      return order(c, amount, { { due, 2 }, { due + 10, 2 } }, { { due, 2 }, { due + 9, 2 } })
    end),
    decoy("in_two_parts_on_time", function(c, due, amount) return order(c, amount, { { due, 2 } }, { { due - 1, 1 }, { due, 1 } }) end),
    decoy("asked_for_earlier_than_promised", function(c, due, amount)
      return order(c, amount, { { due, 1, due - 20 } }, { { due, 1 } })
    end),
    decoy("issued_after_key_date", function(c, due, amount)
      return order(c, amount, { { due, 1 } }, { { c.D + 1, 1 } }, { rejected = 1 })
    end),
    decoy("no_date_of_issue", function(c, due, amount)
      return order(c, amount, { { due, 1 } }, { { due, 1, { actual_gi = "" } } })
    end),
  },
}
