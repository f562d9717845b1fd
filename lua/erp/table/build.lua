--- Canonical tables: texts -> typed columns, bad cells and repeated rows (erp.table: T.build).
local F = require "erp.table.ffi"
local K = require "erp.table.column"
local R = require "erp.table.raw"
local ffi, C = F.ffi, F.C

local M = {}

local MAX_ERRORS = 100
local cell_codes = { "bad_number", "out_of_range", "too_precise", "bad_date", "bad_flag", "bad_integer", "not_allowed" }
local cell_words = {
  bad_number = "is not a number", out_of_range = "is out of range", too_precise = "has more than %d fraction digits",
  bad_date = "is not a date", bad_flag = "is not a flag (0, 1, true, false, X)", bad_integer = "is not a whole number",
  not_allowed = "is not one of the values allowed",
}

---@class erp.Context the dictionaries of a data set
---@field dicts table<string, ffi.cdata*>

---@return erp.Context
function M.context() return { dicts = {} } end

local function domain(ctx, name)
  local d = ctx.dicts[name]
  if not d then
    d = F.new_dict()
    ctx.dicts[name] = d
  end
  return d
end
M.domain = domain

local function note(tab, e)
  tab.rejected = tab.rejected + 1
  if #tab.errors < MAX_ERRORS then tab.errors[#tab.errors + 1] = e end
end

--- Count the cells whose text is bad and list the first of them.
local function note_bad(tab, def, rc, bad, n)
  local rows = ffi.new("int32_t[?]", MAX_ERRORS)
  local found = tonumber(C.kt_k_bad(rc.codes, bad, n, rows, MAX_ERRORS))
  for i = 0, math.min(found, MAX_ERRORS) - 1 do
    local code = rc.codes[rows[i]]
    local why = cell_codes[bad[code]]
    local text = F.text(rc.dict, code)
    if #text > 60 then text = text:sub(1, 57) .. "..." end
    note(tab, { file = rc.raw.name, line = R.line(rc.raw, rows[i]), column = rc.name or def.name, code = why,
      message = ("\"%s\" "):format(text) .. cell_words[why]:format(K.storage[def.type][3] or 0) })
  end
  if found > MAX_ERRORS then tab.rejected = tab.rejected + found - MAX_ERRORS end
end

