-- A purchase order to a vendor that was not approved when it was placed (erp-rules.md, PRO-001).
local purchasing = require "purchasing"

-- One finding an order, with the first of these that holds. `order` is the order with its vendor.
local STOPPED = { "vendor.status", "in", { "blocked", "deleted" } }
local cases = {
  { "unknown", { { "vendor", "absent" } } },
  { "deleted", { { "vendor.status", "eq", "deleted" }, { "vendor.blocked_from", "le", { "order_date" } } } },
  { "blocked", { { "vendor.status", "eq", "blocked" }, { "vendor.blocked_from", "le", { "order_date" } } } },
  { "current_status", { STOPPED, { "vendor.blocked_from", "null" } } },
  { "not_approved", { { "any",
    { "order_date", "lt", { "vendor.approved_from" } },
    { "order_date", "gt", { "vendor.approved_to" } } } } },
  { "role", { { "vendor", "found" }, { "vendor.role_supplier", "eq", false } } },
  { "one_time", { { "vendor.one_time", "eq", true } } }, -- and above the limit: the value decides, below
}

local words = {
  unknown = "is not in the vendor master",
  deleted = "was marked for deletion before the order",
  blocked = "was blocked before the order",
  current_status = "is blocked or deleted; since when is not known",
  not_approved = "was not approved on the order date",
  role = "does not have the role of a supplier",
  one_time = "is a one-time vendor and the order is above the limit",
}

rule {
  id = "PRO-001",
  title = "Unapproved vendor",
  category = "procurement",
  params = { one_time_limit = { "decimal", "1000" } },
  requires = { "purchase_order.vendor_id" },
  reasons = {
    { "unknown", needs = { "vendor" } },
    { "deleted", needs = { "vendor.status", "vendor.blocked_from" } },
    { "blocked", needs = { "vendor.status", "vendor.blocked_from" } },
    { "current_status", needs = { "vendor.status" } },
    { "not_approved", needs = { { any = { "vendor.approved_from", "vendor.approved_to" } } } },
    { "role", needs = { "vendor.role_supplier" } },
    { "one_time", needs = { "vendor.one_time" } },
  },
  reads = { "po_line", "goods_receipt", "invoice", "invoice_line", "fx_rate" },

  run = function(t, p, emit)
    local orders = t.purchase_order:without { { "deleted", "eq", true } }:need { "vendor_id" }
      :with("vendor", t.vendor, { "vendor_id" })
    t.population(orders:count())

    local function above_limit(order, value)
      if p.one_time_limit == nil then return true end
      local rate = t.fx(order.currency or t.currency_cc, t.currency_cc, order.order_date or t.as_of)
      if not rate then
        t.skip("no_rate")
        return false
      end
      return value * rate > p.one_time_limit
    end

    local runnable = {}
    for _, case in ipairs(cases) do
      if t.runs[case[1]] then runnable[#runnable + 1] = case end
    end
    local hits = orders:decide("reason", runnable)
    local values = purchasing.po_values(t, hits)
    local received, invoiced = purchasing.progress(t, hits)
    for order in hits:each() do
      local reason, value = order.reason, values[order.po_id]
      if value == nil then
        t.skip "no_net_value"
      elseif reason ~= "one_time" or above_limit(order, value) then
        emit {
          key = { order.po_id },
          reason = reason,
          kind = "control",
          impact = value,
          currency = order.currency,
          severity = { step = reason == "current_status" and -1 or 0, floor = "medium" },
          evidence = {
            vendor_id = order.vendor_id, vendor_name = order["vendor.name"], status = order["vendor.status"],
            order_date = t.iso(order.order_date), blocked_from = t.iso(order["vendor.blocked_from"]),
            approved_from = t.iso(order["vendor.approved_from"]), approved_to = t.iso(order["vendor.approved_to"]),
            created_by = order.created_by, po_value = value,
            received_value = received[order.po_id], invoiced_value = invoiced[order.po_id],
          },
          explanation = ("Vendor %s %s: order %s over %s %s."):format(order.vendor_id, words[reason], order.po_id, tostring(value),
            order.currency or t.currency_cc),
        }
      end
    end
  end,
}
