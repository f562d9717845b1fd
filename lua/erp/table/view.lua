--- Table: a frame and the rows of it that were chosen. The methods are documented in erp.table.
--
-- A rule is not trusted with the arrays: what a Table or a row holds is in weak tables here, and
-- every row number that comes back from outside is checked.
local F = require "erp.table.ffi"
local D = require "erp.table.decimal"
local K = require "erp.table.column"
local condition = require "erp.table.condition"
local ffi, C = F.ffi, F.C

local M = {}

---@class erp.View state of a Table
---@field f erp.Frame
---@field sel ffi.cdata*? rows of f, nil: all
---@field n integer
---@field run table? what counts skips (erp.rule); nil outside a rule
local state = setmetatable({}, { __mode = "k" })
M.state = state

---@class erp.Table
local methods = {}
M.methods = methods

local has_mt = {
  __index = function(has, name)
    local v = state[has]
    local c = K.find(v.f, name)
    return c ~= nil and not c.missing
  end,
  __newindex = function() error("a table is read only", 2) end,
  __metatable = false,
}

local view_mt = {
  __index = function(t, name)
    local m = methods[name]
    if m then return m end
    local v = state[t]
    if name == "has" then
      local has = setmetatable({}, has_mt)
      state[has] = v
      return has
    end
    if name == "columns" then
      local list = {}
      for i, column in ipairs(v.f.names or {}) do list[i] = column end
      return list
    end
    error("a table has no method \"" .. tostring(name) .. "\"", 2)
  end,
  __newindex = function() error("a table is read only", 2) end,
  __metatable = false,
}

--- A Table over rows sel[0..n) of frame f.
function M.new(f, sel, n, run)
  local t = setmetatable({}, view_mt)
  state[t] = { f = f, sel = sel, n = n, run = run }
  return t
end

local function of(t, level)
  local v = state[t]
  if not v then error("a table is wanted; call its methods with \":\"", (level or 2) + 1) end
  return v
end
M.of = of

--- The view as a frame of its own rows, so that columns can be added.
function M.dense(v) return K.frame(v.n, v.f, v.sel) end

-- Rows ---------------------------------------------------------------------------------------

local POSITION = 1 -- where a row keeps its number

local function row_mt(f)
  if f.row_mt then return f.row_mt end
  local function has(_, name) return K.find(f, name) ~= nil end
  f.row_mt = {
    __index = function(row, name)
      if name == "has" then return has end
      local c = K.get(f, name, 2)
      local i = rawget(row, POSITION)
      if type(i) ~= "number" or not (i >= 0 and i < f.n) then error("the row was tampered with", 2) end
      return K.read(c, i)
    end,
    __newindex = function() error("a row is read only", 2) end,
    __metatable = false,
  }
  return f.row_mt
end

local function row_of(f, i) return setmetatable({ [POSITION] = i }, row_mt(f)) end
M.row_of = row_of

local function frame_row(v, i) return v.sel == nil and i or v.sel[i] end

function methods.count(t) return of(t).n end

function methods.row(t, i)
  local v = of(t)
  if type(i) ~= "number" or i ~= math.floor(i) or i < 1 or i > v.n then
    error("row " .. tostring(i) .. " of " .. v.n, 2)
  end
  return row_of(v.f, frame_row(v, i - 1))
end

--- Row numbers of the view in `order` (or as they are): a fresh array.
local function ordered(v, order)
  local rows = F.alloc(4, v.n)
  if v.sel == nil then C.kt_k_iota(rows, v.n, 0) else ffi.copy(rows, v.sel, v.n * 4) end
  if order and #order > 0 then
    local keys, n, anchor = K.keys(v.f, order, true)
    if C.kt_k_sort(keys, n, rows, v.n) ~= 0 then error "not enough memory" end
    anchor[1] = anchor[1] -- kept until here
  end
  return rows
end
M.ordered = ordered

function methods.sort(t, order)
  local v = of(t)
  return M.new(v.f, ordered(v, order), v.n, v.run)
end

function methods.each(t, order)
  local v = of(t)
  local rows = order and ordered(v, order) or v.sel
  local i, n, mt = -1, v.n, row_mt(v.f)
  return function()
    i = i + 1
    if i < n then return setmetatable({ rows == nil and i or rows[i] }, mt) end
  end
end

function methods.first(t, order)
  local v = of(t)
  if v.n == 0 then return nil end
  if order then return row_of(v.f, ordered(v, order)[0]) end
  return row_of(v.f, frame_row(v, 0))
