-- Production orders that end after their planned finish, or should have ended (erp-rules.md, PRD-007).
local cost = require "cost"
local pegging = require "pegging"

local LEVELS = {
  order = { key = { "order_id" }, table = "production_order" },
  operation = { key = { "order_id", "op" }, table = "prod_operation" },
}
local function at(level) return function(p) return p.level == level end end

-- Finished too late, and neither finished nor done although it should be.
local function late(day, grace) return { "finish_actual", "gt", { day, plus = grace } } end
local function overdue(day, before, status)
  return { "all", { "finish_actual", "null" }, { day, "lt", before }, { status, "eq", "released" } }
end

rule {
  id = "PRD-007",
  title = "Production order late",
  category = "production",
  params = {
    grace_days = { "integer", 0 },
    level = { "enum", "order", values = { "order", "operation" } },
  },
  requires = function(p) return { LEVELS[p.level].table .. ".finish_plan" } end,
  reasons = {
    { "late", needs = { "production_order.finish_actual" }, when = at "order" },
    { "overdue", needs = { "production_order.finish_actual", "production_order.status" }, when = at "order" },
    { "late", needs = { "prod_operation.finish_actual" }, when = at "operation" },
    { "overdue", needs = { "prod_operation.finish_actual", "production_order.status" }, when = at "operation" },
  },
  reads = { "production_order", "prod_operation", "material_plant", "sales_order", "sales_line", "sales_schedule", "delivery_line",
    "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local D, grace, level = t.as_of, p.grace_days or 0, LEVELS[p.level]
    local by_operation = p.level == "operation"
    local of_order = by_operation and "order." or "" -- where the columns of the order are
    local status = of_order .. "status"

    local all = t[level.table]
    if by_operation then all = all:with("order", t.production_order, { "order_id" }) end
    all = all:without { { status, "eq", "cancelled" } }:need { "finish_plan" }
    t.population(all:count())

    local cases = {}
    if t.runs.late then cases[1] = { "late", { late("finish_plan", grace) } } end
    if t.runs.overdue then cases[#cases + 1] = { "overdue", { overdue("finish_plan", D - grace, status) } } end
    local found = all:decide("reason", cases)
    if by_operation then found = found:without { { "all", { "reason", "eq", "overdue" }, { "done", "eq", true } } } end

    -- For the rows that are left: the first operation that is late, and the sales that wait for the order.
    local first_late = t.prod_operation:only(found, { "order_id" })
      :where { { "any", late("finish_plan", grace),
        { "all", { "finish_actual", "null" }, { "done", "ne", true }, { "finish_plan", "lt", D - grace } } } }
      :sort { "finish_plan", "op" }:index { "order_id" }
    local delays_sale = pegging.delays(t, found, of_order .. "sales_order_id")
    local cost_of = cost.by_plant(t)

    for row in found:each() do
      local material, plant, qty = row[of_order .. "material_id"], row[of_order .. "plant_id"], row[of_order .. "qty"]
      local price, currency = cost_of(material, plant)
      if qty == nil or price == nil then
        t.skip(qty == nil and "no_qty" or currency)
      else
        local finish = row.finish_actual
        local days = (finish or D) - row.finish_plan
        local sales = row[of_order .. "sales_order_id"]
        local pegged = sales ~= nil and delays_sale(sales, material, finish or D)
        local operation = first_late:get(row.order_id)
        local key = {}
        for i, column in ipairs(level.key) do key[i] = row[column] end
        emit {
          key = key,
          overlap = { "MO", row.order_id },
          reason = row.reason,
          kind = "exposure",
          impact = qty * price,
          currency = currency,
          severity = { step = (days > 14 and 1 or 0) + (pegged and 1 or 0) },
          evidence = {
            order_id = row.order_id, material_id = material, plant_id = plant, qty = qty, unit_cost = price, status = row[status],
            finish_plan = t.iso(row.finish_plan), finish_actual = t.iso(finish), as_of = finish == nil and t.iso(D) or nil, days = days,
            sales_order_id = sales, delays_sale = pegged, late_operation = operation and operation.op,
            late_work_center = operation and operation.work_center_id, source = row.src,
          },
          explanation = ("%s %s: planned to end on %s, %s, %d days late."):format(by_operation and "Operation" or "Production order",
            table.concat(key, "|"), t.iso(row.finish_plan), finish and "ended on " .. t.iso(finish) or "not finished", days),
        }
      end
    end
  end,
}
