--- PRD-006 Bottleneck: a plant with one or two reserved work centers a case, and orders of a reserved material on them. Hours in
--- 1/10,000.
local base = require "erp.demo.base"
local part = require "erp.demo.part"
local calendar = require "erp.calendar"
local date, money, format, floor = calendar.text, base.money, string.format, math.floor

local WEEK = 400000
local function hours(units) return format("%d.%04d", floor(units / 10000), units % 10000) end
local function material_id(c) return format("MB%06d", c.no) end
local function center_id(c, k) return format("WCB%05d%s", c.no, k or "A") end

local function center(c, plant, k)
  c.out.work_center:row { work_center_id = center_id(c, k), plant_id = plant, calendar_id = base.calendar_id, hours_per_week = hours(WEEK),
    cost_rate = money(6000, c.company.currency) }
end

-- An order with an operation in the w-th week after the key date that takes `share` (in 1/10,000) of the hours, less `less` units.
local function load(c, w, share, opts)
  opts = opts or {}
  local monday = c.D - calendar.weekday(c.D) + 1 + 7 * w
  local working = 0
  for day = monday, monday + 6 do working = working + (base.is_working(day) and 1 or 0) end
  local units = WEEK / 5 * working * share / 10000 - (opts.less or 0)
  local order = format("64%06d%d%s", c.no, w, opts.center == "B" and "1" or "0")
  part.production(c, order, material_id(c), monday + 4, { start_actual = "", finish_actual = "", yield_qty = "", scrap_qty = "",
    status = opts.status or "released" })
  local parts = opts.parts or 1
  for op = 1, parts do
    local own = op < parts and floor(units / parts) or units - floor(units / parts) * (parts - 1)
    c.out.prod_operation:row { order_id = order, op = format("%04d", op * 10), work_center_id = center_id(c, opts.center),
      start_plan = date(monday), finish_plan = date(monday + 4), start_actual = opts.done and date(c.D - 3) or "",
      finish_actual = opts.done and date(c.D - 2) or "", plan_hours = hours(own), actual_hours = "", done = opts.done and 1 or 0 }
  end
end

-- Loads by week: {week, share, opts}; of `orders` the impact is made, each worth the case's amount.
local function site(c, amount, loads)
  local plant = part.plant(c, format("PB%05d", c.no))
  part.material(c, material_id(c), amount)
  center(c, plant)
  for _, l in ipairs(loads) do
    if l[3] and l[3].center == "B" and not loads.second then
      center(c, plant, "B")
      loads.second = true
    end
    load(c, l[1], l[2], l[3])
  end
end

local function copy(loads)
  local list = {}
  for i, l in ipairs(loads) do list[i] = l end
  return list
end

local function case(name, orders, step, loads)
  return { name, function(c)
    local amount = c:amount()
    site(c, amount, copy(loads))
    return { key = center_id(c), reason = "bottleneck", impact = amount * orders, currency = c.company.currency,
      severity = { level = base.severities[1 + step] } }
  end }
end

local function decoy(trap, loads)
  return { trap, function(c)
    site(c, c:amount(), copy(loads))
    return { key = center_id(c) }
  end }
end

local function other(w, share) return { w, share, { center = "B" } } end

return {
  id = "PRD-006",
  population = function(world) return world.centers end,
  cases = {
    case("three weeks at ninety per cent", 3, 1, { { 1, 9000 }, { 2, 9000 }, { 4, 9000 } }),
    case("four weeks full", 4, 1, { { 1, 10000 }, { 2, 10000 }, { 3, 10000 }, { 4, 10000 } }),
    case("two operations an order", 3, 1, { { 2, 9500, { parts = 2 } }, { 3, 9500 }, { 4, 9500 } }),
    case("an order more in a week that is not full", 4, 1, { { 1, 9900 }, { 2, 9100 }, { 3, 100 }, { 4, 9300 } }),
    case("another center has more to do", 3, 0, { { 1, 9000 }, { 2, 9000 }, { 3, 9000 }, other(1, 8900), other(2, 8900), other(3, 10000), other(4, 10000) }),
    case("another center has as much to do", 3, 1, { { 1, 9000 }, { 2, 9000 }, { 3, 9000 }, other(1, 8000), other(2, 8000), other(3, 8000), other(4, 3000) }),
  },
  decoys = {
    decoy("two_weeks_of_four", { { 1, 10000 }, { 3, 10000 } }),
    decoy("just_below", { { 1, 9000 }, { 2, 9000 }, { 3, 9000, { less = 1 } } }),
    decoy("full_after_the_weeks", { { 1, 10000 }, { 2, 10000 }, { 5, 10000 }, { 6, 10000 } }),
    decoy("order_cancelled", { { 1, 10000 }, { 2, 10000 }, { 3, 10000, { status = "cancelled" } } }),
    decoy("operation_done", { { 1, 10000 }, { 2, 10000 }, { 3, 10000, { done = true } } }),
  },
}
