--- Decimal: an exact number, and day numbers. What erp.table documents for rules.
local F = require "erp.table.ffi"
F.hot()
local ffi, C = F.ffi, F.C

local M = {}

---@class erp.Decimal
local methods = {}
local new = ffi.typeof "kt_dec"
local text = ffi.new "char[64]"
local parsed = new()
local day_out, stamp_out = ffi.new "int32_t[1]", ffi.new "int[1]"
local floor = math.floor

local function of_integer(n)
  if n ~= floor(n) or n > 2 ^ 53 or n < -2 ^ 53 then
    error("a number with a fraction or beyond 2^53 is not exact: write it as text, \"0.5\"", 3)
  end
  local d = new()
  d.lo = ffi.cast("uint64_t", ffi.cast("int64_t", n))
  d.hi = n < 0 and -1 or 0
  return d
end

local function is_decimal(v) return type(v) == "cdata" and ffi.istype(new, v) end
M.is_decimal = is_decimal

local function arg(v)
  if is_decimal(v) then return v end
  if type(v) == "number" then return of_integer(v) end
  error("a Decimal or an integer is wanted, not " .. (v == nil and "NULL" or type(v)), 3)
end

--- Decimal of a text ("12.50"), an integer, or a Decimal.
---@param v string|integer|erp.Decimal
---@return erp.Decimal
function M.decimal(v)
  if type(v) ~= "string" then return arg(v) end
  if C.kt_dec_parse(v, #v, parsed) ~= 0 then error("not a number: \"" .. v .. "\"", 2) end
  return new(parsed)
end

--- A column's value.
function M.of_int64(v, scale)
  local d = new()
  d.lo, d.scale = ffi.cast("uint64_t", v), scale
  d.hi = v < 0 and -1 or 0
  return d
end

local function checked(rc, out)
  if rc ~= 0 then error("a number is too large (or divided by 0)", 3) end
  return out
end

local function add(a, b)
  local out = new()
  return checked(C.kt_dec_add(arg(a), arg(b), out), out)
end
local function sub(a, b)
  local out = new()
  return checked(C.kt_dec_sub(arg(a), arg(b), out), out)
end
local function mul(a, b)
  local out = new()
  return checked(C.kt_dec_mul(arg(a), arg(b), out), out)
end
local zero = new()

--- a / b, rounded half away from zero to `scale` digits (prices and quotients 6, rates 9).
function methods.div(a, b, scale)
  local out = new()
  return checked(C.kt_dec_div(arg(a), arg(b), scale or 6, out), out)
end

--- Half away from zero to `places` digits.
function methods.round(a, places)
  local out = new()
  return checked(C.kt_dec_round(a, places, out), out)
end

function methods.sign(a) return C.kt_dec_sign(a) end
function methods.abs(a) return C.kt_dec_sign(a) < 0 and sub(zero, a) or a end
function methods.max(a, b) return C.kt_dec_cmp(a, arg(b)) < 0 and arg(b) or a end
function methods.min(a, b) return C.kt_dec_cmp(a, arg(b)) > 0 and arg(b) or a end

--- Text with at least `places` fraction digits ("12.50"); without: no trailing zeros.
function methods.text(a, places)
  local n = C.kt_dec_text(a, places or 0, text)
  return ffi.string(text, n)
end

ffi.metatype(new, {
  __index = methods,
  __add = add, __sub = sub, __mul = mul,
  __unm = function(a) return sub(zero, a) end,
  __div = function() error("division is a:div(b, scale), rounded as the rule says", 2) end,
  -- Also called for d == nil and d == "text".
  __eq = function(a, b)
    if not (is_decimal(a) or type(a) == "number") or not (is_decimal(b) or type(b) == "number") then return false end
    return C.kt_dec_cmp(arg(a), arg(b)) == 0
  end,
  __lt = function(a, b) return C.kt_dec_cmp(arg(a), arg(b)) < 0 end,
  __le = function(a, b) return C.kt_dec_cmp(arg(a), arg(b)) <= 0 end,
  __tostring = function(a) return a:text() end,
  __concat = function(a, b) return tostring(a) .. tostring(b) end,
})

--- exceeds(v, ref, pct, abs) of section 0; a limit that is nil is inactive. mode: "all" (default), "any".
---@return boolean
function M.exceeds(v, ref, pct, abs, mode)
  v = arg(v):abs()
  local over_abs = abs == nil or v > abs
  local over_pct = pct == nil or v * 100 > arg(pct) * arg(ref):abs()
  if mode == "any" then return (abs ~= nil and over_abs) or (pct ~= nil and over_pct) end
  return over_abs and over_pct
end

--- Day number of "YYYY-MM-DD" (or YYYYMMDD, or a timestamp's date part); nil when it is none.
---@param s string
---@return integer?
function M.day(s)
  if type(s) ~= "string" or C.kt_day_parse(s, #s, day_out, stamp_out) ~= 0 then return nil end
  if day_out[0] == F.NULL32 then return nil end
  return day_out[0]
end

---@param day integer?
---@return string? "2014-05-31"
function M.iso(day)
  if day == nil then return nil end
  C.kt_day_text(day, text)
  return ffi.string(text)
end

---@param day integer?
---@return string? "2014-W22"
function M.week(day)
  if day == nil then return nil end
  C.kt_week_text(day, text)
  return ffi.string(text)
end

---@param day integer
---@return integer Monday of its ISO week
function M.monday(day) return C.kt_day_monday(day) end

return M
