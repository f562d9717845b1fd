local json = require "json"
local mapping = require "erp.mapping"
local schema = require "erp.schema"
local script = require "erp.script"

local home = package.path:match("([^;]*)/lua/%?%.lua") or "."

local function shipped(name)
  local path = "agents/erp-exception-management/mappings/" .. name .. ".lua"
  local handle = assert(io.open(home .. "/" .. path))
  local source = handle:read("*a")
  handle:close()
  return assert(script.load(path, source, "mapping"))
end

local function refused(tables, more)
  local decl = { name = "m", company = "C", currency = "USD", tables = tables }
  for k, v in pairs(more or {}) do decl[k] = v end
  local ok, err = mapping.check(decl)
  assert.is_nil(ok)
  assert.equal("script_error", err.code)
  return err.message
end

describe("a mapping", function()
  it("is valid as shipped", function()
    assert.is_true(assert(mapping.check(shipped "identity")).canonical)
    local aw = assert(mapping.check(shipped "adventureworks"))
    assert.equal("2014-09-30", aw.as_of)
    assert.equal("history", aw.params["PRD-005.mode"])
    assert.equal(2, #aw.parts.fx_rate)
  end)

  it("maps of AdventureWorks what 4.1 lists and nothing else", function()
    local aw = assert(mapping.check(shipped "adventureworks"))
    local n = 0
    for name in pairs(aw.parts) do
      n = n + 1
      assert.is_table(schema.tables[name])
    end
    assert.equal(19, n)
    assert.is_nil(aw.parts.goods_receipt[1].columns.posting_date)
    assert.is_nil(aw.parts.prod_operation[1].columns.plan_hours)
    assert.is_nil(aw.parts.po_line[1].columns.uom)
    assert.is_nil(aw.parts.invoice)
  end)

  it("is refused with table and column named", function()
    assert.matches("no canonical table 'vendors'", refused { vendors = { from = "V", columns = {} } })
    assert.matches("vendor: there is no column 'vendor'", refused { vendor = { from = "V", columns = { vendor = "Id" } } })
    assert.matches("vendor: status: has neither map", refused { vendor = { from = "V", columns = { status = { from = "S" } } } })
    assert.matches("vendor: status: map has texts", refused { vendor = { from = "V", columns = { status = { from = "S", map = { "a", 1 } } } } })
    assert.matches("vendor: names no source", refused { vendor = { columns = {} } })
    assert.matches("where = ", refused { vendor = { from = "V", columns = {}, where = { "A", "like", "x" } } })
    assert.matches("row 1: price is no text", refused { vendor_price = { rows = { { price = 1 } } } })
    assert.matches("as_of '2014%-13%-01' is no date", refused({}, { as_of = "2014-13-01" }))
    assert.matches("'cent' is not RULE.name", refused({}, { params = { cent = "1" } }))
    local _, err = mapping.check { name = "m", tables = {} }
    assert.matches("needs company and currency", err.message)
  end)
end)

describe("a script", function()
  local function load(source, kind, libs) return script.load("agents/a/rules/x.lua", source, kind or "rule", libs) end

  it("declares once", function()
    assert.same({ id = "A" }, load "rule { id = 'A' }")
    local decl, err = load "local x = 1"
    assert.is_nil(decl)
    assert.matches("declares no rule", err.message)
    decl, err = load "rule {} rule {}"
    assert.is_nil(decl)
    assert.equal("script_error", err.code)
  end)

  it("fails with file and line", function()
    for _, source in ipairs { "\nrule {", "\nlocal a = nil .. 'x'", "\nerror('no')" } do
      local decl, err = load(source)
      assert.is_nil(decl)
      assert.equal("agents/a/rules/x.lua", err.where.script)
      assert.equal(2, err.where.line)
    end
  end)

  it("finds no way out", function()
    for _, name in ipairs { "io", "os", "debug", "package", "load", "loadstring", "dofile", "setfenv", "getfenv", "ffi", "jit",
      "collectgarbage", "print", "_G", "newproxy", "coroutine", "module" } do
      assert.same({ found = false }, load("rule { found = " .. name .. " ~= nil }"))
    end
    assert.is_nil((load("\27LJ\2\n")))
    assert.is_nil((load("require 'io'")))
  end)

  it("walks tables in one order", function()
    local decl = assert(load [[
      local names = {}
      for k in pairs { b = 1, a = 1, [2] = 1, [10] = 1, c = 1 } do names[#names + 1] = tostring(k) end
      rule { names = names }]])
    assert.same({ "2", "10", "a", "b", "c" }, decl.names)
  end)

  it("requires libs of its bundle, each once", function()
    local libs = { ["agents/a/lib/count.lua"] = "local M = { n = 0 } M.n = M.n + 1 return M" }
    assert.same({ n = 1, same = true },
      load("local a, b = require 'count', require 'lib.count' a.x = 1 rule { n = b.n, same = b.n == a.n }", "rule", libs))
    local decl, err = load("require 'other'", "rule", libs)
    assert.is_nil(decl)
    assert.matches("no lib 'other'", err.message)
  end)

  it("has json neither in rules nor in mappings", function()
    assert.is_table(json)
    assert.is_nil((load "require 'json'"))
  end)
end)
