--- PRO-009 Purchase price variance: a line of a reserved vendor and material a case. Reason `price_under` needs a parameter, so
--- it cannot be planted.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local document = require "erp.demo.document"
local date, money, format = calendar.text, base.money, string.format

local LIST, LIMIT = 20000, 21000 -- smallest units of the currency: the reference and what is 5 % above it

local function material_id(c) return format("M6%06d", c.no) end
local function vendor_id(c) return base.vendor_id(400000 + c.no) end
local function contract_id(c) return format("CT9%06d", c.no) end

local function masters(c)
  document.vendor(c, 400000 + c.no)
  c.out.material:row { material_id = material_id(c), type = "ROH", base_uom = "EA", group = "G96", abc = "C", procurement = "buy",
    batch_managed = 0, valuated = 1, first_receipt = date(c.D - 500) }
  c.out.uom_conv:row { material_id = material_id(c), from_uom = "BOX", to_uom = "EA", num = 10, den = 1 }
end

local function list_price(c, price, fields)
  local row = { vendor_id = vendor_id(c), material_id = material_id(c), valid_from = "2015-01-01", price_unit = 1, uom = "EA",
    currency = c.company.currency }
  for name, value in pairs(fields or {}) do row[name] = value end
  row.price = money(price, row.currency)
  c.out.vendor_price:row(row)
end

-- An order of one line; `price` of an EA, qty in EA. k: the how-manieth of the case, `back` days before its day.
local function order(c, price, qty, line, opts)
  opts = opts or {}
  local lines = opts.lines or { { material_id = material_id(c), qty = qty, price = price, net = price * qty } }
  for name, value in pairs(line or {}) do lines[1][name] = value end
  return document.order(c, { id = format("42%07d%d", c.no, opts.k or 9), vendor = vendor_id(c), day = (opts.day or c:past(2)) - (opts.back or 0),
    currency = opts.currency, lines = lines, fields = opts.fields })
end

local function planted(c, po, more, line)
  return { key = po .. "|" .. (line or "10"), reason = "price_over", impact = more, currency = c.company.currency }
end

-- reference(c) writes what the price is compared with; line(price, qty) gives fields of the line.
local function case(name, reference, line, opts)
  return { name, function(c)
    masters(c)
    reference(c)
    local price, qty = LIMIT + 1, 20
    if opts and opts.any then
      price, qty = LIMIT + 1 + c:draw(3, 3000), 10 * 2 ^ c:draw(4, 12)
    end
    local po = order(c, price, qty, line and line(price, qty, c))
    return planted(c, po, (price - LIST) * qty)
  end }
end

local function decoy(trap, reference, price, qty, line, opts)
  return { trap, function(c)
    c.company = opts and opts.dollars and base.companies[1] or c.company
    masters(c)
    reference(c)
    return { key = order(c, price, qty, line and line(price, qty, c), opts) .. "|10" }
  end }
end

local function listed(c) list_price(c, LIST) end
local function listed_at_limit(c) list_price(c, LIMIT + 1) end
local function nothing() end

local function agreed(price)
  return function(c)
    c.out.contract:row { contract_id = contract_id(c), line = "10", vendor_id = vendor_id(c), kind = "quantity", valid_from = "2015-01-01",
      valid_to = "2035-12-31", target_qty = 1000000, currency = c.company.currency, material_id = material_id(c),
      price = money(price, c.company.currency), price_unit = 1, uom = "EA", deleted = 0 }
  end
end
local function call_off(_, _, c) return { contract_id = contract_id(c), contract_line = "10" } end

-- An even number of earlier orders, a month apart, around the reference.
local function history(n)
  return function(c)
    for k = 1, n do order(c, LIST + (k % 2 == 0 and 2 or -2), 5, nil, { k = k, back = 30 * (n - k + 1) }) end
  end
end

local function per_hundred(price) return { price = price * 100, price_unit = 100 } end
local function flag(name, value) return function() return { [name] = value or 1 } end end

