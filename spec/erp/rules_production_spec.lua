-- PRD-003, PRD-004, PRD-006 and PRD-007 on small tables: thresholds on both sides, reasons, severities, what is missing.
local helper = require "erp.rules_helper"
local keys, explained, row = helper.keys, helper.explained, helper.row

local plan = { material_id = "M", plant_id = "P", unit_cost = "100", price_unit = "1", currency = "USD" }
local yen = { plant = { { plant_id = "P", company_id = "J" } }, company = { { company_id = "J", currency = "JPY" } },
  currency = { { currency = "JPY", decimals = "0" } },
  fx_rate = { { rate_type = "M", from_cur = "JPY", to_cur = "USD", valid_from = "2014-01-01", rate = "0.01" } } }

local function with(set, tables)
  for name, rows in pairs(tables or {}) do set[name] = rows end
  return set
end

describe("PRD-003", function()
  local lot = { lot_id = "L", origin = "production", material_id = "M", plant_id = "P", lot_qty = "100", inspected_qty = "100", defect_qty = "0",
    created_date = "2014-09-01", decision_date = "" }

  local function run(more, tables, params)
    local result = helper.run("PRD-003", with({ inspection_lot = { row(lot, more), row(lot, { lot_id = "Z", decision = "A" }) }, material_plant = { plan } }, tables), params)
    explained(result)
    return result
  end
  local function says(...) return keys(run(...)) end

  it("reports rejected lots, the whole or what was found bad", function()
    assert.equal("L rejected critical 10000.00", says { decision = "R", defect_qty = "100" })
    assert.equal("L rejected low 300.00", says { decision = "R", defect_qty = "3" })
    assert.equal("L rejected critical 10000.00", says { decision = "R" })
    assert.equal("L rejected medium 500.00", says { decision = "R", lot_qty = "5", inspected_qty = "2", defect_qty = "1" })
    assert.equal("L rejected medium 500.00", says { decision = "R", lot_qty = "5", inspected_qty = "", defect_qty = "" })
    assert.equal("", says { decision = "A" })
  end)

  it("reports a rate of defects above the limit", function()
    assert.equal("", says { defect_qty = "2" })
    assert.equal("L defect_rate low 200.01", says { defect_qty = "2.0001" })
    assert.equal("L defect_rate low 300.00", says { defect_qty = "3", decision = "A" })
    assert.equal("L defect_rate low 300.00", says { defect_qty = "3", inspected_qty = "" })
    assert.equal("L defect_rate low 100.00", says { defect_qty = "1", inspected_qty = "49" })
    assert.equal("", says { defect_qty = "1", inspected_qty = "50" })
    assert.equal("", says { defect_qty = "0.9999", inspected_qty = "10" })
    assert.equal("L defect_rate low 50.00", says({ defect_qty = "0.5", inspected_qty = "10" }, nil, { min_defect = "0.5" }))
    assert.equal("L defect_rate low 200.00", says({ defect_qty = "2" }, nil, { max_defect_pct = "1.9" }))
    assert.equal("", says({ defect_qty = "9" }, nil, { max_defect_pct = "9" }))
    assert.equal("", says { defect_qty = "", inspected_qty = "" })
  end)

  it("is one level more when all of the lot is lost", function()
    assert.equal("L defect_rate medium 400.00", says { lot_qty = "4", inspected_qty = "4", defect_qty = "4" })
    assert.equal("L defect_rate low 300.00", says { lot_qty = "4", inspected_qty = "4", defect_qty = "3" })
  end)

  it("waits for decisions only when asked to", function()
    local function open(day, params, more) return says(row({ created_date = day }, more), nil, params) end
    assert.equal("", open("2014-01-01"))
    assert.equal("", open("2014-08-31", { max_open_days = 30 }))
    assert.equal("L overdue_decision low 0.00", open("2014-08-30", { max_open_days = 30 }))
    assert.equal("L overdue_decision low 100.00", open("2014-08-30", { max_open_days = 30 }, { defect_qty = "1" }))
    assert.equal("", open("2014-08-30", { max_open_days = 30 }, { decision = "A" }))
    -- A lot with many defects is one finding.
    assert.equal("L defect_rate low 300.00", open("2014-08-30", { max_open_days = 30 }, { defect_qty = "3" }))
  end)

  it("sees the lot as it was at the key date", function()
    assert.equal("", says { decision = "R", decision_date = "2014-10-01" })
    assert.equal("L rejected critical 10000.00", says { decision = "R", decision_date = "2014-09-30" })
    assert.equal("", says { decision = "R", created_date = "2014-10-01" })
  end)

  it("values receipts by their order's line", function()
    local receipt = { origin = "receipt", ref_doc = "1", ref_line = "10", decision = "R", lot_qty = "3", inspected_qty = "3", defect_qty = "1" }
    local order = { purchase_order = { { po_id = "1", vendor_id = "V", currency = "EUR", order_date = "2014-01-01" } },
      po_line = { { po_id = "1", line = "10", qty = "3", net_value = "10" } },
      fx_rate = { { rate_type = "M", from_cur = "EUR", to_cur = "USD", valid_from = "2014-01-01", rate = "300" } } }
    local f = run(receipt, order).findings[1]
    assert.same({ amount = "3.33", currency = "EUR", amount_rc = "1000.00", kind = "cost" }, f.impact)
    assert.equal("low", f.severity) -- 999.9999
    assert.equal("V", f.evidence.vendor_id)
    receipt.defect_qty = "3"
    assert.equal("10.00", run(receipt, order).findings[1].impact.amount)
    -- The number of a production order may be that of a purchase order too.
    receipt.origin = "production"
    assert.equal("300.00", run(receipt, order).findings[1].impact.amount)
    receipt.origin, receipt.ref_line = "receipt", "20"
    assert.equal("300.00", run(receipt, order).findings[1].impact.amount)
  end)

  it("skips what cannot be valued and says what is missing", function()
    assert.same({ no_cost = 1 }, run({ decision = "R" }, { material_plant = {} }).skipped)
    assert.same({ no_lot_qty = 1 }, run({ decision = "R", lot_qty = "", inspected_qty = "", defect_qty = "" }).skipped)
    assert.equal(2, run({}).population)
    local result = helper.run("PRD-003", { material_plant = { plan } })
    assert.equal("not_evaluable", result.status)
    assert.equal("inspection_lot", result.not_run[1].missing[1])
    result = helper.run("PRD-003", { inspection_lot = { { lot_id = "L", defect_qty = "9", lot_qty = "10", material_id = "M", plant_id = "P" } },
      material_plant = { plan } })
    assert.equal("partial", result.status)
    assert.same({ reason = "rejected", missing = { "inspection_lot.decision" } }, result.not_run[1])
    assert.equal("L defect_rate low 900.00", keys(result))
    result = helper.run("PRD-003", { inspection_lot = { { lot_id = "L", decision = "R", lot_qty = "1", material_id = "M", plant_id = "P" } },
      material_plant = { plan } }, { max_open_days = 9 })
    assert.same({ "defect_rate", "overdue_decision" }, { result.not_run[1].reason, result.not_run[2].reason })
    assert.equal("L rejected medium 100.00", keys(result))
  end)
end)

