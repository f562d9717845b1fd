--- What all parts of the demo company share: its companies, rates, calendar and amounts. Amounts are integers of the
--- currency's smallest unit (below 2^53, so Lua numbers hold them exactly); products with rates run in int64.
local ffi = require "ffi"
local calendar = require "erp.calendar"

local M = {}
local floor, format = math.floor, string.format
local i64 = ffi.typeof("int64_t")

---@class erp.demo.Company
M.companies = {
  { id = "1000", name = "Hanse Tools Inc", currency = "USD", country = "US", plant = "P100", tax_code = "I8", tax = 8 },
  { id = "2000", name = "Hanse Werkzeuge GmbH", currency = "EUR", country = "DE", plant = "P200", tax_code = "I19", tax = 19 },
  { id = "3000", name = "Hanse Kogu KK", currency = "JPY", country = "JP", plant = "P300", tax_code = "I10", tax = 10 },
}
M.decimals = { USD = 2, EUR = 2, JPY = 0 }
-- Units of the target for 10,000 of the source; both directions are in the rate table, so nothing is inverted.
M.rates = {
  USD = { EUR = 9100, JPY = 1490000 }, EUR = { USD = 11000, JPY = 1640000 }, JPY = { USD = 67, EUR = 61 },
}
M.report_currency = "USD"
M.calendar_id = "WORK"

--- Amount as text with the currency's decimals.
---@param minor integer
---@param currency string
---@return string
function M.money(minor, currency)
  if M.decimals[currency] == 0 then return format("%d", minor) end
  local sign = minor < 0 and "-" or ""
  minor = minor < 0 and -minor or minor
  return format("%s%d.%02d", sign, floor(minor / 100), minor % 100)
end

---@param from string
---@param to string
---@return string rate with 4 decimals
function M.rate_text(from, to)
  local r = from == to and 10000 or M.rates[from][to]
  return format("%d.%04d", floor(r / 10000), r % 10000)
end

local function power10(n) return n == 0 and 1 or n == 1 and 10 or 100 end

--- Converted amount times 10^6 / 10^decimals(to) is not rounded: numerator and denominator in the target's smallest unit.
local function ratio(minor, from, to)
  local r = from == to and 10000 or M.rates[from][to]
  return i64(minor) * r * power10(M.decimals[to]), i64(10000) * power10(M.decimals[from])
end

--- Converted amount, rounded half away from zero to the target's smallest unit.
---@param minor integer
---@param from string
---@param to string
---@return integer
function M.convert(minor, from, to)
  local num, den = ratio(minor, from, to)
  if num < 0 then return -tonumber((-num * 2 + den) / (den * 2)) end
  return tonumber((num * 2 + den) / (den * 2))
end

--- Severity band (0 low … 3 critical) of the unrounded amount in the report currency (USD: bands in cents).
---@param minor integer
---@param currency string
---@return integer
function M.band(minor, currency)
  local num, den = ratio(minor < 0 and -minor or minor, currency, M.report_currency)
  for i, limit in ipairs { 10000000, 1000000, 100000 } do
    if num >= den * limit then return 4 - i end
  end
  return 0
end

M.severities = { [0] = "low", "medium", "high", "critical" }

local holidays = { ["01-01"] = true, ["05-01"] = true, ["12-25"] = true, ["12-26"] = true }
local working = {}
---@param day integer
---@return boolean
function M.is_working(day)
  local w = working[day]
  if w == nil then
    w = calendar.weekday(day) <= 5 and not holidays[calendar.text(day):sub(6)]
    working[day] = w
  end
  return w
end

--- The day itself or the next working day.
function M.on_or_after(day)
  while not M.is_working(day) do day = day + 1 end
  return day
end

--- The day itself or the last working day before it.
function M.on_or_before(day)
  while not M.is_working(day) do day = day - 1 end
  return day
end

-- Ids and shapes of the clean company -------------------------------------------------------------

function M.vendor_id(v) return format("V%06d", v) end
function M.material_id(m) return format("M%07d", m) end
function M.contract_id(v) return format("CT%06d", v) end
function M.customer_id(c) return format("C%06d", c) end

--- Materials that a vendor has a price for.
M.vendor_materials = 8

--- Units of a box; 1 when the material is ordered in its base unit.
function M.box(m) return m % 5 == 0 and 10 or 1 end

--- The number of lines of document i: 3 on average, exactly for each pair.
function M.line_count(draw, i)
  local extra = draw(i - (i + 1) % 2, 1, 3)
  return i % 2 == 1 and 3 + extra or 3 - extra
end

return M
