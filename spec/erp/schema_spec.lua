local calendar = require "erp.calendar"
local schema = require "erp.schema"

local function keys(name)
  local list = {}
  for _, column in ipairs(schema.tables[name].columns) do
    if column.key then list[#list + 1] = column.name end
  end
  return table.concat(list, ",")
end

describe("the canonical schema", function()
  it("has the tables of section 1 in order", function()
    assert.equal(42, #schema.order)
    assert.equal("company", schema.order[1])
    assert.equal("inspection_lot", schema.order[42])
    for _, name in ipairs(schema.order) do assert.equal(name, schema.tables[name].name) end
  end)

  it("has the keys of section 1", function()
    assert.equal("invoice_id,fiscal_year", keys "invoice")
    assert.equal("rate_type,from_cur,to_cur,valid_from", keys "fx_rate")
    assert.equal("material_id,plant_id,sloc,batch,special,stock_type", keys "stock")
    assert.equal("object_id,fiscal_year,period,kind,version,cost_element", keys "budget")
    assert.equal("company_id,doc_id,fiscal_year,line", keys "gl_item")
  end)

  it("gives every table a company", function()
    for _, name in ipairs(schema.order) do assert.is_table(schema.tables[name].column.company_id, name) end
  end)

  it("uses only known types, and each name once", function()
    local types = { id = true, text = true, d = true, ts = true, m = true, q = true, p = true, r = true, ["%"] = true, b = true, n = true }
    for _, name in ipairs(schema.order) do
      local seen = {}
      for _, column in ipairs(schema.tables[name].columns) do
        assert.is_true(types[column.type], name .. "." .. column.name)
        assert.is_nil(seen[column.name], name .. "." .. column.name)
        seen[column.name] = true
      end
    end
  end)

  it("reads what is absent as 2.9 says", function()
    local function default(name, column) return schema.tables[name].column[column].default end
    assert.equal("1", default("po_line", "gr_required"))
    assert.equal("1", default("po_line", "ir_expected"))
    assert.equal("0", default("po_line", "deleted"))
    assert.equal("own", default("stock", "special"))
    assert.equal("unrestricted", default("stock", "stock_type"))
    assert.equal("invoice", default("invoice", "kind"))
    assert.equal("receipt", default("goods_receipt", "kind"))
    assert.equal("", default("invoice", "fiscal_year"))
    assert.is_nil(default("delivery_line", "issued"))
    assert.is_nil(default("invoice", "gross"))
  end)

  it("lets a source leave out the keys that may be empty, no other", function()
    assert.is_true(schema.tables.invoice.column.fiscal_year.optional)
    assert.is_nil(schema.tables.invoice.column.invoice_id.optional)
    assert.is_true(schema.tables.stock.column.batch.optional)
    assert.is_nil(schema.tables.po_line.column.line.optional)
  end)
end)

describe("calendar", function()
  it("counts days from 1970", function()
    assert.equal(0, calendar.parse "1970-01-01")
    assert.equal(20269, calendar.parse "2025-06-30")
    assert.equal("2024-02-29", calendar.text(calendar.parse "2024-02-29"))
    assert.equal("1900-02-28", calendar.text(calendar.parse "1900-03-01" - 1))
  end)

  it("refuses what is no date", function()
    for _, text in ipairs { "2023-02-29", "2023-13-01", "2023-1-1", "", "20230101", "2023-00-10" } do
      assert.is_nil(calendar.parse(text), text)
    end
  end)

  it("numbers ISO weeks over the turn of the year", function()
    assert.equal("2025-W01", calendar.iso_week(calendar.parse "2024-12-30"))
    assert.equal("2020-W53", calendar.iso_week(calendar.parse "2021-01-03"))
    assert.equal("2021-W01", calendar.iso_week(calendar.parse "2021-01-04"))
    assert.equal(1, calendar.weekday(calendar.parse "2025-06-30"))
  end)
end)
