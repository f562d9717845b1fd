--- IMT-007 Duplicate invoice, exact: invoices without order of a reserved vendor a case.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local date, money, format = calendar.text, base.money, string.format

local function vendor_id(c, k) return format("V%06d", 800000 + c.no * 2 + (k or 0)) end

-- The vendor rows, then the invoices; fields[k] change the k-th one. Returns the key of the one with the given place.
local function invoices(c, gross, fields)
  local day, vendors = c:past(2), {}
  local keys = {}
  for k, change in ipairs(fields) do
    local tax = math.floor(gross * c.company.tax / (100 + c.company.tax))
    local id = format("52%08d%d", c.no, k)
    local row = { invoice_id = id, fiscal_year = date(day):sub(1, 4), company_id = c.company.id, vendor_id = vendor_id(c),
      reference = format("RE-%05d", c.no), doc_date = date(day), posting_date = date(day + 1), entry_date = date(day + k * 3),
      currency = c.company.currency, fx_rate = "1.0000", gross = money(gross, c.company.currency),
      tax = money(tax, c.company.currency), kind = "invoice", status = "posted",
      created_by = format("CLERK%02d", k), due_date = date(day + 30), is_recurring = 0 }
    for name, value in pairs(type(change) == "function" and change(c, day, gross, id) or change) do row[name] = value end
    if row.status == "paid" then row.pay_date = row.pay_date or date(day + 30) end
    vendors[row.vendor_id] = true
    c.out.invoice:row(row)
    keys[k] = row.invoice_id .. "|" .. row.fiscal_year
  end
  for k = 0, 1 do
    if vendors[vendor_id(c, k)] then
      local row = c.world:vendor_row(800000 + c.no * 2 + k)
      c.out.vendor:row(row)
    end
  end
  return keys
end

local function case(name, reason, severity, fields, first)
  return { name, function(c)
    local gross = c:amount()
    local keys = invoices(c, gross, fields)
    return { key = keys[first or 1], reason = reason, impact = gross * (#fields - 1), currency = c.company.currency,
      severity = severity }
  end }
end

local function decoy(trap, fields)
  return { trap, function(c) return { key = invoices(c, c:amount(), fields)[1] } end }
end

local paid = { status = "paid" }
local function padded(c) return { reference = format("00re %05d", c.no) } end

return {
  id = "IMT-007",
  population = function(world) return world.pos * 13 / 10 end,
  cases = {
    case("open pair", "exact", {}, { {}, {} }),
    case("both paid", "exact", { floor = "high" }, { paid, paid }),
    case("one paid", "exact", {}, { paid, {} }),
    case("three members", "exact", { floor = "high" }, { paid, {}, paid }),
    case("reference spelled otherwise", "exact", {}, { {}, padded }),
    case("entered in another order", "exact", {}, { function(_, day) return { entry_date = date(day + 30) } end, {} }, 2),
    case("paid after the key date", "exact", {}, { paid, function(c) return { status = "paid", pay_date = date(c.D + 1) } end }),
    case("no reference", "no_reference", { step = -1 }, { { reference = "" }, { reference = "" } }),
    case("no reference, paid", "no_reference", { step = -1 },
      { { reference = "", status = "paid" }, { reference = "", status = "paid" } }),
    case("blocked for payment", "exact", {}, { {}, { status = "blocked" } }),
  },
  decoys = {
    decoy("gross_one_unit_off", { {}, function(c, _, gross) return { gross = money(gross + 1, c.company.currency) } end }),
    decoy("date_one_day_off", { {}, function(_, day) return { doc_date = date(day + 1) } end }),
    decoy("other_reference", { {}, function(c) return { reference = format("RE-%05dA", c.no) } end }),
    decoy("other_currency", { {}, function(c) return { currency = c.company.currency == "EUR" and "USD" or "EUR" } end }),
    decoy("other_company", { {}, function(c) return { company_id = c.company.id == "1000" and "2000" or "1000" } end }),
    decoy("other_vendor", { {}, function(c) return { vendor_id = vendor_id(c, 1) } end }),
    decoy("reversed_member", { function(_, _, _, id) return { status = "cancelled", reversed_by = id:sub(1, -2) .. "3" } end, {},
      function(c, _, gross, id) return { kind = "credit_memo", reverses = id:sub(1, -2) .. "1",
        gross = money(-gross, c.company.currency), reference = format("ST%05d", c.no) } end }),
    decoy("credit_memo_pair", { {}, {}, function(c, day, gross) return { kind = "credit_memo", doc_date = date(day + 2),
      posting_date = date(day + 3), gross = money(-gross, c.company.currency) } end }),
    -- Entered on one day, due on different days.
    decoy("instalments", { {}, function(_, day) return { due_date = date(day + 60), entry_date = date(day + 3) } end }),
    decoy("down_payment", { {}, { kind = "down_payment" } }),
    decoy("member_after_key_date", { {}, function(c) return { posting_date = date(c.D + 1), entry_date = date(c.D + 1) } end }),
    decoy("same_row_twice", { function(c, day) return { entry_date = date(day), invoice_id = format("52%08d9", c.no), created_by = "CLERK01" } end,
      function(c, day) return { entry_date = date(day), invoice_id = format("52%08d9", c.no), created_by = "CLERK01" } end }),
  },
}
