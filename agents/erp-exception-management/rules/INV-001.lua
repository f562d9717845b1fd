-- Nothing is left of a material that is needed (erp-rules.md, INV-001).
local demand = require "demand"
local stockout = require "stockout"

rule {
  id = "INV-001",
  title = "Stock-out",
  category = "inventory",
  params = {
    horizon_days = { "integer", 30 },
    look_back_days = { "integer", 90 },
    count_consignment = { "flag", false },
  },
  requires = { "stock.qty", { any = { "material_plant.reorder_point", "stock_move.qty", "sales_schedule", "prod_component" } } },
  reasons = { { "stock_out" } },
  reads = { "material_plant", "stock_move", "sales_schedule", "sales_line", "sales_order", "delivery_line", "prod_component",
    "production_order", "po_schedule", "po_line", "purchase_order", "goods_receipt", "material", "uom_conv", "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local D, PART = t.as_of, demand.PART
    local function kind(stock_type) return { "sum", "qty", where = { stockout.mine(p), { "stock_type", "eq", stock_type } } } end
    local parts = stockout.parts(t, p, { quality = kind "quality", blocked = kind "blocked", transit = kind "transit",
      consigned = { "sum", "qty", where = { { "special", "eq", "vendor_consign" }, { "stock_type", "eq", "unrestricted" } } } })
    t.population(parts:count())
    local out, sales = stockout.find(t, p, parts)

    -- For the rows that are left: the value of what was ordered, and what comes next.
    local value, lost = {}, {}
    for row in sales:only(out, demand.OF_LINE):each() do
      local key, own = row["line.material_id"] .. "|" .. row["line.plant_id"], t.plant_currency(row["line.plant_id"])
      local amount = t.val(row, row.open, "line.")
      local rate = t.fx(row["line.order.currency"] or own, own, D)
      if amount == nil or rate == nil then
        t.skip(amount == nil and "no_net_price" or "no_rate")
        lost[key] = true
      else
        value[key] = (value[key] or t.zero) + amount * rate
      end
    end
    local moved = t.stock_move:only(out, PART):group(PART, { last = { "max", "posting_date" } }):index(PART)
    local receipts = demand.receipts(t, out):sort { "expected", "po_id", "line", "sched" }
    local next_receipt = receipts:index { "line.material_id", "line.plant_id" }

    for row in out:each() do
      local material, plant = row.material_id, row.plant_id
      local key = material .. "|" .. plant
      local sold, needed = row["sales.qty"] or t.zero, row["components.qty"] or t.zero
      local impact, cost, own = value[key], nil, t.plant_currency(plant)
      local lacking = "no_cost"
      if not impact and not lost[key] and needed > 0 then
        local price, currency = t.unit_cost(material, plant)
        local rate = price and t.fx(currency or own, own, D)
        cost = rate and price * rate
        lacking = price and "no_rate" or lacking
      end
      if not impact and not lost[key] and needed > 0 and cost == nil then
        t.skip(lacking)
      else
        impact = impact or (cost and needed * cost) or t.zero
        local first = row["sales.first"]
        if row["components.first"] and (not first or row["components.first"] < first) then first = row["components.first"] end
        local overdue = first ~= nil and first < D
        local receipt, last = next_receipt:get(material, plant), moved:get(material, plant)
        emit {
          key = { material, plant },
          overlap = { "MAT", material, plant },
          reason = "stock_out",
          kind = "revenue",
          impact = impact,
          currency = own,
          severity = { floor = overdue and "high" or "medium" },
          evidence = {
            material_id = material, plant_id = plant,
            available = row.available, quality_stock = row.quality, blocked_stock = row.blocked, transit_stock = row.transit,
            consignment_stock = row.consigned, sales_demand = sold, component_demand = needed, first_need = t.iso(first),
            overdue = overdue, reorder_point = row["plan.reorder_point"], consumption = -(row["used.qty"] or t.zero),
            -- A receipt that is late is expected today at the earliest.
            next_receipt_date = receipt and receipt.expected and t.iso(math.max(receipt.expected, D)),
            next_receipt_qty = receipt and receipt.base_open, last_movement = last and t.iso(last.last), value = impact,
          },
          explanation = ("Material %s in plant %s: available %s, open sales demand %s, open component demand %s."):format(
            material, plant, tostring(row.available), tostring(sold), tostring(needed)),
        }
      end
    end
  end,
}
