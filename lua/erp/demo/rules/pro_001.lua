--- PRO-001 Unapproved vendor: one order of a reserved vendor a case; a text line, so no price or stock is touched.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local document = require "erp.demo.document"
local date = calendar.text

local function order(c, vendor, amount, fields)
  return document.order(c, { id = string.format("47%08d", c.no), vendor = vendor, day = c.ordered or c:past(2), amount = amount,
    fields = fields })
end

local function vendor(c, fields) return document.vendor(c, 900000 + c.no, fields) end

-- A case: the vendor's fields as a function of the order date.
local function case(reason, fields, severity)
  return { reason, function(c)
    local day, amount = c:past(2), c:amount()
    if reason == "one_time" then
      -- The limit is 1,000 in the company's currency: dollars only, from the smallest unit above it.
      c.company = base.companies[1]
      amount = math.max(c:amount() % 2000000, 100001)
    end
    return { key = order(c, vendor(c, fields(day, c)), amount), reason = reason, impact = amount,
      currency = c.company.currency, severity = severity or { floor = "medium" } }
  end }
end

local function decoy(trap, fields, order_fields, amount)
  return { trap, function(c)
    c.company = amount and base.companies[1] or c.company
    local id = vendor(c, fields(c:past(2), c))
    return { key = order(c, id, amount or c:amount(), order_fields) }
  end }
end

return {
  id = "PRO-001",
  population = function(world) return world.pos end,
  cases = {
    { "unknown", function(c)
      local amount = c:amount()
      return { key = order(c, string.format("V%06d", 900000 + c.no), amount), reason = "unknown", impact = amount,
        currency = c.company.currency, severity = { floor = "medium" } }
    end },
    case("deleted", function(day) return { status = "deleted", blocked_from = date(day) } end),
    case("blocked", function(day) return { status = "blocked", blocked_from = date(day - 1) } end),
    case("current_status", function() return { status = "blocked" } end, { step = -1, floor = "medium" }),
    case("not_approved", function(day) return { approved_from = date(day + 1) } end),
    case("not_approved", function(day) return { approved_to = date(day - 1) } end),
    case("role", function() return { role_supplier = 0 } end),
    case("one_time", function() return { one_time = 1 } end),
    -- The first reason counts: blocked before the missing role.
    case("blocked", function(day) return { status = "blocked", blocked_from = date(day - 100), role_supplier = 0 } end),
  },
  decoys = {
    decoy("blocked_after_order", function(day) return { status = "blocked", blocked_from = date(day + 1) } end),
    decoy("blocked_after_key_date", function(_, c) return { status = "blocked", blocked_from = date(c.D + 1) } end),
    decoy("approved_to_on_order_date", function(day) return { approved_to = date(day) } end),
    decoy("approved_from_on_order_date", function(day) return { approved_from = date(day) } end),
    decoy("one_time_at_limit", function() return { one_time = 1 } end, nil, 100000),
    decoy("one_time_below_limit", function() return { one_time = 1 } end, nil, 99999),
    decoy("order_deleted", function() return { status = "blocked" } end, { deleted = 1 }),
    { "order_after_key_date", function(c)
      c.ordered = c.D + 1
      return { key = order(c, vendor(c, { role_supplier = 0 }), c:amount()) }
    end },
  },
}