describe("PRD-004", function()
  local order = { order_id = "O", plant_id = "P", material_id = "M", qty = "100", yield_qty = "97", scrap_qty = "3", plan_scrap_pct = "0",
    finish_plan = "2014-09-01", finish_actual = "2014-09-01", status = "delivered" }
  local other = row(order, { order_id = "Z", yield_qty = "100", scrap_qty = "0" }) -- in order, and names all columns

  local function run(more, params, tables)
    local result = helper.run("PRD-004", with({ production_order = { row(order, more), other }, material_plant = { plan } }, tables), params)
    explained(result)
    return result
  end
  local function says(...) return keys(run(...)) end

  it("fires above the planned rate and the tolerance", function()
    assert.equal("O scrap low 300.00", says {})
    assert.equal("", says { yield_qty = "98", scrap_qty = "2" })
    assert.equal("O scrap low 200.01", says { yield_qty = "97.9999", scrap_qty = "2.0001" })
    assert.equal("", says { yield_qty = "93", scrap_qty = "7", plan_scrap_pct = "5" })
    assert.equal("O scrap low 300.00", says { yield_qty = "92", scrap_qty = "8", plan_scrap_pct = "5" })
    assert.equal("O scrap low 300.00", says { plan_scrap_pct = "" })
    assert.equal("", says({}, { tol_points = "3" }))
    assert.equal("O scrap low 100.00", says({ yield_qty = "99", scrap_qty = "1" }, { tol_points = "0" }))
    assert.equal("", says { yield_qty = "0", scrap_qty = "0" })
    assert.equal("O scrap medium 1000.00", says { yield_qty = "0", scrap_qty = "10" })
  end)

  it("has a limit of value only when it is given", function()
    local free = { material_plant = { row(plan, { unit_cost = "0" }) } }
    assert.equal("O scrap low 0.00", says({}, nil, free))
    assert.equal("", says({}, { abs = "0" }, free))
    assert.equal("", says({}, { abs = "300" }))
    assert.equal("O scrap low 300.00", says({}, { abs = "299.99" }))
  end)

  it("looks at finished orders", function()
    assert.equal("", says { finish_actual = "", status = "released" })
    assert.equal("", says { finish_actual = "2014-10-01" }) -- open at the key date
    assert.equal("O scrap low 300.00", says({ finish_actual = "", status = "released" }, { include_open = true }))
    assert.equal(1, run({ finish_actual = "" }).population)
  end)

  it("rates by value in the plant's currency", function()
    local tables = with({ material_plant = { row(plan, { currency = "JPY", unit_cost = "33333" }) } }, yen)
    local f = run({}, nil, tables).findings[1]
    assert.same({ amount = "99999", currency = "JPY", amount_rc = "999.99", kind = "cost" }, f.impact)
    assert.equal("low", f.severity)
    tables.material_plant[1].unit_cost = "33334"
    assert.equal("medium", run({}, nil, tables).findings[1].severity)
    assert.equal("PRD-004:O", f.overlap_key)
    assert.equal("3", f.evidence.pct)
  end)

  it("skips what is not known and says what is missing", function()
    assert.same({ no_cost = 1 }, run({}, nil, { material_plant = { row(plan, { material_id = "X" }) } }).skipped)
    assert.same({ no_yield_qty = 1 }, run({ yield_qty = "" }).skipped)
    local result = helper.run("PRD-004", { production_order = { row(order, { scrap_qty = "" }) } })
    assert.equal("not_evaluable", result.status)
    assert.same({ reason = "scrap", missing = { "production_order.scrap_qty", "material_plant.unit_cost" } }, result.not_run[1])
  end)
end)

