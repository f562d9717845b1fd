--- Table: a frame and the rows of it that were chosen. The methods are documented in erp.table.
--
-- A rule is not trusted with the arrays: what a Table or a row holds is in weak tables here, and
-- every row number that comes back from outside is checked.
local F = require "erp.table.ffi"
F.hot()
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

function methods.skip(t, reason, conds)
  local kept = t:without(conds)
  local v = of(t)
  local lost = v.n - of(kept).n
  if lost > 0 and v.run then v.run.skip(reason, lost) end
  return kept
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

function methods.as_loaded(t)
  local v = of(t)
  local loaded = v.f.loaded
  if not loaded then error("as_loaded is of a table as it came, before with, derive or group", 2) end
  return M.new(loaded, v.sel, v.n, v.run)
end

return M
