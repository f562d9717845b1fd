-- IMT-007, PRO-001, INV-001 and PRD-005 on small tables: what fires, and each trap of their FP lines that must not.
local helper = require "erp.rules_helper"
local run, keys, explained = helper.run, helper.keys, helper.explained

describe("the rules", function()
  describe("IMT-007", function()
    local function invoice(id, more)
      local row = { invoice_id = id, fiscal_year = "2014", vendor_id = "V1", reference = "R-1", doc_date = "2014-05-01", posting_date = "2014-05-02",
        entry_date = "2014-05-02", currency = "USD", gross = "1200.50", tax = "0", kind = "invoice", status = "posted", reversed_by = "", reverses = "",
        due_date = "2014-06-01" }
      for k, v in pairs(more or {}) do row[k] = v end
      for k, v in pairs(row) do if v == "" then row[k] = nil end end
      return row
    end
    local function find(...) return (run("IMT-007", { invoice = { ... } })) end

    it("finds the same invoice under another number and spelling", function()
      local r = find(invoice("1"), invoice("2", { reference = " r/1", entry_date = "2014-05-20", status = "paid" }),
        invoice("3", { reference = "0R1", entry_date = "2014-05-19", status = "paid" }), invoice("4", { reference = "R-2" }))
      assert.equal("1|2014 exact high 2401.00", keys(r))
      local f = r.findings[1]
      assert.same({ "cash", "INV:1:2014", 3, 2 }, { f.impact.kind, f.overlap_key, f.evidence.count, f.evidence.paid })
      assert.same({ "1", "3", "2" }, { f.evidence.invoices[1].invoice_id, f.evidence.invoices[2].invoice_id, f.evidence.invoices[3].invoice_id })
      assert.same({ "ok", 4 }, { r.status, r.population })
      explained(r)
    end)
    it("keeps vendor, currency, date, amount and company apart", function()
      for _, other in ipairs { { vendor_id = "V2" }, { currency = "EUR" }, { doc_date = "2014-05-02" }, { gross = "1200.51" }, { company_id = "C2" } } do
        assert.equal("", keys(find(invoice("1"), invoice("2", other))))
      end
      assert.equal("1|2014 exact medium 1200.50", keys((run("IMT-007",
        { invoice = { invoice("1"), invoice("2", { company_id = "C2" }) } }, { scope = "group" }))))
    end)
    it("takes no documents that do not count", function()
      for _, other in ipairs { { status = "parked" }, { status = "cancelled" }, { reversed_by = "9" }, { kind = "credit_memo", gross = "-1200.50" },
        { kind = "down_payment" }, { gross = "0" }, { posting_date = "2014-10-01" } } do
        assert.equal("", keys(find(invoice("1"), invoice("2", other))), next(other))
      end
      assert.equal("1|2014 exact medium 1200.50", keys((run("IMT-007",
        { invoice = { invoice("1"), invoice("2", { status = "parked" }) } }, { include_parked = true }))))
      assert.equal("", keys((run("IMT-007", { invoice = { invoice("1"), invoice("2") } }, { min_gross = "1200.51" }))))
    end)
    it("counts a reversal that only the reversing document knows", function()
      local reversal = invoice("9", { reverses = "2", gross = "-1200.50", kind = "credit_memo" })
      assert.equal("", keys(find(invoice("1"), invoice("2"), reversal)))
      -- The number was used in another year too: that document stands.
      assert.equal("1|2014 exact medium 1200.50", keys(find(invoice("1"), invoice("2", { fiscal_year = "2013" }), invoice("2", { reference = "X" }), reversal)))
      -- Reversed after the key date: open at D.
      reversal.posting_date = "2014-10-05"
      assert.equal("1|2014 exact medium 1200.50", keys(find(invoice("1"), invoice("2", { reversed_by = "9" }), reversal)))
    end)
    it("nets a credit memo with one invoice", function()
      local memo = invoice("7", { kind = "credit_memo", gross = "-1200.50", doc_date = "2014-05-10", entry_date = "2014-05-10" })
      assert.equal("", keys(find(invoice("1"), invoice("2", { entry_date = "2014-05-20" }), memo)))
      assert.equal("2|2014 exact medium 1200.50", keys(find(invoice("1"), invoice("2", { entry_date = "2014-05-20" }),
        invoice("3", { entry_date = "2014-05-21" }), memo)))
      -- One that came on the same day is the one meant.
      assert.equal("1|2014 exact medium 1200.50", keys(find(invoice("1"), invoice("2", { entry_date = "2014-05-10" }),
        invoice("3", { entry_date = "2014-05-21" }), memo)))
      memo.gross = "-1200.49"
      assert.equal("1|2014 exact medium 1200.50", keys(find(invoice("1"), invoice("2"), memo)))
    end)
    it("takes instalments entered together for one invoice", function()
      assert.equal("", keys(find(invoice("1"), invoice("2", { due_date = "2014-07-01" }), invoice("3", { due_date = "2014-08-01" }))))
      assert.equal("1|2014 exact medium 1200.50", keys(find(invoice("1"), invoice("2", { due_date = "2014-07-01", entry_date = "2014-05-09" }))))
    end)
    it("groups on the rest without a reference, one level lower and without floor", function()
      local paid = { reference = "---", status = "paid" }
      local r = find(invoice("1", paid), invoice("2", paid))
      assert.equal("1|2014 no_reference low 1200.50", keys(r))
      explained(r)
      local no_column = {}
      for i = 1, 2 do
        no_column[i] = invoice(tostring(i))
        no_column[i].reference = nil
      end
      r = run("IMT-007", { invoice = no_column })
      assert.equal("1|2014 no_reference low 1200.50", keys(r))
      assert.same({ "partial", { { reason = "exact", missing = { "invoice.reference" } } } }, { r.status, r.not_run })
    end)
    it("skips and counts invoices without what the rule needs", function()
      local r = find(invoice("1"), invoice("2"), invoice("3", { doc_date = "", posting_date = "2014-05-02" }), invoice("4", { vendor_id = "" }))
      assert.equal("1|2014 exact medium 1200.50", keys(r))
      assert.same({ "partial", { no_doc_date = 1, no_vendor_id = 1 }, 2 }, { r.status, r.skipped, r.population })
    end)
  end)

  describe("PRO-001", function()
    local function order(more)
      local row = { po_id = "1", vendor_id = "V1", order_date = "2014-05-01", net_value = "5000", currency = "USD", deleted = "0", created_by = "U1" }
      for k, v in pairs(more or {}) do row[k] = v end
      for k, v in pairs(row) do if v == "" then row[k] = nil end end
      return row
    end
    -- A second vendor so that every column is provided.
    local full = { vendor_id = "V9", status = "active", blocked_from = "2010-01-01", approved_from = "2000-01-01", approved_to = "2030-01-01",
      role_supplier = "1", one_time = "0" }
    local function find(po, vendor, params, more)
      local v = { vendor_id = "V1", status = "active", role_supplier = "1" }
      for k, x in pairs(vendor or {}) do v[k] = x end
      local tables = { purchase_order = { po }, vendor = { v, full } }
      for k, x in pairs(more or {}) do tables[k] = x end
      local r = run("PRO-001", tables, params)
      explained(r)
      return r
    end

    it("names the first reason that holds on the order date", function()
      assert.equal("", keys(find(order())))
      assert.equal("1 unknown medium 5000.00", keys(find(order { vendor_id = "V2" })))
      assert.equal("1 deleted medium 5000.00", keys(find(order(), { status = "deleted", blocked_from = "2014-05-01", role_supplier = "0" })))
      assert.equal("1 blocked high 50000.00", keys(find(order { net_value = "50000" }, { status = "blocked", blocked_from = "2014-04-30" })))
      assert.equal("1 current_status medium 50000.00", keys(find(order { net_value = "50000" }, { status = "blocked" })))
      assert.equal("1 not_approved medium 5000.00", keys(find(order(), { approved_from = "2014-05-02" })))
      assert.equal("1 not_approved medium 5000.00", keys(find(order(), { approved_to = "2014-04-30" })))
      assert.equal("1 role medium 5000.00", keys(find(order(), { role_supplier = "0" })))
      assert.equal("1 one_time medium 5000.00", keys(find(order(), { one_time = "1" })))
    end)
    it("lets pass what was in order then", function()
      assert.equal("", keys(find(order(), { status = "blocked", blocked_from = "2014-05-02" })))
      assert.equal("", keys(find(order(), { status = "blocked", blocked_from = "2014-10-01" }))) -- after the key date
      assert.equal("", keys(find(order(), { approved_from = "2014-05-01", approved_to = "2014-05-01" })))
      assert.equal("", keys(find(order { net_value = "1000" }, { one_time = "1" }))) -- the limit itself is allowed
      assert.equal("1 one_time medium 1000.00", keys(find(order { net_value = "1000" }, { one_time = "1" }, { one_time_limit = "999.99" })))
      assert.equal("", keys(find(order { deleted = "1", vendor_id = "V2" })))
      assert.equal("", keys(find(order { order_date = "2014-10-01", vendor_id = "V2" })))
    end)
    it("takes the value of the lines, else the header's", function()
      local lines = { { po_id = "1", line = "10", net_value = "1200", qty = "10", price = "120", deleted = "0" },
        { po_id = "1", line = "20", net_value = "900", qty = "1", price = "900", deleted = "1" } }
      local more = { po_line = lines, goods_receipt = { { gr_id = "G", gr_line = "1", po_id = "1", line = "10", qty = "4", posting_date = "2014-06-01" } },
        invoice = { { invoice_id = "I", gross = "700", tax = "100", status = "paid", posting_date = "2014-06-01" } },
        invoice_line = { { invoice_id = "I", line = "1", po_id = "1", po_line = "10", amount = "600", qty = "5" } } }
      local r = find(order { vendor_id = "V2" }, nil, nil, more)
      assert.equal("1 unknown medium 1200.00", keys(r))
      assert.same({ "480", "600" }, { r.findings[1].evidence.received_value, r.findings[1].evidence.invoiced_value })
      lines[1].net_value = nil
      assert.equal("1 unknown medium 5000.00", keys(find(order { vendor_id = "V2" }, nil, nil, { po_line = lines })))
    end)
    it("rates in the report's currency and gives the order's", function()
      local r = find(order { vendor_id = "V2", currency = "JPY", net_value = "2000000" }, nil, nil,
        { fx_rate = { { rate_type = "M", from_cur = "JPY", to_cur = "USD", valid_from = "2014-01-01", rate = "0.0098765" },
          { rate_type = "M", from_cur = "JPY", to_cur = "USD", valid_from = "2014-10-01", rate = "1" } } })
      assert.same({ "2000000", "JPY", "19753.00", "high" }, { r.findings[1].impact.amount, r.findings[1].impact.currency,
        r.findings[1].impact.amount_rc, r.findings[1].severity })
      r = find(order { vendor_id = "V2", currency = "JPY" })
      assert.equal("medium", r.findings[1].severity)
    end)
    it("runs what can run", function()
      local r = run("PRO-001", { purchase_order = { order { vendor_id = "V2" } } })
      assert.equal("not_evaluable", r.status)
      assert.equal(7, #r.not_run)
      r = run("PRO-001", { purchase_order = { order() }, vendor = { { vendor_id = "V1", status = "blocked" } } })
      assert.equal("partial", r.status)
      assert.equal("1 current_status medium 5000.00", keys(r))
    end)
  end)

  describe("INV-001", function()
    local function tables(more)
      local t = {
        stock = { { material_id = "M", plant_id = "P", sloc = "1", special = "own", stock_type = "unrestricted", qty = "0" },
          { material_id = "M", plant_id = "P", sloc = "1", special = "own", stock_type = "quality", qty = "7" } },
        material_plant = { { material_id = "M", plant_id = "P", reorder_point = "0", unit_cost = "2.5", price_unit = "1", currency = "USD" } },
        sales_order = { { order_id = "S", order_date = "2014-09-01", currency = "USD", cancelled = "0" } },
        sales_line = { { order_id = "S", line = "1", material_id = "M", plant_id = "P", qty = "100", net_value = "1000", rejected = "0" } },
        sales_schedule = { { order_id = "S", line = "1", sched = "1", qty = "40", requested_date = "2014-10-05" },
          { order_id = "S", line = "1", sched = "2", qty = "60", requested_date = "2014-10-31" } },
        delivery_line = { { delivery_id = "D", line = "1", order_id = "S", order_line = "1", qty = "10", actual_gi = "2014-09-20", issued = "1" } },
      }
      for k, v in pairs(more or {}) do t[k] = v or nil end
      return t
    end
    local function find(more, params, opts)
      local t = tables(more)
      for k, v in pairs(more or {}) do if v == false then t[k] = nil end end
      local r = run("INV-001", t, params, opts)
      explained(r)
      return r
    end
    local no_sales = { sales_schedule = false }
    local function without_sales(more)
      for k, v in pairs(no_sales) do if more[k] == nil then more[k] = v end end
      return more
    end

    it("values the open demand inside the horizon", function()
      local r = find()
      assert.equal("M|P stock_out medium 300.00", keys(r)) -- 40 - 10 delivered, at 10 each; the second schedule is a day too late
      local e = r.findings[1].evidence
      assert.same({ "0", "7", "30", "0", "2014-10-05", false }, { e.available, e.quality_stock, e.sales_demand, e.component_demand, e.first_need, e.overdue })
      assert.equal("M|P stock_out medium 900.00", keys(find(nil, { horizon_days = 31 })))
      assert.equal("MAT:M:P", r.findings[1].overlap_key)
    end)
    it("is high when the demand is overdue", function()
      assert.equal("M|P stock_out high 300.00", keys(find { sales_schedule = {
        { order_id = "S", line = "1", sched = "1", qty = "40", requested_date = "2014-10-05", promised_date = "2014-09-29" } } }))
    end)
    it("is not overdue on the day itself", function()
      assert.equal("M|P stock_out medium 300.00", keys(find { sales_schedule = {
        { order_id = "S", line = "1", sched = "1", qty = "40", requested_date = "2014-09-30" } } }))
    end)
    it("is silent without need", function()
      assert.equal("", keys(find(without_sales {})))
      assert.equal("", keys(find { delivery_line = { { delivery_id = "D", line = "1", order_id = "S", order_line = "1", qty = "40", actual_gi = "2014-09-20" } } }))
      assert.equal("", keys(find { sales_order = { { order_id = "S", cancelled = "1" } } }))
      assert.equal("", keys(find { sales_line = { { order_id = "S", line = "1", material_id = "M", plant_id = "P", qty = "100", net_value = "1", rejected = "1" } } }))
      assert.equal("", keys(find { sales_line = { { order_id = "S", line = "1", material_id = "M", plant_id = "Q", qty = "100", net_value = "1" } } }))
      assert.equal("", keys(find { sales_order = { { order_id = "S", order_date = "2014-10-01" } } }))
    end)
    it("takes a planned, cancelled or later delivery for no delivery", function()
      for _, d in ipairs { { actual_gi = nil, issued = "0" }, { actual_gi = "2014-09-20", cancelled = "1" }, { actual_gi = "2014-10-01", issued = "1" }, { actual_gi = "2014-09-20", is_return = "1" } } do
        d.delivery_id, d.line, d.order_id, d.order_line, d.qty = "D", "1", "S", "1", "10"
        -- Every column is provided by a second, unrelated row.
        local other = { delivery_id = "E", line = "1", order_id = "X", order_line = "1", qty = "1", actual_gi = "2014-01-01", issued = "1", cancelled = "0", is_return = "0" }
        assert.equal("M|P stock_out medium 400.00", keys(find { delivery_line = { d, other } }))
      end
    end)
    it("fires on a reorder point or on consumption alone, with no impact", function()
      local planned = { { material_id = "M", plant_id = "P", reorder_point = "1", unit_cost = "2.5" } }
      assert.equal("M|P stock_out medium 0.00", keys(find(without_sales { material_plant = planned })))
      local function moves(day, qty, back)
        return { { move_id = "1", line = "1", material_id = "M", plant_id = "P", posting_date = day, move_class = "issue_prod", qty = qty },
          { move_id = "2", line = "1", material_id = "M", plant_id = "P", posting_date = day, move_class = "issue_prod", qty = back },
          { move_id = "3", line = "1", material_id = "M", plant_id = "P", posting_date = day, move_class = "transfer", qty = "-9" } }
      end
      assert.equal("M|P stock_out medium 0.00", keys(find(without_sales { stock_move = moves("2014-07-03", "-5", "0") })))
      assert.equal("", keys(find(without_sales { stock_move = moves("2014-07-02", "-5", "0") }))) -- before the window
      assert.equal("", keys(find(without_sales { stock_move = moves("2014-08-01", "-5", "5") }))) -- reversed
      assert.equal("", keys(find(without_sales { stock_move = moves("2014-10-01", "-5", "0") })))
    end)
    it("values components at cost", function()
      local function component(more)
        local c = { order_id = "O", item = "1", material_id = "M", plant_id = "P", need_date = "2014-10-30", req_qty = "8", issued_qty = "2", phantom = "0",
          bulk = "0", deleted = "0", final_issue = "0" }
        for k, v in pairs(more or {}) do c[k] = v end
        return without_sales { prod_component = { c }, production_order = { { order_id = "O", status = more and more.status or "released" } } }
      end
      assert.equal("M|P stock_out medium 15.00", keys(find(component())))
      for _, trap in ipairs { { phantom = "1" }, { bulk = "1" }, { deleted = "1" }, { final_issue = "1" }, { issued_qty = "8" }, { need_date = "2014-10-31" } } do
        assert.equal("", keys(find(component(trap))), next(trap))
      end
      local closed = component()
      closed.production_order[1].status = "closed"
      assert.equal("", keys(find(closed)))
    end)
    it("counts only own, free stock; consignment when asked", function()
      local function stock(special, kind) return { { material_id = "M", plant_id = "P", special = "own", stock_type = "unrestricted", qty = "0" },
        { material_id = "M", plant_id = "P", special = special, stock_type = kind, qty = "5" } } end
      assert.equal("", keys(find { stock = { { material_id = "M", plant_id = "P", special = "own", stock_type = "unrestricted", qty = "0.0001" } } }))
      for _, kind in ipairs { "quality", "blocked", "transit" } do assert.equal("M|P stock_out medium 300.00", keys(find { stock = stock("own", kind) })) end
      assert.equal("M|P stock_out medium 300.00", keys(find { stock = stock("vendor_consign", "unrestricted") }))
      assert.equal("", keys(find({ stock = stock("vendor_consign", "unrestricted") }, { count_consignment = true })))
      -- Made to order: all its stock belongs to an order.
      assert.equal("", keys(find { stock = { { material_id = "M", plant_id = "P", special = "sales_order", stock_type = "unrestricted", qty = "0" } } }))
      assert.equal("", keys(find { stock = { { material_id = "N", plant_id = "P", qty = "0", special = "own", stock_type = "unrestricted" } } }))
    end)
    it("leaves phased-out materials alone", function()
      local function plan(day) return { material_plant = { { material_id = "M", plant_id = "P", reorder_point = "5", phase_out = day } } } end
      assert.equal("", keys(find(plan "2014-09-30")))
      assert.equal("M|P stock_out medium 300.00", keys(find(plan "2014-10-01")))
    end)
    it("converts units, and skips what has no conversion", function()
      local line = { { order_id = "S", line = "1", material_id = "M", plant_id = "P", qty = "100", net_value = "1000", uom = "BOX" } }
      local material = { { material_id = "M", base_uom = "EA" } }
      local r = find { sales_line = line, material = material, uom_conv = { { material_id = "M", from_uom = "BOX", to_uom = "EA", num = "12", den = "1" } } }
      assert.equal("360", r.findings[1].evidence.sales_demand)
      r = find { sales_line = line, material = material, uom_conv = { { from_uom = "EA", to_uom = "BOX", num = "1", den = "6" } } }
      assert.equal("180", r.findings[1].evidence.sales_demand)
      r = find { sales_line = line, material = material }
      assert.same({ "", { no_uom = 1 } }, { keys(r), r.skipped })
    end)
    it("tells the next receipt and that stock is a snapshot", function()
      local more = { purchase_order = { { po_id = "B", order_date = "2014-08-01", deleted = "0" } },
        po_line = { { po_id = "B", line = "1", material_id = "M", plant_id = "P", qty = "9", delivered_flag = "0" } },
        po_schedule = { { po_id = "B", line = "1", sched = "1", qty = "4", due_date = "2014-09-01" }, { po_id = "B", line = "1", sched = "2", qty = "5", due_date = "2014-10-09" } },
        goods_receipt = { { gr_id = "G", gr_line = "1", po_id = "B", line = "1", qty = "3", posting_date = "2014-09-02" } } }
      local e = find(more).findings[1].evidence
      assert.same({ "2014-09-30", "1" }, { e.next_receipt_date, e.next_receipt_qty })
      more.goods_receipt[1].qty = "4"
      e = find(more).findings[1].evidence
      assert.same({ "2014-10-09", "5" }, { e.next_receipt_date, e.next_receipt_qty })
      assert.same({ "stock_snapshot" }, find(nil, nil, { extract_date = "2014-10-15" }).warnings)
      assert.same({}, find(nil, nil, { extract_date = "2014-09-30" }).warnings)
    end)
  end)

  describe("PRD-005", function()
    local function tables(op, center)
      local o = { order_id = "O", op = "10", work_center_id = "W", start_actual = "2014-09-15", finish_actual = "2014-09-19", actual_hours = "50" }
      for k, v in pairs(op or {}) do o[k] = v end
      for k, v in pairs(o) do if v == "" then o[k] = nil end end
      local c = { work_center_id = "W", plant_id = "P", hours_per_week = "40", cost_rate = "12.34" }
      for k, v in pairs(center or {}) do c[k] = v end
      return { prod_operation = { o }, work_center = { c } }
    end
    local function find(t, params)
      params = params or {}
      params.mode = params.mode or "history"
      local r = run("PRD-005", t, params)
      explained(r)
      return r
    end

    it("spreads hours over the days of ISO weeks", function()
      assert.equal("W|2014-W38 overload medium 123.40", keys(find(tables())))
      assert.equal("", keys(find(tables { actual_hours = "40" }))) -- the limit itself is allowed
      -- Friday to Monday: three days in one week, one in the next.
      local r = find(tables({ start_actual = "2014-09-12", finish_actual = "2014-09-15", actual_hours = "100" }))
      assert.equal("W|2014-W37 overload high 431.90", keys(r))
      assert.equal("75", r.findings[1].evidence.load)
      assert.equal("W|2014-W37 overload critical 740.40", keys(find(tables({ start_actual = "2014-09-12", finish_actual = "2014-09-15", actual_hours = "100" }), { spread = "start_date" })))
    end)
    it("rates by load, not by amount", function()
      assert.equal("W|2014-W38 overload medium 246.80", keys(find(tables { actual_hours = "60" }))) -- one and a half times: not high
      assert.equal("W|2014-W38 overload high 246.81", keys(find(tables { actual_hours = "60.0005" })))
      assert.equal("W|2014-W38 overload high 493.60", keys(find(tables { actual_hours = "80" })))
      assert.equal("W|2014-W38 overload critical 493.61", keys(find(tables { actual_hours = "80.001" })))
      local r = find(tables(nil, { hours_per_week = "0" }))
      assert.equal("W|2014-W38 overload critical 617.00", keys(r))
      assert.equal("999.9", r.findings[1].evidence.pct)
      -- A limit below the capacity: what is missing to it is a negative amount.
      assert.equal("W|2014-W38 overload medium -49.36", keys(find(tables { actual_hours = "36.0001" }, { max_load_pct = "90" })))
      assert.equal("", keys(find(tables { actual_hours = "36" }, { max_load_pct = "90" })))
    end)
    it("takes complete weeks alone, and dates as they were loaded", function()
      assert.equal("", keys(find(tables { start_actual = "2014-09-29", finish_actual = "2014-09-30", actual_hours = "500" })))
      -- Ends after D: the days keep their share, those after D are not counted twice into the past.
      local r = find(tables { start_actual = "2014-09-22", finish_actual = "2014-10-05", actual_hours = "140" })
      assert.equal("W|2014-W39 overload high 370.20", keys(r))
      -- No end: up to D.
      r = find(tables { start_actual = "2014-09-22", finish_actual = "", actual_hours = "90" })
      assert.equal("W|2014-W39 overload high 370.20", keys(r))
      assert.equal("", keys(find(tables { start_actual = "2014-10-01", finish_actual = "2014-10-02" })))
    end)
    it("completes a week on its Monday after", function()
      local t = tables()
      assert.equal("", keys((run("PRD-005", t, { mode = "history" }, { as_of = "2014-09-21" })))) -- its Sunday
      assert.equal("W|2014-W38 overload medium 123.40", keys((run("PRD-005", t, { mode = "history" }, { as_of = "2014-09-22" }))))
    end)
    it("knows the ISO year", function()
      local t = tables { start_actual = "2013-12-30", finish_actual = "2014-01-05", actual_hours = "50" }
      assert.equal("W|2014-W01 overload medium 123.40", keys(find(t)))
    end)
    it("lowers the capacity by the calendar", function()
      local t = tables({ actual_hours = "33" }, { calendar_id = "K" })
      t.calendar_day = {}
      for i = 15, 21 do t.calendar_day[#t.calendar_day + 1] = { calendar_id = "K", date = "2014-09-" .. i, working = i <= 18 and "1" or "0" } end
      local r = find(t)
      assert.equal("W|2014-W38 overload medium 12.34", keys(r))
      assert.equal("32", r.findings[1].evidence.capacity)
      t.work_center[1].calendar_id = "L" -- a calendar that has no such week
      assert.equal("", keys(find(t)))
    end)
    it("plans forward with what is open", function()
      local function planned(op, status)
        local t = tables(op)
        local o = t.prod_operation[1]
        o.plan_hours, o.start_plan, o.finish_plan = "50", "2014-10-06", "2014-10-10"
        t.production_order = { { order_id = "O", status = status or "released" } }
        return t
      end
      local p = { mode = "forward" }
      assert.equal("W|2014-W41 overload medium 123.40", keys(find(planned(), p)))
      assert.equal("", keys(find(planned { done = "1", finish_actual = "2014-09-19" }, { mode = "forward" })))
      for _, status in ipairs { "delivered", "teco", "closed", "cancelled" } do assert.equal("", keys(find(planned(nil, status), { mode = "forward" })), status) end
    end)
    it("skips centers without hours and says what is missing", function()
      local t = tables()
      t.work_center[2] = { work_center_id = "X", hours_per_week = "1" }
      t.prod_operation[2] = { order_id = "O", op = "20", work_center_id = "Y", start_actual = "2014-09-15", finish_actual = "2014-09-15", actual_hours = "1" }
      local r = find(t)
      assert.same({ 1, { no_hours_per_week = 1 }, "partial" }, { r.population, r.skipped, r.status })
      r = run("PRD-005", tables(), {})
      assert.equal("not_evaluable", r.status)
      assert.same({ "prod_operation.plan_hours", "prod_operation.start_plan", "prod_operation.finish_plan" }, r.not_run[1].missing)
    end)
  end)
end)