describe("PRD-007", function()
  local order = { order_id = "O", plant_id = "P", material_id = "M", qty = "1", finish_plan = "2014-09-01", finish_actual = "2014-09-01", status = "delivered" }
  local other = row(order, { order_id = "Z" }) -- in order, and names all columns

  local function run(more, params, tables)
    local result = helper.run("PRD-007", with({ production_order = { row(order, more), other }, material_plant = { plan } }, tables), params)
    explained(result)
    return result
  end
  local function says(...) return keys(run(...)) end

  it("compares the end with the plan", function()
    assert.equal("", says {})
    assert.equal("O late low 100.00", says { finish_actual = "2014-09-02" })
    assert.equal("", says({ finish_actual = "2014-09-02" }, { grace_days = 1 }))
    assert.equal("O late low 100.00", says({ finish_actual = "2014-09-03" }, { grace_days = 1 }))
    assert.equal("", says { finish_actual = "2014-09-09", status = "cancelled" })
    assert.equal("", says { finish_actual = "", status = "teco" })
  end)

  it("reports released orders that should have ended", function()
    local function open(day, params, status) return says({ finish_actual = "", finish_plan = day, status = status or "released" }, params) end
    assert.equal("", open "2014-09-30")
    assert.equal("O overdue low 100.00", open "2014-09-29")
    assert.equal("", open("2014-09-29", { grace_days = 1 }))
    assert.equal("O overdue low 100.00", open("2014-09-28", { grace_days = 1 }))
    assert.equal("", open("2014-09-01", nil, "created"))
    -- Finished after the key date: released and open then.
    assert.equal("O overdue low 100.00", says { finish_plan = "2014-09-29", finish_actual = "2014-10-02", status = "closed" })
  end)

  it("is one level more after two weeks, and one for a sale that becomes late", function()
    assert.equal("O late low 100.00", says { finish_actual = "2014-09-15" })
    assert.equal("O late medium 100.00", says { finish_actual = "2014-09-16" })
    assert.equal("O overdue low 100.00", says { finish_actual = "", finish_plan = "2014-09-16", status = "released" })
    assert.equal("O overdue medium 100.00", says { finish_actual = "", finish_plan = "2014-09-15", status = "released" })

    local function sale(promised, deliveries, line, finish)
      return says({ finish_actual = finish or "2014-09-05", sales_order_id = "S" }, nil, {
        sales_order = { { order_id = "S", order_date = "2014-08-01" } },
        sales_line = { row({ order_id = "S", line = "10", material_id = "M", plant_id = "P", qty = "2" }, line) },
        sales_schedule = { { order_id = "S", line = "10", sched = "1", promised_date = promised, qty = "2" } },
        delivery_line = deliveries or {} })
    end
    assert.equal("O late medium 100.00", sale "2014-09-04")
    assert.equal("O late low 100.00", sale "2014-09-05")
    assert.equal("O late high 100.00", sale("2014-09-04", nil, nil, "2014-09-25"))
    assert.equal("O late low 100.00", sale("2014-09-04", nil, { material_id = "X" }))
    assert.equal("O late low 100.00", sale("2014-09-04", nil, { rejected = "1" }))
    local function shipped(day, qty, more)
      return { row({ delivery_id = "D", line = "1", order_id = "S", order_line = "10", qty = qty, actual_gi = day }, more) }
    end
    assert.equal("O late low 100.00", sale("2014-09-04", shipped("2014-09-04", "2")))
    assert.equal("O late medium 100.00", sale("2014-09-04", shipped("2014-09-04", "1")))
    assert.equal("O late medium 100.00", sale("2014-09-04", shipped("2014-09-05", "2")))
    assert.equal("O late medium 100.00", sale("2014-09-04", shipped("2014-09-04", "2", { cancelled = "1" })))
  end)

  it("names the first operation that is late", function()
    local function op(no, plan_day, actual, done)
      return { order_id = "O", op = no, work_center_id = "W" .. no, finish_plan = plan_day, finish_actual = actual, done = done }
    end
    local f = run({ finish_actual = "2014-09-09" }, nil, { prod_operation = { op("10", "2014-08-20", "2014-08-20", "1"),
      op("30", "2014-09-01", "2014-09-09", "1"), op("20", "2014-08-25", "2014-08-26", "1"), op("40", "2014-08-01", nil, "1") } }).findings[1]
    assert.same({ "20", "W20" }, { f.evidence.late_operation, f.evidence.late_work_center })
    assert.equal("MO:O", f.overlap_key)
    assert.equal("exposure", f.impact.kind)
  end)

  it("tests operations when asked to", function()
    local tables = { prod_operation = {
      { order_id = "O", op = "10", finish_plan = "2014-09-01", finish_actual = "2014-09-03", done = "1" },
      { order_id = "O", op = "20", finish_plan = "2014-09-10", done = "0" },
      { order_id = "O", op = "30", finish_plan = "2014-09-10", done = "1" },
      { order_id = "O", op = "40", finish_plan = "2014-10-10", done = "0" } } }
    local result = run({ finish_actual = "", status = "released" }, { level = "operation" }, tables)
    assert.equal("O|20 overdue medium 100.00; O|10 late low 100.00", keys(result))
    assert.equal("MO:O", result.findings[1].overlap_key)
    assert.equal(4, result.population)
    assert.equal("O|10 late low 100.00", says({ status = "closed" }, { level = "operation" }, tables))
    assert.equal("", says({ status = "cancelled" }, { level = "operation" }, tables))
  end)

  it("skips what has no cost and says what is missing", function()
    assert.same({ no_cost = 1 }, run({ finish_actual = "2014-09-02" }, nil, { material_plant = {} }).skipped)
    assert.same({ no_finish_plan = 1 }, run({ finish_plan = "" }).skipped)
    local result = helper.run("PRD-007", { production_order = { { order_id = "O", finish_plan = "2014-01-01", finish_actual = "2014-01-02" } } })
    assert.equal("partial", result.status)
    assert.same({ reason = "overdue", missing = { "production_order.status" } }, result.not_run[1])
    result = helper.run("PRD-007", { production_order = { { order_id = "O", status = "released" } } })
    assert.equal("not_evaluable", result.status)
    assert.same({ "production_order.finish_plan", "production_order.finish_actual" }, result.not_run[1].missing)
    result = helper.run("PRD-007", { production_order = { order } }, { level = "operation" })
    assert.equal("not_evaluable", result.status)
    assert.equal("prod_operation.finish_plan", result.not_run[1].missing[1])
  end)
end)

