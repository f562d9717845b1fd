--- The clean company: master data, purchase to pay, sales, production and stock, all consistent, built so that no rule fires.
-- The documents of each domain are written by a file in erp/demo/world; here is what they share.
-- Every document is a pure function of (seed, row); only sums that a later file needs (open demand, moves, loads) are kept,
-- one number for each material and plant, customer, or work center and week.
local ffi = require "ffi"
local base = require "erp.demo.base"
local calendar = require "erp.calendar"
local random = require "erp.demo.random"

local M = {}
local floor, format, max = math.floor, string.format, math.max
local date = calendar.text

-- Quantiles (1/128, 3/128, …) of a log-normal price, median 40, sigma 1.2, in cents.
local PRICES = { 220, 368, 483, 586, 683, 776, 869, 960, 1052, 1144, 1237, 1332, 1428, 1526, 1626, 1728, 1833, 1941, 2052,
  2167, 2284, 2406, 2532, 2662, 2797, 2937, 3083, 3234, 3392, 3556, 3728, 3907, 4095, 4292, 4500, 4718, 4948, 5190, 5448,
  5720, 6010, 6319, 6650, 7004, 7385, 7796, 8242, 8727, 9258, 9841, 10487, 11206, 12015, 12933, 13986, 15213, 16665, 18422,
  20609, 23440, 27317, 33125, 43432, 72774 }
---@class erp.demo.World
---@field D integer as_of as day number
---@field first integer first day of the history
local World = {}
World.__index = World
for _, part in ipairs { "masters", "purchasing", "sales", "production", "balances" } do
  for name, method in pairs(require("erp.demo.world." .. part)) do World[name] = method end
end

---@param opts { seed: string|number, n: integer, as_of: integer }
---@return erp.demo.World
function M.new(opts)
  local n = opts.n
  local self = setmetatable({ D = opts.as_of, first = opts.as_of - 540, n = n }, World)
  self.vendors, self.materials = max(20, floor(n / 50)), max(50, floor(n / 20))
  self.customers, self.pos = max(20, floor(n / 40)), max(2, floor(n / 3))
  -- Orders go to the buyers in turn, so that none places two with one vendor within two weeks.
  self.buyers = max(40, floor(self.pos * 16 / 529) + 1)
  self.productions = max(5, floor(n / 10))
  self.centers = 3 * max(3, floor(n / 6000))
  for id, name in ipairs { "vendor", "material", "po", "sales", "production", "stock", "customer", "plant_case" } do
    self[name .. "_draw"] = random.stream(opts.seed, id)
  end
  self.pick_vendor, self.pick_material = random.zipf(self.vendors), random.zipf(self.materials)
  local keys = self.materials * 3
  self.moved, self.demand = ffi.new("int64_t[?]", keys + 3), ffi.new("int64_t[?]", keys + 3)
  self.exposure = ffi.new("int64_t[?]", self.customers + 1)
  self.weeks = 60
  self.load = ffi.new("int64_t[?]", (self.centers + 1) * self.weeks)
  self.move_no = 0
  return self
end

function World.center_id(_, w) return format("WC%04d", w) end

--- Price of one base unit in the smallest unit of a currency.
function World:unit_price(m, currency)
  local cents = PRICES[self.material_draw(m, 0, 64) + 1]
  if currency == "USD" then return cents end
  return floor(cents * (currency == "EUR" and 100 or 149) / (currency == "EUR" and 110 or 100)) + 1
end

function World:home(v) local h = v % 10; return h < 6 and 1 or h < 9 and 2 or 3 end
function World:vendor_material(v, k) return (v * 5 + k * 7) % self.materials + 1 end

function World:move(out, m, company, day, qty, class, ref)
  self.move_no = self.move_no + 1
  out.stock_move:row { move_id = format("49%010d", self.move_no), line = "1", material_id = base.material_id(m),
    plant_id = base.companies[company].plant, sloc = "0001", special = "own", posting_date = date(day), qty = qty,
    move_class = class, ref_doc = ref }
  local key = (m - 1) * 3 + company
  self.moved[key] = self.moved[key] + qty
end

--- Write the whole clean company.
---@param out table<string, erp.demo.Sheet>
function World:write(out)
  self:write_basics(out)
  self:write_masters(out)
  for p = 1, self.pos do self:write_po(out, p) end
  for s = 1, self.pos do self:write_sales(out, s) end
  for i = 1, self.productions do self:write_production(out, i) end
  self:write_balances(out)
end

return M
