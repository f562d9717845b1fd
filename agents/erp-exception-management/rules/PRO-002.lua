-- An order that breaks a rule of compliance (erp-rules.md, PRO-002). One finding an order and reason.
local purchasing = require "purchasing"

local CHECKS = { "cert", "rating", "country", "source_list", "self_approval" }
local PLACE, VALID = { "material_id", "plant_id" }, { at = "order.order_date", from = "valid_from", until_ = "valid_to" }

local function asked(reason)
  return function(p)
    if reason == "country" and #(p.restricted_countries or {}) == 0 then return false end
    for _, name in ipairs(p.checks or CHECKS) do
      if name == reason then return true end
    end
    return false
  end
end

-- What each check adds to the orders, the condition under which an order breaks it, and what explains that.
local check = {}

-- A vendor without one of its mandatory certificates on the order date. One that has neither begin nor end is missing.
function check.cert(t, p, orders)
  local grace = p.cert_grace_days or 0
  local missing = t:has "vendor_cert.valid_from" and { { "valid_from", "null" }, { "valid_to", "null" } } or { { "cert_type", "null" } }
  local mandatory = t.vendor_cert:where { { "mandatory", "eq", true } }
  local certs = mandatory:group({ "vendor_id" }, { missing = { "count", where = missing }, from = { "max", "valid_from" },
    until_ = { "min", "valid_to" } })
  return orders:with("cert", certs, { "vendor_id" }), { "any",
    { "cert.missing", "gt", 0 },
    { "order_date", "gt", { "cert.until_", plus = grace } },
    { "order_date", "lt", { "cert.from", plus = -grace } } }, mandatory:sort { "cert_type" }:index { "vendor_id" }
end

function check.rating(_, p, orders) return orders, { "vendor.rating", "ge", p.bad_rating } end

function check.country(_, p, orders) return orders, { "vendor.country", "in", p.restricted_countries } end

-- A line whose material and plant have a source list, in which the vendor is not, or is blocked. A blocked row lists nobody.
function check.source_list(t, _, orders)
  local lines = t.po_line:only(t.source_list, PLACE):without { { "deleted", "eq", true } }
    :with("order", orders, { "po_id" }):where { { "order", "found" } }
    :with("own", t.source_list, { material_id = "material_id", plant_id = "plant_id", vendor_id = "order.vendor_id" }, VALID)
    :without { { "all", { "own", "found" }, { "own.blocked", "eq", false } } }
    :with("other", t.source_list:without { { "blocked", "eq", true } }, PLACE, VALID)
    :where { { "any", { "own", "found" }, { "other", "found" } } }
  return orders:with("source", lines, { "po_id" }), { "source", "found" }, lines:sort { "line" }:index { "po_id" }
end

-- What is not approved (any more) at the key date has no approver yet.
function check.self_approval(_, _, orders)
  return orders, { "all", { "created_by", "eq", { "approved_by" } }, { "not", { "approval", "eq", "pending" } } }
end

local explain = {}

function explain.cert(t, p, order, certs_of)
  local grace, list = p.cert_grace_days or 0, {}
  for cert in certs_of:all(order.vendor_id):each() do
    local from, to = cert.valid_from, cert.valid_to
    local missing = from == nil and to == nil
    local day = order.order_date
    if missing or day and ((to and day > to + grace) or (from and day < from - grace)) then
      list[#list + 1] = { cert_type = cert.cert_type, valid_from = t.iso(from), valid_to = t.iso(to), source = cert.src }
    end
  end
  return "has no valid certificate " .. list[1].cert_type, { certificates = list }
end

function explain.rating(_, _, order) return "is rated " .. order["vendor.rating"] end

function explain.country(_, _, order) return "is in the restricted country " .. order["vendor.country"] end

function explain.source_list(t, _, order, lines_of)
  local lines = lines_of:all(order.po_id)
  local list = lines:list(10, function(line)
    return { line = line.line, material_id = line.material_id, plant_id = line.plant_id, blocked = line["own.blocked"],
      valid_from = t.iso(line["own.valid_from"]), valid_to = t.iso(line["own.valid_to"]), source = line.src }
  end)
  return "is no valid source of material " .. lines:row(1).material_id, { lines = list, line_count = lines:count() }
end

function explain.self_approval(_, _, order) return ("had its order created and approved by %s"):format(order.created_by) end

rule {
  id = "PRO-002",
  title = "Vendor compliance violation",
  category = "procurement",
  params = {
    bad_rating = { "integer", 4 },
    restricted_countries = { "list", {} },
    checks = { "list", CHECKS },
    cert_grace_days = { "integer", 0 },
  },
  requires = { "purchase_order.vendor_id" },
  reasons = {
    { "cert", needs = { "vendor_cert.valid_to" }, when = asked "cert" },
    { "rating", needs = { "vendor.rating" }, when = asked "rating" },
    { "country", needs = { "vendor.country" }, when = asked "country" },
    { "source_list", needs = { "source_list", "po_line.material_id", "po_line.plant_id" }, when = asked "source_list" },
    { "self_approval", needs = { "purchase_order.created_by", "purchase_order.approved_by" }, when = asked "self_approval" },
  },
  reads = { "po_line", "vendor", "company", "fx_rate" },

  run = function(t, p, emit)
    local orders = t.purchase_order:without { { "deleted", "eq", true } }:need { "vendor_id" }
      :with("vendor", t.vendor, { "vendor_id" }):with("company", t.company, { "company_id" })
    t.population(orders:count())

    local conditions, details = {}, {}
    for _, reason in ipairs(CHECKS) do
      if t.runs[reason] then orders, conditions[reason], details[reason] = check[reason](t, p, orders) end
    end
    local any = { "any" }
    for _, condition in pairs(conditions) do any[#any + 1] = condition end
    local hits = orders:where { any }
    local values = purchasing.po_values(t, hits)

    for _, reason in ipairs(CHECKS) do
      if conditions[reason] then
        for order in hits:where { conditions[reason] }:each() do
          local value = values[order.po_id]
          if value == nil then
            t.skip "no_net_value"
          else
            local words, more = explain[reason](t, p, order, details[reason])
            local evidence = more or {}
            evidence.vendor_id, evidence.vendor_name = order.vendor_id, order["vendor.name"]
            evidence.order_date, evidence.approved_date = t.iso(order.order_date), t.iso(order.approved_date)
            evidence.country, evidence.rating = order["vendor.country"], order["vendor.rating"]
            evidence.created_by, evidence.approved_by = order.created_by, order.approved_by
            evidence.po_value, evidence.source = value, order.src
            emit {
              key = { order.po_id, reason },
              reason = reason,
              kind = "control",
              impact = value,
              currency = order.currency or order["company.currency"],
              severity = { floor = (reason == "country" or reason == "self_approval") and "high" or nil },
              evidence = evidence,
              explanation = ("Vendor %s %s: order %s over %s %s."):format(order.vendor_id, words, order.po_id, tostring(value),
                order.currency or order["company.currency"] or t.currency_cc),
            }
          end
        end
      end
    end
  end,
}
