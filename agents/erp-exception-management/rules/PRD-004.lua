-- Production orders with more scrap than was planned (erp-rules.md, PRD-004).
local cost = require "cost"

rule {
  id = "PRD-004",
  title = "Scrap above plan",
  category = "production",
  params = {
    tol_points = { "decimal", "2" },
    abs = { "decimal" }, -- NULL: scrap of a material that is worth nothing is reported too
    include_open = { "flag", false }, -- the rate of an order that is not finished is not stable
  },
  requires = { "production_order.yield_qty", "production_order.scrap_qty", "production_order.finish_actual", "material_plant.unit_cost" },
  reasons = { { "scrap" } },
  reads = { "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local orders = t.production_order
    if not p.include_open then orders = orders:where { { "finish_actual", "notnull" } } end
    orders = orders:need { "yield_qty", "scrap_qty" }
    t.population(orders:count())

    orders = orders:where { { "scrap_qty", "gt", 0 } }:derive("output", "add", "yield_qty", "scrap_qty")
    if p.tol_points then
      orders = orders:derive("tolerance", "const", "%", p.tol_points):derive("allowed_pct", "add", "plan_scrap_pct", "tolerance")
        :derive("scrap_100", "times", "scrap_qty", 100):derive("limit", "times", "output", "allowed_pct")
        :where { { "scrap_100", "gt", { "limit" } } }
    end

    local cost_of, per_cent = cost.by_plant(t), t.decimal "0.01"
    for row in orders:each() do
      local price, currency = cost_of(row.material_id, row.plant_id)
      if price == nil then
        t.skip(currency)
      elseif p.abs == nil or row.scrap_qty * price > p.abs then
        local planned = row.plan_scrap_pct * row.output * per_cent
        local pct = row.output > 0 and (row.scrap_qty * 100):div(row.output, 6) or nil
        emit {
          key = { row.order_id },
          reason = "scrap",
          kind = "cost",
          impact = (row.scrap_qty - planned) * price,
          currency = currency,
          evidence = {
            material_id = row.material_id, plant_id = row.plant_id, qty = row.qty, yield = row.yield_qty, scrap = row.scrap_qty, pct = pct,
            plan_scrap_pct = row.plan_scrap_pct, tol_points = p.tol_points, planned_scrap = planned, unit_cost = price,
            finish_actual = t.iso(row.finish_actual), source = row.src,
          },
          explanation = ("Production order %s of material %s: %s units of scrap beside %s good ones (%s %%), planned were %s %%."):format(
            row.order_id, row.material_id or "", tostring(row.scrap_qty), tostring(row.yield_qty), tostring(pct or ""),
            tostring(row.plan_scrap_pct)),
        }
      end
    end
  end,
}
