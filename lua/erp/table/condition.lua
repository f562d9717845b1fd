--- Conditions of where and without -> a mask of one byte a row, nil when the condition is left out.
local F = require "erp.table.ffi"
local K = require "erp.table.column"
local ffi, C = F.ffi, F.C

local M = {}

local ops = { eq = 0, ne = 1, lt = 2, le = 3, gt = 4, ge = 5 }
local IMPOSSIBLE = -5

local function against_column(mask, c, op, other, plus, sel, n)
  if c.t ~= other.t then
    error(("columns \"%s\" and \"%s\" are of different types"):format(c.name, other.name), 6)
  end
  local a, b = K.data(c), K.data(other)
  if c.t == "text" then
    if op > 1 then error("text knows eq and ne", 6) end
    if c.dict ~= other.dict then
      local count = C.kt_dict_count(other.dict)
      local map = F.alloc(4, count)
      C.kt_dict_translate(c.dict, other.dict, map)
      -- A text that c's dictionary has not equals none of its texts, but it is not NULL.
      for code = 0, count - 1 do
        if map[code] == F.NULL32 then map[code] = IMPOSSIBLE end
      end
      local translated = F.alloc(4, other.n)
      C.kt_k_map32(translated, b, map, other.n)
      b = translated
    end
  end
  C.kt_k_cmp_col(mask, a, c.w, c.scale or 0, b, other.w, other.scale or 0, plus, sel, n, op)
end

local function in_list(mask, c, list, sel, n)
  if c.t ~= "text" then
    local one = F.alloc(1, n)
    ffi.fill(mask, n, 0)
    for _, v in ipairs(list) do
      local k = K.constant(c, v, 6)
      if c.w == 4 then C.kt_k_cmp32(one, K.data(c), sel, n, 0, k)
      else C.kt_k_cmp_dec(one, K.data(c), c.w, c.scale, sel, n, 0, k) end
      C.kt_k_or(mask, one, n)
    end
    F.free(one)
    return
  end
  local count = C.kt_dict_count(c.dict)
  local set = F.alloc(1, count)
  ffi.fill(set, count, 0)
  for _, v in ipairs(list) do
    local code = K.constant(c, v, 6)
    if code ~= IMPOSSIBLE then set[code] = 1 end
  end
  C.kt_k_in(mask, K.data(c), sel, n, set, count)
  F.free(set)
end

local function test(f, sel, n, cond)
  local name, op, value = cond[1], cond[2], cond[3]
  if op == "found" or op == "absent" then
    local c = K.get(f, name .. "#", 5)
    if c.missing then return nil end
    local mask = F.alloc(1, n)
    C.kt_k_found(mask, K.data(c), sel, n, op == "found" and 1 or 0)
    return mask
  end
  local c = K.get(f, name, 5)
  if c.missing and c.default == nil then return nil end
  if op == "null" or op == "notnull" then
    local mask = F.alloc(1, n)
    C.kt_k_null(mask, K.data(c), c.w, sel, n, op == "null" and 1 or 0)
    return mask
  end
  if op == "in" then
    local mask = F.alloc(1, n)
    in_list(mask, c, value, sel, n)
    return mask
  end
  local code = ops[op] or error("no such operator: " .. tostring(op), 5)
  if type(value) == "table" then
    local other = K.get(f, value[1], 5)
    if other.missing and other.default == nil then return nil end
    local mask = F.alloc(1, n)
    local plus = value.plus or 0
    if c.scale and plus ~= 0 then plus = plus * 10 ^ c.scale end
    against_column(mask, c, code, other, plus, sel, n)
    return mask
  end
  local mask = F.alloc(1, n)
  if value == nil then -- a comparison with NULL is false
    ffi.fill(mask, n, 0)
    return mask
  end
  local k = K.constant(c, value, 5)
  if c.w == 4 then
    if c.t == "text" and code > 1 then error("text knows eq, ne, in, null, notnull", 5) end
    C.kt_k_cmp32(mask, K.data(c), sel, n, code, k)
  else
    C.kt_k_cmp_dec(mask, K.data(c), c.w, c.scale, sel, n, code, k)
  end
  return mask
end

local combine

--- Mask of one condition over the rows sel[0..n) of frame f.
---@return ffi.cdata*? nil: left out
local function eval(f, sel, n, cond)
  if type(cond) ~= "table" then error("a condition is a list: {column, op, value}", 4) end
  local word = cond[1]
  if word == "any" or word == "all" then return combine(f, sel, n, cond, 2, word == "any" and C.kt_k_or or C.kt_k_and) end
  if word == "not" then
    local mask = eval(f, sel, n, cond[2])
    if mask then C.kt_k_not(mask, n) end
    return mask
  end
  return test(f, sel, n, cond)
end

combine = function(f, sel, n, list, from, fold)
  local mask
  for i = from, #list do
    local one = eval(f, sel, n, list[i])
    if one and mask then
      fold(mask, one, n)
      F.free(one)
    else
      mask = one or mask
    end
  end
  return mask
end

--- All of the conditions (where), or any of them (without); nil when all are left out.
---@return ffi.cdata*?
function M.mask(f, sel, n, conds, any) return combine(f, sel, n, conds, 1, any and C.kt_k_or or C.kt_k_and) end

return M
