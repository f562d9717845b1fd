-- FIN-008 and OFU-004 on small tables: both sides of each limit, each reason, what is missing, and the traps.
local helper = require "erp.rules_helper"
local keys, row = helper.keys, helper.row

local function run(...)
  local result = helper.run(...)
  helper.explained(result)
  return result
end

describe("FIN-008", function()
  local codes = { { country = "US", tax_code = "A", valid_from = "2014-01-01", valid_to = "2014-05-31", rate = "7", kind = "input" },
    { country = "US", tax_code = "A", valid_from = "2014-06-01", rate = "8.25", kind = "input" },
    { country = "DE", tax_code = "A", valid_from = "2000-01-01", rate = "19", kind = "input" },
    { country = "US", tax_code = "R", valid_from = "2000-01-01", rate = "10", kind = "reverse" } }
  local companies = { { company_id = "C1", currency = "USD", country = "US" }, { company_id = "C2", currency = "JPY", country = "DE" } }
  local function item(more)
    return row({ company_id = "C1", doc_id = "1", fiscal_year = "2014", line = "1", tax_code = "A", tax_date = "2014-07-01", direction = "in",
      base_doc = "200", tax_doc = "16.50", base_lines = "1", currency = "USD", direct = "0" }, more)
  end
  local function find(items, params, more)
    local tables = { tax_item = items, tax_code = codes, company = companies }
    for name, rows in pairs(more or {}) do tables[name] = rows or nil end
    return run("FIN-008", tables, params)
  end

  it("allows a cent a line, and not more", function()
    for _, tax in ipairs { "16.50", "16.49", "16.51" } do assert.equal("", keys(find { item { tax_doc = tax } })) end
    local r = find { item { tax_doc = "16.52" } }
    assert.equal("C1|1|2014|1 tax low 0.02", keys(r))
    assert.same({ "0.02", "16.5", "8.25", "cash", "FIN-008:C1|1|2014|1" }, { r.findings[1].evidence.diff, r.findings[1].evidence.expected,
      r.findings[1].evidence.rate, r.findings[1].impact.kind, r.findings[1].overlap_key })
    assert.equal("C1|1|2014|1 tax low -0.02", keys(find { item { tax_doc = "16.48", direction = "out" } }))
    assert.equal("", keys(find { item { tax_doc = "16.53", base_lines = "3" } }))
    assert.equal("C1|1|2014|1 tax low 0.04", keys(find { item { tax_doc = "16.54", base_lines = "3" } }))
    for _, lines in ipairs { "", "0" } do
      assert.equal("", keys(find { item { base_lines = lines, tax_doc = "16.51" } }))
      assert.equal("C1|1|2014|1 tax low 0.02", keys(find { item { base_lines = lines, tax_doc = "16.52" } }))
    end
  end)
  it("rounds half away from zero before it compares", function()
    -- 8.25 % of 2 is 0.165.
    assert.equal("", keys(find { item { base_doc = "2", tax_doc = "0.16" } })) -- expected 0.17
    assert.equal("C1|1|2014|1 tax low -0.02", keys(find { item { base_doc = "2", tax_doc = "0.15" } }))
    assert.equal("C1|1|2014|1 tax low 0.02", keys(find { item { base_doc = "-2", tax_doc = "-0.15" } }))
    assert.equal("", keys(find { item { base_doc = "-2", tax_doc = "-0.18" } }))
  end)
  it("knows the smallest unit of each currency, and a finer cent", function()
    local jpy = { company_id = "C2", currency = "JPY", base_doc = "1000", tax_doc = "191" }
    assert.equal("", keys(find { item(jpy) }))
    jpy.tax_doc = "192"
    local r = find { item(jpy) }
    assert.equal("C2|1|2014|1 tax medium 2", keys(r)) -- without a rate into dollars
    jpy.currency = "" -- that of the company
    assert.equal("JPY", find({ item(jpy) }).findings[1].impact.currency)
    assert.equal("C1|1|2014|1 tax low 0.00", keys(find({ item { tax_doc = "16.5002" } }, { cent = "0.0001" })))
    assert.equal("", keys(find({ item { tax_doc = "16.5001" } }, { cent = "0.0001" })))
    assert.equal("", keys(find({ item { tax_doc = "17" } }, { cent = "0.5" })))
  end)
  it("takes the rate of the day and of the company's country", function()
    assert.equal("", keys(find { item { tax_date = "2014-05-31", tax_doc = "14" } }))
    assert.equal("", keys(find { item { tax_date = "2014-06-01" } }))
    assert.equal("C1|1|2014|1 tax low 2.50", keys(find { item { tax_date = "2014-05-31" } }))
    assert.equal("", keys(find({ item { tax_doc = "38" } }, nil, { company = { { company_id = "C1", country = "DE" } } })))
    -- Nothing says which country: the code's own.
    local only = { { country = "FR", tax_code = "A", valid_from = "2000-01-01", rate = "20" } }
    assert.equal("", keys(find({ item { tax_doc = "40" } }, nil, { company = false, tax_code = only })))
  end)
  it("takes the expected tax where it is given", function()
    assert.equal("", keys(find { item { tax_doc = "99", expected_doc = "99.01" } }))
    assert.equal("C1|1|2014|1 tax low 0.02", keys(find { item { line = "2" },
      item { tax_doc = "99", expected_doc = "98.98", tax_code = "", base_doc = "" } }))
    local r = find({ row(item { tax_doc = "99", expected_doc = "98" }, { tax_code = "", tax_date = "" }) }, nil, { tax_code = false })
    assert.equal("C1|1|2014|1 tax low 1.00", keys(r))
    assert.equal("ok", r.status)
  end)
  it("rates by the difference", function()
    assert.equal("C1|1|2014|1 tax low 100.00", keys(find { item { tax_doc = "116.50" } }))
    assert.equal("C1|1|2014|1 tax medium 100.01", keys(find { item { tax_doc = "116.51" } }))
    assert.equal("C1|1|2014|1 tax medium -100.01", keys(find { item { tax_doc = "-83.51" } }))
    assert.equal("C1|1|2014|1 tax high 10000.00", keys(find { item { tax_doc = "10016.50" } }))
    assert.equal("C1|1|2014|1 tax critical 100000.00", keys(find { item { tax_doc = "100016.50" } }))
  end)
  it("has a tolerance in per cent", function()
    assert.equal("", keys(find({ item { tax_doc = "18.15" } }, { tol_pct = "10" }))) -- 10 % of 16.50 exactly
    assert.equal("C1|1|2014|1 tax low 1.66", keys(find({ item { tax_doc = "18.16" } }, { tol_pct = "10" })))
  end)
  it("leaves out tax-only documents, reverse charge, and what comes after the key date", function()
    assert.equal("", keys(find { item { direct = "1", tax_doc = "99" } }))
    assert.equal("", keys(find { item { tax_date = "2014-10-01", tax_doc = "99" } }))
    local pair = { item { tax_code = "R", tax_doc = "20" }, item { tax_code = "R", line = "2", tax_doc = "-20" } }
    assert.equal("", keys(find(pair)))
    pair[2].tax_doc = "-19"
    assert.equal("C1|1|2014|2 tax low -39.00", keys(find(pair)))
    -- Of another document: no pair.
    pair[2].tax_doc, pair[2].doc_id = "-20", "2"
    assert.equal("C1|2|2014|2 tax low -40.00", keys(find(pair)))
  end)
  it("skips and counts what it cannot test, and says what is missing", function()
    local r = find { item { line = "1", tax_code = "" }, item { line = "2", tax_code = "X" }, item { line = "3", tax_date = "" },
      item { line = "4", tax_doc = "" }, item { line = "5", base_doc = "" }, item { line = "6", tax_date = "2013-12-31" }, item { line = "7" } }
    assert.same({ "partial", 1, { no_tax_code = 1, no_rate = 2, no_tax_date = 1, no_tax_doc = 1, no_base_doc = 1 } },
      { r.status, r.population, r.skipped })
    r = find({ item() }, nil, { tax_code = false })
    assert.same({ "not_evaluable", { "tax_item.expected_doc", "tax_code.rate" } }, { r.status, r.not_run[1].missing })
    r = run("FIN-008", {})
    assert.same({ "tax_item.base_doc", "tax_item.tax_doc", "tax_item.expected_doc", "tax_item.tax_code", "tax_item.tax_date", "tax_code.rate" },
      r.not_run[1].missing)
  end)
end)

