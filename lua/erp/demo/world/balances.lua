--- What closes the clean company's books: stock, credit limits, capacities. Methods of erp.demo.World.
local base = require "erp.demo.base"

---@class erp.demo.World
local M = {}
local floor, format, max = math.floor, string.format, math.max
local money = base.money
local material_id, customer_id = base.material_id, base.customer_id

--- Tables that close what the documents left open: stock with its opening move, credit limits, capacities.
function M:write_balances(out)
  for m = 1, self.materials do
    for index, c in ipairs(base.companies) do
      local key = (m - 1) * 3 + index
      local reorder = 10 + self.stock_draw(m, index, 90)
      local closing = reorder * 2 + tonumber(self.demand[key]) * 2 + self.stock_draw(m, 5 + index, 50)
      local opening = closing - tonumber(self.moved[key])
      -- More came than went: the surplus left for another site at the end, else the year began with it.
      if opening ~= 0 then
        self:move(out, m, index, opening > 0 and self.first or self.D, opening, opening > 0 and "other" or "transfer", "")
      end
      out.stock:row { material_id = material_id(m), plant_id = c.plant, sloc = "0001", special = "own",
        stock_type = "unrestricted", qty = closing }
    end
  end
  for c = 1, self.customers do
    local currency = base.companies[c % 3 + 1].currency
    local limit = tonumber(self.exposure[c]) * 2 + 10000000
    out.customer:row { customer_id = customer_id(c), name = format("Customer %d", c), credit_account_id = customer_id(c),
      credit_limit = money(limit, currency), currency = currency, on_hold = 0, segment = "S" .. c % 4 }
  end
  for w = 1, self.centers do
    local peak = 0
    for week = 0, self.weeks - 1 do peak = max(peak, tonumber(self.load[w * self.weeks + week])) end
    local index = (w - 1) % 3 + 1
    out.work_center:row { work_center_id = self:center_id(w), plant_id = base.companies[index].plant,
      calendar_id = base.calendar_id, hours_per_week = max(40, floor(peak / 5) + 1), cost_rate = money(6000, base.companies[index].currency) }
  end
end

return M
