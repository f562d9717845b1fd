local json = require "json"
local report = require "erp.report"
local table_view = require "erp.table_view"

local function finding(rule_id, key, severity, amount, more)
  local f = { rule_id = rule_id, finding_key = key, reason = "r", severity = severity, overlap_key = rule_id .. ":" .. key,
    impact = { amount = amount, currency = "USD", amount_rc = amount, kind = "cash" }, evidence = {},
    explanation = "e", rank = amount:gsub("^%-", "") }
  for name, value in pairs(more or {}) do f[name] = value end
  return f
end

local function rule(id, items, more)
  local r = { rule_id = id, title = "Title of " .. id, status = "ok", params = { min_impact = "0" }, input_hash = ("0"):rep(64),
    not_run = {}, population = 10, skipped = {}, items = items }
  for name, value in pairs(more or {}) do r[name] = value end
  return r
end

local function build(rules, more)
  local input = { project_id = "p", run_id = "exec_1_0", as_of = "2025-06-30", currency = "USD",
    files = { { name = "invoice.csv", rows = 3, sha256 = ("a"):rep(64) } }, mapping_sha256 = ("b"):rep(64), rules = rules }
  for name, value in pairs(more or {}) do input[name] = value end
  return report.build(input)
end

describe("the report", function()
  it("has its keys in the order of 2.8", function()
    local text = json.encode(build({ rule("PRO-001", { finding("PRO-001", "1", "low", "5.00") }) }))
    local order = { '"report_version"', '"project_id"', '"run_id"', '"as_of"', '"report_currency"', '"data"', '"tables"', '"coverage"',
      '"mapping_sha256"', '"summary"', '"by_category"', '"financial"', '"procurement"', '"inventory"', '"order_fulfillment"',
      '"production"', '"invoice_matching"', '"total"', '"top"', '"categories"', '"business_impact"', '"cash"', '"exposure"', '"narrative"' }
    local at = 0
    for _, key in ipairs(order) do
      local found = text:find(key .. ":", at + 1, true)
      assert.is_number(found, key)
      at = found
    end
    assert.matches('{"rule_id":"PRO%-001","title":"Title of PRO%-001","status":"ok","params":{"min_impact":"0"},"input_hash":"0+","findings":%[{"rule_id"', text)
    assert.matches('"narrative":null}$', text)
  end)

  it("is the same bytes for the same rules in any order", function()
    local a = rule("PRO-001", { finding("PRO-001", "1", "low", "5.00"), finding("PRO-001", "2", "low", "4.00") })
    local b = rule("INV-001", { finding("INV-001", "M|P", "high", "50.00", { evidence = { plant_id = "P", z = 1, b = "2" } }) })
    assert.equal(json.encode(build { a, b }), json.encode(build { b, a }))
  end)

  it("names all six categories and every rule, evaluable or not", function()
    local body = build { rule("IMT-007", {}, { status = "not_evaluable", not_run = { { reason = "exact", missing = { "invoice.reference" } } } }) }
    assert.equal(6, #body.categories)
    assert.equal("IMT-007", body.categories[6].rules[1].rule_id)
    assert.same({ reason = "exact", missing = { "invoice.reference" } }, body.data.coverage[1].not_run[1])
    assert.equal("[]", json.encode(body.categories[1].rules))
  end)

  it("sums each kind apart, what overlaps once, with the largest amount", function()
    local overlap = { overlap_key = "PO:1:10" }
    local body = build {
      rule("PRO-001", { finding("PRO-001", "1", "low", "700.10", overlap), finding("PRO-001", "2", "low", "0.05") }),
      rule("PRO-009", { finding("PRO-009", "1", "low", "900.00", overlap),
        finding("PRO-009", "2", "low", "1.00", { overlap_key = "PO:1:10", impact = { amount = "1.00", currency = "USD", amount_rc = "1.00", kind = "control" } }) }),
    }
    assert.same({ amount = "900.05", currency = "USD", findings = 2, deduplicated_from = 3 }, body.business_impact.cash)
    assert.same({ amount = "1.00", currency = "USD", findings = 1, deduplicated_from = 1 }, body.business_impact.control)
    assert.equal("0.00", body.business_impact.revenue.amount)
    assert.equal(4, body.summary.by_category.procurement.count)
    assert.equal("900.05", body.summary.total.impact_by_kind.cash)
  end)

  it("never adds composites, nor amounts without a rate", function()
    local body = build {
      rule("IMT-001", { finding("IMT-001", "1", "low", "5.00") }),
      rule("PRO-001", { finding("PRO-001", "1", "medium", "7.00", { rank = json.null,
        impact = { amount = "7.00", currency = "EUR", amount_rc = json.null, kind = "cash" } }) }),
    }
    assert.equal("0.00", body.business_impact.cash.amount)
    assert.equal(2, body.summary.total.count)
    assert.matches('"amount_rc":null', json.encode(body))
  end)

  it("ranks the top by severity, unrounded amount, rule and key", function()
    local body = build {
      rule("INV-001", { finding("INV-001", "b", "high", "10.00", { rank = "10.004" }), finding("INV-001", "a", "high", "10.00", { rank = "10.004" }) }),
      rule("IMT-007", { finding("IMT-007", "x", "high", "10.00", { rank = "10.0049" }), finding("IMT-007", "y", "critical", "1.00"),
        finding("IMT-007", "z", "high", "99.00", { rank = json.null }) }),
    }
    local got = {}
    for i, top in ipairs(body.summary.top) do got[i] = top.finding_key end
    assert.same({ "y", "x", "a", "b", "z" }, got)
  end)

  it("lists ten in the top and ten keys a dimension", function()
    local items = {}
    for i = 1, 14 do
      items[i] = finding("PRO-001", string.format("%02d", i), "low", (100 - i) .. ".00", { evidence = { vendor_id = "V" .. i, created_by = "U" } })
    end
    local body = build { rule("PRO-001", items) }
    assert.equal(10, #body.summary.top)
    local vendors, users = {}, {}
    for _, c in ipairs(body.business_impact.concentration) do
      if c.dimension == "vendor" then vendors[#vendors + 1] = c.key end
      if c.dimension == "user" then users[#users + 1] = c.amount_by_kind.cash end
    end
    assert.equal(10, #vendors)
    assert.equal("V1", vendors[1])
    assert.same({ "1295.00" }, users)
  end)

  it("tells the trend by rule and key, and null without a previous run", function()
    local first = build { rule("PRO-001", { finding("PRO-001", "1", "low", "5.00"), finding("PRO-001", "2", "low", "5.00") }) }
    assert.same({ new = json.null, resolved = json.null, unchanged = json.null }, first.business_impact.trend_vs_previous_run)
    local previous = assert(json.decode(json.encode(first)))
    local body = build({ rule("PRO-001", { finding("PRO-001", "2", "high", "9.00"), finding("PRO-001", "3", "low", "5.00") }),
      rule("INV-001", { finding("INV-001", "1", "low", "5.00") }) }, { previous = previous })
    assert.same({ new = 2, resolved = 1, unchanged = 1 }, body.business_impact.trend_vs_previous_run)
  end)

  it("writes amounts of a currency without decimals without them", function()
    local body = build({ rule("PRO-001", { finding("PRO-001", "1", "low", "500") }) }, { currency = "JPY" })
    assert.equal("500", body.business_impact.cash.amount)
    assert.equal("0", body.business_impact.cost.amount)
  end)
end)

describe("the table", function()
  local function view(rules, more)
    local result = { body = build(rules), as_of = "2025-06-30", rules = rules, rows = 3, mapping = "identity",
      tables = { { name = "invoice.csv", rows = 3, rejected = 0, duplicates = 0, errors = {} } } }
    for name, value in pairs(more or {}) do result[name] = value end
    return table_view.render(result)
  end

  it("shows categories, the worst with their explanation, and what was not evaluated", function()
    local text = view {
      rule("PRO-001", { finding("PRO-001", "47001", "high", "12345.50", { explanation = "vendor V1 is blocked" }) }),
      rule("IMT-007", {}, { status = "not_evaluable", not_run = { { reason = "exact", missing = { "invoice.reference", "invoice.gross" } } } }),
    }
    assert.matches("Procurement +1 +0 +1 +0 +0 +cash 12,345.50", text)
    assert.matches("1%. high +12,345.50 USD cash +PRO%-001 Title of PRO%-001\n +47001: vendor V1 is blocked", text)
    assert.matches("IMT%-007 not_evaluable +Title of IMT%-007: missing invoice.reference, invoice.gross", text)
  end)

  it("names the line of a bad cell", function()
    local text = view({ rule("PRO-001", {}) }, { tables = { { name = "invoice.csv", rows = 3, rejected = 1, duplicates = 2,
      errors = { { file = "invoice.csv", line = 17, column = "gross", code = "bad_number", message = "'1,2' is no number" } } } } })
    assert.matches("invoice.csv:17 gross: '1,2' is no number", text)
    assert.matches("invoice.csv: 2 duplicate rows removed", text)
  end)

  it("does not let a cell of the data write to the terminal", function()
    local text = view { rule("PRO-001", { finding("PRO-001", "47\27[2J", "high", "1.00", { explanation = "vendor V\nAll  0\194\155m" }) }) }
    assert.is_truthy(text:find("47\\x1B[2J: vendor V\\x0AAll  0\\x9Bm\n", 1, true))
  end)

  it("groups thousands", function()
    assert.equal("-1,234,567.80", table_view.money "-1234567.80")
    assert.equal("999", table_view.money "999")
    assert.equal("1,000", table_view.money "1000")
  end)
end)