end

function methods.list(t, n, fn)
  if type(n) == "function" then n, fn = 10, n end
  local v, out = of(t), {}
  for i = 0, math.min(n or 10, v.n) - 1 do out[i + 1] = fn(row_of(v.f, frame_row(v, i))) end
  return out
end

-- Choosing rows ------------------------------------------------------------------------------

--- The rows of v whose mask is 1; owns the mask.
local function selected(v, mask)
  local sel = F.alloc(4, v.n)
  local n = tonumber(C.kt_k_select(mask, v.sel, v.n, sel))
  F.free(mask)
  if n == v.n then
    F.free(sel)
    return M.new(v.f, v.sel, n, v.run)
  end
  if n * 4 < v.n then -- do not hold megabytes for a few rows
    local small = F.alloc(4, n)
    ffi.copy(small, sel, n * 4)
    F.free(sel)
    sel = small
  end
  return M.new(v.f, sel, n, v.run)
end
M.selected = selected

function methods.where(t, conds)
  local v = of(t)
  local mask = condition.mask(v.f, v.sel, v.n, conds, false)
  return mask and selected(v, mask) or t
end

function methods.without(t, conds)
  local v = of(t)
  local mask = condition.mask(v.f, v.sel, v.n, conds, true)
  if not mask then return t end
  C.kt_k_not(mask, v.n)
  return selected(v, mask)
end

