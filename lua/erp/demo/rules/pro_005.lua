--- PRO-005 Missing or late approval: an order of a reserved vendor a case, above the limit from which approval is asked for.
local calendar = require "erp.calendar"
local document = require "erp.demo.document"
local date, format, floor = calendar.text, string.format, math.floor

local PENDING = { approval = "pending", approved_date = "", approved_by = "", sent = 0, sent_date = "" }

local function limit(c) return c.company.currency == "JPY" and 750000 or 500000 end
local function vendor(c) return document.vendor(c, 600000 + c.no) end

-- An order over four pieces with a price that is an amount, from the limit on.
local function order(c, opts)
  local piece = opts.piece or math.max(c:amount(), limit(c))
  local fields = {}
  for name, value in pairs(opts.fields or {}) do fields[name] = value end
  c.vendor_id = vendor(c)
  return document.order(c, { id = format("44%08d", c.no), vendor = c.vendor_id, day = c:past(2), fields = fields,
    lines = { { qty = opts.qty or 4, price = piece, net = piece * (opts.qty or 4) } } }), piece
end

local function receipt(c, po, day, qty, fields, k) return document.receipt(c, format("59%08d%d", c.no, k or 1), po, day, qty, fields) end
local function invoice(c, po, day, net, fields, k)
  return document.invoice(c, format("57%08d%d", c.no, k or 1), po, c.vendor_id, day, net, fields)
end

-- fn(c, po, day, piece) writes what commits; it returns the pieces that count, nil: all four.
local function case(name, reason, fields, fn)
  return { name, function(c)
    local day = c:past(2)
    local po, piece = order(c, { fields = type(fields) == "function" and fields(c, day) or fields })
    local pieces = fn and fn(c, po, day, piece) or 4
    return { key = po, reason = reason, impact = piece * pieces, currency = c.company.currency,
      severity = { floor = reason == "rejected" and "high" or "medium" } }
  end }
end

local function decoy(trap, fields, fn, opts)
  return { trap, function(c)
    local day, o = c:past(2), {}
    for name, value in pairs(opts and opts(c) or {}) do o[name] = value end
    o.fields = type(fields) == "function" and fields(c, day) or fields
    local po, piece = order(c, o)
    if fn then fn(c, po, day, piece) end
    return { key = po }
  end }
end

local function pending(more)
  local fields = {}
  for name, value in pairs(PENDING) do fields[name] = value end
  for name, value in pairs(more or {}) do fields[name] = value end
  return fields
end
local function sent_on(day, more)
  local fields = { sent = 1, sent_date = date(day) }
  for name, value in pairs(more or {}) do fields[name] = value end
  return fields
end
local function framework(c) return { piece = limit(c) * 20, qty = 1 } end

return {
  id = "PRO-005",
  population = function(world) return floor(world.pos / 2) end,
  cases = {
    case("rejected and received", "rejected", pending { approval = "rejected" }, function(c, po, day)
      receipt(c, po, day + 5, 3)
      return 3
    end),
    case("rejected and sent", "rejected", function(_, day) return pending(sent_on(day, { approval = "rejected" })) end),
    case("pending and received", "unapproved", pending(), function(c, po, day)
      receipt(c, po, day + 5, 1)
      return 1
    end),
    case("pending and invoiced", "unapproved", pending(), function(c, po, day, piece)
      invoice(c, po, day + 5, piece * 2)
      return 2
    end),
    case("received and more invoiced", "unapproved", pending(), function(c, po, day, piece)
      receipt(c, po, day + 5, 1)
      invoice(c, po, day + 6, piece * 3)
      return 3
    end),
    case("received and partly returned", "unapproved", pending(), function(c, po, day)
      receipt(c, po, day + 5, 3)
      receipt(c, po, day + 9, -1, { kind = "return", movement = "122" }, 2)
      return 2
    end),
    case("partly approved and sent", "unapproved", function(_, day) return pending(sent_on(day, { approval = "partial" })) end),
    case("sent, no date is known", "unapproved", pending { sent = 1 }),
    case("approved after the key date", "unapproved", function(c, day)
      return sent_on(day, { approved_date = date(c.D + 1) })
    end),
    case("approved the day after it was sent", "late", function(_, day) return sent_on(day, { approved_date = date(day + 1) }) end),
    case("approved after the first receipt", "late", function(_, day) return { sent = 0, sent_date = "", approved_date = date(day + 9) } end,
      function(c, po, day)
        receipt(c, po, day + 8, 1)
        receipt(c, po, day + 9, 3, nil, 2)
        return 1
      end),
    case("approved after the invoice", "late", function(_, day) return { sent = 0, sent_date = "", approved_date = date(day + 9) } end,
      function(c, po, day, piece)
        invoice(c, po, day + 5, piece * 4)
        return 4
      end),
    { "one unit above the last level", function(c)
      local piece = limit(c) * 20 + 1
      local po = order(c, { piece = piece, qty = 1, fields = { doc_type = "FO" } })
      return { key = po, reason = "over_limit", impact = piece, currency = c.company.currency, severity = { floor = "medium" } }
    end },
  },
  decoys = {
    decoy("no_commitment", pending()),
    decoy("one_unit_below_the_limit", pending(), function(c, po, day) receipt(c, po, day + 5, 1) end,
      function(c) return { piece = limit(c) - 1, qty = 1 } end),
    decoy("document_type_without_approval", pending { doc_type = "XX" }, function(c, po, day) receipt(c, po, day + 5, 4) end),
    decoy("receipt_reversed", pending(), function(c, po, day)
      local id = receipt(c, po, day + 5, 4)
      receipt(c, po, day + 6, -4, { kind = "reversal", movement = "102", reverses = id }, 2)
    end),
    decoy("receipt_after_key_date", pending(), function(c, po) receipt(c, po, c.D + 1, 4) end),
    decoy("sent_after_key_date", function(c) return pending { sent = 1, sent_date = date(c.D + 1) } end),
    decoy("invoice_parked", pending(), function(c, po, day, piece) invoice(c, po, day + 5, piece, { status = "parked" }) end),
    decoy("invoice_reversed", pending(), function(c, po, day, piece)
      local id = invoice(c, po, day + 5, piece, { status = "cancelled", reversed_by = format("57%08d2", c.no) })
      invoice(c, po, day + 6, -piece, { reverses = id }, 2)
    end),
    decoy("credit_memo_only", pending(), function(c, po, day, piece) invoice(c, po, day + 5, -piece) end),
    decoy("approved_on_the_day", function(_, day) return sent_on(day) end, function(c, po, day) receipt(c, po, day, 4) end),
    decoy("order_deleted_and_received", pending { deleted = 1 }, function(c, po, day) receipt(c, po, day + 5, 4) end),
    decoy("approval_not_required", pending { approval = "not_required" }, function(c, po, day) receipt(c, po, day + 5, 4) end),
    decoy("at_the_last_level", { doc_type = "FO" }, nil, framework),
    decoy("within_the_second_level", { doc_type = "FO" }, nil, function(c) return { piece = limit(c) * 4 + 1, qty = 1 } end),
  },
}
