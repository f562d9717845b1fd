--- Calendar dates as day numbers (0 = 1970-01-01, proleptic Gregorian).
local M = {}
local floor = math.floor

---@param y integer
---@param m integer
---@param d integer
---@return integer day number
function M.from_ymd(y, m, d)
  if m <= 2 then y, m = y - 1, m + 12 end
  local era = floor(y / 400)
  local yoe = y - era * 400
  local doy = floor((153 * (m - 3) + 2) / 5) + d - 1
  return era * 146097 + yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy - 719468
end

---@param day integer
---@return integer year, integer month, integer day of the month
function M.to_ymd(day)
  local z = day + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (m <= 2 and 1 or 0), m, doy - floor((153 * mp + 2) / 5) + 1
end

local text = {}
--- `YYYY-MM-DD` of a day number, "" for nil.
---@param day integer?
---@return string
function M.text(day)
  if not day then return "" end
  local s = text[day]
  if not s then
    s = string.format("%04d-%02d-%02d", M.to_ymd(day))
    text[day] = s
  end
  return s
end

--- Day number of `YYYY-MM-DD`, nil when it is no such date.
---@param s string
---@return integer?
function M.parse(s)
  local y, m, d = tostring(s):match("^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
  if not y then return nil end
  local day = M.from_ymd(tonumber(y), tonumber(m), tonumber(d))
  return M.text(day) == s and day or nil
end

--- 1 Monday … 7 Sunday.
---@param day integer
---@return integer
function M.weekday(day) return (day + 3) % 7 + 1 end

--- ISO week `YYYY-Www` of a day.
---@param day integer
---@return string
function M.iso_week(day)
  local thursday = day - M.weekday(day) + 4
  local year = M.to_ymd(thursday)
  return string.format("%04d-W%02d", year, floor((thursday - M.from_ymd(year, 1, 1)) / 7) + 1)
end

return M
