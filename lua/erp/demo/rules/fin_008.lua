--- FIN-008 Tax arithmetic error: a tax item of a document of its own a case.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local date, money, format, floor = calendar.text, base.money, string.format, math.floor

-- Tax of a base by a rate in whole per cent, to the smallest unit, half away from zero.
local function tax_of(amount, rate) return floor((amount * rate + 50) / 100) end

local function item(c, k, amount, tax, fields)
  local day = fields and fields.day or c:past(2)
  local row = { company_id = c.company.id, doc_id = format("56%08d", c.no), fiscal_year = date(day):sub(1, 4), line = tostring(k),
    tax_code = c.company.tax_code, tax_date = date(day), direction = "in", base_doc = money(amount, c.company.currency),
    tax_doc = money(tax, c.company.currency), base_lines = 1, currency = c.company.currency, direct = 0, partner_id = base.vendor_id(1) }
  for name, value in pairs(fields or {}) do
    if name ~= "day" then row[name] = value end
  end
  c.out.tax_item:row(row)
  return table.concat({ row.company_id, row.doc_id, row.fiscal_year, row.line }, "|")
end

-- "floor medium if |diff| > 100": a hundred of the document's currency.
local function planted(c, key, diff)
  local hundred = 100 * (c.company.currency == "JPY" and 1 or 100)
  return { key = key, reason = "tax", impact = diff, currency = c.company.currency,
    severity = { floor = math.abs(diff) > hundred and "medium" or nil } }
end

-- diff(c) is what the tax is wrong by.
local function case(name, diff, fields)
  return { name, function(c)
    local amount, off = c:amount() + 100000, diff(c)
    return planted(c, item(c, 1, amount, tax_of(amount, c.company.tax) + off, type(fields) == "function" and fields(c) or fields), off)
  end }
end

local function decoy(trap, diff, fields)
  return { trap, function(c)
    local amount = c:amount() + 100000
    return { key = item(c, 1, amount, tax_of(amount, c.company.tax) + diff, fields and fields(c)) }
  end }
end

local function hundred(c) return c.company.currency == "JPY" and 100 or 10000 end
local function reduced(c, day, rate)
  local amount = c:amount() + 100000
  return amount, tax_of(amount, rate), { tax_code = "IR", day = day }
end

return {
  id = "FIN-008",
  population = function(world) return world.pos end,
  cases = {
    case("two units", function() return 2 end),
    case("two units too little", function() return -2 end),
    case("any", function(c) return floor(c:amount() / 4) + 2 end),
    case("output tax too low", function(c) return -(2 + c:draw(3, 5000)) end, { direction = "out" }),
    case("a hundred", hundred),
    case("a hundred and one unit", function(c) return hundred(c) + 1 end),
    case("four units over three lines", function() return 4 end, { base_lines = 3 }),
    { "old rate", function(c)
      local day = c.D - 200
      local amount = c:amount() + 100000
      return planted(c, item(c, 1, amount, tax_of(amount, 5), { tax_code = "IR", day = day }), tax_of(amount, 5) - tax_of(amount, 6))
    end },
    { "expected tax is given", function(c)
      local amount = c:amount() + 100000
      local expected = tax_of(amount, c.company.tax) + 3 -- rounded line by line
      return planted(c, item(c, 1, amount, expected + 9, { base_lines = 8, tax_code = "", expected_doc = money(expected, c.company.currency) }), 9)
    end },
    { "credit memo", function(c)
      local amount = c:amount() + 100000
      return planted(c, item(c, 1, -amount, -tax_of(amount, c.company.tax) - 2), -2)
    end },
  },
  decoys = {
    decoy("one_unit", 1),
    decoy("one_unit_too_little", -1),
    decoy("a_unit_a_line", 3, function() return { base_lines = 3 } end),
    decoy("customs_invoice", 500, function() return { direct = 1 } end),
    decoy("tax_after_key_date", 5000, function(c) return { day = c.D + 1 } end),
    { "half_a_unit", function(c)
      -- The exact tax ends on half a unit: rounded up, one unit more is allowed.
      local amount = ({ USD = 10000 * 100 + 25 * 25, EUR = 100050, JPY = 100005 })[c.company.currency]
      return { key = item(c, 1, amount, tax_of(amount, c.company.tax) + 1) }
    end },
    { "reverse_charge", function(c)
      local amount = c:amount() + 100000
      local tax = tax_of(amount, c.company.tax)
      item(c, 2, amount, tax, { tax_code = "RC" })
      return { key = item(c, 1, amount, -tax, { tax_code = "RC" }) }
    end },
    { "expected_tax", function(c)
      local amount = c:amount() + 100000
      local expected = tax_of(amount, c.company.tax) + 20
      return { key = item(c, 1, amount, expected, { expected_doc = money(expected, c.company.currency) }) }
    end },
    { "old_rate_then", function(c)
      local amount, tax, fields = reduced(c, c.D - 201, 5)
      return { key = item(c, 1, amount, tax, fields) }
    end },
    { "new_rate_now", function(c)
      local amount, tax, fields = reduced(c, c.D - 200, 6)
      return { key = item(c, 1, amount, tax, fields) }
    end },
  },
}
