-- Orders that are below the approval limit one by one and above it together (erp-rules.md, PRO-006).
local approval = require "approval"
local purchasing = require "purchasing"

local FOREVER = 1000000 -- days
local KEYS = { vendor = "vendor_id", created_by = "created_by", purch_group = "purch_group", material_group = "material_group" }

rule {
  id = "PRO-006",
  title = "Split orders below the approval limit",
  category = "procurement",
  params = {
    limit = { "decimal", "10000" }, -- where there is no table approval_policy
    window_days = { "integer", 7 },
    group_keys = { "list", { "vendor", "created_by" } },
    near_pct = { "decimal", "0" },
  },
  requires = function(p)
    local list = { "purchase_order.vendor_id", "purchase_order.order_date",
      { any = { "po_line.net_value", "purchase_order.net_value" } } }
    for _, key in ipairs(p.group_keys or {}) do
      if KEYS[key] and key ~= "vendor" then list[#list + 1] = (key == "material_group" and "po_line." or "purchase_order.") .. KEYS[key] end
    end
    return list
  end,
  reasons = { { "split" } },
  reads = { "po_line", "approval_policy", "company", "fx_rate" },

  run = function(t, p, emit)
    -- An order's own group of materials is that of its first line.
    local orders = t.purchase_order:without { { "deleted", "eq", true } }
    local by, needed = { "company_id" }, { "order_date" } -- limits are those of a company
    for _, key in ipairs(p.group_keys or {}) do
      local column = KEYS[key] or error("group_keys: there is no key \"" .. key .. "\"")
      if key == "material_group" then
        local first = t.po_line:without { { "deleted", "eq", true } }:sort { "line" }
        orders = orders:with("first", first, { "po_id" }):derive(column, "copy", "first.material_group")
      end
      by[#by + 1], needed[#needed + 1] = column, column
    end

    -- Call-offs from a contract were approved with it; returns and credits are no purchases.
    orders = purchasing.valued(t, orders:need(needed), { called_off = { "count", "contract_id" },
        returned = { "count", where = { { "is_return", "eq", true } } } })
      :without { { "lines.called_off", "eq", { "lines.lines" } }, { "lines.returned", "eq", { "lines.lines" } }, { "value", "le", 0 } }

    if t:has "approval_policy" then
      local levels = approval.levels(t)
      orders = orders:derive("limit", "by", { "company_id", "cc", "order_date" }, "m", function(company, cc, day)
        for _, level in ipairs(levels(company, false, cc, day)) do
          if level.from > 0 then return level.from end
        end
      end)
    else
      orders = orders:derive("limit", "const", "m", p.limit)
    end
    t.population(orders:count())

    local each = { { "value_cc", "lt", { "limit" } } }
    if p.near_pct and p.near_pct > 0 then
      orders = orders:derive("share", "times", "value_cc", 100):derive("near", "times", "limit", p.near_pct)
      each[2] = { "share", "ge", { "near" } }
    end
    local days = math.max(0, p.window_days or FOREVER)
    local windows = orders:windows { by = by, order = { "order_date", "po_id" }, date = "order_date", days = days,
      sum = "value_cc", least = "limit", each = each, as = "window" }
      :where { { "window", "notnull" } }
      :group({ "window" }, { total = { "sum", "value_cc" }, count = { "count" }, last = { "max", "order_date" } })

    for window in windows:each() do
      local members = windows:rows_of(window, { "order_date", "po_id" })
      local first = members:row(1)
      local list = members:list(10, function(order)
        return { po_id = order.po_id, order_date = t.iso(order.order_date), value = order.value, currency = order.money,
          value_cc = order.value_cc, approval = order.approval, source = order.src }
      end)
      emit {
        key = { first.po_id },
        reason = "split",
        kind = "control",
        impact = window.total,
        currency = first.cc,
        severity = { floor = "medium" },
        evidence = {
          vendor_id = first.vendor_id, created_by = first.created_by, purch_group = first.purch_group, count = window.count,
          total = window.total, limit = first.limit, currency = first.cc, first_date = t.iso(first.order_date),
          last_date = t.iso(window.last), orders = list,
        },
        explanation = ("%d orders of %s to vendor %s from %s to %s, %s %s together: each is below the limit of %s %s."):format(
          window.count, first.created_by or "one buyer", first.vendor_id, t.iso(first.order_date), t.iso(window.last),
          tostring(window.total), first.cc, tostring(first.limit), first.cc),
      }
    end
  end,
}
