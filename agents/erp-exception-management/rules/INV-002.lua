-- Stock below the reorder point or the safety stock (erp-rules.md, INV-002).
local cost = require "cost"
local demand = require "demand"
local stockout = require "stockout"

-- INV-001 as it runs by default: what has run out is reported there.
local STOCK_OUT = { horizon_days = 30, look_back_days = 90, count_consignment = false }

rule {
  id = "INV-002",
  title = "Below safety stock or reorder point",
  category = "inventory",
  params = {
    basis = { "enum", "onhand", values = { "onhand", "projected" } },
    require_stock_row = { "flag", true },
  },
  requires = { "stock.qty", "material_plant.unit_cost" },
  reasons = {
    { "reorder", needs = { "material_plant.reorder_point" } },
    { "safety", needs = { "material_plant.safety_stock" } },
  },
  reads = { "stock_move", "sales_schedule", "sales_line", "sales_order", "delivery_line", "prod_component", "production_order",
    "po_schedule", "po_line", "purchase_order", "goods_receipt", "material", "uom_conv", "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local D, PART = t.as_of, demand.PART
    local stocked = stockout.parts(t, STOCK_OUT)
    local parts = t.material_plant:without { { "phase_out", "le", D } }:with("stock", stocked, PART)
    if p.require_stock_row then parts = parts:where { { "stock", "found" } } end
    t.population(parts:count())
    parts = parts:derive("nothing", "const", "q", 0):derive("available", "coalesce", "stock.available", "nothing")

    -- A threshold of 0 is none.
    local below_reorder = { "all", { "reorder_point", "gt", 0 }, { "available", "lt", { "reorder_point" } } }
    local below_safety = { "all", { "safety_stock", "gt", 0 }, { "available", "lt", { "safety_stock" } } }
    local low = parts:where { { "any", below_reorder, below_safety } }

    -- What comes within the lead time.
    local receipts = demand.receipts(t, low):with("low", low, { material_id = "line.material_id", plant_id = "line.plant_id" })
      :derive("until", "by", { "low.lead_time_days" }, "d", function(days) return days and D + days end)
      :where { { "expected", "le", { "until" } } }
      :group({ material_id = "line.material_id", plant_id = "line.plant_id" }, { qty = { "sum", "base_open" } })
    low = low:with("receipts", receipts, PART):derive("none", "const", "p", 0):derive("expected", "coalesce", "receipts.qty", "none")
    if p.basis == "projected" then
      -- Times one with two digits more: what is expected has six of them.
      low = low:derive("at_hand", "times", "available", t.decimal "1.00"):derive("projected", "add", "at_hand", "expected")
      below_reorder[#below_reorder + 1] = { "projected", "lt", { "reorder_point" } }
    end

    -- Of two thresholds the lower one is the reason.
    local cases = {}
    if t.runs.reorder and t.runs.safety then
      cases[1] = { "safety", { below_reorder, below_safety, { "safety_stock", "lt", { "reorder_point" } } } }
    end
    if t.runs.reorder then cases[#cases + 1] = { "reorder", { below_reorder } } end
    if t.runs.safety then cases[#cases + 1] = { "safety", { below_safety } } end
    local found = low:decide("reason", cases)
    found = found:except(stockout.find(t, STOCK_OUT, stocked:only(found, PART)), PART)

    local used = demand.consumption(t, found, D - 365):group(PART, { qty = { "sum", "qty" } }):index(PART)
    local cost_of = cost.by_plant(t)
    for row in found:each() do
      local price, currency = cost_of(row.material_id, row.plant_id)
      if price == nil then
        t.skip(currency)
      else
        local A, safety = row.available, row.safety_stock
        local threshold = row.reason == "safety" and safety or row.reorder_point
        local moved = used:get(row.material_id, row.plant_id)
        local consumption = moved and -moved.qty or nil
        emit {
          key = { row.material_id, row.plant_id },
          overlap = { "MAT", row.material_id, row.plant_id },
          reason = row.reason,
          kind = "exposure",
          impact = (threshold - A) * price,
          currency = currency,
          severity = { step = safety and A * 2 < safety and 1 or 0 },
          evidence = {
            material_id = row.material_id, plant_id = row.plant_id, available = A, safety_stock = safety, reorder_point = row.reorder_point,
            threshold = threshold, missing = threshold - A, open_receipts = row.expected, lead_time_days = row.lead_time_days,
            unit_cost = price, consumption = consumption,
            coverage_days = consumption and consumption > 0 and (A * 365):div(consumption, 6) or nil, source = row.src,
          },
          explanation = ("Material %s in plant %s: %s available, %s is %s, %s expected within the lead time."):format(row.material_id,
            row.plant_id, tostring(A), row.reason == "safety" and "the safety stock" or "the reorder point", tostring(threshold),
            tostring(row.expected)),
        }
      end
    end
  end,
}
