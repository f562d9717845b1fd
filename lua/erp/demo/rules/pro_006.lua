--- PRO-006 Split orders: two or more orders of a reserved vendor and one buyer a case.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local document = require "erp.demo.document"
local date, format, floor = calendar.text, string.format, math.floor

local function limit(c) return c.company.currency == "JPY" and 750000 or 500000 end

-- Orders given as {day after the first, amount, fields?, line fields?, currency?}; the ids are in that order.
local function orders(c, list)
  local first, vendor = c:past(2), document.vendor(c, 500000 + c.no * 2)
  local keys = {}
  for k, o in ipairs(list) do
    local fields = { approval = "not_required", approved_date = "", approved_by = "", created_by = "BUYER07" }
    for name, value in pairs(o[3] or {}) do fields[name] = value end
    local line = { net = o[2], price = o[2] }
    for name, value in pairs(o[4] or {}) do line[name] = value end
    if fields.sent_date == nil then fields.sent_date = date(first + o[1]) end
    keys[k] = document.order(c, { id = format("43%07d%02d", c.no, k), vendor = o[3] and o[3].vendor_id or vendor, day = first + o[1],
      lines = { line }, fields = fields, currency = o[5] })
  end
  return keys
end

local function planted(c, key, impact)
  return { key = key, reason = "split", impact = impact, currency = c.company.currency, severity = { floor = "medium" } }
end

local function total(list)
  local sum = 0
  for _, o in ipairs(list) do sum = sum + o[2] end
  return sum
end

-- list(c, L) gives the orders; they are one window from the `from`-th to the `to`-th.
local function case(name, list, from, to)
  return { name, function(c)
    local all = list(c, limit(c))
    local keys, window = orders(c, all), {}
    for k = from or 1, to or #all do window[#window + 1] = all[k] end
    return planted(c, keys[from or 1], total(window))
  end }
end

local function decoy(trap, list)
  return { trap, function(c) return { key = orders(c, list(c, limit(c)))[1] } end }
end

local function half(L) return floor(L / 2) end
local function many(c, n)
  local list, L = {}, limit(c)
  for k = 1, n do list[k] = { floor((k - 1) * 7 / n), L - 1 - c:draw(k, 1000) } end
  return list
end

return {
  id = "PRO-006",
  population = function(world) return world.pos end,
  cases = {
    case("exactly the limit", function(_, L) return { { 0, half(L) }, { 3, L - half(L) } } end),
    case("on the last day of the window", function(c, L) return { { 0, L - 1 }, { 7, 1 + c:draw(1, 100000) } } end),
    case("on one day", function(_, L) return { { 0, half(L) }, { 0, half(L) + 1 } } end),
    case("three orders", function(_, L) return { { 0, half(L) }, { 2, half(L) }, { 5, 100 } } end),
    case("a dozen", function(c) return many(c, 12) end),
    case("thirty", function(c) return many(c, 30) end),
    case("one before that is too early", function(_, L) return { { 0, 100 }, { 8, half(L) }, { 9, L - half(L) } } end, 2),
    case("approved one by one", function(_, L)
      local approved = { approval = "approved", approved_by = "MGR02" }
      return { { 0, half(L), approved }, { 1, half(L) + 1, approved } }
    end),
    { "two windows", function(c)
      local L = limit(c)
      local list = { { 0, L - 1 }, { 7, L - 2 }, { 8, L - 3 }, { 9, L - 4 } }
      local keys = orders(c, list)
      local first = planted(c, keys[1], list[1][2] + list[2][2])
      first.more = { planted(c, keys[3], list[3][2] + list[4][2]) }
      return first
    end },
    { "in another currency", function(c)
      c.company = base.companies[1]
      -- 2 x 2,300.00 euros are 5,060.00 dollars.
      local keys = orders(c, { { 0, 230000, nil, nil, "EUR" }, { 2, 230000, nil, nil, "EUR" } })
      return planted(c, keys[1], base.convert(460000, "EUR", "USD"))
    end },
  },
  decoys = {
    decoy("one_unit_below_together", function(_, L) return { { 0, half(L) }, { 3, L - half(L) - 1 } } end),
    decoy("eight_days_apart", function(_, L) return { { 0, L - 1 }, { 8, L - 1 } } end),
    decoy("other_buyer", function(_, L) return { { 0, L - 1 }, { 1, L - 1, { created_by = "BUYER08" } } } end),
    decoy("one_at_the_limit", function(_, L)
      return { { 0, L, { approval = "approved", approved_by = "MGR02" } }, { 1, L - 1 } }
    end),
    decoy("one_deleted", function(_, L) return { { 0, L - 1 }, { 1, L - 1, { deleted = 1 } } } end),
    decoy("another_vendor", function(c, L)
      return { { 0, L - 1 }, { 1, L - 1, { vendor_id = document.vendor(c, 500001 + c.no * 2) } } }
    end),
    decoy("single_order", function(_, L) return { { 0, L - 1 } } end),
    decoy("call_offs", function(_, L)
      return { { 0, L - 1, nil, { contract_id = "CTX", contract_line = "10" } }, { 1, L - 1, nil, { contract_id = "CTX", contract_line = "10" } } }
    end),
    decoy("returns_together", function(_, L) return { { 0, L - 1, nil, { is_return = 1 } }, { 1, L - 1, nil, { is_return = 1 } } } end),
    decoy("other_currency_below", function(c)
      c.company = base.companies[1]
      return { { 0, 227000, nil, nil, "EUR" }, { 2, 227000, nil, nil, "EUR" } }
    end),
  },
}
