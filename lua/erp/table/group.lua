--- Joining, grouping and what goes by groups: the methods of a Table documented in erp.table.
local F = require "erp.table.ffi"
F.hot()
local K = require "erp.table.column"
local V = require "erp.table.view"
local condition = require "erp.table.condition"
local ffi, C = F.ffi, F.C

local M = {}
local methods, of = V.methods, V.of

-- Groups -------------------------------------------------------------------------------------

---@class erp.Grouping
---@field g ffi.cdata* struct kt_group
---@field count integer
---@field ids ffi.cdata* group of each row of the view
---@field cols table[] the key columns

--- Group the rows of view v by columns of its frame.
local function grouping(v, names, null_skips)
  local keys, n, anchor = K.keys(v.f, names, false)
  local ids = F.alloc(4, v.n)
  local g = C.kt_group_new(keys, n, v.sel, v.n, null_skips and 1 or 0, ids)
  if g == nil then error "not enough memory" end
  anchor.cols = {}
  for i, name in ipairs(names) do anchor.cols[i] = K.get(v.f, name) end
  return { g = ffi.gc(g, C.kt_group_free), count = C.kt_group_count(g), ids = ids, cols = anchor.cols }
end

--- Rows of v by group: start (count + 1) and members, positions in the view.
local function members(v, gr)
  if not gr.start then
    gr.start, gr.members = F.alloc(4, gr.count + 1), F.alloc(4, v.n)
    C.kt_k_members(gr.ids, v.n, gr.count, gr.start, gr.members)
  end
  return gr.start, gr.members
end

