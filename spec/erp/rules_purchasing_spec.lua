-- PRO-002, PRO-005, PRO-006 and PRO-009 on small tables: both sides of each limit, each reason, what is missing, and the traps.
local helper = require "erp.rules_helper"
local json = require "json"
local keys, row = helper.keys, helper.row

local function run(...)
  local result = helper.run(...)
  helper.explained(result)
  return result
end

local function with(tables, more)
  for name, rows in pairs(more or {}) do tables[name] = rows or nil end
  return tables
end

local EUR = { { rate_type = "M", from_cur = "EUR", to_cur = "USD", valid_from = "2014-01-01", rate = "1.25" },
  { rate_type = "M", from_cur = "EUR", to_cur = "USD", valid_from = "2014-06-01", rate = "2" } }

describe("PRO-002", function()
  local function order(more)
    return row({ po_id = "1", vendor_id = "V", order_date = "2014-05-10", net_value = "5000", currency = "USD", deleted = "0", created_by = "A",
      approved_by = "B", approval = "approved", approved_date = "2014-05-10" }, more)
  end
  local function vendor(more) return row({ vendor_id = "V", country = "US", rating = "3" }, more) end
  local function cert(more)
    return row({ vendor_id = "V", cert_type = "ISO", valid_from = "2014-01-01", valid_to = "2014-12-31", mandatory = "1" }, more)
  end
  local function line(more) return row({ po_id = "1", line = "10", material_id = "M", plant_id = "P", net_value = "5000", deleted = "0" }, more) end
  local function source(more)
    return row({ material_id = "M", plant_id = "P", vendor_id = "V", valid_from = "2014-01-01", valid_to = "2014-12-31", blocked = "0" }, more)
  end
  local function find(more, params)
    return run("PRO-002", with({ purchase_order = { order() }, vendor = { vendor() }, vendor_cert = { cert() }, po_line = { line() },
      source_list = { source() } }, more), params)
  end

  it("is silent where all is in order", function()
    local r = find()
    assert.same({ "", "ok", 1 }, { keys(r), r.status, r.population })
  end)
  it("wants every mandatory certificate on the order date", function()
    local function certs(...) return find { vendor_cert = { ... } } end
    for _, good in ipairs { { valid_to = "2014-05-10" }, { valid_from = "2014-05-10" }, { valid_to = "" }, { mandatory = "0", valid_to = "2014-01-02" } } do
      assert.equal("", keys(certs(cert(good), cert { cert_type = "B" })))
    end
    for _, bad in ipairs { { valid_to = "2014-05-09" }, { valid_from = "2014-05-11" }, { valid_from = "", valid_to = "" } } do
      local r = certs(cert { cert_type = "A", valid_from = "2014-05-10", valid_to = "2014-05-10" }, cert(bad))
      assert.equal("1|cert cert medium 5000.00", keys(r))
      assert.equal(1, #r.findings[1].evidence.certificates)
      assert.equal("ISO", r.findings[1].evidence.certificates[1].cert_type)
    end
    assert.equal("", keys(certs(cert { vendor_id = "W", valid_to = "2014-01-02" })))
    local late = { vendor_cert = { cert { valid_to = "2014-05-07" } } }
    assert.equal("", keys(find(late, { cert_grace_days = 3 })))
    assert.equal("1|cert cert medium 5000.00", keys(find(late, { cert_grace_days = 2 })))
    -- Without a begin in the data, no end is no end.
    assert.equal("", keys(certs { vendor_id = "V", cert_type = "ISO", mandatory = "1" , valid_to = "2015-01-01" }))
  end)
  it("compares rating and country with the parameters", function()
    assert.equal("1|rating rating medium 5000.00", keys(find { vendor = { vendor { rating = "4" } } }))
    assert.equal("1|rating rating medium 5000.00", keys(find({}, { bad_rating = 3 })))
    assert.equal("", keys(find { vendor = { vendor { rating = "" }, vendor { vendor_id = "W", rating = "5" } } }))
    assert.equal("1|country country high 5000.00", keys(find({}, { restricted_countries = { "IR", "US" } })))
    assert.equal("", keys(find({}, { restricted_countries = { "IR" } })))
  end)
  it("looks the vendor up in the source list of the day", function()
    local fires = "1|source_list source_list medium 5000.00"
    local function sources(...) return keys(find { source_list = { ... } }) end
    local other = source { vendor_id = "W" }
    assert.equal(fires, sources(other))
    assert.equal("", sources(other, source()))
    assert.equal("", sources(other, source { valid_to = "2014-05-10" }))
    assert.equal(fires, sources(other, source { valid_to = "2014-05-09" }))
    assert.equal(fires, sources(other, source { valid_from = "2014-05-11" }))
    assert.equal(fires, sources(source { blocked = "1" }))
    assert.equal("", sources(source { blocked = "1" }, source { valid_from = "2014-05-01" })) -- the newest counts
    assert.equal("", sources(source { vendor_id = "W", blocked = "1" })) -- a blocked row lists nobody
    assert.equal("", sources(source { vendor_id = "W", valid_to = "2014-05-09" }))
    assert.equal("", sources(source { vendor_id = "W", plant_id = "Q" }))
    assert.equal("", keys(find { source_list = { other }, po_line = { line { deleted = "1" }, line { line = "20", material_id = "N" } } }))
    local r = find { source_list = { other }, po_line = { line { line = "20" }, line { line = "10", net_value = "1" }, line { line = "30", plant_id = "" } } }
    assert.equal("1|source_list source_list high 10001.00", keys(r))
    assert.same({ 2, "10", "20" }, { r.findings[1].evidence.line_count, r.findings[1].evidence.lines[1].line, r.findings[1].evidence.lines[2].line })
  end)
  it("does not take the buyer for the approver", function()
    assert.equal("1|self_approval self_approval high 5000.00", keys(find { purchase_order = { order { approved_by = "A" } } }))
    assert.equal("", keys(find { purchase_order = { order { approved_by = "" }, order { po_id = "2" } } }))
    -- Approved after the key date: there is no approver yet.
    assert.equal("", keys(find { purchase_order = { order { approved_by = "A", approved_date = "2014-10-01" } } }))
  end)
  it("gives one finding an order and reason, and takes only the checks asked for", function()
    local bad = { purchase_order = { order { approved_by = "A" } }, vendor = { vendor { rating = "5" } } }
    assert.equal("1|self_approval self_approval high 5000.00; 1|rating rating medium 5000.00", keys(find(bad)))
    local r = find(bad, { checks = { "rating" } })
    assert.equal("1|rating rating medium 5000.00", keys(r))
    assert.same({ "PRO-002:1|rating", "control" }, { r.findings[1].overlap_key, r.findings[1].impact.kind })
    assert.equal("ok", find({ source_list = false, vendor_cert = false }, { checks = { "rating" } }).status)
  end)
  it("leaves out deleted orders and those after the key date, and values by the lines", function()
    local bad = { vendor = { vendor { rating = "5" } } }
    bad.purchase_order = { order { deleted = "1" }, order { po_id = "2", order_date = "2014-10-01" } }
    assert.equal("", keys(find(bad)))
    bad.purchase_order = { order { currency = "EUR" }, order { po_id = "2", vendor_id = "" } }
    bad.po_line = { line { net_value = "700" }, line { line = "20", net_value = "9", deleted = "1" } }
    bad.fx_rate = EUR
    local r = find(bad)
    assert.equal("1|rating rating medium 700.00", keys(r))
    assert.same({ "EUR", "1400.00", { no_vendor_id = 1 } }, { r.findings[1].impact.currency, r.findings[1].impact.amount_rc, r.skipped })
    r = find { vendor = { vendor { rating = "5" } }, purchase_order = { order { net_value = "" } }, po_line = { line { po_id = "9" } } }
    assert.same({ "", { no_net_value = 1 } }, { keys(r), r.skipped })
  end)
  it("runs what can run", function()
    local r = run("PRO-002", { purchase_order = { { po_id = "1", vendor_id = "V" } } }, { restricted_countries = { "IR" } })
    assert.equal("not_evaluable", r.status)
    local missing = {}
    for _, n in ipairs(r.not_run) do missing[n.reason] = table.concat(n.missing, " ") end
    assert.same({ cert = "vendor_cert.valid_to", rating = "vendor.rating", country = "vendor.country",
      source_list = "source_list po_line.material_id po_line.plant_id",
      self_approval = "purchase_order.created_by purchase_order.approved_by" }, missing)
    r = run("PRO-002", { purchase_order = { { po_id = "1", vendor_id = "V", net_value = "1" } }, vendor = { { vendor_id = "V", rating = "4" } } })
    assert.same({ "partial", "1|rating rating low 1.00" }, { r.status, keys(r) })
  end)
end)

describe("PRO-005", function()
  local function order(more)
    return row({ po_id = "1", company_id = "C1", vendor_id = "V", doc_type = "NB", order_date = "2014-05-10", currency = "USD", approval = "approved",
      approved_date = "2014-05-12", approved_by = "B", net_value = "5000", sent = "0", sent_date = "2014-01-01", deleted = "0", created_by = "A" }, more)
  end
  local function line(more)
    return row({ po_id = "1", line = "10", qty = "10", price = "500", price_unit = "1", net_value = "5000", deleted = "0" }, more)
  end
  local function receipt(more)
    return row({ gr_id = "G1", fiscal_year = "2014", gr_line = "1", po_id = "1", line = "10", posting_date = "2014-05-11", qty = "4", kind = "receipt",
      reverses = "" }, more)
  end
  local function invoice(more)
    return row({ invoice_id = "I1", fiscal_year = "2014", posting_date = "2014-05-11", doc_date = "2014-05-01", currency = "USD", gross = "3300",
      tax = "300", kind = "invoice", status = "posted" }, more)
  end
  local function item(more) return row({ invoice_id = "I1", fiscal_year = "2014", line = "1", po_id = "1", po_line = "10", amount = "3000" }, more) end
  local function policy(more)
    return row({ company_id = "C1", doc_type = "NB", level = "1", min_amount = "5000", currency = "USD", approver_limit = "20000" }, more)
  end
  -- A row of another order so that every column is provided.
  local spare = receipt { gr_id = "G9", po_id = "9", reverses = "G8", kind = "reversal", qty = "-1" }
  local function find(po, more, params)
    return run("PRO-005", with({ purchase_order = { po }, po_line = { line() }, goods_receipt = { spare }, approval_policy = { policy() } }, more), params)
  end
  local function received(...) return { goods_receipt = { spare, ... } } end

  it("finds what was acted on without approval", function()
    for _, approval in ipairs { "pending", "partial" } do
      local po = order { approval = approval, approved_date = "", approved_by = "" }
      assert.equal("", keys(find(po)))
      local r = find(po, received(receipt()))
      assert.equal("1 unapproved medium 2000.00", keys(r))
      assert.same({ kind = "receipt", date = "2014-05-11", doc = "G1" }, r.findings[1].evidence.first_commitment)
    end
    assert.equal("1 rejected high 2000.00", keys(find(order { approval = "rejected" }, received(receipt()))))
    for _, fine in ipairs { "approved", "not_required" } do
      assert.equal("", keys(find(order { approval = fine, approved_date = "2014-05-11" }, received(receipt()))))
    end
    assert.equal("1 unapproved medium 5000.00", keys(find(order { approval = "pending", sent = "1", sent_date = "" })))
    assert.equal("", keys(find(order { approval = "pending" }, received(receipt { qty = "0" }))))
    -- Without a quantity at all there is still a commitment: the order's value.
    assert.equal("1 unapproved medium 5000.00", keys(find(order { approval = "pending" }, received(receipt { line = "99" }))))
  end)
  it("finds an approval that came after the first commitment", function()
    assert.equal("1 late medium 2000.00", keys(find(order(), received(receipt()))))
    assert.equal("", keys(find(order(), received(receipt { posting_date = "2014-05-12" }))))
    assert.equal("", keys(find(order(), received(receipt { posting_date = "" })))) -- undated: not for late
    assert.equal("1 late medium 5000.00", keys(find(order { sent = "1", sent_date = "2014-05-11" })))
    assert.equal("", keys(find(order { sent = "1", sent_date = "2014-05-12" })))
    -- Only what came before the approval counts.
    assert.equal("1 late medium 2000.00", keys(find(order(), received(receipt(), receipt { gr_id = "G2", posting_date = "2014-05-12", qty = "6" }))))
    -- Approved after the key date: pending at it.
    local r = find(order { approved_date = "2014-10-01" }, received(receipt()))
    assert.equal("1 unapproved medium 2000.00", keys(r))
    assert.is_nil(r.findings[1].evidence.approved_date)
  end)
  it("adds what was invoiced and not received, by line", function()
    local po = order { approval = "pending" }
    local function billed(items, documents, more)
      return keys(find(po, with({ invoice_line = items, invoice = documents or { invoice() } }, more)))
    end
    assert.equal("1 unapproved medium 3000.00", billed({ item() }))
    assert.equal("1 unapproved medium 3000.00", billed({ item() }, nil, received(receipt()))) -- 2,000 received, 1,000 more invoiced
    assert.equal("1 unapproved medium 4000.00", billed({ item() }, nil, received(receipt { qty = "8" })))
    assert.equal("1 unapproved medium 5000.00", billed({ item { po_line = "20" } }, nil, received(receipt()))) -- of another line
    -- A credit memo takes back; what is parked, cancelled or reversed is nothing.
    assert.equal("1 unapproved medium 2500.00", billed({ item(), item { invoice_id = "I2", amount = "-500" } },
      { invoice(), invoice { invoice_id = "I2", kind = "credit_memo" } }))
    for _, none in ipairs { { status = "parked" }, { status = "cancelled" }, { reversed_by = "X" }, { reverses = "X" }, { kind = "down_payment" },
      { kind = "credit_memo" }, { posting_date = "2014-10-01" } } do
      assert.equal("", billed({ item() }, { invoice(none), invoice { invoice_id = "I9" } }), next(none))
    end
    -- Linked at the header, without lines.
    assert.equal("1 unapproved medium 3000.00", billed({ item { invoice_id = "I7", po_id = "7" } }, { invoice { po_id = "1" } }))
    -- In another currency, at the rate of its day.
    assert.equal("1 unapproved medium 3750.00", billed({ item() }, { invoice { currency = "EUR" } }, { fx_rate = EUR }))
  end)
  it("takes a reversed receipt for none", function()
    local po = order { approval = "pending" }
    local undo = receipt { gr_id = "G2", qty = "-4", kind = "reversal", reverses = "G1" }
    assert.equal("", keys(find(po, received(receipt(), undo))))
    assert.equal("1 unapproved medium 500.00", keys(find(po, received(receipt(), undo, receipt { gr_id = "G3", qty = "1" }))))
    assert.equal("1 unapproved medium 1500.00", keys(find(po, received(receipt(), receipt { gr_id = "G2", qty = "-1", kind = "return" }))))
  end)
  it("compares the value with the approver's level", function()
    local two = { approval_policy = { policy(), policy { level = "2", min_amount = "20000", approver_limit = "60000" } },
      po_line = { line { po_id = "7" } } }
    local function value(v) return keys(find(order { net_value = v, approved_date = "2014-05-10" }, two)) end
    assert.equal("", value "19999.99")
    assert.equal("", value "20000")
    assert.equal("", value "60000")
    assert.equal("1 over_limit high 60000.01", value "60000.01")
    two.approval_policy[2].min_amount = "30000" -- a gap: between the limits nobody may approve
    assert.equal("", value "20000")
    assert.equal("1 over_limit high 20000.01", value "20000.01")
    assert.equal("1 over_limit high 29999.00", value "29999")
    assert.equal("", value "30000")
    two.approval_policy[2].approver_limit = nil
    assert.equal("", value "900000")
    assert.equal("", keys(find(order { net_value = "900000", approval = "not_required" }, two)))
  end)
  it("asks for approval from the lowest level of company and type on", function()
    local function pending(more) return row(order { approval = "pending", sent = "1" }, more) end
    local bare = { po_line = { line { po_id = "7" } } }
    assert.equal("1 unapproved medium 5000.00", keys(find(pending(), bare)))
    assert.equal("", keys(find(pending { net_value = "4999.99" }, bare)))
    assert.equal("", keys(find(pending { doc_type = "XX" }, bare)))
    assert.equal("", keys(find(pending { company_id = "C2" }, bare)))
    for _, any in ipairs { { company_id = false }, { doc_type = "" } } do
      local r = find(pending(), with({ approval_policy = { policy(any) } }, bare))
      assert.equal("1 unapproved medium 5000.00", keys(r))
    end
    -- Orders that name no company, or have no types at all.
    assert.equal("1 unapproved medium 5000.00", keys(find(pending { company_id = false }, bare)))
    assert.equal("1 unapproved medium 5000.00", keys(find(pending { doc_type = "" }, bare)))
    assert.equal("", keys(find(pending { doc_type = "" }, with({ purchase_order = { pending { doc_type = "" }, order { po_id = "8" } } }, bare))))
    -- The value in the currency of the company, at the rate of the order date.
    local euro = with({ fx_rate = EUR }, bare)
    assert.equal("", keys(find(pending { currency = "EUR", net_value = "3999.99" }, euro)))
    assert.equal("1 unapproved medium 4000.00", keys(find(pending { currency = "EUR", net_value = "4000" }, euro)))
    local r = find(pending { currency = "GBP" }, bare)
    assert.same({ "", { no_rate = 1 } }, { keys(r), r.skipped })
    -- Without the table, the parameter.
    local none = with({ approval_policy = false }, bare)
    r = find(pending { net_value = "1" }, none)
    assert.same({ "1 unapproved medium 1.00", "partial", "over_limit" }, { keys(r), r.status, r.not_run[1].reason })
    assert.equal("", keys(find(pending { net_value = "999.99" }, none, { min_amount = "1000" })))
    assert.equal("1 unapproved medium 1000.00", keys(find(pending { net_value = "1000" }, none, { min_amount = "1000" })))
  end)
  it("takes the commitments asked for", function()
    local po = order { approval = "pending", sent = "1", sent_date = "2014-05-20" }
    local more = received(receipt())
    assert.equal("receipt", find(po, more).findings[1].evidence.first_commitment.kind)
    assert.equal("receipt", find(row(po, { sent_date = "2014-05-11" }), more).findings[1].evidence.first_commitment.kind) -- the same day
    assert.equal("sent", find(row(po, { sent_date = "2014-05-10" }), more).findings[1].evidence.first_commitment.kind)
    assert.equal("sent", find(po, more, { commitments = { "sent" } }).findings[1].evidence.first_commitment.kind)
    assert.equal("", keys(find(po, more, { commitments = { "invoice" } })))
    assert.equal("", keys(find(po, more, { commitments = {} })))
  end)
  it("says what is missing", function()
    local r = run("PRO-005", { purchase_order = { { po_id = "1", approval = "pending", net_value = "5" } } })
    assert.same({ "not_evaluable", { "goods_receipt", "purchase_order.sent", "invoice_line.po_id", "invoice.po_id" } },
      { r.status, r.not_run[1].missing })
    r = run("PRO-005", { purchase_order = { { po_id = "1", approval = "pending", net_value = "5" } },
      invoice_line = { { invoice_id = "I", line = "1", po_id = "1", amount = "3" } } })
    assert.same({ "partial", "1 unapproved medium 3.00", "late" }, { r.status, keys(r), r.not_run[1].reason })
    assert.equal("", keys(find(order { approval = "pending", deleted = "1" }, received(receipt()))))
  end)
end)

describe("PRO-006", function()
  local function order(po, day, value, more)
    return row({ po_id = po, company_id = "C1", vendor_id = "V", order_date = "2014-05-" .. day, created_by = "A", currency = "USD", net_value = value,
      deleted = "0", approval = "not_required", purch_group = "G1" }, more)
  end
  local function find(orders, params, more) return run("PRO-006", with({ purchase_order = orders }, more), params) end

  it("wants each below the limit and the sum at it", function()
    local r = find { order("1", "01", "5000"), order("2", "03", "5000") }
    assert.equal("1 split high 10000.00", keys(r))
    local e = r.findings[1].evidence
    assert.same({ 2, "10000", "10000", "2014-05-01", "2014-05-03", "2" }, { e.count, e.total, e.limit, e.first_date, e.last_date, e.orders[2].po_id })
    assert.equal("", keys(find { order("1", "01", "5000"), order("2", "03", "4999.9999") }))
    assert.equal("", keys(find { order("1", "01", "10000"), order("2", "03", "5000") }))
    assert.equal("1 split high 10000.00", keys(find { order("1", "01", "9999.99"), order("2", "03", "0.01") }))
    assert.equal("", keys(find { order("1", "01", "9999.99") }))
  end)
  it("has a window of days after the first, and goes on behind it", function()
    assert.equal("1 split high 12000.00", keys(find { order("1", "01", "6000"), order("2", "08", "6000") }))
    assert.equal("", keys(find { order("1", "01", "6000"), order("2", "09", "6000") }))
    assert.equal("1 split high 12000.00", keys(find({ order("1", "01", "6000"), order("2", "09", "6000") }, { window_days = 8 })))
    assert.equal("", keys(find({ order("1", "01", "6000"), order("2", "02", "6000") }, { window_days = 0 })))
    assert.equal("1 split high 12000.00", keys(find({ order("1", "01", "6000"), order("2", "29", "6000") }, { window_days = json.null })))
    assert.equal("2 split high 15000.00", keys(find { order("1", "01", "6000"), order("2", "09", "6000"), order("3", "10", "9000") }))
    assert.equal("1 split high 12000.00; 3 split high 12000.00", keys(find { order("4", "10", "6000"), order("3", "09", "6000"),
      order("2", "08", "6000"), order("1", "01", "6000") }))
    -- Ids are texts: 10 is before 9.
    assert.equal("10 split high 12000.00", keys(find { order("9", "01", "6000"), order("10", "01", "6000") }))
  end)
  it("keeps vendors, buyers and companies apart, and more when asked to", function()
    for _, other in ipairs { { vendor_id = "W" }, { created_by = "B" }, { company_id = "C2" } } do
      assert.equal("", keys(find { order("1", "01", "6000"), order("2", "02", "6000", other) }))
    end
    local two = { order("1", "01", "6000"), order("2", "02", "6000", { purch_group = "G2", created_by = "B" }) }
    assert.equal("1 split high 12000.00", keys(find(two, { group_keys = { "vendor" } })))
    assert.equal("", keys(find(two, { group_keys = { "vendor", "purch_group" } })))
    local lines = { { po_id = "1", line = "20", material_group = "X", net_value = "1000" }, { po_id = "1", line = "10", material_group = "Y", net_value = "5000" },
      { po_id = "2", line = "10", material_group = "Y", net_value = "6000" } }
    assert.equal("1 split high 12000.00", keys(find(two, { group_keys = { "vendor", "material_group" } }, { po_line = lines })))
    lines[3].material_group = "X"
    assert.equal("", keys(find(two, { group_keys = { "vendor", "material_group" } }, { po_line = lines })))
  end)
  it("takes the limit of the policy, in the currency of the company", function()
    local function policy(more) return row({ company_id = "C1", doc_type = "NB", level = "1", min_amount = "5000", currency = "USD" }, more) end
    local two = { order("1", "01", "2500"), order("2", "02", "2500") }
    assert.equal("1 split medium 5000.00", keys(find(two, nil, { approval_policy = { policy() } })))
    assert.equal("", keys(find(two, nil, { approval_policy = { policy { min_amount = "5000.01" } } })))
    assert.equal("", keys(find(two, nil, { approval_policy = { policy { min_amount = "0" }, policy { level = "2", min_amount = "6000" } } })))
    assert.equal("1 split medium 5000.00", keys(find(two, nil, { approval_policy = { policy { min_amount = "0" }, policy { level = "2" } } })))
    assert.equal("", keys(find(two, nil, { approval_policy = { policy { company_id = "C2" } } }))) -- no limit at all
    assert.equal("1 split medium 5000.00", keys(find(two, nil, { approval_policy = { policy { currency = "EUR", min_amount = "4000" } }, fx_rate = EUR })))
    assert.equal("1 split medium 5000.00", keys(find(two, { limit = "5000" })))
    local euros = { order("1", "01", "2000", { currency = "EUR" }), order("2", "02", "2500") }
    local r = find(euros, { limit = "5000" }, { fx_rate = EUR })
    assert.equal("1 split medium 5000.00", keys(r))
    assert.same({ "USD", "2000", "EUR", "2500" }, { r.findings[1].impact.currency, r.findings[1].evidence.orders[1].value,
      r.findings[1].evidence.orders[1].currency, r.findings[1].evidence.orders[1].value_cc })
    r = find(euros, { limit = "5000" })
    assert.same({ "", { no_rate = 1 }, 1 }, { keys(r), r.skipped, r.population })
  end)
  it("can want each to be near the limit", function()
    local two = { order("1", "01", "9000"), order("2", "02", "4000") }
    assert.equal("1 split high 13000.00", keys(find(two, { near_pct = "40" })))
    assert.equal("", keys(find(two, { near_pct = "40.01" })))
  end)
  it("leaves out deleted orders, call-offs, returns and credits", function()
    local function line(more) return row({ po_id = "2", line = "10", net_value = "6000", is_return = "0", contract_id = "" }, more) end
    local spare = line { po_id = "9", contract_id = "K" }
    local two = { order("1", "01", "6000"), order("2", "02", "6000") }
    local function lines(...) return keys(find(two, nil, { po_line = { spare, ... } })) end
    assert.equal("1 split high 12000.00", lines(line()))
    assert.equal("", lines(line { contract_id = "K" }))
    assert.equal("1 split high 12000.00", lines(line { contract_id = "K", net_value = "1000" }, line { line = "20", net_value = "5000" }))
    assert.equal("", lines(line { is_return = "1" }))
    assert.equal("", keys(find { two[1], order("2", "02", "6000", { deleted = "1" }) }))
    assert.equal("1 split high 12000.00", keys(find { two[1], two[2], order("3", "03", "-6000") }))
    assert.equal(2, find({ two[1], two[2], order("3", "03", "0") }).findings[1].evidence.count)
    assert.equal("", keys(find({ two[1], order("2", "02", "6000", { order_date = "2014-10-01" }) }, { window_days = 400 })))
  end)
  it("skips orders without buyer, date or value, and says what is missing", function()
    local r = find { order("1", "01", "6000", { created_by = "" }), order("2", "02", "6000", { order_date = "" }), order("3", "02", ""),
      order("4", "02", "6000", { vendor_id = "" }), order("5", "02", "6000") }
    assert.same({ "", { no_created_by = 1, no_order_date = 1, no_net_value = 1, no_vendor_id = 1 }, 1, "partial" },
      { keys(r), r.skipped, r.population, r.status })
    r = run("PRO-006", { purchase_order = { { po_id = "1", vendor_id = "V", order_date = "2014-05-01" } } })
    assert.same({ "not_evaluable", { "po_line.net_value", "purchase_order.net_value", "purchase_order.created_by" } },
      { r.status, r.not_run[1].missing })
    r = run("PRO-006", { purchase_order = { { po_id = "1", vendor_id = "V", order_date = "2014-05-01", net_value = "1" } } }, { group_keys = { "vendor", "purch_group" } })
    assert.same({ "purchase_order.purch_group" }, r.not_run[1].missing)
  end)
end)

describe("PRO-009", function()
  local function order(more)
    return row({ po_id = "1", company_id = "C1", vendor_id = "V", order_date = "2014-05-10", currency = "USD", deleted = "0" }, more)
  end
  local function line(more)
    return row({ po_id = "1", line = "10", material_id = "M", plant_id = "P", qty = "100", uom = "EA", price = "21", price_unit = "1", item_cat = "standard",
      free = "0", is_return = "0", est_price = "0", deleted = "0" }, more)
  end
  local function listed(more)
    return row({ vendor_id = "V", material_id = "M", plant_id = "", valid_from = "2014-01-01", valid_to = "", price = "20", price_unit = "1", uom = "EA",
      currency = "USD" }, more)
  end
  local spare = listed { vendor_id = "Z", plant_id = "Z", valid_to = "2014-12-31" }
  local function find(l, more, params)
    return run("PRO-009", with({ purchase_order = { order() }, po_line = { l }, vendor_price = { spare, listed() } }, more), params)
  end

  it("wants more than the percentage and more than the amount", function()
    assert.equal("", keys(find(line()))) -- 5 % exactly, 100 exactly
    assert.equal("", keys(find(line { qty = "1000" }))) -- 5 % exactly
    local r = find(line { price = "21.01" })
    assert.equal("1|10 price_over low 101.00", keys(r))
    local e = r.findings[1].evidence
    assert.same({ "21.01", "20", "vendor_price", "5.05", "100", "PO:1:10", "cash" }, { e.unit_price, e.reference, e.reference_kind, e.pct, e.base_qty,
      r.findings[1].overlap_key, r.findings[1].impact.kind })
    assert.equal("", keys(find(line { price = "30", qty = "10" }))) -- 100 exactly
    assert.equal("1|10 price_over low 100.00", keys(find(line { price = "30.0001", qty = "10" })))
    assert.equal("1|10 price_over low 50.00", keys(find(line { price = "20.5" }, nil, { pct = "2", abs = "49" })))
    assert.equal("1|10 price_over low 1.00", keys(find(line { price = "20.01" }, nil, { pct = "0", abs = "0" })))
    -- A limit that is NULL is inactive.
    assert.equal("1|10 price_over low 100.00", keys(find(line(), nil, { pct = json.null, abs = "99" })))
    assert.equal("1|10 price_over low 10.10", keys(find(line { price = "21.01", qty = "10" }, nil, { abs = json.null })))
    assert.equal("", keys(find(line { price = "20" }, nil, { pct = "0", abs = "0" })))
  end)
  it("has a direction", function()
    local low = line { price = "10" }
    assert.equal("", keys(find(low)))
    assert.equal("1|10 price_under medium -1000.00", keys(find(low, nil, { direction = "under" })))
    assert.equal("1|10 price_under medium -1000.00", keys(find(low, nil, { direction = "both" })))
    assert.equal("", keys(find(line { price = "30" }, nil, { direction = "under" })))
    assert.equal("1|10 price_over medium 1000.00", keys(find(line { price = "30" }, nil, { direction = "both" })))
    assert.equal("", keys(find(line { price = "19" }, nil, { direction = "under" }))) -- 5 % exactly
  end)
  it("leaves out what has no price of its own", function()
    for _, other in ipairs { { free = "1" }, { is_return = "1" }, { est_price = "1" }, { deleted = "1" }, { item_cat = "consignment" }, { price = "0" } } do
      local r = find(line(row({ price = "99" }, other)))
      assert.same({ "", 0 }, { keys(r), r.population }, next(other))
    end
    assert.equal("", keys(find(line { price = "99" }, { purchase_order = { order { deleted = "1" } } })))
    assert.equal("", keys(find(line { price = "99" }, { purchase_order = { order { order_date = "2014-10-01" } } })))
  end)
  it("compares base units, whatever price unit and units are", function()
    local units = { material = { { material_id = "M", base_uom = "EA" } },
      uom_conv = { { material_id = "M", from_uom = "BOX", to_uom = "EA", num = "10", den = "1" } } }
    local function at(l, price) return keys(find(l, with({ vendor_price = { spare, price } }, units))) end
    assert.equal("1|10 price_over medium 1000.00", at(line { price = "3000", price_unit = "100" }, listed()))
    assert.equal("1|10 price_over high 10000.00", at(line { price = "300", uom = "BOX" }, listed()))
    assert.equal("1|10 price_over high 10000.00", at(line { price = "30", uom = "BOX", price_uom = "EA" }, listed()))
    assert.equal("1|10 price_over medium 1000.00", at(line { price = "30" }, listed { price = "200", uom = "BOX" }))
    assert.equal("1|10 price_over medium 1000.00", at(line { price = "30" }, listed { price = "2000", price_unit = "100" }))
    assert.equal("1|10 price_over medium 1000.00", at(line { price = "30", uom = "" }, listed { uom = "" }))
    local r = find(line { uom = "KG" }, units)
    assert.same({ { no_uom = 1 }, 0 }, { r.skipped, r.population })
    r = find(line { price = "99" }, with({ vendor_price = { spare, listed { uom = "KG" } } }, units))
    assert.same({ "", { no_uom = 1 } }, { keys(r), r.skipped })
  end)
  it("converts into the currency of the company at the order date", function()
    local r = find(line { price = "20" }, { purchase_order = { order { currency = "EUR" } }, fx_rate = EUR })
    assert.equal("1|10 price_over low 500.00", keys(r)) -- 25 against 20 dollars
    assert.same({ "1.25", "USD", "EUR" }, { r.findings[1].evidence.rate, r.findings[1].impact.currency, r.findings[1].evidence.price_currency })
    assert.equal("", keys(find(line { price = "25" }, { vendor_price = { spare, listed { currency = "EUR" } }, fx_rate = EUR })))
    assert.equal("1|10 price_over low 501.00", keys(find(line { price = "30.01" }, { vendor_price = { spare, listed { currency = "EUR" } }, fx_rate = EUR })))
    for _, lacking in ipairs { { purchase_order = { order { currency = "GBP" } } }, { vendor_price = { spare, listed { currency = "GBP" } } } } do
      r = find(line { price = "99" }, lacking)
      assert.same({ "", { no_rate = 1 }, 0 }, { keys(r), r.skipped, r.population })
    end
    -- Another company has its own currency.
    r = find(line { price = "30" }, { company = { { company_id = "C1", currency = "EUR" } }, vendor_price = { spare, listed() }, fx_rate = EUR })
    assert.same({ "EUR", "800.00" }, { r.findings[1].impact.currency, r.findings[1].impact.amount })
  end)
  it("takes contract before price list, plant before none, and the newest that is valid", function()
    local contract = { contract_id = "K", line = "1", price = "10", price_unit = "1", uom = "EA", currency = "USD" }
    local off = line { price = "21", contract_id = "K", contract_line = "1" }
    assert.equal("1|10 price_over medium 1100.00", keys(find(off, { contract = { contract } })))
    assert.equal("contract", find(off, { contract = { contract } }).findings[1].evidence.reference_kind)
    assert.equal("", keys(find(off, { contract = { row(contract, { line = "2" }) } })))
    assert.equal("", keys(find(off, { contract = { row(contract, { price = "" }), row(contract, { line = "2" }) } })))
    local function prices(...) return keys(find(line { price = "30" }, { vendor_price = { spare, ... } })) end
    assert.equal("1|10 price_over medium 1500.00", prices(listed(), listed { plant_id = "P", price = "15" }))
    assert.equal("1|10 price_over medium 1000.00", prices(listed(), listed { plant_id = "Q", price = "15" }))
    assert.equal("1|10 price_over medium 1500.00", prices(listed(), listed { valid_from = "2014-05-10", price = "15" }))
    assert.equal("1|10 price_over medium 1000.00", prices(listed(), listed { valid_from = "2014-05-11", price = "15" }))
    assert.equal("1|10 price_over medium 1500.00", prices(listed { valid_to = "2014-05-09" }, listed { plant_id = "P", valid_to = "2014-05-10", price = "15" }))
    assert.equal("", prices(listed { valid_to = "2014-05-09" }))
  end)
  it("takes the mean of the last lines of other orders", function()
    local function past(...)
      local orders, lines = { order { po_id = "X", order_date = "2014-05-10" } }, { line { po_id = "X", price = "40" } }
      for i, price in ipairs { ... } do
        orders[i + 1] = order { po_id = "H" .. i, order_date = ("2014-04-%02d"):format(i) }
        lines[i + 1] = line { po_id = "H" .. i, price = price }
      end
      return { purchase_order = orders, po_line = lines, vendor_price = { spare } }
    end
    local function history(params, ...) return run("PRO-009", past(...), params) end
    local r = history(nil, "20", "20", "20")
    assert.equal("X|10 price_over medium 2000.00", keys(r))
    assert.same({ "history", 1, { no_reference = 3 } }, { r.findings[1].evidence.reference_kind, r.population, r.skipped })
    assert.equal("", keys(history(nil, "20", "20")))
    assert.equal("X|10 price_over medium 2000.00", keys(history({ min_hist = 2 }, "20", "20")))
    assert.equal("X|10 price_over medium 1666.67", keys(history({ min_hist = 3 }, "20", "25", "25"))) -- mean 23.333333
    -- Only the last k; the oldest is dear.
    assert.equal("X|10 price_over medium 2000.00", keys(history(nil, "900", "20", "20", "20", "20", "20")))
    assert.equal("X|10 price_over medium 1000.00", keys(history({ k = 3 }, "90", "30", "30", "30")))
    -- Lines without price or of the order itself are no history.
    local t = past("20", "20", "0")
    assert.equal("", keys(run("PRO-009", t)))
    t = past("20", "20")
    t.po_line[4] = line { po_id = "X", line = "05", price = "20" }
    assert.equal("", keys(run("PRO-009", t)))
    t = past("20", "20", "20")
    t.po_line[2].est_price = "1"
    assert.equal("", keys(run("PRO-009", t)))
  end)
  it("takes the cost when there is nothing else", function()
    local function cost(more)
      return row({ material_id = "M", plant_id = "P", unit_cost = "2000", price_unit = "100", currency = "USD" }, more)
    end
    local function costs(l, ...) return find(l, { vendor_price = { spare }, material_plant = { ... } }) end
    local r = costs(line { price = "30" }, cost())
    assert.same({ "1|10 price_over medium 1000.00", "unit_cost" }, { keys(r), r.findings[1].evidence.reference_kind })
    assert.equal("1|10 price_over medium 1000.00", keys(costs(line { price = "30", plant_id = "" }, cost())))
    assert.same({ no_reference = 1 }, costs(line { price = "30", plant_id = "" }, cost(), cost { plant_id = "Q" }).skipped)
    assert.same({ no_reference = 1 }, costs(line { price = "30" }, cost { plant_id = "Q" }).skipped)
    assert.equal("1|10 price_over medium 3000.00", keys(costs(line { price = "30" }, cost { unit_cost = "0" }))) -- a cost of 0 is a value
    assert.same({ no_reference = 1 }, costs(line { price = "30" }, cost { unit_cost = "" }, cost { plant_id = "Q" }).skipped)
  end)
  it("skips lines without what it needs, and says what is missing", function()
    local r = find(nil, { purchase_order = { order(), order { po_id = "2", vendor_id = "" }, order { po_id = "3", order_date = "" } },
      po_line = { line { material_id = "" }, line { line = "20", qty = "" }, line { line = "30", price = "" }, line { po_id = "2" }, line { po_id = "3" },
        line { line = "40" } } })
    assert.same({ { no_material_id = 1, no_qty = 1, no_price = 1, no_vendor_id = 1, no_order_date = 1 }, 1 }, { r.skipped, r.population })
    r = run("PRO-009", { purchase_order = { { po_id = "1", vendor_id = "V" } }, po_line = { { po_id = "1", line = "1" } } })
    assert.same({ "not_evaluable", { "purchase_order.order_date", "po_line.material_id", "po_line.qty", "po_line.price" } },
      { r.status, r.not_run[1].missing })
  end)
end)
