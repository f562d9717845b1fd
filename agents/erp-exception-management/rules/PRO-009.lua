-- A purchase price that is off its reference (erp-rules.md, PRO-009).
local money = require "money"

local LINE = { "po_id", "line" }
local VALID = { at = "order.order_date", from = "valid_from", until_ = "valid_to" }

rule {
  id = "PRO-009",
  title = "Purchase price variance",
  category = "procurement",
  params = {
    pct = { "decimal", "5" },
    abs = { "decimal", "100" },
    k = { "integer", 5 }, -- lines of history
    min_hist = { "integer", 3 },
    direction = { "enum", "over", values = { "over", "under", "both" } },
  },
  requires = { "purchase_order.vendor_id", "purchase_order.order_date", "po_line.material_id", "po_line.qty", "po_line.price" },
  reasons = {
    { "price_over", when = function(p) return p.direction ~= "under" end },
    { "price_under", when = function(p) return p.direction ~= "over" end },
  },
  reads = { "contract", "vendor_price", "material_plant", "material", "uom_conv", "company", "fx_rate" },

  run = function(t, p, emit)
    -- Lines with `paid`: price of one base unit in the company's currency.
    local lines = t.po_line
      :without { { "deleted", "eq", true }, { "free", "eq", true }, { "is_return", "eq", true }, { "est_price", "eq", true },
        { "item_cat", "eq", "consignment" } }
      :with("order", t.purchase_order:without { { "deleted", "eq", true } }, { "po_id" }):where { { "order", "found" } }
      :need { "order.vendor_id", "order.order_date", "material_id", "qty", "price" }
      :where { { "price", "gt", 0 } }
      :derive("per", "coalesce", "price_uom", "uom")
      :unit_price { price = "price", unit = "price_unit", material = "material_id", uom = "per", as = "base_price" }
      :skip("no_uom", { { "base_price", "null" } })
      :to_base { qty = "qty", material = "material_id", uom = "uom", as = "base_qty" }
    lines = money.with_rate(t, lines, { company = "order.company_id", currency = "order.currency", date = "order.order_date" })
      :skip("no_rate", { { "rate", "null" } })
      :derive("paid", "times", "base_price", "rate")

    local tested = 0
    -- Rows with `fair`, the reference of one base unit in the company's currency.
    local function test(rows, kind)
      tested = tested + rows:count()
      local pct, sides = p.pct or t.zero, { "any" }
      rows = rows:derive("paid_100", "times", "paid", 100)
        :derive("ceiling", "times", "fair", pct + 100):derive("floor", "times", "fair", -pct + 100)
      if t.runs.price_over then sides[#sides + 1] = { "paid_100", "gt", { "ceiling" } } end
      if t.runs.price_under then sides[#sides + 1] = { "paid_100", "lt", { "floor" } } end
      for row in rows:where { sides }:each() do
        local paid, fair, qty = row.paid, row.fair, row.base_qty
        local more = (paid - fair) * qty
        if t.exceeds(more, fair * qty, p.pct, p.abs) then
          local reason = paid > fair and "price_over" or "price_under"
          local off = fair:sign() ~= 0 and ((paid - fair) * 100):div(fair, 6) or nil
          emit {
            key = { row.po_id, row.line },
            overlap = { "PO", row.po_id, row.line },
            reason = reason,
            kind = "cash",
            impact = more,
            currency = row.cc,
            evidence = {
              vendor_id = row["order.vendor_id"], material_id = row.material_id, plant_id = row.plant_id,
              order_date = t.iso(row["order.order_date"]), price = row.price, price_unit = row.price_unit, price_uom = row.per,
              price_currency = row.money, rate = row.rate, unit_price = paid, reference = fair, reference_kind = kind, pct = off,
              qty = row.qty, uom = row.uom, base_qty = qty, currency = row.cc, difference = more,
              created_by = row["order.created_by"], source = row.src,
            },
            explanation = ("Order %s, line %s: %s %s a unit, %s %s by %s."):format(row.po_id, row.line, tostring(paid), row.cc,
              tostring(fair), row.cc, ({ contract = "contract", vendor_price = "price list", history = "the last orders",
                unit_cost = "unit cost" })[kind]),
          }
        end
      end
    end

    -- Rows with `reference`, the price of one base unit in the currency `in_currency` (none: the company's).
    local function test_priced(rows, in_currency, kind)
      rows = rows:skip("no_uom", { { "reference", "null" } }):derive("of", "coalesce", in_currency, "cc")
      rows = money.rate_of(t, rows, "of", "order.order_date", "of_rate"):skip("no_rate", { { "of_rate", "null" } })
      test(rows:derive("fair", "times", "reference", "of_rate"), kind)
    end

    local rest = lines
    -- The rows of `rest` that `found` holds for are tested, the others are left.
    local function take(rows, found, in_currency, kind)
      local priced = rows:where { found }
      if priced:count() > 0 then test_priced(priced, in_currency, kind) end
      rest = rows:without { found }
    end

    if t:has "contract.price" then
      local priced = t.contract:where { { "price", "notnull" } }
      local rows = rest:with("contract", priced, { contract_id = "contract_id", line = "contract_line" })
        :unit_price { price = "contract.price", unit = "contract.price_unit", material = "material_id", uom = "contract.uom", as = "reference" }
      take(rows, { "contract", "found" }, "contract.currency", "contract")
    end

    if t:has "vendor_price.price" then
      local prices = t.vendor_price:where { { "price", "notnull" } }
        :unit_price { price = "price", unit = "price_unit", material = "material_id", uom = "uom", as = "base" }
      local own = prices:where { { "plant_id", "ne", "" } }
      if own:count() > 0 then
        local rows = rest:with("own", own, { vendor_id = "order.vendor_id", material_id = "material_id", plant_id = "plant_id" }, VALID)
          :derive("reference", "copy", "own.base")
        take(rows, { "own", "found" }, "own.currency", "vendor_price")
      end
      local general = prices:where { { "plant_id", "eq", "" } }
      local rows = rest:with("list", general, { vendor_id = "order.vendor_id", material_id = "material_id" }, VALID)
        :derive("reference", "copy", "list.base")
      take(rows, { "list", "found" }, "list.currency", "vendor_price")
    end

    if rest:count() > 0 and p.k and p.k > 0 then
      local same = { "order.vendor_id", "material_id" }
      local history = lines:only(rest, same)
        :trailing_mean { by = same, order = { "order.order_date", "po_id", "line" }, value = "paid", other = "po_id", last = p.k,
          least = p.min_hist, as = "mean" }
        :only(rest, LINE)
      test(history:where { { "mean", "notnull" } }:derive("fair", "times", "mean", 1), "history")
      rest = history:where { { "mean", "null" } }
    end

    if t:has "material_plant.unit_cost" then
      local costs = t.material_plant:where { { "unit_cost", "notnull" } }
        :unit_price { price = "unit_cost", unit = "price_unit", material = "material_id", as = "base" }
      -- A line without plant takes the cost of the only plant there is.
      local single = t.material_plant:group({ "material_id" }, { plants = { "count" } }):where { { "plants", "eq", 1 } }
      local rows = rest:with("only", t.material_plant:only(single, { "material_id" }), { "material_id" })
        :derive("place", "coalesce", "plant_id", "only.plant_id")
        :with("cost", costs, { material_id = "material_id", plant_id = "place" }):derive("reference", "copy", "cost.base")
      take(rows, { "cost", "found" }, "cost.currency", "unit_cost")
    end
    if rest:count() > 0 then t.skip("no_reference", rest:count()) end
    t.population(tested)
  end,
}
