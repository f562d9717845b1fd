-- Loader, analyst and sweep over small files, in this process (the child process has its own tests).
local crypto = require "kt.crypto"
local json = require "json"
local report = require "erp.report"
local sweep = require "erp.sweep"

local dir
local RULE = [[
rule { id = "PRO-001", title = "Unapproved vendor", category = "procurement",
  params = { one_time_limit = { "decimal", "1000" } },
  requires = { "purchase_order.vendor_id" },
  reasons = { { "unknown", needs = { "vendor" } }, { "role", needs = { "vendor.role_supplier" } } },
  reads = { "goods_receipt", "stock" },
  run = function(t, p, emit)
    t.population(t.purchase_order:count())
    for row in t.purchase_order:with("vendor", t.vendor, { "vendor_id" }):where { { "vendor", "absent" } }:each { "po_id" } do
      emit { key = { row.po_id }, reason = "unknown", kind = "control", impact = row.net_value, currency = "USD",
        evidence = { vendor_id = row.vendor_id, receipts = t.goods_receipt:count() }, explanation = "unknown" }
    end
  end }]]

local MAPPING = [[
mapping { name = "source", company = "C1", currency = "USD", as_of = "2025-06-30", params = { ["FIN-008.cent"] = "0.0001" },
  tables = {
    vendor = { from = "Suppliers", columns = { vendor_id = "Id",
      status = { from = "Active", map = { ["1"] = "active" }, default = "blocked" } } },
    purchase_order = { from = "Orders", where = { "Total", "gt", "5" }, columns = { po_id = "No", vendor_id = "Supplier",
      net_value = "Total", order_date = "Day", currency = { const = "USD" },
      purch_group = { count = "Lines", on = { Order = "No" } }, approved_by = { lookup = "Lines", on = { Order = "No" }, value = "By" },
      approval = { from = "Signed", null = "pending", notnull = "approved" } } },
    stock = { { from = "Lines", columns = { material_id = "Item", plant_id = { const = "P" }, qty = "N" } },
              { from = "More", columns = { material_id = "Item", plant_id = { const = "Q" }, qty = "N" } } },
    fx_rate = { rows = { { rate_type = "M", from_cur = "EUR", to_cur = "USD", valid_from = "2020-01-01", rate = "1.1" } } },
  } }]]

local function put(name, ...)
  local text = table.concat({ ... }, "\n") .. "\n"
  local path = dir .. "/" .. name
  local handle = assert(io.open(path, "wb"))
  handle:write(text)
  handle:close()
  return { name = name, path = path, format = name:match("%.(%w+)$"), sha256 = crypto.sha256(text) }
end

local function run(tables, more)
  local opts = { in_process = true, tables = tables, mapping = "source", project_id = "p", run_id = "r",
    bundle = { ["agents/a/rules/pro-001.lua"] = RULE, ["agents/a/mappings/source.lua"] = MAPPING,
      ["agents/a/mappings/identity.lua"] = "mapping { name = 'identity', tables = 'canonical' }" } }
  for name, value in pairs(more or {}) do opts[name] = value end
  return sweep.run(opts)
end

local function source()
  return {
    put("Suppliers.csv", "Id,Active", "V1,1", "V2,0"),
    put("Orders.csv", "No,Supplier,Total,Day,Signed", "1,V1,10.00,2025-01-01,", "2,V9,20.00,2025-01-02,x", "3,V9,5,2025-01-02,",
      "4,V8,30.00,2025-07-01,"),
    put("Lines.csv", "Order,Item,N,By", "1,M1,1,ann", "2,M2,2,bob", "2,M3,3,eve"),
  }
end

