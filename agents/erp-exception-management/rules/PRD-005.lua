-- More work than hours at a work center in an ISO week (erp-rules.md, PRD-005).
local capacity = require "capacity"

rule {
  id = "PRD-005",
  title = "Capacity overload",
  category = "production",
  params = {
    max_load_pct = { "decimal", "100" },
    mode = { "enum", "forward", values = { "forward", "history" } },
    spread = { "enum", "even", values = { "even", "start_date" } },
  },
  requires = capacity.requires,
  reasons = { { "overload" } },
  reads = { "production_order", "calendar_day", "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local load = capacity.load(t, p)
    local weeks = capacity.weeks(t, load)
    t.population(weeks:count())

    local over = weeks
    if p.max_load_pct then
      over = weeks:derive("load_100", "times", "hours", 100):derive("limit", "times", "capacity", p.max_load_pct)
        :where { { "load_100", "gt", { "limit" } } }
    end
    local orders = load:only(over, { "work_center_id", "week" })
      :group({ "work_center_id", "week", "order_id" }, { hours = { "sum", "part" } })
      :sort { "-hours", "order_id" }:index { "work_center_id", "week" }

    for row in over:each() do
      local L, K = row.hours, row.capacity
      local none = K:sign() == 0
      local pct = none and t.decimal "999.9" or (L * 100):div(K, 6)
      local level = (none or L > K * 2) and "critical" or L * 2 > K * 3 and "high" or "medium"
      local excess = L - K
      local week = t.week(row.week)
      local largest = orders:all(row.work_center_id, row.week)
      emit {
        key = { row.work_center_id, week },
        reason = "overload",
        kind = "cost",
        impact = excess * (row["center.cost_rate"] or t.zero),
        currency = t.plant_currency(row["center.plant_id"]),
        severity = { level = level },
        evidence = {
          work_center_id = row.work_center_id, plant_id = row["center.plant_id"], week = week, load = L, capacity = K, pct = pct,
          excess = excess, cost_rate = row["center.cost_rate"], operations = row.operations, mode = p.mode,
          largest_orders = largest:list(10, function(o) return { order_id = o.order_id, hours = o.hours } end),
        },
        explanation = ("Work center %s in %s: %s hours of work, %s hours of capacity (%s %%)."):format(
          row.work_center_id, week, tostring(L), tostring(K), tostring(pct)),
      }
    end
  end,
}
