--- PRD-005 Capacity overload: a reserved work center a case, one or two orders that load it. Hours in 1/10,000.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local date, money, format, floor = calendar.text, base.money, string.format, math.floor

local RATE, WEEK = 6000, 400000 -- cost of an hour in the smallest unit; 40 hours

local function hours(units) return format("%d.%04d", floor(units / 10000), units % 10000) end
local function working_days(monday)
  local n = 0
  for day = monday, monday + 6 do n = n + (base.is_working(day) and 1 or 0) end
  return n
end

-- Monday of a week after the key date with five working days (or with fewer), and the one after it likewise.
local function week(c, short)
  local monday = c.D - calendar.weekday(c.D) + 8 + 7 * (c.no % 6)
  for _ = 1, 56 do
    local days = working_days(monday)
    if short and days < 5 and days > 0 or not short and days == 5 and working_days(monday + 7) == 5 then return monday, days end
    monday = monday + 7
  end
  error("the calendar has no such week")
end

local function center_id(c) return format("WCX%05d", c.no) end

local function center(c, capacity)
  c.out.work_center:row { work_center_id = center_id(c), plant_id = c.company.plant, calendar_id = base.calendar_id,
    hours_per_week = hours(capacity), cost_rate = money(RATE, c.company.currency) }
end

local function load(c, k, units, start, finish, opts)
  opts = opts or {}
  local order, done = format("67%07d%d", c.no, k), opts.done
  c.out.production_order:row { order_id = order, plant_id = c.company.plant, material_id = "M0000004", qty = 10, plan_scrap_pct = 0,
    start_plan = date(start), finish_plan = date(finish), start_actual = done and date(c.D - 3) or "", status = opts.status or "released" }
  c.out.prod_operation:row { order_id = order, op = "0010", work_center_id = center_id(c), start_plan = date(start),
    finish_plan = date(finish), start_actual = done and date(c.D - 3) or "", finish_actual = done and date(c.D - 2) or "",
    plan_hours = hours(units), actual_hours = done and hours(units) or "", done = done and 1 or 0 }
end

local function planted(c, monday, used, capacity)
  local over = used - capacity
  local level = (used > 2 * capacity or capacity == 0) and "critical" or used * 2 > 3 * capacity and "high" or "medium"
  return { key = center_id(c) .. "|" .. calendar.iso_week(monday), reason = "overload",
    impact = floor((over * RATE * 2 + 10000) / 20000), currency = c.company.currency, severity = { level = level } }
end

-- One operation from Monday to Friday with the load that fn gives.
local function case(name, fn)
  return { name, function(c)
    local monday, used = week(c), fn(c)
    center(c, WEEK)
    load(c, 1, used, monday, monday + 4)
    return planted(c, monday, used, WEEK)
  end }
end

local function decoy(trap, fn)
  return { trap, function(c)
    local monday = fn(c, (week(c)))
    return { key = center_id(c) .. "|" .. calendar.iso_week(monday or week(c)) }
  end }
end

return {
  id = "PRD-005",
  population = function(world) return world.centers * 10 end,
  cases = {
    case("one unit over", function() return WEEK + 1 end),
    case("half over", function() return WEEK * 3 / 2 end),
    case("more than half over", function() return WEEK * 3 / 2 + 1 end),
    case("twice", function() return WEEK * 2 end),
    case("more than twice", function() return WEEK * 2 + 1 end),
    case("a few per cent", function(c) return WEEK + 1 + c:draw(5, 4000) end),
    case("any", function(c)
      local octave = 2 ^ c:draw(6, 5)
      return WEEK * octave + 1 + c:draw(7, 400000) * octave
    end),
    { "two orders", function(c)
      local monday = week(c)
      center(c, WEEK)
      load(c, 1, WEEK, monday, monday)
      load(c, 2, 10000, monday + 4, monday + 4)
      return planted(c, monday, WEEK + 10000, WEEK)
    end },
    { "two weeks", function(c)
      local monday = week(c)
      center(c, WEEK)
      load(c, 1, WEEK * 3, monday, monday + 13)
      local first = planted(c, monday, WEEK * 3 / 2, WEEK)
      first.more = { planted(c, monday + 7, WEEK * 3 / 2, WEEK) }
      return first
    end },
    { "no capacity", function(c)
      local monday = week(c)
      center(c, 0)
      load(c, 1, 80000, monday, monday)
      return planted(c, monday, 80000, 0)
    end },
    { "holiday week", function(c)
      local monday, days = week(c, true)
      center(c, WEEK)
      load(c, 1, WEEK, monday, monday + 6)
      return planted(c, monday, WEEK, WEEK * days / 5)
    end },
  },
  decoys = {
    decoy("at_capacity", function(c, monday) center(c, WEEK) load(c, 1, WEEK, monday, monday + 4) end),
    decoy("one_unit_below", function(c, monday) center(c, WEEK) load(c, 1, WEEK - 1, monday, monday + 4) end),
    decoy("operation_done", function(c, monday) center(c, WEEK) load(c, 1, WEEK * 3, monday, monday + 4, { done = true }) end),
    decoy("order_cancelled", function(c, monday) center(c, WEEK) load(c, 1, WEEK * 3, monday, monday + 4, { status = "cancelled" }) end),
    decoy("spread_over_two_weeks", function(c, monday) center(c, WEEK) load(c, 1, WEEK * 2, monday, monday + 13) end),
    decoy("holiday_week_at_capacity", function(c)
      local monday, days = week(c, true)
      center(c, WEEK)
      load(c, 1, WEEK * days / 5, monday, monday + 6)
      return monday
    end),
  },
}