describe("a sweep", function()
  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    os.execute("mkdir " .. dir)
  end)
  after_each(function() os.execute("rm -r " .. dir) end)

  it("maps, takes the key date, finds and reports", function()
    local events = {}
    local result = assert(run(source(), { on_event = function(type, data) events[#events + 1] = { type, data } end }))
    assert.equal("2025-06-30", result.as_of)
    assert.equal(1, result.findings)
    assert.equal(1, result.by_category.procurement)
    local found = {}
    report.each_finding(result.body, function(f) found[#found + 1] = f.finding_key end)
    assert.same({ "2" }, found)
    assert.equal(2, result.rules[1].population) -- 3 is filtered out, 4 lies after the key date
    assert.equal("partial", result.rules[1].status)
    assert.same({ reason = "role", missing = { "vendor.role_supplier" } }, result.rules[1].not_run[1])
    local types = {}
    for i, e in ipairs(events) do types[i] = e[1] end
    assert.same({ "dataset.loaded", "progress", "rule.completed", "progress", "sweep.completed" }, types)
    assert.equal("Lines.csv", events[1][2].tables[1].name)
    assert.equal(crypto.sha256(result.report), result.sha256)
    assert.equal("exec", (json.decode(result.report)).run_id == "r" and "exec")
  end)

  it("gives the same bytes whatever the order of the files", function()
    local files = source()
    local a = assert(run(files)).report
    assert.equal(a, assert(run { files[3], files[1], files[2] }).report)
  end)

  it("hashes what went in as section 0 says", function()
    local files = source()
    local result = assert(run(files))
    local rule = result.body.categories[2].rules[1]
    local lines = { "as_of 2025-06-30", "mapping " .. crypto.sha256(MAPPING), "params " .. crypto.sha256(json.encode(rule.params)),
      "rule PRO-001 " .. crypto.sha256(RULE) }
    for _, file in ipairs { files[3], files[2], files[1] } do lines[#lines + 1] = "table " .. file.name .. " " .. file.sha256 end
    assert.equal(crypto.sha256(table.concat(lines, "\n") .. "\n"), rule.input_hash)
    assert.not_equal(rule.input_hash, assert(run(files, { as_of = "2025-06-29" })).rules[1].input_hash)
  end)

  it("reads NDJSON as well, values as they are written", function()
    local result = assert(run({ put("purchase_order.ndjson", '{"po_id":"1","vendor_id":"V1","net_value":10.10}', '{"po_id":"2","vendor_id":"V2","net_value":null}'),
      put("vendor.ndjson", '{"vendor_id":"V2"}') }, { mapping = "identity", as_of = "2025-06-30" }))
    local amounts = {}
    report.each_finding(result.body, function(f) amounts[#amounts + 1] = f.impact.amount end)
    assert.equal("10.10", amounts[1])
  end)

  it("completes without any data, nothing evaluable", function()
    local result = assert(run({}, { mapping = "identity" }))
    assert.equal("not_evaluable", result.rules[1].status)
    assert.is_nil(result.as_of)
    assert.equal("no_data", result.warnings[1].code)
    assert.equal(json.null, result.body.as_of)
  end)

  it("names a wrong choice", function()
    local function refused(more)
      local result, err = run(source(), more)
      assert.is_nil(result)
      assert.equal("validation_failed", err.code)
      return err.message
    end
    assert.matches("no rule 'PRO%-002'", refused { rules = { "PRO-002" } })
    assert.matches("no mapping 'sap'", refused { mapping = "sap" })
    assert.matches("no category 'cost'", refused { categories = { "cost" } })
    assert.matches("no rule is chosen", refused { categories = { "inventory" } })
    assert.matches("there is no rule 'PRO%-002'", refused { params = { ["PRO-002.x"] = "1" } })
    assert.matches('PRO%-001.*"x"', refused { params = { ["PRO-001.x"] = "1" } })
    assert.matches("one_time_limit", refused { params = { ["PRO-001.one_time_limit"] = "lots" } })
    assert.matches("no key date", refused { mapping = "identity" })
  end)

  it("reports a rule that fails and goes on", function()
    local bundle = { ["agents/a/mappings/source.lua"] = MAPPING, ["agents/a/rules/pro-001.lua"] = RULE,
      ["agents/a/rules/inv-001.lua"] = RULE, ["agents/a/rules/imt-007.lua"] = "rule {",
      ["agents/a/rules/prd-005.lua"] = RULE:gsub("PRO%-001", "PRD-005"):gsub("procurement", "production"):gsub("t%.population", "t.nothing") }
    local result = assert(run(source(), { bundle = bundle }))
    local status, message = {}, {}
    for _, rule in ipairs(result.rules) do status[rule.rule_id], message[rule.rule_id] = rule.status, rule.error and rule.error.message end
    assert.same({ ["IMT-007"] = "error", ["INV-001"] = "error", ["PRD-005"] = "error", ["PRO-001"] = "partial" }, status)
    assert.matches("declares rule 'PRO%-001'", message["INV-001"])
    assert.equal(1, result.findings)
    assert.equal(4, #result.body.data.coverage)
  end)

  it("fails on a mapping that does not hold, with its line", function()
    local result, err = run(source(), { bundle = { ["agents/a/mappings/source.lua"] = "mapping {\n name = }", ["agents/a/rules/pro-001.lua"] = RULE } })
    assert.is_nil(result)
    assert.same({ script = "agents/a/mappings/source.lua", line = 2 }, err.where)
  end)

  it("keeps account of bad cells by file and line", function()
    local files = source()
    files[2] = put("Orders.csv", "No,Supplier,Total,Day,Signed", "1,V9,10.00,2025-02-30,", "1,V9,10.00,2025-02-30,", "2,V9,12.50,2025-01-01,x")
    local result = assert(run(files))
    local orders = result.tables[2]
    assert.equal("Orders.csv", orders.name)
    assert.equal(3, orders.rows)
    assert.equal(1, orders.duplicates)
    assert.equal(2, orders.errors[1].line)
    assert.equal("bad_date", orders.errors[1].code)
    assert.equal(2, result.findings)
    assert.equal("data_rejected", result.warnings[1].code)
  end)
end)
