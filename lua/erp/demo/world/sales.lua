--- Sales of the clean company: orders, schedule lines, deliveries. Methods of erp.demo.World.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"

---@class erp.demo.World
local M = {}
local floor, format = math.floor, string.format
local date, money = calendar.text, base.money
local material_id, customer_id, line_count = base.material_id, base.customer_id, base.line_count

function M:write_sales(out, s)
  local draw, D = self.sales_draw, self.D
  local c = draw(s, 0, self.customers) + 1
  local index = c % 3 + 1
  local company = base.companies[index]
  local ordered = base.on_or_before(self.first + 10 + floor((s - 1) * 529 / self.pos))
  local promised = base.on_or_after(ordered + 7 + draw(s, 2, 14))
  local shipped = base.on_or_before(promised - draw(s, 3, 2))
  local id = format("30%08d", s)
  out.sales_order:row { order_id = id, customer_id = customer_id(c), credit_account_id = customer_id(c),
    order_date = date(ordered), currency = company.currency, ship_complete = 0, delivery_block = 0, credit_status = "ok",
    cancelled = 0 }
  for l = 1, line_count(draw, s) do
    local m = self.pick_material(draw(s, 10 + l, 2097152))
    local qty, no = draw(s, 20 + l, 50) + 1, tostring(l * 10)
    local price = floor(self:unit_price(m, company.currency) * 7 / 5)
    out.sales_line:row { order_id = id, line = no, material_id = material_id(m), plant_id = company.plant, qty = qty, uom = "EA",
      net_price = money(price, company.currency), price_unit = 1, net_value = money(price * qty, company.currency),
      tax = company.tax, under_tol = 0, rejected = 0 }
    out.sales_schedule:row { order_id = id, line = no, sched = "1", requested_date = date(promised),
      promised_date = date(promised), qty = qty }
    if shipped <= D then
      local first = (qty > 1 and draw(s, 30 + l, 5) == 0) and floor(qty / 2) or qty
      for part = 1, first < qty and 2 or 1 do
        local q = part == 1 and first or qty - first
        local delivery = format("80%08d%d%d", s, l, part)
        out.delivery_line:row { delivery_id = delivery, line = "10", order_id = id, order_line = no, qty = q,
          planned_gi = date(promised), actual_gi = date(shipped), issued = 1, billed_qty = q, is_return = 0, cancelled = 0 }
        self:move(out, m, index, shipped, -q, "issue_sales", delivery)
      end
    else
      local key = (m - 1) * 3 + index
      self.demand[key] = self.demand[key] + qty
      self.exposure[c] = self.exposure[c] + price * qty
    end
  end
end

return M