--- {"a", b = "x"} -> names here, names there, a signature.
local function split_keys(keys)
  local theirs, ours = {}, {}
  for i, name in ipairs(keys) do theirs[i], ours[i] = name, name end
  local renamed = {}
  for k in pairs(keys) do if type(k) == "string" then renamed[#renamed + 1] = k end end
  table.sort(renamed)
  for _, k in ipairs(renamed) do theirs[#theirs + 1], ours[#ours + 1] = k, keys[k] end
  if #theirs == 0 then error("a list of key columns is wanted", 3) end
  return theirs, ours
end

--- The grouping of a table by join keys, kept with the table: rules join the same tables by the
--- same keys again and again.
local function key_index(v, names)
  local sig = table.concat(names, "\0")
  v.index = v.index or {}
  local gr = v.index[sig]
  if not gr then
    gr = grouping(v, names, true)
    v.index[sig] = gr
  end
  return gr
end

--- For each row of v its group in `gr` (whose key columns are gr.cols), -1: none.
local function probe(v, names, gr)
  local n = #names
  local keys, anchor = ffi.new("struct kt_keycol[?]", n), {}
  for i, name in ipairs(names) do
    local c, to = K.get(v.f, name, 3), gr.cols[i]
    if c.t ~= to.t or c.w ~= to.w or c.scale ~= to.scale then
      error(("keys \"%s\" and \"%s\" are of different types"):format(name, to.name), 3)
    end
    local p = K.data(c)
    if c.t == "text" and c.dict ~= to.dict then
      local map = F.alloc(4, C.kt_dict_count(c.dict))
      C.kt_dict_translate(to.dict, c.dict, map)
      local translated = F.alloc(4, c.n)
      C.kt_k_map32(translated, p, map, c.n)
      p = translated
    end
    anchor[i] = p
    keys[i - 1].data, keys[i - 1].width = p, c.w
  end
  local out = F.alloc(4, v.n)
  if C.kt_group_probe(gr.g, keys, v.sel, v.n, out) ~= 0 then error "not enough memory" end
  anchor[1] = anchor[1] -- kept until here
  return out
end

--- For each row of v the first matching row of `other`, as a row of other's frame; -1: none.
local function lookup(v, other, theirs, ours)
  local gr = key_index(other, theirs)
  local out = probe(v, ours, gr)
  C.kt_k_compose(out, out, C.kt_group_first(gr.g), v.n)
  if other.sel ~= nil then C.kt_k_compose(out, out, other.sel, v.n) end
  return out
end

-- Values of a view's rows; nil: the column is missing.
local function values_of(v, name)
  local c = K.get(V.dense(v), name, 4)
  return not c.missing and K.data(c) or nil
end

--- The same for the newest row that is valid at a date of v: the groups' rows by `from`, newest first.
local function lookup_valid(v, other, theirs, ours, valid)
  local gr = key_index(other, theirs)
  local from, until_, at = values_of(other, valid.from), values_of(other, valid.until_), values_of(v, valid.at)
  if not at then -- the column is missing: no row has a date
    at = F.alloc(4, v.n)
    C.kt_k_fill32(at, v.n, F.NULL32)
  end
  local start, list = members(other, gr)
  local newest = F.alloc(4, other.n)
  ffi.copy(newest, list, 4 * other.n)
  if from then
    local keys, n, anchor = K.keys(V.dense(other), { "-" .. valid.from }, true)
    if C.kt_k_sort_segments(keys, n, start, gr.count, newest) ~= 0 then error "not enough memory" end
    anchor[1] = anchor[1] -- kept until here
  end
  local out = probe(v, ours, gr)
  C.kt_k_as_of(out, out, start, newest, from, until_, at, v.n)
  if other.sel ~= nil then C.kt_k_compose(out, out, other.sel, v.n) end
  return out
end

function methods.with(t, alias, other, keys, valid)
  local v, o = of(t), of(other, 2)
  local f = V.dense(v)
  if o.f.absent then
    f.alias[alias] = { frame = o.f }
    f.cols[alias .. "#"] = { t = "date", w = 4, missing = true, n = v.n, name = alias }
    return V.new(f, nil, v.n, v.run)
  end
  local theirs, ours = split_keys(keys)
  local idx = valid and lookup_valid(v, o, theirs, ours, valid) or lookup(v, o, theirs, ours)
  f.alias[alias] = { frame = o.f, idx = idx }
  f.cols[alias .. "#"] = K.made("date", 4, nil, nil, v.n, idx, alias)
  return V.new(f, nil, v.n, v.run)
end

local function semi(want)
  return function(t, other, keys)
    local v, o = of(t), of(other, 2)
    local theirs, ours = split_keys(keys)
    if v.n == 0 or (o.n == 0 and want == 0) then return t end
    for _, name in ipairs(ours) do -- NULL equals nothing: no row need be looked up
      local c = K.get(v.f, name)
      if c.missing and c.default == nil then return want == 0 and t or V.new(v.f, F.alloc(4, 0), 0, v.run) end
    end
    local ids = probe(v, ours, key_index(o, theirs))
    local mask = F.alloc(1, v.n)
    C.kt_k_found(mask, ids, nil, v.n, want)
    return V.selected(v, mask)
  end
end
methods.only, methods.except = semi(1), semi(0)

-- Aggregates ---------------------------------------------------------------------------------

local aggregate = {}

local function source(v, name, level)
  local c = K.get(v.f, name, level + 1)
  return not (c.missing and c.default == nil) and c or nil, c
end

function aggregate.sum(v, gr, mask, name)
  local c, kind = source(v, name, 4)
  if kind.t ~= "dec" and kind.t ~= "int" then error("sum of \"" .. name .. "\", which is no number", 4) end
  local acc = F.alloc(16, gr.count)
  ffi.fill(acc, 16 * gr.count, 0)
  if c and C.kt_k_sum(acc, K.data(c), c.w, v.sel, gr.ids, mask, v.n) ~= 0 then
    error("the sum of \"" .. name .. "\" is too large", 4)
  end
  return K.made("dec", 16, kind.scale, nil, gr.count, acc)
end

function aggregate.count(v, gr, mask, name)
  local c = name and source(v, name, 4)
  local acc = F.alloc(8, gr.count)
  ffi.fill(acc, 8 * gr.count, 0)
  if c or not name then
    C.kt_k_count(acc, c and K.data(c) or nil, c and c.w or 4, v.sel, gr.ids, mask, v.n)
  end
  return K.made("int", 8, 0, nil, gr.count, acc)
end

local function best(max)
  return function(v, gr, mask, name)
    local c, kind = source(v, name, 4)
    if kind.t == "text" or kind.w == 16 then error("min and max are of dates and numbers of a row", 4) end
    local acc = F.alloc(kind.w, gr.count)
    if kind.w == 4 then C.kt_k_fill32(acc, gr.count, F.NULL32) else C.kt_k_fill64(acc, gr.count, F.NULL64) end
    if c then C.kt_k_min(acc, K.data(c), c.w, v.sel, gr.ids, mask, v.n, max) end
    return K.made(kind.t, kind.w, kind.scale, nil, gr.count, acc)
  end
end
aggregate.min, aggregate.max = best(0), best(1)

function aggregate.distinct(v, gr, mask, name)
  local c = source(v, name, 4)
  local acc = F.alloc(8, gr.count)
  ffi.fill(acc, 8 * gr.count, 0)
  if c then
    -- Pairs (group, value) are numbered; the first row of each pair counts once.
    local f = V.dense(v)
    f.cols["#g"] = K.made("date", 4, nil, nil, v.n, gr.ids, "#g")
    local pairs_of = grouping({ f = f, n = v.n, sel = nil }, { "#g", name }, true)
    local first = F.alloc(1, v.n)
    ffi.fill(first, v.n, 0)
    local at = C.kt_group_first(pairs_of.g)
    if mask then -- only rows inside the mask make pairs
      local seen = F.alloc(1, pairs_of.count)
      ffi.fill(seen, pairs_of.count, 0)
      for i = 0, v.n - 1 do
        local id = pairs_of.ids[i]
        if id >= 0 and mask[i] == 1 and seen[id] == 0 then seen[id], first[i] = 1, 1 end
      end
    else
      for k = 0, pairs_of.count - 1 do first[at[k]] = 1 end
    end
    C.kt_k_count(acc, nil, 4, v.sel, gr.ids, first, v.n)
  end
  return K.made("int", 8, 0, nil, gr.count, acc)
end

function methods.group(t, keys, aggregates)
  local v = of(t)
  local names, sources = split_keys(keys)
  local gr = grouping(v, sources, false)
  local f = K.frame(gr.count)
  local rows = F.alloc(4, gr.count)
  ffi.copy(rows, C.kt_group_first(gr.g), 4 * gr.count)
  if v.sel ~= nil then C.kt_k_compose(rows, rows, v.sel, gr.count) end
  f.names = names
  local firsts = K.frame(gr.count, v.f, rows)
  for i, name in ipairs(names) do
    local own = {}
    for k, x in pairs(K.get(firsts, sources[i])) do own[k] = x end
    own.name, f.cols[name] = name, own
  end
  for name, spec in pairs(aggregates or {}) do
    local make = aggregate[spec[1]] or error("no such aggregate: " .. tostring(spec[1]), 2)
    local mask = spec.where and condition.mask(v.f, v.sel, v.n, spec.where, false)
    local c = make(v, gr, mask, spec[2])
    c.name, f.cols[name] = name, c
    if mask then F.free(mask) end
  end
  local numbers = F.alloc(4, gr.count)
  C.kt_k_iota(numbers, gr.count, 0)
  f.cols["group#"] = K.made("date", 4, nil, nil, gr.count, numbers, "group#")
  f.grouped = { view = v, gr = gr }
  return V.new(f, nil, gr.count, v.run)
end

--- What a groups table (or one derived from it) was made of.
local function grouped_of(t)
  local f = of(t, 3).f
  while f and not f.grouped do f = f.parent end
  return f and f.grouped or error("only what group returned has rows behind it", 3)
end

function methods.rows_of(t, row, order)
  local at = grouped_of(t)
  local number = row["group#"]
  if type(number) ~= "number" or not (number >= 0 and number < at.gr.count) then error("not a row of groups", 2) end
  local start, list = members(at.view, at.gr)
  local n = start[number + 1] - start[number]
  local sel = F.alloc(4, n)
  ffi.copy(sel, list + start[number], 4 * n)
  if at.view.sel ~= nil then C.kt_k_compose(sel, sel, at.view.sel, n) end
  local out = V.new(at.view.f, sel, n, at.view.run)
  return order and out:sort(order) or out
end

function methods.of(t)
  local at = grouped_of(t)
  return V.with_column(at.view, "group#", K.made("date", 4, nil, nil, at.view.n, at.gr.ids))
end

-- Totals -------------------------------------------------------------------------------------

local function total(kind)
  return function(t, name)
    local v = of(t)
    local ids = F.alloc(4, v.n)
    C.kt_k_fill32(ids, v.n, 0)
    local c = aggregate[kind](v, { count = 1, ids = ids }, nil, name)
    return K.read(c, 0)
  end
end
methods.sum, methods.min, methods.max = total "sum", total "min", total "max"

-- Index --------------------------------------------------------------------------------------

local index_methods = {}
local index_mt = { __index = index_methods, __newindex = function() error("read only", 2) end, __metatable = false }
local index_state = setmetatable({}, { __mode = "k" })

function methods.index(t, keys)
  local v = of(t)
  local ix = setmetatable({}, index_mt)
  index_state[ix] = { v = v, gr = key_index(v, keys), n = #keys }
  return ix
end

local one32, one64, one_out = ffi.new "int32_t[16]", ffi.new "int64_t[16]", ffi.new "int32_t[1]"
local one_keys = ffi.new "struct kt_keycol[16]"

local function find_group(ix, ...)
  local s = index_state[ix]
  for i = 1, s.n do
    local value, c = select(i, ...), s.gr.cols[i]
    if value == nil then return nil end
    local k = K.constant(c, value, 4)
    if c.w == 4 then
      one32[i - 1] = k
      one_keys[i - 1].data = one32 + (i - 1)
    else
      one64[i - 1] = K.to_int64(k, c.scale)
      one_keys[i - 1].data = one64 + (i - 1)
    end
    one_keys[i - 1].width = c.w
  end
  C.kt_group_probe(s.gr.g, one_keys, nil, 1, one_out)
  if one_out[0] < 0 then return nil end
  return one_out[0], s
end

function index_methods.get(ix, ...)
  local id, s = find_group(ix, ...)
  if not id then return nil end
  local at = C.kt_group_first(s.gr.g)[id]
  return V.row_of(s.v.f, s.v.sel == nil and at or s.v.sel[at])
end

function index_methods.all(ix, ...)
  local id, s = find_group(ix, ...)
  local v = index_state[ix].v
  if not id then return V.new(v.f, F.alloc(4, 0), 0, v.run) end
  local start, list = members(v, s.gr)
  local n = start[id + 1] - start[id]
  local sel = F.alloc(4, n)
  ffi.copy(sel, list + start[id], 4 * n)
  if v.sel ~= nil then C.kt_k_compose(sel, sel, v.sel, n) end
  return V.new(v.f, sel, n, v.run)
end

-- Allocation, weeks -------------------------------------------------------------------------

function methods.fifo(t, spec)
  local v = of(t)
  local f = V.dense(v)
  local dense = { f = f, n = v.n }
  local qty, used = K.get(f, spec.qty), K.get(f, spec.used)
  if qty.w ~= 8 or qty.scale ~= used.scale then error("fifo: qty and used must be quantities", 2) end
  local out
  if used.missing then
    out = K.data(qty)
  else
    local gr = grouping(dense, spec.by, false)
    local start, list = members(dense, gr)
    local keys, n, anchor = K.keys(f, spec.order, true)
    if C.kt_k_sort_segments(keys, n, start, gr.count, list) ~= 0 then error "not enough memory" end
    anchor[1] = anchor[1] -- kept until here
    out = F.alloc(8, v.n)
    C.kt_k_fifo(start, list, gr.count, K.data(qty), K.data(used), used.w, out)
  end
  f.cols[spec.as] = K.made("dec", 8, qty.scale, nil, v.n, out, spec.as)
  return V.new(f, nil, v.n, v.run)
end

function methods.spread(t, spec)
  local v = of(t)
  local start, finish, amount = K.get(v.f, spec.start), K.get(v.f, spec.finish), K.get(v.f, spec.amount)
  if start.t ~= "date" or finish.t ~= "date" or amount.w ~= 8 or amount.scale ~= 4 then
    error("spread: start and finish are dates, amount a quantity", 2)
  end
  local s, e, a = K.data(start), K.data(finish), K.data(amount)
  local even, until_ = spec.even == false and 0 or 1, spec.until_ or F.NULL32
  local n = tonumber(C.kt_k_spread(s, e, a, v.sel, v.n, until_, even, nil, nil, nil))
  if n < 0 then error("spread: more than 2^31 weeks", 2) end
  local idx, week, part = F.alloc(4, n), F.alloc(4, n), F.alloc(8, n)
  if C.kt_k_spread(s, e, a, v.sel, v.n, until_, even, idx, week, part) < 0 then
    error("spread: a number is too large", 2)
  end
  if v.sel ~= nil then C.kt_k_compose(idx, idx, v.sel, n) end
  local f = K.frame(n, v.f, idx)
  f.cols.week = K.made("date", 4, nil, nil, n, week, "week")
  f.cols.part = K.made("dec", 8, 6, nil, n, part, "part")
  return V.new(f, nil, n, v.run)
end

M.grouping, M.members, M.probe, M.key_index, M.split_keys = grouping, members, probe, key_index, split_keys

--- For erp.keydate: the group of each row of v among the rows of `other` (views without a Table).
function M.probe_frames(v, names, other, other_names) return probe(v, names, grouping(other, other_names, true)) end

return M
