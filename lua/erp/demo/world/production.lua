--- Production of the clean company: orders, components, operations. Methods of erp.demo.World.
local base = require "erp.demo.base"
local calendar = require "erp.calendar"

---@class erp.demo.World
local M = {}
local floor, format, max, min = math.floor, string.format, math.max, math.min
local date, material_id = calendar.text, base.material_id

function M:write_production(out, i)
  local draw, D = self.production_draw, self.D
  local index = draw(i, 0, 3) + 1
  local plant = base.companies[index].plant
  local m = floor((draw(i, 1, max(1, floor(self.materials / 4))))) * 4 + 4
  m = m <= self.materials and m or 4
  local qty = (draw(i, 2, 20) + 1) * 10
  local days = { base.on_or_after(self.first + 340 + floor((i - 1) * 260 / self.productions)) }
  days[2] = base.on_or_after(days[1] + 1)
  days[3] = base.on_or_after(days[2] + 1)
  local id = format("60%08d", i)
  local started, finished = days[1] <= D, days[3] <= D
  out.production_order:row { order_id = id, plant_id = plant, material_id = material_id(m), qty = qty, plan_scrap_pct = 0,
    start_plan = date(days[1]), finish_plan = date(days[3]), start_actual = started and date(days[1]) or "",
    finish_actual = finished and date(days[3]) or "", yield_qty = finished and qty or "", scrap_qty = finished and 0 or "",
    status = finished and "delivered" or started and "released" or "created" }
  if finished then
    self:move(out, m, index, days[3], qty, "receipt", id)
    -- Inspected on receipt; two defects of a hundred are what the limit allows.
    out.inspection_lot:row { lot_id = format("70%08d", i), origin = "production", material_id = material_id(m), plant_id = plant,
      ref_doc = id, lot_qty = qty, inspected_qty = qty, defect_qty = i % 5 == 0 and floor(qty / 50) or 0, decision = "A",
      decision_date = date(days[3]), created_date = date(days[3]) }
  end
  for item = 1, 4 do
    local component = (draw(i, 4 + item, self.materials - 1) + m) % self.materials + 1
    local need = qty * (draw(i, 9 + item, 3) + 1)
    out.prod_component:row { order_id = id, item = tostring(item * 10), material_id = material_id(component), plant_id = plant,
      need_date = date(days[1]), req_qty = need, issued_qty = started and need or 0, final_issue = started and 1 or 0,
      deleted = 0, bulk = 0, phantom = 0 }
    if started then
      self:move(out, component, index, days[1], -need, "issue_prod", id)
    else
      local key = (component - 1) * 3 + index
      self.demand[key] = self.demand[key] + need
    end
  end
  for op = 1, 3 do
    local per_plant = self.centers / 3
    local w = (draw(i, 15 + op, per_plant)) * 3 + index
    local tenths = 5 + draw(i, 20 + op, 76)
    local hours, done = format("%d.%d", floor(tenths / 10), tenths % 10), days[op] <= D
    out.prod_operation:row { order_id = id, op = format("%04d", op * 10), work_center_id = self:center_id(w),
      start_plan = date(days[op]), finish_plan = date(days[op]), start_actual = done and date(days[op]) or "",
      finish_actual = done and date(days[op]) or "", plan_hours = hours, actual_hours = done and hours or "",
      yield_qty = done and qty or "", scrap_qty = done and 0 or "", done = done and 1 or 0 }
    local week = min(self.weeks - 1, floor((days[op] - self.first - 330) / 7))
    local slot = w * self.weeks + week
    self.load[slot] = self.load[slot] + tenths
  end
end

return M