return {
  id = "PRO-009",
  population = function(world) return world.pos * 3 end,
  cases = {
    case("one unit above the limit", listed),
    case("any", listed, nil, { any = true }),
    case("price for a hundred", listed, per_hundred),
    case("any, price for a hundred", listed, per_hundred, { any = true }),
    case("ordered in boxes", listed, function(price, qty)
      return { uom = "BOX", price_uom = "BOX", qty = qty / 10, price = price * 10 }
    end),
    case("ordered in boxes, priced by piece", listed, function(_, qty) return { uom = "BOX", qty = qty / 10 } end),
    case("price of the plant", function(c)
      listed_at_limit(c)
      list_price(c, LIST, { plant_id = c.company.plant })
    end),
    case("above the contract", function(c)
      listed_at_limit(c)
      agreed(LIST)(c)
    end, call_off),
    case("above the last orders", history(4)),
    case("above the cost", function(c)
      c.out.material_plant:row { material_id = material_id(c), plant_id = c.company.plant, safety_stock = 0, reorder_point = 0,
        lead_time_days = 20, unit_cost = money(LIST * 100, c.company.currency), price_unit = 100, currency = c.company.currency }
    end),
    case("newest price", function(c)
      list_price(c, LIMIT + 1)
      list_price(c, LIST, { valid_from = "2020-01-01" })
    end),
    case("price until the order date", function(c)
      list_price(c, LIST, { valid_to = date(c:past(2)) })
      list_price(c, LIMIT + 1, { valid_from = date(c:past(2) + 1) })
    end),
    { "price list in another currency", function(c)
      c.company = base.companies[1]
      masters(c)
      list_price(c, 20000, { currency = "EUR" }) -- 220.00 dollars
      local po = order(c, 23101, 20)
      return planted(c, po, (23101 - 22000) * 20)
    end },
    { "order in another currency", function(c)
      c.company = base.companies[1]
      masters(c)
      list_price(c, 22000)
      local po = order(c, 21001, 20, nil, { currency = "EUR" }) -- 231.011 dollars
      return planted(c, po, 22022)
    end },
  },
  decoys = {
    decoy("at_the_percentage", listed, LIMIT, 1000),
    decoy("at_the_amount", function(c) list_price(c, 2000) end, 2500, 20, nil, { dollars = true }),
    decoy("below_the_amount", function(c) list_price(c, 2000) end, 4000, 4, nil, { dollars = true }),
    decoy("cheaper", listed, LIST / 2, 1000),
    decoy("price_zero", listed, 0, 100),
    decoy("free_line", listed, LIMIT * 2, 20, flag "free"),
    decoy("return_line", listed, LIMIT * 2, 20, flag "is_return"),
    decoy("consignment_line", listed, LIMIT * 2, 20, flag("item_cat", "consignment")),
    decoy("estimated_price", listed, LIMIT * 2, 20, flag "est_price"),
    decoy("line_is_deleted", listed, LIMIT * 2, 20, flag "deleted"),
    decoy("order_is_deleted", listed, LIMIT * 2, 20, nil, { fields = { deleted = 1 } }),
    decoy("price_ended_before", function(c)
      list_price(c, LIST, { valid_to = date(c:past(2) - 1) })
      list_price(c, LIMIT + 1, { valid_from = date(c:past(2)) })
    end, LIMIT + 1, 100),
    decoy("plant_pays_more", function(c)
      listed(c)
      list_price(c, LIMIT + 1, { plant_id = c.company.plant })
    end, LIMIT + 1, 100),
    decoy("contract_price", function(c)
      listed(c)
      agreed(LIMIT + 1)(c)
    end, LIMIT + 1, 100, call_off),
    decoy("history_too_short", history(2), LIMIT * 2, 100),
    decoy("price_unit_equal", function(c) list_price(c, LIST * 100, { price_unit = 100 }) end, LIST, 100),
    decoy("other_currency_equal", function(c) list_price(c, 20000, { currency = "EUR" }) end, 22000, 1000, nil, { dollars = true }),
    decoy("no_reference", nothing, LIMIT * 2, 100),
    { "dearer_line_of_one_order", function(c)
      masters(c)
      local lines = {}
      for k = 1, 5 do
        local price = k == 5 and LIMIT * 2 or LIST
        lines[k] = { material_id = material_id(c), qty = 5, price = price, net = price * 5 }
      end
      return { key = order(c, nil, nil, nil, { lines = lines }) .. "|50" }
    end },
    { "line_after_key_date", function(c)
      masters(c)
      listed(c)
      return { key = order(c, LIMIT * 2, 20, nil, { day = c.D + 1 }) .. "|10" }
    end },
  },
}