describe("PRD-006", function()
  -- The key date is Tuesday 2014-09-30: the next weeks begin on 6, 13, 20 and 27 October.
  local WEEKS = { "2014-10-06", "2014-10-13", "2014-10-20", "2014-10-27", "2014-11-03" }
  local center = { work_center_id = "W", plant_id = "P", hours_per_week = "40" }

  local function op(no, week, hours, more)
    return row({ order_id = "O" .. no, op = "10", work_center_id = "W", start_plan = week, finish_plan = week, plan_hours = hours, done = "0" }, more)
  end

  local function run(operations, params, tables)
    local orders = {}
    for i = 1, 9 do orders[i] = { order_id = "O" .. i, plant_id = "P", material_id = "M", qty = "10", status = "released" } end
    local result = helper.run("PRD-006", with({ work_center = { center }, prod_operation = operations, production_order = orders,
      material_plant = { plan } }, tables), params)
    explained(result)
    return result
  end
  local function loads(...)
    local list = {}
    for i, hours in ipairs { ... } do if hours ~= "" then list[#list + 1] = op(i, WEEKS[i], hours) end end
    return list
  end
  local function says(operations, ...) return keys(run(operations, ...)) end

  it("asks for three of the next four weeks at ninety per cent", function()
    assert.equal("W bottleneck high 3000.00", says(loads("36", "36", "", "36")))
    assert.equal("", says(loads("36", "36", "", "35.9999")))
    assert.equal("", says(loads("36", "36", "", "", "36"))) -- the fifth week
    assert.equal("W bottleneck high 4000.00", says(loads("36", "36", "1", "90")))
    assert.equal("", says(loads("36", "36", "", "36"), { k = 4 }))
    assert.equal("W bottleneck high 2000.00", says(loads("36", "36", "", ""), { k = 2 }))
    assert.equal("W bottleneck high 3000.00", says(loads("36", "36", "36", "36"), { n = 3 }))
    assert.equal("W bottleneck high 3000.00", says(loads("20", "20", "20"), { util_pct = "50" }))
  end)

  it("leaves out what is done or finished", function()
    local list = loads("36", "36", "36")
    list[3].done = "1"
    assert.equal("", says(list))
    list = loads("36", "36", "36")
    assert.equal("", says(list, nil, { production_order = { { order_id = "O3", status = "closed" } } }))
  end)

  it("counts each order once", function()
    local list = loads("18", "36", "36")
    list[4] = op(1, WEEKS[1], "18", { op = "20" })
    assert.equal("W bottleneck high 3000.00", says(list))
    local e = run(list).findings[1].evidence
    assert.same({ 4, 0, 3, 3, 4 }, { e.operations, e.late_operations, e.orders, e.weeks_full, e.weeks_tested })
    assert.equal("67.5", e.mean_pct)
    assert.equal("36", e.weeks[1].load)
  end)

  it("rates the center with the highest mean of its plant", function()
    local other = { center, row(center, { work_center_id = "X" }) }
    local function with_other(hours, plant)
      local list = loads("36", "36", "36")
      list[4] = op(9, WEEKS[1], hours, { work_center_id = "X" })
      other[2].plant_id = plant or "P"
      return says(list, nil, { work_center = other })
    end
    assert.equal("W bottleneck high 3000.00", with_other "107.9999")
    assert.equal("W bottleneck high 3000.00", with_other "108")
    assert.equal("W bottleneck medium 3000.00", with_other "108.001")
    assert.equal("W bottleneck high 3000.00", with_other("500", "Q"))
  end)

  it("looks back in the mode history, and at late operations", function()
    local function past(no, monday, finish_plan, more)
      return row({ order_id = "O" .. no, op = "10", work_center_id = "W", start_plan = monday, finish_plan = finish_plan or monday, start_actual = monday,
        finish_actual = monday, actual_hours = "36", done = "1" }, more)
    end
    local history = { mode = "history" }
    local function month(more) return { past(1, "2014-09-01"), past(2, "2014-09-08"), past(3, "2014-09-22", nil, more) } end
    assert.equal("W bottleneck high 0.00", says(month(), history))
    local function moved(day) return { past(1, "2014-09-01"), past(2, "2014-09-08"), past(3, day) } end
    assert.equal("", says(moved "2014-08-31", history)) -- the fifth week
    assert.equal("", says(moved "2014-09-29", history)) -- not complete
    -- One of three is late, which is more than a fifth; its order is what waits.
    local result = run(month { finish_plan = "2014-09-21", start_plan = "2014-09-20" }, history)
    assert.equal("W bottleneck critical 1000.00", keys(result))
    assert.same({ 1, "0.666667" }, { result.findings[1].evidence.late_operations, result.findings[1].evidence.mean_queue_days })
    -- Open at the key date.
    local open = month()
    open[4] = past(4, "2014-09-23", "2014-10-05", { finish_actual = "", actual_hours = "1", done = "0" })
    assert.equal("W bottleneck high 1000.00", says(open, history))
  end)

  it("skips weeks and centers without capacity", function()
    local calendar = {}
    for day = 6, 12 do calendar[#calendar + 1] = { calendar_id = "C", date = ("2014-10-%02d"):format(day), working = "0" } end
    local tables = { work_center = { row(center, { calendar_id = "C" }) }, calendar_day = calendar }
    local result = run(loads("40", "36", "36", "36"), nil, tables)
    assert.equal("W bottleneck high 4000.00", keys(result))
    assert.equal(3, result.findings[1].evidence.weeks_tested)
    assert.equal("", says(loads("40", "36", "36", ""), nil, tables))
    result = run(loads("9", "9", "9"), nil, { work_center = { row(center, { hours_per_week = "0" }), row(center, { work_center_id = "X", hours_per_week = "" }) } })
    assert.equal("", keys(result))
    assert.same({ 0, { no_hours_per_week = 1 } }, { result.population, result.skipped })
  end)

  it("leaves orders without cost out of the value", function()
    local result = run(loads("36", "36", "36"), nil, { material_plant = { row(plan, { material_id = "X" }) } })
    assert.equal("W bottleneck high 0.00", keys(result))
    assert.same({ no_cost = 3 }, result.skipped)
  end)

  it("says what is missing", function()
    local result = helper.run("PRD-006", { work_center = { center }, prod_operation = { { order_id = "O", op = "1", actual_hours = "1", start_actual = "2014-01-01" } } })
    assert.equal("not_evaluable", result.status)
    assert.same({ "prod_operation.plan_hours", "prod_operation.start_plan", "prod_operation.finish_plan" }, result.not_run[1].missing)
    result = helper.run("PRD-006", { work_center = { center }, prod_operation = { { order_id = "O", op = "1", actual_hours = "1", start_actual = "2014-01-01" } } },
      { mode = "history" })
    assert.equal("ok", result.status)
  end)
end)
