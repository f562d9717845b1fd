--- Derived columns: the method derive of a Table, documented in erp.table.
local F = require "erp.table.ffi"
local D = require "erp.table.decimal"
local K = require "erp.table.column"
local V = require "erp.table.view"
local G = require "erp.table.group"
local ffi, C = F.ffi, F.C

local methods, of = V.methods, V.of

local function two(f, a, b)
  local x, y = K.get(f, a, 3), K.get(f, b, 3)
  if x.t ~= y.t or x.scale ~= y.scale then
    error(("columns \"%s\" and \"%s\" are of different types"):format(a, b), 3)
  end
  return x, y
end

local derive = {}

-- Values of a column, 128 bit wide.
local function wide(c)
  if c.w == 16 then return K.data(c) end
  local p = F.alloc(16, c.n)
  C.kt_k_widen(p, K.data(c), c.n)
  return p
end

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
  local w = math.max(x.w, y.w)
  if x.w ~= y.w then vx, vy = wide(x), wide(y) end -- a sum, else a number of the row
  local p = F.alloc(w, f.n)
  C.kt_k_coalesce(p, vx, vy, w, f.n)
  return K.made(x.t, w, x.scale, x.dict, f.n, p)
end

local function add(sign)
  return function(f, a, b)
    local x, y = two(f, a, b)
    if not x.scale then error("add and sub are of numbers", 3) end
    if x.w == 16 or y.w == 16 then -- a sum takes part
      local p = F.alloc(16, f.n)
      if C.kt_k_add128(p, wide(x), wide(y), sign, f.n) ~= 0 then error("a number is too large", 3) end
      return K.made("dec", 16, x.scale, nil, f.n, p)
    end
    local p = F.alloc(8, f.n)
    if C.kt_k_add64(p, K.data(x), K.data(y), sign, f.n) ~= 0 then error("a number is too large", 3) end
    return K.made(x.t, 8, x.scale, nil, f.n, p)
  end
end
derive.add, derive.sub = add(1), add(-1)

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

function derive.days(f, a, b)
  local x, y = K.get(f, a, 3), K.get(f, b, 3)
  if x.t ~= "date" or y.t ~= "date" then error("days are between dates", 3) end
  local p = F.alloc(8, f.n)
  C.kt_k_days(p, K.data(x), K.data(y), f.n)
  return K.made("int", 8, 0, nil, f.n, p)
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

-- What fn gives, as it is stored.
local function stored(c, v)
  if v == nil then return c.w == 4 and F.NULL32 or F.NULL64 end
  if c.t == "text" then return C.kt_dict_intern(c.dict, v, #v) end
  if c.w == 8 then return K.to_int64(D.decimal(v), c.scale) end
  return K.constant(c, v, 4)
end

--- One value for each distinct combination of columns.
function derive.by(f, keys, kind, fn)
  local store = K.storage[kind] or error("no such type: " .. tostring(kind), 3)
  local c = { t = store[1], w = store[2], scale = store[3], n = f.n, name = "by", provided = true }
  if c.t == "text" then c.dict = F.new_dict() end
  local gr = G.grouping({ f = f, n = f.n }, keys, false)
  local first, values, args = C.kt_group_first(gr.g), F.alloc(c.w, gr.count), {}
  for k = 0, gr.count - 1 do
    for i, key in ipairs(gr.cols) do args[i] = K.read(key, first[k]) end
    values[k] = stored(c, fn(unpack(args, 1, #gr.cols)))
  end
  c.p = F.alloc(c.w, f.n)
  if c.w == 4 then C.kt_k_map32(c.p, gr.ids, values, f.n) else C.kt_k_map64(c.p, gr.ids, values, f.n) end
  return c
end

function derive.copy(f, a) return K.get(f, a, 3) end

function derive.quotient(f, a, b)
  local x, y = K.get(f, a, 3), K.get(f, b, 3)
  if not x.scale or not y.scale then error("quotient is of numbers", 3) end
  local p = F.alloc(8, f.n)
  if C.kt_k_quotient(p, K.data(x), x.w, x.scale, K.data(y), y.w, y.scale, 6, f.n) ~= 0 then error("a number is too large", 3) end
  return K.made("dec", 8, 6, nil, f.n, p)
end

function derive.round_to(f, a, unit)
  local x, y = K.get(f, a, 3), K.get(f, unit, 3)
  if not x.scale or y.w ~= 8 or y.scale ~= 4 then error("round_to is of a number, to an amount", 3) end
  local p = F.alloc(8, f.n)
  if C.kt_k_round_to(p, K.data(x), x.w, x.scale, K.data(y), f.n) ~= 0 then
    error("round_to: a number is too large, or a unit is not above 0", 3)
  end
  return K.made("dec", 8, 4, nil, f.n, p)
end

function methods.derive(t, name, op, ...)
  local v = of(t)
  local make = derive[op] or error("no such derivation: " .. tostring(op), 2)
  local f = V.dense(v)
  local c = make(f, ...)
  local own = {} -- a column may be shared under two names
  for k, x in pairs(c) do own[k] = x end
  own.name, f.cols[name] = name, own
  return V.new(f, nil, v.n, v.run)
end
