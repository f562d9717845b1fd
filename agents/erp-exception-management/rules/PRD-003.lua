-- Inspection lots that were rejected, have too many defects or wait for a decision (erp-rules.md, PRD-003).
local cost = require "cost"

-- What of the lot is lost. A rejected lot accepted what was found good when all of it was inspected; of one that was inspected by
-- samples, or for which no defect is on record, nothing was accepted.
local function lost(lot)
  local defects = lot.defect_qty
  if lot.reason ~= "rejected" then return defects end
  local inspected = lot.inspected_qty or lot.lot_qty
  local whole = inspected ~= nil and lot.lot_qty ~= nil and inspected >= lot.lot_qty
  return whole and defects ~= nil and defects > 0 and defects or lot.lot_qty
end

rule {
  id = "PRD-003",
  title = "Quality failure",
  category = "production",
  params = {
    max_defect_pct = { "decimal", "2" },
    min_defect = { "decimal", "1" },
    max_open_days = { "integer" }, -- NULL: lots without decision are not looked at
  },
  requires = { "inspection_lot" },
  reasons = {
    { "rejected", needs = { "inspection_lot.decision" } },
    { "defect_rate", needs = { "inspection_lot.defect_qty", { any = { "inspection_lot.lot_qty", "inspection_lot.inspected_qty" } } } },
    { "overdue_decision", needs = { "inspection_lot.decision", "inspection_lot.created_date" },
      when = function(p) return p.max_open_days ~= nil end },
  },
  reads = { "po_line", "purchase_order", "material_plant", "plant", "company", "fx_rate" },

  run = function(t, p, emit)
    local D = t.as_of
    local lots = t.inspection_lot
    t.population(lots:count())

    local cases = {}
    if t.runs.rejected then cases[1] = { "rejected", { { "decision", "eq", "R" } } } end
    if t.runs.defect_rate then
      lots = lots:derive("inspected", "coalesce", "inspected_qty", "lot_qty"):derive("defects_100", "times", "defect_qty", 100)
      local many = { { "defect_qty", "gt", 0 } }
      if p.min_defect then many[#many + 1] = { "defect_qty", "ge", p.min_defect } end
      if p.max_defect_pct then
        lots = lots:derive("limit", "times", "inspected", p.max_defect_pct)
        many[#many + 1] = { "defects_100", "gt", { "limit" } }
      end
      cases[#cases + 1] = { "defect_rate", many }
    end
    if t.runs.overdue_decision then
      cases[#cases + 1] = { "overdue_decision", { { "decision", "null" }, { "created_date", "lt", D - p.max_open_days } } }
    end

    -- Receipts have a line of a purchase order behind them, other lots an order of production or none.
    local found = lots:decide("reason", cases)
      :derive("received", "by", { "origin", "ref_doc" }, "id", function(origin, doc)
        return (origin == nil or origin == "receipt") and doc or nil
      end)
      :with("item", t.po_line, { po_id = "received", line = "ref_line" })
      :with("order", t.purchase_order, { po_id = "received" })

    local cost_of = cost.by_plant(t)
    for lot in found:each() do
      local qty = lost(lot) or (lot.reason == "overdue_decision" and t.zero) or nil
      local value, currency
      if qty ~= nil then
        value, currency = lot["item.po_id"] ~= nil and t.val(lot, qty, "item.") or nil, lot["order.currency"] or t.plant_currency(lot.plant_id)
        if value == nil then
          local price
          price, currency = cost_of(lot.material_id, lot.plant_id)
          value = price and qty * price
        end
      end
      if value == nil then
        t.skip(qty == nil and "no_lot_qty" or currency)
      else
        local inspected = lot.inspected_qty or lot.lot_qty
        local pct = lot.defect_qty and inspected and inspected > 0 and (lot.defect_qty * 100):div(inspected, 6) or nil
        local full = lot.lot_qty ~= nil and qty > 0 and qty >= lot.lot_qty
        emit {
          key = { lot.lot_id },
          reason = lot.reason,
          kind = "cost",
          impact = value,
          currency = currency,
          severity = { step = full and 1 or 0 },
          evidence = {
            lot_id = lot.lot_id, origin = lot.origin, ref_doc = lot.ref_doc, ref_line = lot.ref_line, material_id = lot.material_id,
            plant_id = lot.plant_id, batch = lot.batch, lot_qty = lot.lot_qty, inspected_qty = lot.inspected_qty,
            defect_qty = lot.defect_qty, pct = pct, lost_qty = qty, value = value, currency = currency, decision = lot.decision,
            decision_date = t.iso(lot.decision_date), created_date = t.iso(lot.created_date), vendor_id = lot["order.vendor_id"],
            source = lot.src,
          },
          explanation = ("Inspection lot %s of material %s: %s of %s units, worth %s %s (%s)."):format(lot.lot_id, lot.material_id or "",
            tostring(qty), tostring(lot.lot_qty or ""), tostring(value), currency, (lot.reason:gsub("_", " "))),
        }
      end
    end
  end,
}