describe("OFU-004", function()
  local function tables(schedule, deliveries, more)
    local t = {
      sales_order = { { order_id = "S", order_date = "2014-05-01", currency = "USD", customer_id = "K", cancelled = "0" } },
      sales_line = { { order_id = "S", line = "1", material_id = "M", plant_id = "P", qty = "10", net_value = "1000", rejected = "0" } },
      sales_schedule = schedule, delivery_line = deliveries,
    }
    for name, rows in pairs(more or {}) do t[name] = rows or nil end
    return t
  end
  local function due(more)
    return row({ order_id = "S", line = "1", sched = "1", requested_date = "2014-06-02", promised_date = "2014-06-06", qty = "10" }, more)
  end
  local function came(more)
    return row({ delivery_id = "D1", line = "1", order_id = "S", order_line = "1", qty = "10", actual_gi = "2014-06-09", pod_date = "2014-06-12",
      issued = "1", is_return = "0", cancelled = "0" }, more)
  end
  local function find(schedule, deliveries, params, more) return run("OFU-004", tables(schedule, deliveries, more), params) end

  it("compares with the promise, on the day and after it", function()
    local r = find({ due() }, { came() })
    assert.equal("S|1|1 late medium 1000.00", keys(r))
    local e = r.findings[1].evidence
    assert.same({ "2014-06-06", "2014-06-09", 3, "10", "SO:S:1", "revenue", 1 }, { e.target, e.actual, e.days, e.qty_late, r.findings[1].overlap_key,
      r.findings[1].impact.kind, r.population })
    assert.equal("", keys(find({ due() }, { came { actual_gi = "2014-06-06" } })))
    assert.equal("", keys(find({ due() }, { came { actual_gi = "2014-05-01" } })))
    assert.equal(0, find({ due() }, { came { order_id = "T" } }).population) -- lines that are delivered are tested
    assert.equal("S|1|1 late medium 1000.00", keys(find({ due { promised_date = "" } }, { came { actual_gi = "2014-06-03" } })))
  end)
  it("has parameters for promise, event and grace", function()
    assert.equal("S|1|1 late medium 1000.00", keys(find({ due() }, { came { actual_gi = "2014-06-05" } }, { measure = "requested" })))
    assert.equal("S|1|1 late medium 1000.00", keys(find({ due() }, { came { actual_gi = "2014-06-05" } }, { event = "pod_date" })))
    assert.equal("", keys(find({ due() }, { came() }, { grace_days = 3 })))
    assert.equal("S|1|1 late medium 1000.00", keys(find({ due() }, { came() }, { grace_days = 2 })))
  end)
  it("serves the schedule in order of date and counts what was late", function()
    local two = { due { sched = "1", qty = "4" }, due { sched = "2", promised_date = "2014-06-20", qty = "6" } }
    assert.equal("", keys(find(two, { came { actual_gi = "2014-06-06", qty = "4" }, came { delivery_id = "D2", actual_gi = "2014-06-20", qty = "6" } })))
    assert.equal("S|1|1 late low 100.00", keys(find(two, { came { actual_gi = "2014-06-06", qty = "3" }, came { delivery_id = "D2", actual_gi = "2014-06-20", qty = "7" } })))
    local r = find(two, { came { actual_gi = "2014-06-06", qty = "4" }, came { delivery_id = "D2", actual_gi = "2014-06-21", qty = "5" } })
    assert.equal("S|1|2 late low 500.00", keys(r))
    assert.same({ "5", "6" }, { r.findings[1].evidence.qty_delivered, r.findings[1].evidence.qty })
    assert.equal("S|1|1 late medium 400.00; S|1|2 late low 200.00", keys(find(two, { came { actual_gi = "2014-07-01", qty = "6" } })))
  end)
  it("is one level worse from fifteen days on", function()
    assert.equal("S|1|1 late medium 1000.00", keys(find({ due() }, { came { actual_gi = "2014-06-20" } })))
    assert.equal("S|1|1 late high 1000.00", keys(find({ due() }, { came { actual_gi = "2014-06-21" } })))
  end)
  it("counts working days where it is asked to", function()
    local week = {}
    for day = 1, 30 do
      week[day] = { calendar_id = "CAL", date = ("2014-06-%02d"):format(day), working = (day % 7 == 0 or day % 7 == 1) and "0" or "1" }
    end
    local more = { calendar_day = week, plant = { { plant_id = "P", calendar_id = "CAL" } } }
    -- 2014-06-06 is a Friday: Saturday and Sunday do not count.
    local r = find({ due() }, { came() }, { working_days = true }, more)
    assert.equal(1, r.findings[1].evidence.days)
    assert.equal("", keys(find({ due() }, { came() }, { working_days = true, grace_days = 1 }, more)))
    assert.equal("S|1|1 late medium 1000.00", keys(find({ due() }, { came { actual_gi = "2014-06-10" } }, { working_days = true, grace_days = 1 }, more)))
    assert.equal("", keys(find({ due() }, { came { actual_gi = "2014-06-08" } }, { working_days = true }, more)))
  end)
  it("takes no delivery that does not count", function()
    for _, other in ipairs { { cancelled = "1" }, { is_return = "1" }, { actual_gi = "" }, { actual_gi = "2014-10-01" }, { order_id = "T" } } do
      assert.equal("", keys(find({ due() }, { came(other) })), next(other))
      assert.equal("", keys(find({ due() }, { came { delivery_id = "D0", actual_gi = "2014-06-06" }, came(other) })))
    end
  end)
  it("finds what is overdue when it is switched on", function()
    local on = { overdue = true }
    local elsewhere = came { order_id = "T" }
    local r = find({ due { promised_date = "2014-09-29" } }, { came { cancelled = "1" } }, on)
    assert.equal("S|1|1 overdue medium 1000.00", keys(r))
    assert.same({ 1, "2014-09-30" }, { r.findings[1].evidence.days, r.findings[1].evidence.as_of })
    assert.equal("", keys(find({ due { promised_date = "2014-09-30" } }, { elsewhere }, on)))
    assert.equal("", keys(find({ due() }, { came { actual_gi = "2014-06-06" } }, on)))
    assert.equal("S|1|1 overdue low 700.00", keys(find({ due { promised_date = "2014-09-29" } }, { came { qty = "3" } }, on)))
    assert.equal("S|1|1 late low 300.00", keys(find({ due() }, { came { qty = "3" } }, on))) -- one finding a line, the first reason
    assert.equal("", keys(find({ due() }, { elsewhere }, on, { sales_order = { { order_id = "S", order_date = "2014-05-01", cancelled = "1" } } })))
    assert.equal("", keys(find({ due() }, { elsewhere }, on, { sales_line = { { order_id = "S", line = "1", qty = "10", net_value = "1000", rejected = "1" } } })))
  end)
  it("computes the penalty and the order's currency", function()
    local r = find({ due() }, { came { actual_gi = "2014-06-14" } }, { penalty_pct = "0.5" },
      { sales_order = { { order_id = "S", order_date = "2014-05-01", currency = "EUR" } },
        fx_rate = { { rate_type = "M", from_cur = "EUR", to_cur = "USD", valid_from = "2014-01-01", rate = "1.25" } } })
    assert.same({ "10", "EUR", "1250.00" }, { r.findings[1].evidence.penalty, r.findings[1].impact.currency, r.findings[1].impact.amount_rc })
  end)
  it("skips what has no date, quantity or price, and says what is missing", function()
    local r = find({ due { sched = "1", promised_date = "", requested_date = "" }, due { sched = "2", qty = "" }, due { sched = "3" } }, { came() },
      nil, { sales_line = { { order_id = "S", line = "1", qty = "10" } } })
    assert.same({ "partial", { no_promised_date = 1, no_qty = 1, no_net_price = 1 }, 1 }, { r.status, r.skipped, r.population })
    r = run("OFU-004", tables({ due { promised_date = "" } }, { came() }), { measure = "requested", event = "pod_date" })
    assert.equal("ok", r.status)
    local bare = { { delivery_id = "D", line = "1", order_id = "S", order_line = "1", qty = "1" } }
    r = run("OFU-004", tables({ { order_id = "S", line = "1", sched = "1", promised_date = "2014-06-06", qty = "1" } }, bare),
      { measure = "requested", overdue = true })
    assert.equal("not_evaluable", r.status)
    local missing = { "sales_schedule.requested_date", "delivery_line.actual_gi" }
    assert.same({ { reason = "late", missing = missing }, { reason = "overdue", missing = missing } }, r.not_run)
  end)
end)
