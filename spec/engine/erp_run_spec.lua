-- The shipped agent's workflow in the engine: data sets, reports, findings between runs.
local clock = require "kt.clock"
local findings = require "domain.finding"
local ids = require "domain.ids"
local json = require "json"
local support = require "engine.support"
local value = require "value"

local VENDORS = "vendor_id,name,status\nV1,One,active\n"

local function orders(...)
  local lines = { "po_id,vendor_id,order_date,net_value" }
  for _, id in ipairs { ... } do lines[#lines + 1] = id .. ",V9,2024-03-01,2500.50" end
  return table.concat(lines, "\n") .. "\n"
end

local sealed = 0

-- A sealed dataset of CSV tables by file name.
local function dataset(project, tables)
  sealed = sealed + 1
  local list = {}
  for name, text in pairs(tables) do
    local kept = assert(project.db:blob_put(text))
    local _, lines = text:gsub("\n", "\n")
    list[#list + 1] = { name = name, format = "csv", rows = lines - 1, bytes = #text, sha256 = kept.sha256,
      columns = json.array {}, errors = json.array {} }
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  local id = ids.new("ds")
  assert(project.db:insert("kt_p_datasets", { _id = id, name = "d", mapping = "identity", as_of = "2024-06-30",
    status = "sealed", tables = json.array(list), sealed_at = value.date(clock.now() + sealed),
    created_at = value.date(clock.now()) }))
  return id
end

describe("the shipped workflow", function()
  local project, instance, agent

  setup(function()
    support.open()
    local files = support.erp_files()
    local handle = assert(io.open("agents/erp-exception-management/workflow.lua"))
    local workflow = handle:read("*a")
    handle:close()
    project, instance, agent = support.project(workflow, { files = files })
  end)

  before_each(support.start)
  after_each(support.stop)

  teardown(support.close)

  local function report_of(doc)
    return assert(json.decode(assert(project.db:blob_get(doc.result.report.sha256))))
  end

  it("completes without data and says so; every rule is not evaluable", function()
    local doc = support.run(project, instance)
    assert.equal("completed", doc.status)
    assert.truthy(doc.result.output.message:find("no data", 1, true))
    assert.equal(0, doc.result.metrics.findings)
    local coverage = report_of(doc).data.coverage
    assert.is_true(#coverage >= 4)
    for _, rule in ipairs(coverage) do assert.equal("not_evaluable", rule.status) end
    assert.equal(0, project.db:count("kt_p_findings", {}))
  end)

  it("takes the newest sealed dataset or the one that is named, and keeps findings between runs", function()
    local first = dataset(project, { ["purchase_order.csv"] = orders("P1", "P2"), ["vendor.csv"] = VENDORS })
    local one = support.run(project, instance)
    assert.equal("completed", one.status, one.error ~= json.null and one.error.message or nil)
    assert.equal(first, one.result.output.dataset_id)
    assert.equal(2, one.result.metrics.findings)
    assert.equal(3, one.result.metrics.rows)
    local types = support.events(project, one.execution_id)
    assert.same({ "execution.started", "dataset.loaded" }, { types[1], types[2] })
    assert.same({ "sweep.completed", "execution.completed" }, { types[#types - 1], types[#types] })
    local row = assert(project.db:find_one("kt_p_findings", { _id = findings.id(instance, "PRO-001", "P1") }))
    assert.same({ "new", true, one.execution_id, one.execution_id, "procurement" },
      { row.status, row.present, row.first_execution_id, row.last_execution_id, row.category })
    assert(project.db:update_one("kt_p_findings", { _id = row._id }, { set = { status = "in_process" } }))

    local second = dataset(project, { ["purchase_order.csv"] = orders("P1", "P3"), ["vendor.csv"] = VENDORS })
    local two = support.run(project, instance, { input_data = { rules = json.array { "PRO-001" } } })
    assert.equal(second, two.result.output.dataset_id)
    row = project.db:find_one("kt_p_findings", { _id = row._id })
    assert.same({ "in_process", true, one.execution_id, two.execution_id },
      { row.status, row.present, row.first_execution_id, row.last_execution_id })
    local gone = project.db:find_one("kt_p_findings", { _id = findings.id(instance, "PRO-001", "P2") })
    assert.same({ false, one.execution_id }, { gone.present, gone.last_execution_id })
    assert.equal(3, project.db:count("kt_p_findings", {}))
    local trend = report_of(two).business_impact.trend_vs_previous_run
    assert.same({ 1, 1, 1 }, { trend.new, trend.resolved, trend.unchanged })

    local again = support.run(project, instance, { input_data = { dataset_id = first } })
    assert.equal(first, again.result.output.dataset_id)
    local stored = project.db:find_one("kt_p_results", { execution_id = again.execution_id })
    assert.same({ procurement = 2 }, { procurement = stored.by_category.procurement })
    assert.equal(2, stored.by_severity.critical + stored.by_severity.high + stored.by_severity.medium
      + stored.by_severity.low)
  end)

  it("gives rows to the worst findings alone when there are too many, and says so", function()
    local many, its_instance = support.project(
      [[workflow { name = "s", run = function(run, input) return erp.sweep { dataset = input.dataset_id } end }]],
      { files = support.erp_files() })
    local text = "po_id,vendor_id,order_date,net_value\nP1,V9,2024-03-01,10\nP2,V9,2024-03-01,99000\nP3,V9,2024-03-01,20\n"
    local kept = findings.ROWS
    findings.ROWS = 1
    local id = dataset(many, { ["purchase_order.csv"] = text, ["vendor.csv"] = VENDORS })
    local doc = support.run(many, its_instance, { input_data = { dataset_id = id } })
    findings.ROWS = kept
    assert.equal(3, doc.result.metrics.findings)
    assert.equal("findings_cut", doc.result.warnings[#doc.result.warnings].code)
    local rows = assert(many.db:find("kt_p_findings", {}))
    assert.equal(1, #rows)
    assert.equal("P2", rows[1].finding_key)
  end)

  it("gives the same report for the same data", function()
    local id = dataset(project, { ["purchase_order.csv"] = orders("P7"), ["vendor.csv"] = VENDORS })
    local other, its_instance = support.project([[
      workflow { name = "two", run = function(run, input)
        local ends = parallel {
          function() return erp.sweep { dataset = input.dataset_id, rules = { "PRO-001" } } end,
          function() return erp.sweep { dataset = input.dataset_id, rules = { "PRO-001" } } end,
        }
        return { same = ends[1].report.sha256 == ends[2].report.sha256, sha256 = ends[1].report.sha256 }
      end }
    ]], { files = support.erp_files() })
    local doc = assert(project.db:find_one("kt_p_datasets", { _id = id }))
    for _, t in ipairs(doc.tables) do
      assert(other.db:blob_put(assert(project.db:blob_get(t.sha256))))
    end
    assert(other.db:insert("kt_p_datasets", doc))
    local run = support.run(other, its_instance, { input_data = { dataset_id = id } })
    assert.equal("completed", run.status, run.error ~= json.null and run.error.message or nil)
    assert.is_true(run.result.output.same)
  end)

  it("fails with the reason when its dataset is not there", function()
    local doc = support.run(project, instance, { input_data = { dataset_id = "ds_00000000000000000000000000000000" } })
    assert.same({ "failed", "dataset_missing" }, { doc.status, doc.error.code })
    assert.truthy(doc.error.message:find("ds_0000", 1, true), doc.error.message)
    assert.equal("agents/" .. agent .. "/workflow.lua", doc.error.where.script)
  end)
end)

describe("a finding's impact", function()
  it("sorts as a number", function()
    local function sort(amount) return tostring(findings.impact_sort(amount)) end
    assert.equal("0", sort(nil))
    assert.equal("0", sort("0.00"))
    assert.equal("125000", sort("-12.5"))
    assert.equal("123456789012345678", sort("12345678901234.5678"))
    assert.equal(("9"):rep(18), sort(("1"):rep(40)))
  end)
end)
