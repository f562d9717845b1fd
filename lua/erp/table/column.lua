--- Columns and frames.
--
-- A column is dense values of one width, or a recipe for them: gathered through a row list from
-- another column, or missing. The values are made when a kernel asks for all of them; reading one
-- row goes through the recipe, so that evidence of ten rows costs ten rows.
--   column = {t = type, w = bytes a value, scale=, dict=, n = rows, p = values | nil,
--             from = column, idx = row list | nil, missing = true, default = value | nil}
--   types: text date flag int dec src
-- A frame is n rows with columns by name, its own or its parent's; an alias is a joined frame, and
-- column `alias#` holds the rows that were found in it.
local F = require "erp.table.ffi"
F.hot()
local D = require "erp.table.decimal"
local ffi, C = F.ffi, F.C
local NULL32, NULL64 = F.NULL32, F.NULL64
local new_decimal = ffi.typeof "kt_dec"

local M = {}

--- Storage of a schema type: type, width, scale.
M.storage = {
  id = { "text", 4 }, text = { "text", 4 }, d = { "date", 4 }, ts = { "date", 4 }, b = { "flag", 4 },
  n = { "int", 8, 0 }, m = { "dec", 8, 4 }, q = { "dec", 8, 4 }, p = { "dec", 8, 6 }, r = { "dec", 8, 9 },
  ["%"] = { "dec", 8, 6 },
}

---@class erp.Frame
---@field n integer
---@field cols table<string, table>
---@field alias table<string, table>
---@field parent erp.Frame?
---@field idx ffi.cdata*?

function M.frame(n, parent, idx) return { n = n, cols = {}, alias = {}, parent = parent, idx = idx } end

local function like(src, n, idx)
  return { t = src.t, w = src.w, scale = src.scale, dict = src.dict, missing = src.missing, default = src.default,
    code = src.code, provided = src.provided, n = n, from = not src.missing and src or nil, idx = idx, name = src.name }
end

--- Column of a frame, nil when there is no such name.
local function find(f, name)
  local c = f.cols[name]
  if c then return c end
  local dot = name:find(".", 1, true)
  local a = dot and f.alias[name:sub(1, dot - 1)]
  if a then
    local src = find(a.frame, name:sub(dot + 1))
    c = src and like(src, f.n, a.idx)
  elseif f.parent then
    local src = find(f.parent, name)
    c = src and (f.idx == nil and src or like(src, f.n, f.idx))
  end
  if c then f.cols[name] = c end
  return c
end
M.find = find

--- Column, or an error that names it.
function M.get(f, name, level)
  return find(f, name) or error("there is no column \"" .. tostring(name) .. "\"", (level or 2) + 1)
end

--- The default of a missing column as it is stored.
local function stored_default(c)
  local v = c.default
  if c.w == 4 then return v == nil and NULL32 or v end
  return v == nil and NULL64 or v
end

--- All values of a column (n of them), made now if need be.
local function data(c)
  if c.p then return c.p end
  local p
  if c.missing then
    p = F.alloc(c.w, c.n)
    if c.w == 4 then C.kt_k_fill32(p, c.n, stored_default(c)) else C.kt_k_fill64(p, c.n, stored_default(c)) end
  elseif c.from then
    local src = data(c.from)
    p = F.alloc(c.w, c.n)
    C.kt_k_gather(p, src, c.w, c.idx, c.n)
  else
    error("column \"" .. tostring(c.name) .. "\" can only be read row by row", 3)
  end
  c.p = p
  return p
end
M.data = data

local function decode(c, v)
  local t = c.t
  if c.w == 16 then
    if v.lo == 0 and v.hi == NULL64 then return nil end
    return new_decimal(v.lo, v.hi, c.scale)
  end
  if t == "dec" or t == "int" then
    if v == NULL64 then return nil end
    if t == "int" then return tonumber(v) end
    return D.of_int64(v, c.scale)
  end
  if v == NULL32 then return nil end
  if t == "text" then return F.text(c.dict, v) end
  if t == "flag" then return v ~= 0 end
  return v
end

--- Value of row i (from 0) as Lua sees it; nil for NULL. A recursion and not a loop: a loop in here
--- would keep the loops of rules from being compiled.
local function read(c, i)
  local p = c.p
  if p then return decode(c, p[i]) end
  if c.fn then return c.fn(i) end
  if c.missing then return decode(c, stored_default(c)) end
  local idx = c.idx
  if idx ~= nil then
    i = idx[i]
    if i < 0 then return nil end
  end
  return read(c.from, i)
end
M.read = read

--- A constant that a column is compared with: stored form (int32 of texts, days, flags; Decimal of
--- numbers). A text that the dictionary has not is -5: no row has it.
function M.constant(c, v, level)
  level = (level or 1) + 1
  local t = c.t
  if t == "text" then
    if type(v) ~= "string" then error("column \"" .. c.name .. "\" is text, compared with a " .. type(v), level) end
    local code = C.kt_dict_find(c.dict, v, #v)
    return code < 0 and -5 or code
  elseif t == "flag" then
    if v == true or v == 1 then return 1 end
    if v == false or v == 0 then return 0 end
    error("column \"" .. c.name .. "\" is a flag, compared with " .. tostring(v), level)
  elseif t == "date" then
    if type(v) ~= "number" then error("column \"" .. c.name .. "\" is a date, compared with a " .. type(v), level) end
    return v
  end
  if type(v) ~= "number" and not D.is_decimal(v) then
    error("column \"" .. tostring(c.name) .. "\" is a number, compared with a " .. type(v), level)
  end
  return D.decimal(v)
end

--- Key array for the kernels: columns by name, `-name` descending.
---@return ffi.cdata* keys, integer count, table anchors that must live as long as the keys
function M.keys(f, names, for_sort)
  local n = #names
  local keys, anchor = ffi.new("struct kt_keycol[?]", n), {}
  for i, name in ipairs(names) do
    local desc = name:sub(1, 1) == "-"
    local c = M.get(f, desc and name:sub(2) or name, 3)
    if not for_sort and c.w == 16 then error("a sum cannot be a key: " .. name, 3) end
    local p = data(c)
    anchor[i] = p
    local k = keys[i - 1]
    k.data, k.width, k.desc, k.dict = p, c.w, desc and 1 or 0, for_sort and c.dict or nil
  end
  return keys, n, anchor
end

--- A Decimal as int64 of a scale; an error when it has more digits or does not fit.
function M.to_int64(d, scale)
  local r = d:round(scale)
  if r ~= d then error("more than " .. scale .. " fraction digits: " .. tostring(d), 3) end
  while r.scale < scale do r = new_decimal((r * 10).lo, (r * 10).hi, r.scale + 1) end
  if (r.hi ~= 0 and r.hi ~= -1) or (r.hi == 0) ~= (ffi.cast("int64_t", r.lo) >= 0) then
    error("a number is too large: " .. tostring(d), 3)
  end
  return ffi.cast("int64_t", r.lo)
end

--- Column made of values.
function M.made(t, w, scale, dict, n, p, name)
  return { t = t, w = w, scale = scale, dict = dict, n = n, p = p, name = name, provided = true }
end

return M
