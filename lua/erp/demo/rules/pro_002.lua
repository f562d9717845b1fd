--- PRO-002 Vendor compliance violation: an order of a reserved vendor a case, with a material of its own where a source list is
--- needed. Reason `country` needs a parameter, so it cannot be planted.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local document = require "erp.demo.document"
local date, money, format = calendar.text, base.money, string.format

local function vendor(c, fields, k) return document.vendor(c, 700000 + c.no * 2 + (k or 0), fields) end
local function material_id(c) return format("M7%06d", c.no) end

local function cert(c, vendor_id, kind, from, to, mandatory)
  c.out.vendor_cert:row { vendor_id = vendor_id, cert_type = kind, valid_from = from and date(from) or "", valid_to = to and date(to) or "",
    mandatory = mandatory or 1 }
end

local function source(c, vendor_id, fields)
  local row = { material_id = material_id(c), plant_id = c.company.plant, vendor_id = vendor_id, valid_from = date(c.D - 500), blocked = 0 }
  for name, value in pairs(fields or {}) do row[name] = value end
  c.out.source_list:row(row)
end

-- A material that the vendor has a price for, so that the price is right whatever it is.
local function material(c, vendor_id, amount)
  c.out.material:row { material_id = material_id(c), type = "ROH", base_uom = "EA", group = "G97", abc = "C", procurement = "buy",
    batch_managed = 0, valuated = 1, first_receipt = date(c.D - 500) }
  c.out.vendor_price:row { vendor_id = vendor_id, material_id = material_id(c), valid_from = "2015-01-01",
    price = money(amount, c.company.currency), price_unit = 1, uom = "EA", currency = c.company.currency }
end

local function order(c, vendor_id, amount, fields, line)
  return document.order(c, { id = format("46%08d", c.no), vendor = vendor_id, day = c:past(2), fields = fields,
    lines = { line or { net = amount, price = amount } } })
end

local function fire(c, po, reason, amount)
  local floor = reason == "self_approval" and "high" or nil
  return { key = po .. "|" .. reason, reason = reason, impact = amount, currency = c.company.currency, severity = { floor = floor } }
end

-- certs(c, day, vendor_id) writes the certificates.
local function cert_case(name, certs)
  return { name, function(c)
    local amount, id = c:amount(), vendor(c)
    certs(c, c:past(2), id)
    return fire(c, order(c, id, amount), "cert", amount)
  end }
end

local function cert_decoy(trap, certs, fields)
  return { trap, function(c)
    local id = vendor(c)
    certs(c, c:past(2), id)
    return { key = order(c, id, c:amount(), fields) .. "|cert" }
  end }
end

-- sources(c, day, vendor_id, other) writes the source list.
local function source_order(c, sources, line)
  local amount, id, other = c:amount(), vendor(c), vendor(c, nil, 1)
  material(c, id, amount)
  sources(c, c:past(2), id, other)
  local fields = { material_id = material_id(c), net = amount, price = amount }
  for name, value in pairs(line or {}) do fields[name] = value end
  return order(c, id, amount, nil, fields), amount
end

local function source_case(name, sources)
  return { name, function(c)
    local po, amount = source_order(c, sources)
    return fire(c, po, "source_list", amount)
  end }
end

local function source_decoy(trap, sources, line)
  return { trap, function(c) return { key = (source_order(c, sources, line)) .. "|source_list" } end }
end

local function vendor_case(name, vendor_fields, order_fields, reason)
  return { name, function(c)
    local amount = c:amount()
    return fire(c, order(c, vendor(c, vendor_fields), amount, order_fields), reason, amount)
  end }
end

local function vendor_decoy(trap, vendor_fields, order_fields, reason)
  return { trap, function(c) return { key = order(c, vendor(c, vendor_fields), c:amount(), order_fields) .. "|" .. reason } end }
end

local own = { created_by = "BUYER01", approved_by = "BUYER01" }

return {
  id = "PRO-002",
  population = function(world) return world.pos end,
  cases = {
    cert_case("certificate expired the day before", function(c, day, id) cert(c, id, "ISO9001", day - 300, day - 1) end),
    cert_case("certificate begins the day after", function(c, day, id) cert(c, id, "ISO9001", day + 1, day + 300) end),
    cert_case("certificate missing", function(c, _, id) cert(c, id, "ISO9001") end),
    cert_case("one of two expired", function(c, day, id)
      cert(c, id, "ISO9001", day - 300, day + 300)
      cert(c, id, "REACH", day - 300, day - 100)
    end),
    vendor_case("rated 4", { rating = 4 }, nil, "rating"),
    vendor_case("rated 5", { rating = 5 }, nil, "rating"),
    source_case("not in the source list", function(c, _, _, other) source(c, other) end),
    source_case("blocked in the source list", function(c, _, id) source(c, id, { blocked = 1 }) end),
    source_case("listed until the day before", function(c, day, id, other)
      source(c, id, { valid_to = date(day - 1) })
      source(c, other)
    end),
    vendor_case("approved by the buyer", nil, own, "self_approval"),
    { "two reasons", function(c)
      local amount = c:amount()
      local po = order(c, vendor(c, { rating = 5 }), amount, own)
      local first = fire(c, po, "rating", amount)
      first.more = { fire(c, po, "self_approval", amount) }
      return first
    end },
  },
  decoys = {
    cert_decoy("certificate_ends_on_order_date", function(c, day, id) cert(c, id, "ISO9001", day - 300, day) end),
    cert_decoy("certificate_begins_on_order_date", function(c, day, id) cert(c, id, "ISO9001", day, day + 300) end),
    cert_decoy("certificate_not_mandatory", function(c, day, id) cert(c, id, "ISO9001", day - 300, day - 1, 0) end),
    cert_decoy("certificate_without_end", function(c, day, id) cert(c, id, "ISO9001", day - 300) end),
    cert_decoy("order_deleted_with_expired_certificate", function(c, day, id) cert(c, id, "ISO9001", day - 300, day - 1) end, { deleted = 1 }),
    vendor_decoy("rated_3", { rating = 3 }, nil, "rating"),
    vendor_decoy("not_rated", { rating = "" }, nil, "rating"),
    source_decoy("in_the_source_list", function(c, _, id, other) source(c, id) source(c, other) end),
    source_decoy("source_list_begins_later", function(c, day, _, other) source(c, other, { valid_from = date(day + 1) }) end),
    source_decoy("source_list_of_another_plant", function(c, _, _, other)
      source(c, other, { plant_id = c.company.plant == "P100" and "P200" or "P100" })
    end),
    source_decoy("all_others_blocked", function(c, _, _, other) source(c, other, { blocked = 1 }) end),
    source_decoy("line_deleted", function(c, _, _, other) source(c, other) end, { deleted = 1 }),
    vendor_decoy("approved_by_another", nil, { created_by = "BUYER01", approved_by = "BUYER02" }, "self_approval"),
    vendor_decoy("not_approved_at_key_date", nil, { created_by = "BUYER01", approved_by = "BUYER01", approval = "pending",
      approved_date = "", sent = 0, sent_date = "" }, "self_approval"),
  },
}
