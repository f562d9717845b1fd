-- INV-002 and INV-007 on small tables: thresholds on both sides, reasons, severities, currency, what is missing.
local helper = require "erp.rules_helper"
local keys, explained, row = helper.keys, helper.explained, helper.row

local D = "2014-09-30"

describe("INV-002", function()
  local plan = { material_id = "M", plant_id = "P", reorder_point = "10", safety_stock = "5", unit_cost = "100", price_unit = "1", currency = "USD",
    lead_time_days = "7" }
  local stock = { material_id = "M", plant_id = "P", sloc = "1", special = "own", stock_type = "unrestricted", qty = "9" }

  local function run(more, qty, tables, params, opts)
    local set = { material_plant = { row(plan, more) }, stock = { row(stock, qty and { qty = qty } or { material_id = "other" }) } }
    for name, rows in pairs(tables or {}) do set[name] = rows end
    local result = helper.run("INV-002", set, params, opts)
    explained(result)
    return result
  end
  local function says(more, qty, tables, params) return keys(run(more, qty, tables, params)) end

  it("compares stock with the reorder point", function()
    assert.equal("M|P reorder low 100.00", says({}, "9"))
    assert.equal("", says({}, "10"))
    assert.equal("M|P reorder low 0.01", says({}, "9.9999"))
    assert.equal("", says({ reorder_point = "0", safety_stock = "0" }, "1"))
    assert.equal("", says({ reorder_point = "", safety_stock = "" }, "1"))
  end)

  it("takes the lower of two thresholds as the reason", function()
    assert.equal("M|P safety low 100.00", says({}, "4"))
    assert.equal("M|P reorder low 100.00", says({ safety_stock = "10" }, "9"))
    assert.equal("M|P reorder medium 100.00", says({ reorder_point = "5", safety_stock = "10" }, "4"))
    assert.equal("M|P safety low 300.00", says({ reorder_point = "5", safety_stock = "10" }, "7"))
    assert.equal("M|P safety low 100.00", says({ reorder_point = "" }, "4"))
  end)

  it("rates by value, one level more below half of the safety stock", function()
    for _, case in ipairs { { "999.99", "low" }, { "1000", "medium" }, { "9999.99", "medium" }, { "10000", "high" }, { "100000", "critical" } } do
      assert.equal(("M|P reorder %s %s"):format(case[2], require("erp.table").decimal(case[1]):text(2)), says({ unit_cost = case[1], safety_stock = "0" }, "9"))
    end
    assert.equal("M|P safety low 2.00", says({ unit_cost = "1", safety_stock = "4" }, "2"))
    assert.equal("M|P safety medium 2.00", says({ unit_cost = "1", safety_stock = "4" }, "1.9999"))
    assert.equal("M|P reorder low 0.01", says({ unit_cost = "1", price_unit = "100", safety_stock = "" }, "9"))
  end)

  it("counts own unrestricted stock of all locations", function()
    local function with(more) return says({}, "9", { stock = { stock, row(stock, more) } }) end
    assert.equal("", with { sloc = "2", qty = "1" })
    assert.equal("M|P reorder low 100.00", with { stock_type = "quality" })
    assert.equal("M|P reorder low 100.00", with { special = "vendor_consign" })
    assert.equal("M|P reorder low 100.00", with { plant_id = "Q", qty = "99" })
  end)

  it("leaves out what was never stocked, but for a parameter", function()
    local result = run({}, nil)
    assert.equal("", keys(result))
    assert.equal(0, result.population)
    -- Nothing is in stock, and INV-001 looks at stocked materials only: it is reported here.
    assert.equal("M|P safety medium 500.00", says({}, nil, nil, { require_stock_row = false }))
  end)

  it("leaves out what is phased out at the key date", function()
    assert.equal("", says({ phase_out = D }, "9"))
    assert.equal("M|P reorder low 100.00", says({ phase_out = "2014-10-01" }, "9"))
  end)

  it("leaves stock-outs to INV-001", function()
    assert.equal("", says({}, "0"))
    assert.equal("M|P safety medium 500.00", says({ reorder_point = "0" }, "0"))
    local used = { { move_id = "1", line = "1", material_id = "M", plant_id = "P", posting_date = "2014-09-01", qty = "-3", move_class = "issue_prod" } }
    assert.equal("", says({ reorder_point = "0" }, "0", { stock_move = used }))
    local needed = { { order_id = "O", item = "1", material_id = "M", plant_id = "P", need_date = "2014-10-30", req_qty = "1" } }
    local open = { { order_id = "O", plant_id = "P", material_id = "X", status = "released" } }
    assert.equal("", says({ reorder_point = "0" }, "0", { prod_component = needed, production_order = open }))
    needed[1].need_date = "2014-10-31" -- after the horizon
    assert.equal("M|P safety medium 500.00", says({ reorder_point = "0" }, "0", { prod_component = needed, production_order = open }))
  end)

  it("asks for open receipts when the basis is projected", function()
    local function supply(due, qty, more)
      return { purchase_order = { { po_id = "1", order_date = "2014-09-01" } },
        po_line = { row({ po_id = "1", line = "10", material_id = "M", plant_id = "P", qty = qty }, more) },
        po_schedule = { { po_id = "1", line = "10", sched = "1", due_date = due, qty = qty } } }
    end
    local projected = { basis = "projected" }
    assert.equal("M|P reorder low 100.00", says({}, "9", supply("2014-10-07", "1")))
    assert.equal("", says({}, "9", supply("2014-10-07", "1"), projected))
    assert.equal("M|P reorder low 100.00", says({}, "9", supply("2014-10-07", "0.9999"), projected))
    assert.equal("M|P reorder low 100.00", says({}, "9", supply("2014-10-08", "1"), projected)) -- after the lead time
    assert.equal("", says({}, "9", supply("2014-09-01", "1"), projected)) -- late, expected today
    assert.equal("M|P reorder low 100.00", says({ lead_time_days = "" }, "9", supply("2014-10-01", "1"), projected))
    assert.equal("M|P reorder low 100.00", says({}, "9", supply("2014-10-07", "1", { deleted = "1" }), projected))
    -- The safety stock is tested without what is to come.
    assert.equal("M|P safety low 100.00", says({}, "4", supply("2014-10-07", "90"), projected))
  end)

  it("gives the evidence of a planner", function()
    local moves = { { move_id = "1", line = "1", material_id = "M", plant_id = "P", posting_date = "2013-10-01", qty = "-365", move_class = "issue_sales" },
      { move_id = "2", line = "1", material_id = "M", plant_id = "P", posting_date = "2013-09-30", qty = "-100", move_class = "issue_sales" } }
    local e = run({}, "9", { stock_move = moves }).findings[1]
    assert.equal("MAT:M:P", e.overlap_key)
    assert.equal("exposure", e.impact.kind)
    e = e.evidence
    assert.same({ "9", "5", "10", "1", "365", "9" }, { e.available, e.safety_stock, e.reorder_point, e.missing, e.consumption, e.coverage_days })
  end)

  it("values in the currency of the plant", function()
    local tables = { plant = { { plant_id = "P", company_id = "J" } }, company = { { company_id = "J", currency = "JPY" } },
      currency = { { currency = "JPY", decimals = "0" } },
      fx_rate = { { rate_type = "M", from_cur = "JPY", to_cur = "USD", valid_from = "2014-01-01", rate = "0.01" } } }
    local f = run({ currency = "JPY", unit_cost = "100000" }, "9", tables).findings[1]
    assert.same({ amount = "100000", currency = "JPY", amount_rc = "1000.00", kind = "exposure" }, f.impact)
    assert.equal("medium", f.severity)
    local result = run({ currency = "EUR" }, "9", tables)
    assert.same({ no_rate = 1 }, result.skipped)
    assert.equal("partial", result.status)
  end)

  it("skips materials without cost and says what is missing", function()
    local result = run({ unit_cost = "" }, "9", { material_plant = { row(plan, { unit_cost = "" }), row(plan, { material_id = "N" }) } })
    assert.same({ no_cost = 1 }, result.skipped)
    result = helper.run("INV-002", { material_plant = { plan } })
    assert.equal("not_evaluable", result.status)
    assert.same({ { reason = "reorder", missing = { "stock.qty" } }, { reason = "safety", missing = { "stock.qty" } } }, { result.not_run[1], result.not_run[2] })
    result = helper.run("INV-002", { material_plant = { { material_id = "M", plant_id = "P", unit_cost = "1", reorder_point = "10" } }, stock = { stock } })
    assert.equal("partial", result.status)
    assert.same({ reason = "safety", missing = { "material_plant.safety_stock" } }, result.not_run[1])
    assert.equal("M|P reorder low 1.00", keys(result))
    result = helper.run("INV-002", { material_plant = { { material_id = "M", plant_id = "P", unit_cost = "1", safety_stock = "10" } }, stock = { stock } })
    assert.equal("M|P safety low 1.00", keys(result))
    assert.equal("stock_snapshot", run({}, "9", nil, nil, { extract_date = "2014-10-31" }).warnings[1])
  end)
end)

