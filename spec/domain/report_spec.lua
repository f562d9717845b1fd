local bundle = require "scripts.bundle"
local config = require "kt.config"
local crypto = require "kt.crypto"
local cursor = require "http.cursor"
local execution = require "domain.execution"
local findings = require "domain.finding"
local helper = require "domain.store_helper"
local json = require "json"
local places = require "lib.places"
local report = require "domain.report"
local store = require "kt.store"
local value = require "value"

local run_id = "exec_1_" .. ("a"):rep(32)

local function finding(rule, key, severity, amount)
  return {rule_id = rule, finding_key = key, reason = "over", severity = severity, evidence = {}, overlap_key = json.null,
    explanation = "", impact = {amount = amount, currency = "USD", amount_rc = amount, kind = "cash"}}
end

describe("the findings of a run", function()
  local db, close

  -- The run pinned a bundle with this script, which was then in its version 3.
  local function pin_rule(path)
    assert(store.create(config.get("MASTER_DATABASE_NAME")))
    local master, source, at = places.master(), "-- a rule", value.date(1000)
    local sha256 = crypto.sha256(source)
    local manifest, bundle_sha256 = bundle.manifest{[path] = sha256}
    assert(master:insert("kt_m_script_versions", {{_id = sha256, source = source}, {_id = bundle_sha256, source = manifest}}))
    assert(master:insert("kt_m_versions", {_id = ("script/%s/3"):format(path), version = 3, sha256 = sha256, created_at = at}))
    assert(db:insert("kt_p_executions", {_id = run_id, snapshot = {bundle = bundle_sha256}, created_at = value.date(2000)}))
  end

  setup(function()
    cursor.set_key("k")
    db, close = helper.open "x"
    local doc = {categories = json.array{
      {id = "inventory", rules = json.array{{rule_id = "INV-001", input_hash = "h1", findings = json.array{
        finding("INV-001", "a", "low", "-900.00"), finding("INV-001", "b", "critical", json.null)}}}},
      {id = "invoice_matching", rules = json.array{{rule_id = "IMT-007", input_hash = "h2", findings = json.array{
        finding("IMT-007", "c", "critical", "123456.50"), finding("IMT-007", "d", "critical", "99999.99"),
        finding("IMT-007", "e", "high", "900")}}}}}}
    local blob = assert(db:blob_put(json.encode(doc)))
    assert(db:insert("kt_p_results", {_id = run_id .. ":1", instance_id = "inst_1",
      report = {sha256 = blob.sha256, bytes = blob.bytes, media_type = "application/json"}}))
    pin_rule "agents/erp/rules/IMT-007.lua"
  end)
  teardown(function() close() end)

  local function page(query)
    query.sort, query.limit = query.sort or "severity", query.limit or 50
    local a = assert(report.findings({query = query, params = {project_id = "x", execution_id = run_id},
      route = {operation_id = "listExecutionFindings"}, project = {db = db}}, run_id .. ":1"))
    local doc = json.decode(a.body)
    local keys = {}
    for i, f in ipairs(doc.data) do keys[i] = f.finding_key end
    return table.concat(keys), doc
  end

  it("come by severity, then by impact, those without one last", function()
    assert.equal("cdbea", (page{}))
  end)
  it("come by impact, whatever its sign", function()
    assert.equal("cdaeb", (page{sort = "impact"}))
  end)
  it("are filtered", function()
    assert.equal("ba", (page{rule_id = "INV-001"}))
    assert.equal("cde", (page{category = "invoice_matching"}))
    assert.equal("e", (page{severity = "high"}))
    assert.equal("", (page{reason = "none"}))
  end)
  it("are paged", function()
    local keys, doc = page{limit = 2}
    assert.equal("cd", keys)
    keys, doc = page{limit = 2, cursor = doc.page.next_cursor}
    assert.equal("be", keys)
    keys, doc = page{limit = 2, cursor = doc.page.next_cursor}
    assert.equal("a", keys)
    assert.equal(json.null, doc.page.next_cursor)
  end)
  it("carry every field, and the version of the rule that the run pinned", function()
    local _, doc = page{}
    for _, f in ipairs(execution.finding.fields) do assert.is_not_nil(doc.data[1][f[1]], f[1]) end
    assert.equal("h2", doc.data[1].input_hash)
    assert.equal(3, doc.data[1].rule_version)
    assert.equal("b", doc.data[3].finding_key)
    assert.equal(json.null, doc.data[3].rule_version)
    assert.equal(findings.id("inst_1", "IMT-007", "c"), doc.data[1].finding_id)
  end)
end)
