--- Rows in order within groups: methods of a Table documented in erp.table.
local F = require "erp.table.ffi"
local K = require "erp.table.column"
local V = require "erp.table.view"
local G = require "erp.table.group"
local condition = require "erp.table.condition"
local ffi, C = F.ffi, F.C
local methods, of = V.methods, V.of

--- The rows of a view by group, each group in `order`.
---@return erp.Grouping gr, ffi.cdata* start, ffi.cdata* members positions in the view
local function in_order(f, n, by, order, null_skips)
  local gr = G.grouping({ f = f, n = n }, by, null_skips)
  local start, members = G.members({ f = f, n = n }, gr)
  local keys, count, anchor = K.keys(f, order, true)
  if C.kt_k_sort_segments(keys, count, start, gr.count, members) ~= 0 then error "not enough memory" end
  anchor[1] = anchor[1] -- kept until here
  return gr, start, members
end

local function column_of(f, name, t, w)
  local c = K.get(f, name, 3)
  if c.t ~= t or w and c.w ~= w then error(("column \"%s\" is no %s"):format(name, t == "dec" and "number" or t), 3) end
  return c
end

local function wide(c)
  if c.w == 16 then return K.data(c) end
  local p = F.alloc(16, c.n)
  C.kt_k_widen(p, K.data(c), c.n)
  return p
end

function methods.trailing_mean(t, spec)
  local v = of(t)
  local f = V.dense(v)
  local value, other = column_of(f, spec.value, "dec"), column_of(f, spec.other, "text")
  local gr, start, members = in_order(f, v.n, spec.by, spec.order, true)
  local out = F.alloc(8, v.n)
  C.kt_k_fill64(out, v.n, F.NULL64)
  if C.kt_k_trailing_mean(out, start, members, gr.count, wide(value), value.scale, K.data(other), spec.last, spec.least or 1) ~= 0 then
    error("trailing_mean: a number is too large", 2)
  end
  f.cols[spec.as] = K.made("dec", 8, 6, nil, v.n, out, spec.as)
  return V.new(f, nil, v.n, v.run)
end

function methods.windows(t, spec)
  local v = of(t)
  local f = V.dense(v)
  local date, value, limit = column_of(f, spec.date, "date"), column_of(f, spec.sum, "dec"), column_of(f, spec.least, "dec", 8)
  local each = condition.mask(f, nil, v.n, spec.each, false)
  if not each then
    each = F.alloc(1, v.n)
    ffi.fill(each, v.n, 1)
  end
  local gr, start, members = in_order(f, v.n, spec.by, spec.order, true)
  local out = F.alloc(4, v.n)
  C.kt_k_fill32(out, v.n, F.NULL32)
  if C.kt_k_windows(out, start, members, gr.count, K.data(date), spec.days, each, wide(value), value.scale, K.data(limit), limit.scale) < 0 then
    error("windows: a sum is too large", 2)
  end
  f.cols[spec.as] = K.made("date", 4, nil, nil, v.n, out, spec.as)
  return V.new(f, nil, v.n, v.run)
end

function methods.running(t, spec)
  local v = of(t)
  local f = V.dense(v)
  local value = column_of(f, spec.qty, "dec")
  local gr, start, members = in_order(f, v.n, spec.by, spec.order, false)
  local out = F.alloc(16, v.n)
  if C.kt_k_running(out, start, members, gr.count, wide(value)) ~= 0 then error("running: a sum is too large", 2) end
  f.cols[spec.as] = K.made("dec", 16, value.scale, nil, v.n, out, spec.as)
  return V.new(f, nil, v.n, v.run)
end

function methods.serve(t, supply, spec)
  local v, s = of(t), of(supply, 2)
  local f, sf = V.dense(v), V.dense(s)
  local qty, limit = column_of(f, spec.qty, "dec", 8), column_of(f, spec.limit, "date")
  local theirs, ours = G.split_keys(spec.by)
  local offered, day = column_of(sf, spec.supply_qty, "dec", 8), column_of(sf, spec.date, "date")
  if qty.scale ~= offered.scale then error("serve: quantities of different scale", 2) end
  local gr, start, members = in_order(f, v.n, ours, spec.order, true)
  local from, from_start, from_members = in_order(sf, s.n, theirs, spec.supply_order, true)
  -- Each group of needs finds its supply by its first row.
  local firsts = { f = f, n = gr.count, sel = C.kt_group_first(gr.g) }
  local other = G.probe(firsts, ours, from)
  local filled, last, late = F.alloc(8, v.n), F.alloc(4, v.n), F.alloc(8, v.n)
  C.kt_k_fill64(filled, v.n, 0)
  C.kt_k_fill64(late, v.n, 0)
  C.kt_k_fill32(last, v.n, F.NULL32)
  local out = ffi.new("struct kt_k_supply", { from_start, from_members, K.data(offered), K.data(day) })
  C.kt_k_serve(filled, last, late, start, members, gr.count, K.data(qty), K.data(limit), other, out)
  f.cols[spec.filled] = K.made("dec", 8, qty.scale, nil, v.n, filled, spec.filled)
  f.cols[spec.last] = K.made("date", 4, nil, nil, v.n, last, spec.last)
  f.cols[spec.late] = K.made("dec", 8, qty.scale, nil, v.n, late, spec.late)
  return V.new(f, nil, v.n, v.run)
end
