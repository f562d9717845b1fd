-- Goods that were delivered after the date they were promised for (erp-rules.md, OFU-004).
local calendar = require "calendar"

local OF_LINE = { "order_id", "line" }

rule {
  id = "OFU-004",
  title = "Delivery delay",
  category = "order_fulfillment",
  params = {
    measure = { "enum", "promised", values = { "promised", "requested" } },
    event = { "enum", "actual_gi", values = { "actual_gi", "pod_date" } },
    grace_days = { "integer", 0 },
    working_days = { "flag", false },
    overdue = { "flag", false }, -- what is not delivered at all is OFU-003
    penalty_pct = { "decimal", "0" },
  },
  requires = function(p)
    return { p.measure == "requested" and "sales_schedule.requested_date"
      or { any = { "sales_schedule.promised_date", "sales_schedule.requested_date" } },
      "delivery_line.qty", "delivery_line." .. p.event }
  end,
  reasons = { { "late" }, { "overdue", when = function(p) return p.overdue end } },
  reads = { "sales_line", "sales_order", "plant", "company", "calendar_day", "fx_rate" },

  run = function(t, p, emit)
    local D, grace = t.as_of, p.grace_days or 0
    local working = p.working_days and calendar.working(t) or nil

    local schedule = t.sales_schedule:derive("target", "coalesce", p.measure == "requested" and "requested_date" or "promised_date",
      "requested_date")
    schedule = schedule:skip("no_" .. p.measure .. "_date", { { "target", "null" } }):need { "qty" }
    if working then
      schedule = schedule:with("line", t.sales_line, OF_LINE):with("plant", t.plant, { plant_id = "line.plant_id" })
        :derive("limit", "by", { "plant.calendar_id", "target" }, "d", function(id, day) return working.after(id, day, grace) end)
    else
      schedule = schedule:derive("limit", "plus", "target", grace)
    end

    -- A delivery without its date is not on time, and not late either: it is not there.
    local deliveries = t.delivery_line:where { { p.event, "notnull" } }
      :without { { "cancelled", "eq", true }, { "is_return", "eq", true } }
    local lines = schedule:serve(deliveries, { by = { order_id = "order_id", order_line = "line" }, order = { "target", "sched" },
      qty = "qty", limit = "limit", supply_order = { p.event, "delivery_id", "line" }, supply_qty = "qty", date = p.event,
      filled = "delivered", last = "actual", late = "qty_late" })
    t.population(t.runs.overdue and lines:count() or lines:where { { "delivered", "gt", 0 } }:count())

    local function find(reason, found, qty_of)
      found = found:with("item", t.sales_line, OF_LINE):with("order", t.sales_order, { "order_id" })
        :with("site", t.plant, { plant_id = "item.plant_id" })
      if reason == "overdue" then found = found:without { { "item.rejected", "eq", true }, { "order.cancelled", "eq", true } } end
      for row in found:each() do
        local qty, done = qty_of(row), reason == "late" and row.actual or D
        local value = t.val(row, qty, "item.")
        if value == nil then
          t.skip "no_net_price"
        else
          local days = working and working.between(row["site.calendar_id"], row.target, done) or done - row.target
          local penalty = p.penalty_pct and value * p.penalty_pct * t.decimal "0.01" * math.ceil(days / 7) or t.zero
          emit {
            key = { row.order_id, row.line, row.sched },
            overlap = { "SO", row.order_id, row.line },
            reason = reason,
            kind = "revenue",
            impact = value,
            currency = row["order.currency"] or t.plant_currency(row["item.plant_id"]),
            severity = { step = days > 14 and 1 or 0 },
            evidence = {
              customer_id = row["order.customer_id"], material_id = row["item.material_id"], plant_id = row["item.plant_id"],
              target = t.iso(row.target), actual = t.iso(row.actual), as_of = reason == "overdue" and t.iso(D) or nil, days = days,
              qty = row.qty, qty_delivered = row.delivered, qty_late = qty, value = value, penalty = penalty, source = row.src,
            },
            explanation = ("Order %s, line %s: %s units due on %s, %s, %d days late."):format(row.order_id, row.line, tostring(qty),
              t.iso(row.target), reason == "late" and "delivered until " .. t.iso(row.actual) or "not delivered", days),
          }
        end
      end
    end

    find("late", lines:where { { "qty_late", "gt", 0 } }, function(row) return row.qty_late end)
    if t.runs.overdue then
      find("overdue", lines:where { { "qty_late", "le", 0 }, { "delivered", "lt", { "qty" } }, { "limit", "lt", D } },
        function(row) return row.qty - row.delivered end)
    end
  end,
}
