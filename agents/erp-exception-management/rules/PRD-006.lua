-- Work centers that are nearly full in most weeks (erp-rules.md, PRD-006).
local capacity = require "capacity"
local cost = require "cost"

-- Utilisation of each work center in the weeks from `first` on: a week without load counts, one without capacity does not. There
-- are few centers, so this goes center by center.
---@return table[] centers { id, plant_id, mean, over = weeks at or above util_pct, weeks = {…} }
local function utilisation(t, p, load, first, last)
  local hours = load:group({ "work_center_id", "week" }, { hours = { "sum", "part" } }):index { "work_center_id", "week" }
  local working = capacity.working_days(t, first, last):index { "calendar_id", "week" }
  local fifth, centers = t.decimal "0.2", {}
  for row in t.work_center:need { "hours_per_week" }:each() do
    local center = { id = row.work_center_id, plant_id = row.plant_id, over = 0, weeks = {} }
    local sum = t.zero
    for week = first, last, 7 do
      local days = working:get(row.calendar_id, week)
      local K = row.hours_per_week * (days and days.working or 5) * fifth
      if K > 0 then
        local entry = hours:get(row.work_center_id, week)
        local L = entry and entry.hours or t.zero
        local pct = (L * 100):div(K, 6)
        table.insert(center.weeks, { week = t.week(week), load = L, capacity = K, pct = pct })
        sum = sum + pct
        if p.util_pct == nil or L * 100 >= p.util_pct * K then center.over = center.over + 1 end
      end
    end
    if #center.weeks > 0 then
      center.mean = sum:div(#center.weeks, 6)
      table.insert(centers, center)
    end
  end
  return centers
end

rule {
  id = "PRD-006",
  title = "Bottleneck",
  category = "production",
  params = {
    util_pct = { "decimal", "90" },
    k = { "integer", 3 },
    n = { "integer", 4 },
    mode = { "enum", "forward", values = { "forward", "history" } },
    spread = { "enum", "even", values = { "even", "start_date" } },
  },
  requires = capacity.requires,
  reasons = { { "bottleneck" } },
  reads = { "production_order", "calendar_day", "material_plant", "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local D, n, this_week = t.as_of, p.n or 4, t.monday(t.as_of)
    local first = p.mode == "history" and this_week - 7 * n or this_week + 7
    local last = first + 7 * (n - 1)
    local load = capacity.load(t, p, first, last)
    local centers = utilisation(t, p, load, first, last)
    t.population(#centers)

    local full, ids, highest = {}, {}, {} -- highest mean of a plant
    for _, center in ipairs(centers) do
      local plant = center.plant_id or ""
      highest[plant] = highest[plant] and highest[plant]:max(center.mean) or center.mean
      if center.over >= (p.k or 0) then
        full[#full + 1], ids[#ids + 1] = center, center.id
      end
    end

    -- The operations there, and the orders of those that are late or open.
    local open = { "any", { "finish_actual", "gt", D }, { "all", { "finish_actual", "null" }, { "done", "eq", 0 } } }
    local late = { "any", { "finish_actual", "gt", { "finish_plan" } }, { "all", open, { "finish_plan", "lt", D } } }
    local operations = load:where { { "work_center_id", "in", ids } }:derive("waited", "days", "start_actual", "start_plan")
      :group({ "work_center_id", "order_id", "op" }, { finish_plan = { "min", "finish_plan" }, finish_actual = { "min", "finish_actual" },
        waited = { "min", "waited" }, done = { "count", where = { { "done", "eq", true } } } })
    local of_center = operations:group({ "work_center_id" }, { all = { "count" }, late = { "count", where = { late } },
      waited = { "sum", "waited" }, begun = { "count", "waited" } }):index { "work_center_id" }
    local goods = operations:where { { "any", open, late } }:group { "work_center_id", "order_id" }
      :with("order", t.production_order, { "order_id" })
      :group({ "work_center_id", material_id = "order.material_id", plant_id = "order.plant_id" },
        { qty = { "sum", "order.qty" }, orders = { "count" } }):index { "work_center_id" }

    local cost_of = cost.by_plant(t)
    for _, center in ipairs(full) do
      local currency, impact, orders = t.plant_currency(center.plant_id), t.zero, 0
      for row in goods:all(center.id):each() do
        local price, own = cost_of(row.material_id, row.plant_id)
        local rate = price and t.fx(own, currency, D)
        orders = orders + row.orders
        if rate then
          impact = impact + row.qty * price * rate
        else
          t.skip(price and "no_rate" or own, row.orders)
        end
      end
      local count = of_center:get(center.id)
      local all, behind, begun = count and count.all or 0, count and count.late or 0, count and count.begun or 0
      local worst = center.mean == highest[center.plant_id or ""]
      emit {
        key = { center.id },
        reason = "bottleneck",
        kind = "exposure",
        impact = impact,
        currency = currency,
        severity = { level = "medium", step = (worst and 1 or 0) + (behind * 100 > 20 * all and 1 or 0) },
        evidence = {
          work_center_id = center.id, plant_id = center.plant_id, mode = p.mode, weeks = center.weeks, weeks_tested = #center.weeks, weeks_full = center.over,
          mean_pct = center.mean, highest_of_plant = worst, util_pct = p.util_pct, operations = all, late_operations = behind,
          mean_queue_days = begun > 0 and count.waited:div(begun, 6) or nil, orders = orders, value = impact,
        },
        explanation = ("Work center %s: %d of %d weeks at %s %% or more, %s %% on average; %d of %d operations late, %d orders wait."):format(
          center.id, center.over, #center.weeks, tostring(p.util_pct or 0), tostring(center.mean), behind, all, orders),
      }
    end
  end,
}
