-- Times outside (RFC 3339, UTC, milliseconds) and inside (int ms since 1970).

local M = {}

local floor = math.floor

-- Days since 1970-01-01 of a civil date (Hinnant's algorithm: exact over all years).
local function days(y, m, d)
  if m <= 2 then y = y - 1 end
  local era = floor(y / 400)
  local yoe = y - era * 400
  local doy = floor((153 * (m + (m > 2 and -3 or 9)) + 2) / 5) + d - 1
  local doe = yoe * 365 + floor(yoe / 4) - floor(yoe / 100) + doy
  return era * 146097 + doe - 719468
end

local function civil(z)
  z = z + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))
  local mp = floor((5 * doy + 2) / 153)
  local d = doy - floor((153 * mp + 2) / 5) + 1
  local m = mp < 10 and mp + 3 or mp - 9
  return yoe + era * 400 + (m <= 2 and 1 or 0), m, d
end

local month_days = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}
local function valid_day(y, m, d)
  if y < 1 or m < 1 or m > 12 or d < 1 then return false end
  local leap = m == 2 and (y % 4 == 0 and y % 100 ~= 0 or y % 400 == 0)
  return d <= month_days[m] + (leap and 1 or 0)
end

---@param s string YYYY-MM-DD
---@return integer|nil ms of its first instant in UTC
function M.parse_date(s)
  local y, m, d = s:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)$")
  y, m, d = tonumber(y), tonumber(m), tonumber(d)
  if not y or not valid_day(y, m, d) then return nil end
  return days(y, m, d) * 86400000
end

---@param s string RFC 3339 with Z or an offset; fractions beyond ms are cut
---@return integer|nil ms
function M.parse(s)
  local date, h, mi, sec, frac, zone = s:match("^(%d%d%d%d%-%d%d%-%d%d)[Tt](%d%d):(%d%d):(%d%d)(%.?%d*)([Zz+%-].*)$")
  local ms = date and M.parse_date(date)
  if not ms then return nil end
  h, mi, sec = tonumber(h), tonumber(mi), tonumber(sec)
  if h > 23 or mi > 59 or sec > 59 then return nil end
  if frac ~= "" then
    local digits = frac:match("^%.(%d+)$")
    if not digits then return nil end
    ms = ms + tonumber((digits .. "00"):sub(1, 3))
  end
  if zone ~= "Z" and zone ~= "z" then
    local sign, oh, om = zone:match("^([+%-])(%d%d):(%d%d)$")
    oh, om = tonumber(oh), tonumber(om)
    if not oh or oh > 23 or om > 59 then return nil end
    ms = ms - (sign == "+" and 1 or -1) * (oh * 60 + om) * 60000
  end
  return ms + ((h * 60 + mi) * 60 + sec) * 1000
end

---@param ms integer
---@return string 2026-01-02T03:04:05.678Z
function M.format(ms)
  local day = floor(ms / 86400000)
  local rest = ms - day * 86400000
  local y, m, d = civil(day)
  return ("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ"):format(y, m, d, floor(rest / 3600000),
    floor(rest / 60000) % 60, floor(rest / 1000) % 60, rest % 1000)
end

---@param ms integer
---@return string YYYY-MM-DD
function M.day(ms) return (M.format(ms):sub(1, 10)) end

return M
