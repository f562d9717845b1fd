--- A data set at its key date, and what a rule sees of it as `t` (documented in erp.table).
local F = require "erp.table.ffi"
F.hot()
local D = require "erp.table.decimal"
local K = require "erp.table.column"
local V = require "erp.table.view"
local G = require "erp.table.group"
local B = require "erp.table.build"
local keydate = require "erp.keydate"

local M = {}

--- Decimals of a currency where the data say nothing (erp-rules.md, section 0).
M.decimals = { JPY = 0, KRW = 0, CLP = 0, HUF = 0, KWD = 3, BHD = 3, TND = 3 }

--- A table that the source does not have: no rows, every column missing.
local function absent(def, ctx)
  local f = K.frame(0)
  f.absent = true
  for _, d in ipairs(def.columns) do
    local store = K.storage[d.type]
    local default = d.default
    local c = { t = store[1], w = store[2], scale = store[3], n = 0, missing = true, name = d.name }
    if c.t == "text" then
      c.dict = B.domain(ctx, d.domain or d.name)
      if default then c.default = F.C.kt_dict_intern(c.dict, default, #default) end
    elseif c.t == "flag" and default then
      c.default = default == "1" and 1 or 0
    elseif default then
      c.default = K.to_int64(D.decimal(default), c.scale)
    end
    f.cols[d.name] = c
  end
  f.loaded, f.names = f, {}
  return { f = f, n = 0 }
end

---@class erp.Data
---@field as_of integer
---@field as_of_text string
---@field tables table<string, {f: erp.Frame, sel: ffi.cdata*?, n: integer}>
---@field present table<string, boolean>
---@field defs table<string, erp.TableDef>

--- See erp.table.
---@return erp.Data
function M.set(spec)
  local as_of = type(spec.as_of) == "number" and spec.as_of or D.day(spec.as_of)
  if not as_of then error("as_of is no date: " .. tostring(spec.as_of), 2) end
  local data = { as_of = as_of, as_of_text = D.iso(as_of), defs = spec.defs, present = {}, sources = spec.sources or {},
    currency_cc = spec.company_currency, currency_rc = spec.report_currency or spec.company_currency,
    extract_date = spec.extract_date }
  data.tables = keydate.apply(spec.tables, as_of, function(f, names, other, other_names)
    return G.probe_frames({ f = f, n = f.n }, names, other, other_names)
  end)
  for name, def in pairs(spec.defs) do
    data.present[name] = data.tables[name] ~= nil
    data.tables[name] = data.tables[name] or absent(def, spec.ctx)
    data.tables[name].index = {}
  end
  return data
end

--- Is "table" or "table.column" there?
---@param data erp.Data
---@param path string
function M.has(data, path)
  local tab, column = path:match "^([^.]+)%.?(.*)$"
  if not data.defs[tab] then error("there is no table \"" .. tab .. "\"", 2) end
  if not data.present[tab] then return false end
  if column == "" then return true end
  local c = K.find(data.tables[tab].f, column)
  if not c then error("table " .. tab .. " has no column \"" .. column .. "\"", 2) end
  return not c.missing
end

local function table_of(data, name, run)
  local base = data.tables[name]
  local t = V.new(base.f, base.sel, base.n, run)
  V.state[t].index = base.index
  return t
end
M.table_of = table_of

-- What is not a table in `t`: values and functions over the whole data set. A rule that calls one
-- declares the tables behind it, so that its input_hash names them.
local services = {}
local reads = { plant_currency = { "plant", "company" }, fx = { "fx_rate" }, unit_cost = { "material_plant" }, base = { "uom_conv", "material" } }

function services.fx(data)
  local rates = table_of(data, "fx_rate"):where { { "rate_type", "in", { "M", "" } } }
  local ix = rates:index { "from_cur", "to_cur" }
  local cache = {}
  local function series(from, to)
    local key = from .. "\0" .. to
    local s = cache[key]
    if not s then
      s = { days = {}, rates = {} }
      for row in ix:all(from, to):each { "valid_from" } do
        if row.valid_from and row.rate then
          s.days[#s.days + 1], s.rates[#s.rates + 1] = row.valid_from, row.rate
        end
      end
      cache[key] = s
    end
    return s
  end
  local function newest(from, to, day)
    local s = series(from, to)
    local lo, hi = 0, #s.days
    while lo < hi do
      local mid = math.floor((lo + hi + 1) / 2)
      if s.days[mid] <= day then lo = mid else hi = mid - 1 end
    end
    return s.rates[lo]
  end
  return function(from, to, day)
    if from == nil or to == nil or day == nil then return nil end
    if from == to then return D.decimal(1) end
    local rate = newest(from, to, day)
    if rate then return rate end
    local inverse = newest(to, from, day)
    return inverse and inverse:sign() ~= 0 and D.decimal(1):div(inverse, 9) or nil
  end
end

--- Currency of the company that a plant belongs to; the data set's where it is not known.
function services.plant_currency(data)
  local plants, companies = table_of(data, "plant"):index { "plant_id" }, table_of(data, "company"):index { "company_id" }
  return function(plant)
    local row = plant ~= nil and plants:get(plant)
    local company = row and row.company_id and companies:get(row.company_id)
    return company and company.currency or data.currency_cc
  end
end

function services.unit_cost(data)
  local plans = table_of(data, "material_plant")
  local by_both, by_material = plans:index { "material_id", "plant_id" }, plans:index { "material_id" }
  return function(material, plant)
    local row
    if plant ~= nil then
      row = by_both:get(material, plant)
    else
      local all = by_material:all(material)
      row = all:count() == 1 and all:row(1) or nil
    end
    if not row or row.unit_cost == nil then return nil end
    local unit = row.price_unit
    if unit == nil or unit == 0 then unit = 1 end
    return row.unit_cost:div(unit, 6), row.currency
  end
end

--- factor(material, uom) -> num, den (int64, one scale) that turn a quantity into base units.
function services.factor(data)
  local conv = table_of(data, "uom_conv"):index { "material_id", "from_uom", "to_uom" }
  local base = table_of(data, "material"):index { "material_id" }
  local function int(d) return K.to_int64(d, 4) end
  local function factor(material, uom)
    if uom == nil or uom == "" then return 1, 1 end
    local row = material ~= nil and base:get(material)
    local to = row and row.base_uom
    if uom == to or not M.has(data, "material.base_uom") then return 1, 1 end
    if to == nil then return nil end
    for _, m in ipairs { material, "" } do
      local c = conv:get(m, uom, to)
      if c and c.num and c.den and c.den:sign() ~= 0 then return int(c.num), int(c.den) end
      c = conv:get(m, to, uom)
      if c and c.num and c.den and c.num:sign() ~= 0 then return int(c.den), int(c.num) end
    end
    return nil
  end
  return factor
end

function services.base(data)
  local factor = services.factor(data)
  return function(q, material, uom)
    local num, den = factor(material, uom)
    if not num then return nil end
    if num == den then return q end
    return (q * D.of_int64(num + 0LL, 0)):div(D.of_int64(den + 0LL, 0), 6)
  end
end

--- Fraction digits of a currency.
function services.decimals(data)
  local ix = table_of(data, "currency"):index { "currency" }
  local known = {}
  return function(currency)
    local n = known[currency]
    if not n then
      local row = ix:get(currency)
      n = row and row.decimals or M.decimals[currency] or 2
      known[currency] = n
    end
    return n
  end
end

function services.round(data)
  local decimals = M.service(data, "decimals")
  return function(x, currency) return x:round(decimals(currency)) end
end

--- A service, made when first used and kept with the data set.
local function service(data, name)
  data.made = data.made or {}
  local s = data.made[name]
  if not s then
    s = services[name](data)
    data.made[name] = s
  end
  return s
end
M.service = service

--- Value of a part of a PO or sales line (section 0); prefix: of an alias, "line.".
local function val(row, q, prefix)
  prefix = prefix or ""
  local net, qty = row[prefix .. "net_value"], row[prefix .. "qty"]
  if net ~= nil and qty ~= nil and qty:sign() ~= 0 then
    if q == qty then return net end
    return (net * q):div(qty, 6)
  end
  local price = row[prefix .. (row:has(prefix .. "price") and "price" or "net_price")]
  if price == nil then return nil end
  local unit = row[prefix .. "price_unit"]
  if unit == nil or unit == 0 then unit = 1 end
  return (q * price):div(unit, 6)
end

--- `t` of a rule. run: {allowed = {table = true}, reasons = {reason = true}, skip = fn, population = fn}.
---@param data erp.Data
function M.rule_view(data, run)
  local function guarded(name)
    local made
    return function(...)
      if not made then -- once a rule: a loop in here would keep the loops of rules from being compiled
        for _, tab in ipairs(reads[name]) do
          if not run.allowed[tab] then error(("t.%s reads table \"%s\", which the rule does not declare"):format(name, tab), 2) end
        end
        made = service(data, name)
      end
      return made(...)
    end
  end
  run.factor = function(...) return service(data, "factor")(...) end
  -- Without base units in the data nothing says that a quantity is in another unit.
  run.plain_units = function() return not M.has(data, "material.base_uom") end
  run.materials = function() return table_of(data, "material", run) end
  local fixed = {
    as_of = data.as_of, currency_cc = data.currency_cc, currency_rc = data.currency_rc,
    decimal = D.decimal, iso = D.iso, week = D.week, day = D.day, monday = D.monday, exceeds = D.exceeds, val = val,
    zero = D.decimal(0), runs = run.reasons, population = run.population, skip = run.skip,
    fx = guarded "fx", plant_currency = guarded "plant_currency", unit_cost = guarded "unit_cost", base = guarded "base",
    round = function(...) return service(data, "round")(...) end,
    smallest_unit = function(currency) return D.decimal(1):div(D.decimal("1" .. ("0"):rep(service(data, "decimals")(currency))), 4) end,
    has = function(self, path) return M.has(data, path or self) end,
  }
  local tables = {}
  return setmetatable({}, {
    __index = function(_, name)
      local v = fixed[name]
      if v ~= nil then return v end
      local t = tables[name]
      if t then return t end
      if not data.defs[name] then error("t has nothing named \"" .. tostring(name) .. "\"", 2) end
      if not run.allowed[name] then
        error(("the rule reads table \"%s\" and does not declare it (requires, reasons or reads)"):format(name), 2)
      end
      t = table_of(data, name, run)
      tables[name] = t
      return t
    end,
    __newindex = function() error("t is read only", 2) end,
    __metatable = false,
  })
end

return M
