local declared = require "erp.declared"
local script = require "kt.script"

local function check(path, source)
  local decl = assert(script.check { path = path, source = source, libs = {} })
  return declared.check(path, decl)
end

local function rule(id, category, more)
  return string.format([[rule { id = "%s", title = "T", category = "%s", requires = { "invoice.gross" },
    reasons = { { "r" } }, %s run = function() end }]], id, category, more or "")
end

describe("a declaration", function()
  it("of a rule lives under its id, in its category", function()
    assert.is_true(check("agents/a/rules/IMT-007.lua", rule("IMT-007", "invoice_matching")))
    assert.is_true(check("agents/a/rules/imt-007.lua", rule("IMT-007", "invoice_matching")))
    local _, err = check("agents/a/rules/IMT-008.lua", rule("IMT-007", "invoice_matching"))
    assert.equal("script_error", err.code)
    assert.matches("rules/IMT%-007.lua", err.message)
    _, err = check("agents/a/rules/IMT-007.lua", rule("IMT-007", "financial"))
    assert.matches("belongs to category 'invoice_matching'", err.message)
    _, err = check("agents/a/rules/XXX-007.lua", rule("XXX-007", "financial"))
    assert.matches("no rule id", err.message)
    assert.same({ script = "agents/a/rules/XXX-007.lua", line = 0 }, err.where)
  end)

  it("of a rule has the shape of one", function()
    local _, err = check("agents/a/rules/IMT-007.lua", rule("IMT-007", "invoice_matching", "params = { limit = 3 },"))
    assert.matches("limit", err.message)
    _, err = check("agents/a/rules/IMT-007.lua", [[rule { id = "IMT-007", title = "T", category = "invoice_matching", run = function() end }]])
    assert.matches("reasons are missing", err.message)
    assert.is_true(check("agents/a/rules/IMT-007.lua",
      rule("IMT-007", "invoice_matching", "params = { scope = { 'enum', 'company', values = { 'company', 'group' } } },")))
  end)

  it("of a mapping holds against the schema", function()
    assert.is_true(check("agents/a/mappings/m.lua", "mapping { name = 'm', tables = 'canonical' }"))
    local _, err = check("agents/a/mappings/m.lua", "mapping { name = 'm', company = 'C', currency = 'USD', tables = { vendors = {} } }")
    assert.matches("no canonical table 'vendors'", err.message)
    _, err = check("agents/a/mappings/m.lua", "mapping { name = 'other', tables = 'canonical' }")
    assert.matches("mappings/other.lua", err.message)
  end)

  it("of anything else is not this module's", function()
    assert.is_true(check("agents/a/workflow.lua", "workflow { name = 'w', run = function() end }"))
  end)
end)
