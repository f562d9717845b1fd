-- Money of the API: decimals as strings outside, whole nano-USD (1e-9) as digits inside. Exact: no
-- number is ever a double here.

local M = {}

-- int64 holds 9.2e18 nano = 9.2e9 USD
local max_nano = "9223372036854775807"

---@param s string
---@return boolean
function M.valid(s)
  return #s <= 40 and (s:find("^-?%d+$") or s:find("^-?%d+%.%d+$")) and true or false
end

---@param s string a valid decimal
---@return string|nil digits nano-USD as decimal integer
---@return string|nil why
function M.to_nano(s)
  local sign, whole, frac = s:match("^(-?)(%d+)%.?(%d*)$")
  if not whole then return nil, "must be a decimal" end
  frac = frac:gsub("0+$", "")
  if #frac > 9 then return nil, "must have at most 9 decimals" end
  local digits = (whole .. frac .. ("0"):rep(9 - #frac)):gsub("^0+", "")
  if digits == "" then return "0" end
  if #digits > #max_nano or (#digits == #max_nano and digits > max_nano) then
    return nil, "is too large"
  end
  return sign .. digits
end

---@param digits string nano-USD as decimal integer
---@return string decimal without needless zeros
function M.from_nano(digits)
  local sign, n = digits:match("^(-?)(%d+)")
  n = ("0"):rep(10 - #n) .. n
  local whole, frac = n:sub(1, -10), n:sub(-9):gsub("0+$", "")
  return sign .. whole .. (frac ~= "" and "." .. frac or "")
end

return M