describe("INV-007", function()
  local stock = { material_id = "M", plant_id = "P", sloc = "1", special = "own", stock_type = "unrestricted", qty = "-1" }
  local plan = { material_id = "M", plant_id = "P", unit_cost = "100", currency = "USD" }

  local function run(stocks, more, tables, params)
    local set = { stock = stocks, material_plant = { row(plan, more) } }
    for name, rows in pairs(tables or {}) do set[name] = rows end
    local result = helper.run("INV-007", set, params)
    explained(result)
    return result
  end
  local function one(more, of_plan, tables, params) return run({ row(stock, more) }, of_plan, tables, params) end

  local function move(n, day, qty, more)
    return row({ move_id = tostring(n), line = "1", material_id = "M", plant_id = "P", sloc = "1", posting_date = day, qty = qty,
      move_class = "transfer" }, more)
  end

  it("fires below the tolerance", function()
    assert.equal("M|P|1||own|unrestricted negative high 100.00", keys(one {}))
    assert.equal("", keys(one { qty = "-0.0005" }))
    assert.equal("M|P|1||own|unrestricted negative high 0.06", keys(one { qty = "-0.0006" }))
    assert.equal("", keys(one({}, nil, nil, { qty_tol = "1" })))
    assert.equal("M|P|1||own|unrestricted negative high 0.01", keys(one({ qty = "-0.0001" }, nil, nil, { qty_tol = "0" })))
    assert.equal("", keys(one { qty = "" }))
    assert.equal(1, one({}).population)
  end)

  it("tests each key of stock", function()
    local result = run { stock, row(stock, { sloc = "2", qty = "5" }), row(stock, { batch = "B|1", qty = "-2" }),
      row(stock, { special = "project" }), row(stock, { stock_type = "quality" }) }
    assert.equal("M|P|1|B\\|1|own|unrestricted negative high 200.00; M|P|1||own|quality negative high 100.00; " ..
      "M|P|1||own|unrestricted negative high 100.00; M|P|1||project|unrestricted negative high 100.00", keys(result))
    assert.equal(5, result.population)
    assert.equal("misstatement", result.findings[1].impact.kind)
  end)

  it("is rated by value where it is allowed, and at least high elsewhere", function()
    assert.equal("low", one({}, { neg_allowed = "1" }).findings[1].severity)
    assert.equal("low", one({}, nil, { plant = { { plant_id = "P", neg_stock_allowed = "1" } } }).findings[1].severity)
    assert.equal("high", one({}, nil, { plant = { { plant_id = "P", neg_stock_allowed = "0" } } }).findings[1].severity)
    assert.equal("medium", one({ qty = "-10" }, { neg_allowed = "1" }).findings[1].severity)
    assert.equal("critical", one({ qty = "-1000" }).findings[1].severity)
  end)

  it("is one level more when older than seven days", function()
    local function since(...)
      local f = one({}, { neg_allowed = "1" }, { stock_move = { ... } }).findings[1]
      return (f.evidence.since or "") .. " " .. f.severity
    end
    assert.equal("2014-09-23 low", since(move(1, "2014-09-23", "-1")))
    assert.equal("2014-09-22 medium", since(move(1, "2014-09-22", "-1")))
    -- Negative in August, fine, and negative again.
    assert.equal("2014-09-29 low", since(move(1, "2014-08-01", "-3"), move(2, "2014-08-20", "4"), move(3, "2014-09-29", "-2")))
    -- What moved on one day is one step.
    assert.equal("2014-09-29 low", since(move(1, "2014-09-01", "4"), move(2, "2014-09-29", "-9"), move(3, "2014-09-29", "4")))
    assert.equal(" low", since(move(1, "2014-09-01", "-1", { sloc = "2" }))) -- elsewhere
    assert.equal(" low", since(move(1, "2014-10-01", "-1"))) -- after the key date
  end)

  it("does not know since when of a place with two types of stock", function()
    local result = run({ stock, row(stock, { stock_type = "quality", qty = "4" }) }, nil, { stock_move = { move(1, "2014-01-01", "-1") } })
    assert.is_nil(result.findings[1].evidence.since)
  end)

  it("finds in the history what is no longer negative", function()
    local moves = { stock_move = { move(1, "2014-08-01", "2"), move(2, "2014-08-05", "-5"), move(3, "2014-08-09", "7") } }
    assert.equal("", keys(one({ qty = "4" }, nil, moves)))
    local result = one({ qty = "4" }, nil, moves, { history = true })
    assert.equal("M|P|1||own|unrestricted negative high 300.00", keys(result))
    assert.equal("2014-08-08", result.findings[1].evidence.lowest_on)
    -- Of one day the closing balance counts.
    moves.stock_move[3].posting_date = "2014-08-05"
    assert.equal("", keys(one({ qty = "4" }, nil, moves, { history = true })))
    -- Without a stock there is no balance to go back from.
    assert.equal("", keys(run({ row(stock, { sloc = "9", qty = "1" }) }, nil, moves, { history = true })))
  end)

  it("skips what has no cost and runs on stock alone", function()
    local result = run({ stock, row(stock, { material_id = "N" }) })
    assert.same({ no_cost = 1 }, result.skipped)
    result = helper.run("INV-007", { stock = { stock } })
    assert.equal("partial", result.status)
    result = helper.run("INV-007", { material_plant = { plan } })
    assert.equal("not_evaluable", result.status)
    assert.same({ reason = "negative", missing = { "stock.qty" } }, result.not_run[1])
  end)
end)
