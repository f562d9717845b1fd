-- An order that was acted on without approval, or before it (erp-rules.md, PRO-005).
local approval = require "approval"
local commitments = require "commitments"
local purchasing = require "purchasing"

local WORDS = {
  rejected = "was rejected and acted on", unapproved = "is not approved and was acted on",
  late = "was approved after it was acted on", over_limit = "is above the limit of its approver",
}

rule {
  id = "PRO-005",
  title = "Missing or late approval",
  category = "procurement",
  params = {
    min_amount = { "decimal", "0" }, -- where there is no table approval_policy
    commitments = { "list", { "receipt", "invoice", "sent" } },
  },
  requires = { "purchase_order.approval",
    { any = { "goods_receipt", "purchase_order.sent", "invoice_line.po_id", "invoice.po_id" } } },
  reasons = {
    { "rejected" }, { "unapproved" },
    { "late", needs = { "purchase_order.approved_date",
      { any = { "goods_receipt.posting_date", "purchase_order.sent_date", "invoice.posting_date", "invoice.doc_date" } } } },
    { "over_limit", needs = { "purchase_order.approved_by", "approval_policy.approver_limit" } },
  },
  reads = { "po_line", "goods_receipt", "invoice", "invoice_line", "approval_policy", "company", "fx_rate" },

  run = function(t, p, emit)
    local orders = purchasing.valued(t, t.purchase_order:without { { "deleted", "eq", true } })

    -- Orders from the lowest level on need approval; without a level for their company and type they need none.
    local levels_of = approval.levels(t)
    local KEYS = { "company_id", "doc_type", "cc", "order_date" }
    if t:has "approval_policy" then
      orders = orders:derive("min_amount", "by", KEYS, "m", function(...)
        local lowest = levels_of(...)[1]
        return lowest and lowest.from
      end):where { { "value_cc", "ge", { "min_amount" } } }
    elseif p.min_amount then
      orders = orders:where { { "value_cc", "ge", p.min_amount } }
    end
    t.population(orders:count())

    -- From `ceiling` on, the level that a value asks for may not be enough.
    orders = orders:derive("ceiling", "by", KEYS, "m", function(...)
      local levels, lowest = levels_of(...), nil
      for i, level in ipairs(levels) do
        local next_level = levels[i + 1]
        if level.limit and not (next_level and level.limit >= next_level.from) and not (lowest and lowest <= level.limit) then
          lowest = level.limit
        end
      end
      return lowest
    end)

    local committed, late
    orders, committed, late = commitments.join(t, p, orders)
    local cases = {
      { "rejected", { { "approval", "eq", "rejected" }, committed } },
      { "unapproved", { { "approval", "in", { "pending", "partial" } }, committed } },
      { "late", { late } },
      { "over_limit", { { "approved_by", "notnull" }, { "approval", "eq", "approved" }, { "value_cc", "gt", { "ceiling" } } } },
    }
    local runnable = {}
    for _, case in ipairs(cases) do
      if t.runs[case[1]] then runnable[#runnable + 1] = case end
    end
    local hits = orders:decide("reason", runnable)

    local exposed = commitments.value_before(t, hits, { "order.reason", "in", { "rejected", "unapproved" } })
    local earliest = commitments.earliest(t, p, hits)
    for order in hits:each() do
      local reason, limit = order.reason, nil
      if reason == "over_limit" then
        local level = approval.asked_for(levels_of(order.company_id, order.doc_type, order.cc, order.order_date), order.value_cc)
        limit = level and level.limit
      end
      if reason ~= "over_limit" or limit and order.value_cc > limit then
        local impact = exposed[order.po_id]
        if impact == nil or impact:sign() == 0 then impact = order.value end
        emit {
          key = { order.po_id },
          reason = reason,
          kind = "control",
          impact = impact,
          currency = order.money,
          severity = { floor = reason == "rejected" and "high" or "medium" },
          evidence = {
            vendor_id = order.vendor_id, order_date = t.iso(order.order_date), created_by = order.created_by,
            approval = order.approval, approved_date = t.iso(order.approved_date), approved_by = order.approved_by,
            first_commitment = earliest(order), net_value = order.value, net_value_cc = order.value_cc, currency = order.money, limit = limit,
            exposed_value = impact, source = order.src,
          },
          explanation = ("Order %s over %s %s %s."):format(order.po_id, tostring(order.value), order.money, WORDS[reason]),
        }
      end
    end
  end,
}
