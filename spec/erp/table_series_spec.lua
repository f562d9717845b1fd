-- Rows in order within groups, validity, units and columns made once a value (erp.table).
local T = require "erp.table"
local data_set = require "erp.table.data"
local schema = require "erp.schema"

describe("erp.table in order", function()
  local skipped

  -- `t` over rows by table.
  local function set(tables)
    local ctx, built, allowed = T.context(), {}, {}
    for name, rows in pairs(tables) do built[name] = T.from_rows(schema.tables[name], rows, ctx) end
    for name in pairs(schema.tables) do allowed[name] = true end
    local data = T.set { ctx = ctx, tables = built, defs = schema.tables, as_of = "2014-12-31", company_currency = "USD" }
    skipped = {}
    return data_set.rule_view(data, { allowed = allowed, reasons = {}, population = function() end,
      skip = function(reason, n) skipped[reason] = (skipped[reason] or 0) + n end })
  end

  local function texts(tab, name)
    local out = {}
    for row in tab:each() do
      local v = row[name]
      out[#out + 1] = v == nil and "~" or tostring(v)
    end
    return table.concat(out, " ")
  end

  local function order(po, day, value, vendor)
    return { po_id = po, order_date = "2014-01-" .. day, net_value = value, vendor_id = vendor or "V" }
  end

  it("joins the newest row that is valid on a day, both ends inside", function()
    local t = set {
      purchase_order = { order("1", "04"), order("2", "05"), order("3", "10"), order("4", "11"), order("5", "20"), order("6", "25", nil, "W"),
        { po_id = "7", vendor_id = "V" } },
      vendor_price = { { vendor_id = "V", material_id = "A", valid_from = "2014-01-05", valid_to = "2014-01-10", price = "1" },
        { vendor_id = "V", material_id = "A", valid_from = "2014-01-10", price = "2" },
        { vendor_id = "V", material_id = "B", valid_from = "2014-01-20", valid_to = "2014-01-20", price = "3" } },
    }
    local valid = { at = "order_date", from = "valid_from", until_ = "valid_to" }
    assert.equal("~ 1 2 2 3 ~ ~", texts(t.purchase_order:with("p", t.vendor_price, { "vendor_id" }, valid), "p.price"))
    -- Of a choice of rows on both sides.
    local some = t.purchase_order:where { { "po_id", "ne", "3" } }
    local cheap = t.vendor_price:where { { "price", "ne", T.decimal(2) } }
    assert.equal("~ 1 ~ 3 ~ ~", texts(some:with("p", cheap, { "vendor_id" }, valid), "p.price"))
    assert.equal("~ ~ ~ ~ ~ ~ ~", texts(t.purchase_order:with("p", t.contract, { "vendor_id" }, valid), "p.price"))
  end)

  it("runs a balance within each key", function()
    local function move(id, day, qty, batch)
      return { move_id = id, line = "1", material_id = "M", batch = batch, posting_date = "2014-01-" .. day, qty = qty }
    end
    local t = set { stock_move = { move("1", "03", "5"), move("2", "01", "-2.5"), move("3", "02", "1", "B"), move("4", "02"), move("5", "04", "-5") } }
    local spec = { by = { "material_id", "batch" }, order = { "posting_date" }, qty = "qty", as = "balance" }
    assert.equal("2.5 -2.5 1 -2.5 -2.5", texts(t.stock_move:running(spec), "balance"))
    spec.order = { "-posting_date" }
    assert.equal("0 -2.5 1 0 -5", texts(t.stock_move:running(spec), "balance"))
    local below = t.stock_move:running(spec):where { { "balance", "lt", T.decimal "-2.5" } }
    assert.equal("5", texts(below, "move_id"))
    assert.has_error(function() t.stock_move:running { by = { "batch" }, order = { "line" }, qty = "line", as = "x" } end)
  end)

  it("adds sums and numbers of rows", function()
    local t = set { stock = { { material_id = "A", plant_id = "P", sloc = "1", qty = "5" }, { material_id = "A", plant_id = "P", sloc = "2", qty = "-7" },
      { material_id = "B", plant_id = "P", qty = "1" } },
      material_plant = { { material_id = "A", plant_id = "P", safety_stock = "3" }, { material_id = "B", plant_id = "P" } } }
    local sums = t.stock:group({ "material_id", "plant_id" }, { qty = { "sum", "qty" } }):with("plan", t.material_plant, { "material_id", "plant_id" })
    assert.equal("1 ~", texts(sums:derive("x", "add", "qty", "plan.safety_stock"), "x"))
    assert.equal("5 ~", texts(sums:derive("x", "sub", "plan.safety_stock", "qty"), "x"))
    assert.equal("-4 2", texts(sums:derive("x", "add", "qty", "qty"), "x"))
    assert.has_error(function() sums:derive("x", "add", "material_id", "plant_id") end)
  end)

  it("counts days between dates", function()
    local t = set { purchase_order = { { po_id = "1", order_date = "2014-03-01", created_date = "2014-02-27" },
      { po_id = "2", order_date = "2014-02-27", created_date = "2014-03-01" }, { po_id = "3", order_date = "2014-02-27" } } }
    assert.equal("2 -2 ~", texts(t.purchase_order:derive("age", "days", "order_date", "created_date"), "age"))
    assert.has_error(function() t.purchase_order:derive("age", "days", "order_date", "net_value") end)
  end)

  it("takes the mean of the last rows of others", function()
    local rows = {}
    for i, po in ipairs { "a", "a", "b", "c", "d" } do
      rows[i] = { po_id = po, line = tostring(i), material_id = "M", price = tostring(i), plant_id = "P" }
    end
    rows[6] = { po_id = "e", line = "6", price = "1", plant_id = "P" } -- no material: in no group
    local t = set { po_line = rows }
    local function means(last, least)
      return texts(t.po_line:trailing_mean { by = { "material_id" }, order = { "po_id", "line" }, value = "price", other = "po_id",
        last = last, least = least, as = "mean" }, "mean")
    end
    assert.equal("~ ~ 1.5 2 2.5 ~", means(9, 1))
    assert.equal("~ ~ 2 3 4 ~", means(1, 1))
    assert.equal("~ ~ ~ 2 3 ~", means(3, 3))
    assert.equal("~ ~ ~ ~ 2.5 ~", means(9, 4))
    -- Rounded half away from zero at the sixth digit.
    t = set { po_line = { { po_id = "a", line = "1", material_id = "M", price = "0.000001" }, { po_id = "b", line = "1", material_id = "M", price = "0.000002" },
      { po_id = "c", line = "1", material_id = "M", price = "1" } } }
    assert.equal("~ 0.000001 0.000002", means(5, 1))
  end)

  it("finds windows that reach a sum", function()
    local function windows(days, limit, ...)
      local t = set { purchase_order = { ... } }
      return texts(t.purchase_order:derive("limit", "const", "m", T.decimal(limit)):windows { by = { "vendor_id" }, order = { "order_date", "po_id" },
        date = "order_date", days = days, sum = "net_value", least = "limit", each = { { "net_value", "lt", { "limit" } } }, as = "w" }, "w")
    end
    assert.equal("0 0 ~", windows(7, "100", order("1", "01", "50"), order("2", "08", "50"), order("3", "09", "50")))
    assert.equal("~ 0 0", windows(7, "100.0002", order("1", "01", "50"), order("2", "08", "50.0001"), order("3", "09", "50.0001")))
    assert.equal("~ ~", windows(7, "100", order("1", "01", "50"), order("2", "09", "50")))
    assert.equal("~ ~", windows(7, "100", order("1", "01", "50"), order("2", "02", "49.9999")))
    assert.equal("~", windows(7, "10", order("1", "01", "9")))
    -- One that is at the limit spoils its windows, not the next.
    assert.equal("~ ~ 0 0", windows(7, "100", order("1", "01", "60"), order("2", "02", "100"), order("3", "03", "50"), order("4", "09", "50")))
    -- After a window the next begins behind it.
    assert.equal("0 0 1 1", windows(1, "100", order("1", "01", "60"), order("2", "02", "60"), order("3", "03", "60"), order("4", "04", "60")))
    -- Each key by itself, whatever the order of rows.
    assert.equal("0 1 0 1", windows(7, "100", order("4", "04", "60", "B"), order("3", "04", "60", "A"), order("2", "03", "60", "B"), order("1", "03", "60", "A")))
    assert.equal("0 0 0 0", windows(0, "100", order("1", "04", "30"), order("2", "04", "30"), order("3", "04", "30"), order("4", "04", "30")))
  end)

  it("fills needs with supply in order and says what was late", function()
    local function line(sched, day, qty) return { order_id = "S", line = "1", sched = sched, promised_date = "2014-01-" .. day, qty = qty } end
    local function came(id, day, qty, of) return { delivery_id = id, line = "1", order_id = of or "S", order_line = "1", qty = qty, actual_gi = "2014-01-" .. day } end
    local function serve(schedule, supply)
      local t = set { sales_schedule = schedule, delivery_line = supply }
      local out = t.sales_schedule:serve(t.delivery_line, { by = { order_id = "order_id", order_line = "line" }, order = { "promised_date", "sched" },
        qty = "qty", limit = "promised_date", supply_order = { "actual_gi", "delivery_id" }, supply_qty = "qty", date = "actual_gi",
        filled = "f", last = "d", late = "l" })
      local days = {}
      for row in out:each() do days[#days + 1] = row.d and T.iso(row.d):sub(9) or "~" end
      return texts(out, "f") .. " | " .. table.concat(days, " ") .. " | " .. texts(out, "l")
    end
    assert.equal("10 5 | 06 07 | 0 0", serve({ line("1", "06", "10"), line("2", "07", "5") }, { came("a", "05", "4"), came("b", "06", "7"), came("c", "07", "9") }))
    assert.equal("10 5 | 07 08 | 3 4", serve({ line("1", "06", "10"), line("2", "07", "5") }, { came("a", "05", "4"), came("b", "06", "3"), came("c", "07", "4"), came("e", "08", "9") }))
    -- In order of date, not of rows; what does not come is not filled.
    assert.equal("1 10 | 09 07 | 1 0", serve({ line("2", "08", "5"), line("1", "07", "10") }, { came("b", "09", "1"), came("a", "07", "10") }))
    assert.equal("0 | ~ | 0", serve({ line("1", "06", "10") }, { came("a", "05", "4", "T") }))
    assert.equal("0 | ~ | 0", serve({ line("1", "06", "0") }, { came("a", "05", "4") }))
    assert.equal("3 | 05 | 0", serve({ line("1", "06", "10") }, { came("a", "05", "-4"), came("b", "05", "3") }))
  end)

  it("prices a base unit by price unit and conversion, once rounded", function()
    local t = set {
      material = { { material_id = "M", base_uom = "EA" }, { material_id = "N", base_uom = "KG" } },
      uom_conv = { { material_id = "M", from_uom = "BOX", to_uom = "EA", num = "10", den = "1" },
        { material_id = "", from_uom = "KG", to_uom = "T", num = "1", den = "1000" } },
      po_line = {
        { po_id = "1", line = "1", material_id = "M", price = "7", price_unit = "100", uom = "EA" },
        { po_id = "1", line = "2", material_id = "M", price = "7", price_unit = "1", uom = "BOX" },
        { po_id = "1", line = "3", material_id = "M", price = "2", price_unit = "30", uom = "BOX" },
        { po_id = "1", line = "4", material_id = "N", price = "5", uom = "T" },
        { po_id = "1", line = "5", material_id = "N", price = "5", uom = "LB" },
        { po_id = "1", line = "6", material_id = "N", price = "5" },
        { po_id = "1", line = "7", material_id = "X", price = "5", price_unit = "0", uom = "EA" },
        { po_id = "1", line = "8", material_id = "X", price = "5" },
        { po_id = "1", line = "9", material_id = "N" } },
    }
    local spec = { price = "price", unit = "price_unit", material = "material_id", uom = "uom", as = "p" }
    assert.equal("0.07 0.7 0.006667 0.005 ~ 5 ~ 5 ~", texts(t.po_line:unit_price(spec), "p"))
    assert.equal("0.7 ~ 5", texts(t.po_line:where { { "line", "in", { "2", "5", "8" } } }:unit_price(spec), "p"))
    -- Without base units in the data nothing says that a quantity is in another unit.
    t = set { po_line = { { po_id = "1", line = "1", material_id = "M", price = "7", uom = "BOX" } } }
    assert.equal("7", texts(t.po_line:unit_price(spec), "p"))
  end)

  it("makes columns once a distinct value, quotients, and amounts in steps", function()
    local t = set { tax_item = { { doc_id = "1", line = "1", currency = "USD", base_doc = "10", tax_doc = "3", base_lines = "3" },
      { doc_id = "1", line = "2", currency = "EUR", base_doc = "-10.005", tax_doc = "0", base_lines = "3" },
      { doc_id = "1", line = "3", currency = "USD", base_doc = "0.015", base_lines = "0" } } }
    local calls = {}
    local tab = t.tax_item:derive("step", "by", { "currency" }, "m", function(currency)
      calls[#calls + 1] = currency
      return T.decimal(currency == "USD" and "0.01" or "1")
    end)
    assert.same({ "USD", "EUR" }, calls)
    assert.equal("0.01 1 0.01", texts(tab, "step"))
    assert.equal("10 -10 0.02", texts(tab:derive("r", "round_to", "base_doc", "step"), "r"))
    assert.equal("3.333333 -3.335 ~", texts(tab:derive("q", "quotient", "base_doc", "base_lines"), "q"))
    assert.equal("3.333333 ~ ~", texts(tab:derive("q", "quotient", "base_doc", "tax_doc"), "q"))
    assert.equal("x ~ x", texts(tab:derive("w", "by", { "currency", "step" }, "id", function(c, s) return c == "USD" and s < 1 and "x" or nil end), "w"))
    local sums = t.tax_item:group({ "currency" }, { total = { "sum", "base_doc" } }):where { { "currency", "eq", "USD" } }
    local both = t.tax_item:with("s", sums, { "currency" }):derive("v", "coalesce", "s.total", "base_doc")
    assert.equal("10.015 -10.005 10.015", texts(both, "v"))
    assert.equal("1 3", texts(t.tax_item:skip("no_eur", { { "currency", "eq", "EUR" } }), "line"))
    assert.same({ no_eur = 1 }, skipped)
    assert.has_error(function() tab:derive("r", "round_to", "base_doc", "tax_doc") end) -- a step of 0
  end)
end)