--- Values by code of a dictionary: an array of the column's width.
local function convert(tab, def, rc, dict, to, n)
  local store = K.storage[def.type]
  local count = C.kt_dict_count(dict)
  local map, bad = F.alloc(store[2], count), F.alloc(1, count)
  local bads
  if store[1] == "text" then
    if C.kt_dict_merge(to, dict, map) ~= 0 then error "not enough memory" end
    bads = 0
    if def.values then
      local allowed = F.new_dict()
      for _, v in ipairs(def.values) do C.kt_dict_intern(allowed, v, #v) end
      bads = C.kt_cells_allowed(dict, count, allowed, bad)
      for code = 0, bads > 0 and count - 1 or -1 do
        if bad[code] ~= 0 then map[code] = F.NULL32 end
      end
    end
  elseif store[1] == "date" then
    local stamps = F.alloc(1, count)
    bads = C.kt_cells_day(dict, count, map, bad, stamps)
    if rc.codes then tab.tz_assumed = tab.tz_assumed + tonumber(C.kt_k_bad(rc.codes, stamps, n, nil, 0)) end
  elseif store[1] == "flag" then
    bads = C.kt_cells_flag(dict, count, map, bad)
  elseif store[1] == "int" then
    bads = C.kt_cells_integer(dict, count, map, bad)
  else
    bads = C.kt_cells_number(dict, count, store[3], map, bad)
  end
  if bads > 0 and rc.codes then note_bad(tab, def, rc, bad, n) end
  return map, bads
end

--- The stored form of a default or constant text; nil for NULL. An error when it is bad.
local function stored(tab, def, to, text)
  if text == nil or text == false then return nil end
  local dict = F.new_dict()
  C.kt_dict_intern(dict, text, #text)
  local map, bads = convert(tab, def, {}, dict, to, 0)
  if bads > 0 then error(("%s.%s: \"%s\" is no value of type %s"):format(tab.name, def.name, text, def.type), 4) end
  return map[0]
end

local function fill(c, p, from, n, v)
  if v == nil then v = c.w == 4 and F.NULL32 or F.NULL64 end
  if c.w == 4 then C.kt_k_fill32(p + from, n, v) else C.kt_k_fill64(p + from, n, v) end
end

local function build_column(tab, def, parts, ctx)
  local store = K.storage[def.type] or error(("%s.%s: no such type: %s"):format(tab.name, def.name, tostring(def.type)), 3)
  local dict = store[1] == "text" and domain(ctx, def.domain or def.name) or nil
  local c = { t = store[1], w = store[2], scale = store[3], dict = dict, n = tab.rows, name = def.name }
  local default_text = def.default
  if default_text == nil and def.optional then default_text = "" end
  local default = stored(tab, def, dict, default_text)
  c.default = default
  local provided = false
  for _, part in ipairs(parts) do provided = provided or part.columns[def.name] ~= nil end
  if not provided then
    if def.optional then -- a key column that the source does not have is the empty string, not missing
      c.p = F.alloc(c.w, c.n)
      fill(c, c.p, 0, c.n, default)
      return c
    end
    c.missing = true
    return c
  end
  c.p = F.alloc(c.w, c.n)
  local from = 0
  for _, part in ipairs(parts) do
    local n, rc, p = part.raw.rows, part.columns[def.name], c.p + from
    if not rc then
      fill(c, c.p, from, n, default)
    elseif rc.const ~= nil then
      local v = stored(tab, def, dict, rc.const)
      if v == nil then v = default end
      fill(c, c.p, from, n, v)
    else
      if rc.raw ~= part.raw then
        error(("%s.%s: the column is of %s, the part of %s"):format(tab.name, def.name, rc.raw.name, part.raw.name), 3)
      end
      local map = convert(tab, def, rc, rc.dict, dict, n)
      if c.w == 4 then C.kt_k_map32(p, rc.codes, map, n) else C.kt_k_map64(p, rc.codes, map, n) end
      if default ~= nil then
        local with = F.alloc(c.w, n)
        fill(c, with, 0, n, default)
        C.kt_k_coalesce(p, p, with, c.w, n)
        F.free(with)
      end
    end
    from = from + n
  end
  return c
end

--- Rows equal in all columns are dropped and counted; one key with other values is an error.
local function drop_repeats(tab, def, cols, src)
  local names = {}
  for _, d in ipairs(def.columns) do
    if d.key then
      if cols[d.name].missing then return nil end
      names[#names + 1] = d.name
    end
  end
  if #names == 0 or tab.rows == 0 then return nil end
  local f = K.frame(tab.rows)
  f.cols = cols
  local keys, n = K.keys(f, names, false)
  local ids = F.alloc(4, tab.rows)
  local g = C.kt_group_new(keys, n, nil, tab.rows, 1, ids)
  if g == nil then error "not enough memory" end
  g = ffi.gc(g, C.kt_group_free)
  if C.kt_group_count(g) == tab.rows then return nil end
  local all, count = ffi.new("struct kt_keycol[?]", #def.columns), 0
  for _, d in ipairs(def.columns) do
    local c = cols[d.name]
    if not c.missing then
      all[count].data, all[count].width = c.p, c.w
      count = count + 1
    end
  end
  local mask, first = F.alloc(1, tab.rows), C.kt_group_first(g)
  C.kt_k_repeats(mask, ids, first, all, count, tab.rows)
  local keep, kept = F.alloc(4, tab.rows), 0
  for i = 0, tab.rows - 1 do
    if mask[i] == 0 then
      keep[kept], kept = i, kept + 1
    elseif mask[i] == 1 then
      tab.duplicates = tab.duplicates + 1
    else
      tab.conflicts = tab.conflicts + 1
      local file, line = src(i)
      local _, earlier = src(first[ids[i]])
      note(tab, { file = file, line = line, code = "dup_key",
        message = ("the key (%s) is on line %d with other values; the row is left out"):format(table.concat(names, ", "), earlier) })
    end
  end
  return keep, kept
end

--- A canonical table out of parts of source files.
---@param def erp.TableDef
---@param parts {raw: erp.Raw, columns: table<string, erp.RawColumn>}[]
---@param ctx erp.Context
---@return erp.Built
function M.build(def, parts, ctx)
  ---@class erp.Built
  local tab = { name = def.name, def = def, errors = {}, rejected = 0, duplicates = 0, conflicts = 0, tz_assumed = 0, rows = 0 }
  local ends = {}
  local known = {}
  for _, d in ipairs(def.columns) do known[d.name] = true end
  for i, part in ipairs(parts) do
    tab.rows = tab.rows + part.raw.rows
    ends[i] = tab.rows
    for name in pairs(part.columns) do
      if not known[name] then error(("%s has no column \"%s\""):format(def.name, name), 2) end
    end
  end
  local function src(i)
    local from = 0
    for k, part in ipairs(parts) do
      if i < ends[k] then return part.raw.name, R.line(part.raw, i - from) end
      from = ends[k]
    end
  end
  local cols = {}
  for _, d in ipairs(def.columns) do cols[d.name] = build_column(tab, d, parts, ctx) end
  local f = K.frame(tab.rows)
  f.cols = cols
  local keep, kept = drop_repeats(tab, def, cols, src)
  f.cols.src = { t = "src", w = 4, n = tab.rows, name = "src", fn = function(i)
    local file, line = src(i)
    return file .. ":" .. line
  end }
  f.names = {}
  for _, d in ipairs(def.columns) do
    if not cols[d.name].missing then f.names[#f.names + 1] = d.name end
  end
  if keep then
    local whole = f
    f = K.frame(kept, whole, keep)
    f.names = whole.names
    for _, d in ipairs(def.columns) do
      local c = K.get(f, d.name)
      if not c.missing then
        K.data(c)
        c.from, c.idx = nil, nil -- the rows dropped need not stay in memory
      end
    end
    tab.rows = kept
  end
  tab.frame = f
  return tab
end

--- A small table out of Lua values.
---@param def erp.TableDef
---@param rows table<string, string|integer|boolean>[]
---@param ctx erp.Context
---@return erp.Built
function M.from_rows(def, rows, ctx)
  local json = {}
  local names = {}
  for i, row in ipairs(rows) do
    local cells = {}
    for k, v in pairs(row) do
      names[k] = true
      local text = tostring(v):gsub("[%z\1-\31\\\"]", function(ch) return ("\\u%04x"):format(ch:byte()) end)
      cells[#cells + 1] = ("\"%s\":\"%s\""):format(k, text)
    end
    json[i] = "{" .. table.concat(cells, ",") .. "}"
  end
  if #rows == 0 then json[1] = "{}" end
  local raw = assert(R.parse(table.concat(json, "\n"), { name = def.name, format = "ndjson" }))
  if #rows == 0 then raw.rows = 0 end
  local columns = {}
  for name in pairs(names) do columns[name] = raw:column(name) end
  return M.build(def, { { raw = raw, columns = columns } }, ctx)
end

return M