function methods.decide(t, name, cases)
  local v = of(t)
  local f = M.dense(v)
  local c = K.made("text", 4, nil, F.new_dict(), v.n, F.alloc(4, v.n), name)
  C.kt_k_fill32(c.p, v.n, F.NULL32)
  for _, case in ipairs(cases) do
    local mask = condition.mask(f, nil, v.n, case[2], false)
    if not mask then -- nothing of it can be tested: it holds for all
      mask = F.alloc(1, v.n)
      ffi.fill(mask, v.n, 1)
    end
    C.kt_k_decide(c.p, mask, v.n, C.kt_dict_intern(c.dict, case[1], #case[1]))
    F.free(mask)
  end
  f.cols[name] = c
  local decided = F.alloc(1, v.n)
  C.kt_k_null(decided, c.p, 4, nil, v.n, 0)
  return selected({ f = f, n = v.n, run = v.run }, decided)
end

function methods.need(t, names)
  for _, name in ipairs(names) do
    local v = of(t)
    local c = K.get(v.f, name, 2)
    local mask = F.alloc(1, v.n)
    C.kt_k_null(mask, K.data(c), c.w, v.sel, v.n, 0)
    local kept = selected(v, mask)
    local lost = v.n - of(kept).n
    if lost > 0 then
      if v.run then v.run.skip("no_" .. name:match("[^.]*$"), lost) end
      t = kept
    end
  end
  return t
end

-- Adding columns -----------------------------------------------------------------------------

--- A frame over v's rows with column `name`, as a Table.
local function with_column(v, name, c)
  local f = M.dense(v)
  c.name = name
  f.cols[name] = c
  return M.new(f, nil, v.n, v.run)
end
M.with_column = with_column

local function two(f, a, b)
  local x, y = K.get(f, a, 3), K.get(f, b, 3)
  if x.t ~= y.t or x.scale ~= y.scale or x.w ~= y.w then
    error(("columns \"%s\" and \"%s\" are of different types"):format(a, b), 3)
  end
  return x, y
end

local derive = {}

function derive.coalesce(f, a, b)
  local x, y = two(f, a, b)
  if x.missing and x.default == nil then return y end
  if y.missing and y.default == nil then return x end
  local vx, vy = K.data(x), K.data(y)
  if x.dict ~= y.dict then
    local map = F.alloc(4, C.kt_dict_count(y.dict))
    if C.kt_dict_merge(x.dict, y.dict, map) ~= 0 then error "not enough memory" end
    local translated = F.alloc(4, f.n)
    C.kt_k_map32(translated, vy, map, f.n)
    vy = translated
  end
  local p = F.alloc(x.w, f.n)
  C.kt_k_coalesce(p, vx, vy, x.w, f.n)
  return K.made(x.t, x.w, x.scale, x.dict, f.n, p)
end

local function add64(sign)
  return function(f, a, b)
    local x, y = two(f, a, b)
    if x.w ~= 8 then error("add and sub are for numbers of a row", 3) end
    local p = F.alloc(8, f.n)
    if C.kt_k_add64(p, K.data(x), K.data(y), sign, f.n) ~= 0 then error("a number is too large", 3) end
    return K.made(x.t, 8, x.scale, nil, f.n, p)
  end
end
derive.add, derive.sub = add64(1), add64(-1)

--- b: a column's name, or a Decimal or integer.
function derive.times(f, a, b)
  local x = K.get(f, a, 3)
  local y = type(b) == "string" and K.get(f, b, 3) or nil
  local c = not y and D.decimal(b) or nil
  if not x.scale or (y and not y.scale) then error("times is of numbers", 3) end
  local p = F.alloc(16, f.n)
  if C.kt_k_times(p, K.data(x), x.w, y and K.data(y) or nil, y and y.w or 0, c, f.n) ~= 0 then
    error("a number is too large", 3)
  end
  return K.made("dec", 16, x.scale + (y and y.scale or c.scale), nil, f.n, p)
end

function derive.plus(f, a, days)
  local x = K.get(f, a, 3)
  if x.t ~= "date" then error("plus is for dates", 3) end
  local p = F.alloc(4, f.n)
  C.kt_k_plus32(p, K.data(x), f.n, days)
  return K.made("date", 4, nil, nil, f.n, p)
end

function derive.iso_week(f, a)
  local x = K.get(f, a, 3)
  if x.t ~= "date" then error("iso_week is of a date", 3) end
  local p = F.alloc(4, f.n)
  C.kt_k_monday(p, K.data(x), f.n)
  return K.made("date", 4, nil, nil, f.n, p)
end

--- Texts by way of their dictionary: map[code] = code in the same dictionary.
local function by_code(f, x, map)
  local p = F.alloc(4, f.n)
  C.kt_k_map32(p, K.data(x), map, f.n)
  return K.made("text", 4, nil, x.dict, f.n, p)
end

-- Normal forms by dictionary: rules ask for those of one column again and again.
local norms = setmetatable({}, { __mode = "k" }) -- dict -> {count, map}

local function norm_map(dict)
  local known, count = norms[dict] or { 0 }, C.kt_dict_count(dict)
  if known[1] == count then return known[2] end
  local map = F.alloc(4, count)
  if known[1] > 0 then ffi.copy(map, known[2], 4 * known[1]) end
  if C.kt_dict_norm(dict, known[1], count, map) ~= 0 then error "not enough memory" end
  norms[dict] = { count, map }
  return map
end

function derive.norm(f, a)
  local x = K.get(f, a, 3)
  if x.t ~= "text" then error("norm is of a text", 3) end
  if x.missing then return x end
  return by_code(f, x, norm_map(x.dict))
end

function derive.text(f, a, fn)
  local x = K.get(f, a, 3)
  if x.t ~= "text" then error("text is of a text", 3) end
  if x.missing then return x end
  local count = C.kt_dict_count(x.dict)
  local map = F.alloc(4, count)
  for code = 0, count - 1 do
    local s = fn(F.text(x.dict, code))
    map[code] = s == nil and F.NULL32 or C.kt_dict_intern(x.dict, s, #s)
  end
  return by_code(f, x, map)
end

function derive.const(f, kind, value)
  local store = K.storage[kind] or error("no such type: " .. tostring(kind), 3)
  local c = { t = store[1], w = store[2], scale = store[3], n = f.n, name = "const", provided = true }
  if c.t == "text" then c.dict = F.new_dict() end
  local v = c.w == 4 and F.NULL32 or F.NULL64
  if value ~= nil then
    if c.t == "text" then v = C.kt_dict_intern(c.dict, value, #value)
    elseif c.w == 8 then v = K.to_int64(D.decimal(value), c.scale)
    else v = K.constant(c, value, 3) end
  end
  c.p = F.alloc(c.w, f.n)
  if c.w == 4 then C.kt_k_fill32(c.p, f.n, v) else C.kt_k_fill64(c.p, f.n, v) end
  return c
end

function methods.derive(t, name, op, ...)
  local v = of(t)
  local make = derive[op] or error("no such derivation: " .. tostring(op), 2)
  local f = M.dense(v)
  local c = make(f, ...)
  local own = {} -- a column may be shared under two names
  for k, x in pairs(c) do own[k] = x end
  own.name, f.cols[name] = name, own
  return M.new(f, nil, v.n, v.run)
end

function methods.as_loaded(t)
  local v = of(t)
  local loaded = v.f.loaded
  if not loaded then error("as_loaded is of a table as it came, before with, derive or group", 2) end
  return M.new(loaded, v.sel, v.n, v.run)
end

return M
