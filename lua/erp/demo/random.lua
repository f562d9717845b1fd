--- Counter-based randomness of the generator: a value is a pure function of (seed, table id, row, draw), so each row can be
-- made alone, in any order. splitmix64; integers only.
local ffi = require "ffi"
local bit = require "bit"

local M = {}

local u64 = ffi.typeof("uint64_t")
local bxor, rshift = bit.bxor, bit.rshift
local floor = math.floor
local GAMMA = 0x9e3779b97f4a7c15ULL

local function mix(z)
  z = bxor(z, rshift(z, 30)) * 0xbf58476d1ce4e5b9ULL
  z = bxor(z, rshift(z, 27)) * 0x94d049bb133111ebULL
  return bxor(z, rshift(z, 31))
end

---@class erp.demo.Stream draws of one table: stream(row, draw, range) -> integer in 0..range-1

--- The stream of one table.
---@param seed string|number unsigned 64-bit, a decimal string beyond 2^53
---@param table_id integer
---@return fun(row: integer, draw: integer, range: integer): integer draw < 64, range < 2^21
function M.stream(seed, table_id)
  local base = mix(M.seed(seed) + u64(table_id) * GAMMA)
  return function(row, draw, range)
    local z = mix(base + u64(row * 64 + draw) * GAMMA)
    return floor(tonumber(rshift(z, 32)) * range / 4294967296)
  end
end

--- A seed as u64.
---@param seed string|number decimal digits, below 2^64
---@return ffi.cdata*? seed nil when it is no such number
function M.seed(seed)
  if type(seed) == "number" then
    return seed >= 0 and seed % 1 == 0 and u64(seed) or nil
  end
  if type(seed) ~= "string" or not seed:match("^%d+$") or #seed > 20 then return nil end
  local digits = seed:gsub("^0+", "")
  if #digits == 20 and digits > "18446744073709551615" then return nil end
  local z = u64(0)
  for i = 1, #digits do z = z * 10 + (digits:byte(i) - 48) end
  return z
end

--- A table of cumulative integer weights of a Zipf law with exponent about 1.1, from square roots alone (exact in IEEE 754,
--- so the same on every machine), and its sampler.
---@param count integer
---@return fun(u: integer): integer rank 1..count for u in 0..2^21-1
function M.zipf(count)
  local sum, cumulative = 0, ffi.new("double[?]", count + 1)
  for i = 1, count do
    local r16 = math.sqrt(math.sqrt(math.sqrt(math.sqrt(i))))
    sum = sum + floor(4294967296 / (i * r16 * math.sqrt(r16)))
    cumulative[i] = sum
  end
  return function(u)
    local target, lo, hi = floor(u * (sum / 2097152)), 1, count
    while lo < hi do
      local mid = floor((lo + hi) / 2)
      if cumulative[mid] > target then hi = mid else lo = mid + 1 end
    end
    return lo
  end
end

return M
