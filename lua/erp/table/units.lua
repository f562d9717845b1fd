--- Units of measure: methods of a Table documented in erp.table. They work inside a rule, where the data set is known.
local F = require "erp.table.ffi"
local K = require "erp.table.column"
local V = require "erp.table.view"
local G = require "erp.table.group"
local C = F.C
local methods, of = V.methods, V.of

--- Factors into base units: for each row a number, and by number numerator and denominator (0: no conversion). Number 0 is
--- the base unit itself; only rows in another unit are looked up, once a material and unit.
local function factors(v, f, material, uom)
  local run = v.run and v.run.factor and v.run or error("units are known inside a rule only", 3)
  if not (run.allowed.material and run.allowed.uom_conv) then error("units are read from material and uom_conv: declare them", 3) end
  local ids = F.alloc(4, v.n)
  C.kt_k_fill32(ids, v.n, 0)
  local num, den = F.alloc(8, 1), F.alloc(8, 1)
  num[0], den[0] = 1, 1
  if uom == nil or run.plain_units() or K.get(f, uom, 4).missing then return ids, num, den end
  -- What is in no unit, or in the material's own.
  local inside = V.new(f, nil, v.n, v.run):with("base#unit", run.materials(), { material_id = material })
  local other = inside:without { { uom, "null" }, { uom, "eq", "" }, { uom, "eq", { "base#unit.base_uom" } } }
  local o = of(other)
  if o.n == 0 then return ids, num, den end
  local gr = G.grouping(o, { material, uom }, false)
  num, den = F.alloc(8, gr.count + 1), F.alloc(8, gr.count + 1)
  num[0], den[0] = 1, 1
  local first = C.kt_group_first(gr.g)
  for k = 0, gr.count - 1 do
    local at = o.sel == nil and first[k] or o.sel[first[k]]
    local a, b = run.factor(K.read(K.get(o.f, material), at), K.read(K.get(o.f, uom), at))
    num[k + 1], den[k + 1] = a or 0, b or 0
  end
  if o.sel == nil then
    for i = 0, o.n - 1 do ids[i] = gr.ids[i] + 1 end
  else
    for i = 0, o.n - 1 do ids[o.sel[i]] = gr.ids[i] + 1 end
  end
  return ids, num, den
end

function methods.to_base(t, spec)
  local v = of(t)
  local f = V.dense(v)
  local qty = K.get(f, spec.qty)
  if qty.w ~= 8 then error("to_base: qty must be a quantity", 2) end
  local ids, num, den = factors(v, f, spec.material, spec.uom)
  local out = F.alloc(8, v.n)
  if C.kt_k_ratio(out, K.data(qty), qty.scale, ids, num, den, v.n) ~= 0 then error("to_base: a number is too large", 2) end
  f.cols[spec.as] = K.made("dec", 8, 6, nil, v.n, out, spec.as)
  -- A row without conversion is skipped; one without quantity stays NULL.
  return V.new(f, nil, v.n, v.run):skip("no_uom", { { "all", { spec.as, "null" }, { spec.qty, "notnull" } } })
end

function methods.unit_price(t, spec)
  local v = of(t)
  local f = V.dense(v)
  local price, unit = K.get(f, spec.price), K.get(f, spec.unit)
  if price.t ~= "dec" or price.scale ~= 6 or price.w ~= 8 or unit.t ~= "int" then error("unit_price: price is a price, unit an integer", 2) end
  local ids, num, den = factors(v, f, spec.material, spec.uom)
  local out = F.alloc(8, v.n)
  if C.kt_k_unit_price(out, K.data(price), not unit.missing and K.data(unit) or nil, ids, num, den, v.n) ~= 0 then
    error("unit_price: a number is too large", 2)
  end
  f.cols[spec.as] = K.made("dec", 8, 6, nil, v.n, out, spec.as)
  return V.new(f, nil, v.n, v.run)
end
