--- Source files as text: the loader's side of erp.table (documented there).
local F = require "erp.table.ffi"
local ffi, C = F.ffi, F.C

local M = {}

local formats = { csv = 0, ndjson = 1 }
local err = ffi.new "struct kt_error"

---@class erp.Raw
---@field name string
---@field rows integer
---@field columns string[]
---@field has table<string, boolean>
---@field bytes integer
---@field errors table[]
---@field rejected integer
local raw_methods = {}
local raw_mt = { __index = raw_methods }

---@class erp.RawColumn
---@field raw erp.Raw? nil for a constant
---@field name string?
---@field dict ffi.cdata*
---@field codes ffi.cdata*
---@field const string|false|nil

local function errors_of(list, file)
  local out = {}
  for i = 0, list.count - 1 do
    local e = list.list[i]
    out[i + 1] = { file = file, line = tonumber(e.line), column = e.column ~= nil and ffi.string(e.column) or nil,
      code = ffi.string(e.code), message = ffi.string(e.message) }
  end
  return out
end

local function wrap(raw, name)
  raw = ffi.gc(raw, C.kt_raw_free)
  local self = { raw = raw, name = name, rows = tonumber(raw.rows), bytes = tonumber(raw.bytes), columns = {}, has = {},
    at = {}, errors = errors_of(raw.errors, name), rejected = tonumber(raw.errors.rejected) }
  for i = 0, raw.columns - 1 do
    local column = ffi.string(raw.column[i].name)
    self.columns[i + 1], self.has[column], self.at[column] = column, true, i
  end
  return setmetatable(self, raw_mt)
end

local function failed(name)
  return nil, { code = ffi.string(C.kt_code_name(err.code)), message = ffi.string(err.message),
    retryable = false, file = name }
end

--- Read a source file.
---@param path string
---@param opts {name: string, format: "csv"|"ndjson"}
---@return erp.Raw?, table? err
function M.read(path, opts)
  local raw = C.kt_raw_read(path, formats[opts.format or "csv"] or error("no such format: " .. opts.format, 2), err)
  if raw == nil then return failed(opts.name or path) end
  return wrap(raw, opts.name or path)
end

--- The same from a string (tests, small tables).
---@param text string
---@param opts {name: string, format: "csv"|"ndjson"}
---@return erp.Raw?, table? err
function M.parse(text, opts)
  local raw = C.kt_raw_parse(text, #text, formats[opts.format or "csv"], err)
  if raw == nil then return failed(opts.name or "text") end
  return wrap(raw, opts.name or "text")
end

--- Line in the file of row i (from 0).
function M.line(self, i)
  if self.sel ~= nil then i = self.sel[i] end
  return self.raw.lines[i]
end

---@param name string
---@return erp.RawColumn
function raw_methods.column(self, name)
  local i = self.at[name]
  if not i then error(("%s has no column \"%s\""):format(self.name, tostring(name)), 2) end
  local c = self.raw.column[i]
  local codes = c.codes
  if self.sel ~= nil then
    codes = F.alloc(4, self.rows)
    C.kt_k_gather(codes, c.codes, 4, self.sel, self.rows)
  end
  return { raw = self, name = name, dict = c.dict, codes = codes }
end

--- Free the cells: all tables that are made of them are built. Lines and errors stay.
function raw_methods.release(self)
  self.at = {}
  C.kt_raw_release_cells(self.raw)
end

--- keep(text|nil) for each distinct text of a column: the rows where it is true.
function raw_methods.where(self, name, keep)
  local c = self:column(name)
  local count = C.kt_dict_count(c.dict)
  local set = F.alloc(1, count)
  for code = 0, count - 1 do set[code] = keep(F.text(c.dict, code)) and 1 or 0 end
  local mask, sel = F.alloc(1, self.rows), F.alloc(4, self.rows)
  C.kt_k_in(mask, c.codes, nil, self.rows, set, count)
  if keep(nil) then
    local nulls = F.alloc(1, self.rows)
    C.kt_k_null(nulls, c.codes, 4, nil, self.rows, 1)
    C.kt_k_or(mask, nulls, self.rows)
  end
  local n = tonumber(C.kt_k_select(mask, self.sel, self.rows, sel))
  local part = {}
  for k, v in pairs(self) do part[k] = v end
  part.sel, part.rows = sel, n
  return setmetatable(part, raw_mt)
end

--- A column of other texts: codes of c, whose text number code is map[code] in a new dictionary.
local function remapped(raw, name, codes, count, text_of)
  local dict = F.new_dict()
  local map = F.alloc(4, count)
  for code = 0, count - 1 do
    local s = text_of(code)
    map[code] = (s == nil or s == "") and F.NULL32 or C.kt_dict_intern(dict, s, #s)
  end
  local out = F.alloc(4, raw.rows)
  C.kt_k_map32(out, codes, map, raw.rows)
  return { raw = raw, name = name, dict = dict, codes = out }
end

--- Each distinct text through a table or function; the function is asked for NULL too.
function raw_methods.map(self, name, fn)
  local c = self:column(name)
  local get = type(fn) == "table" and function(s) return s and fn[s] end or fn
  local out = remapped(self, name, c.codes, C.kt_dict_count(c.dict), function(code) return get(F.text(c.dict, code)) end)
  local for_null = get(nil)
  if for_null ~= nil and for_null ~= "" then
    local code = C.kt_dict_intern(out.dict, for_null, #for_null)
    -- Only the source's NULLs are meant, not texts that fn dropped.
    for i = 0, self.rows - 1 do
      if c.codes[i] < 0 then out.codes[i] = code end
    end
  end
  return out
end

--- fn(a, b) once a distinct pair of texts (nil: NULL).
function raw_methods.map2(self, a, b, fn)
  local x, y = self:column(a), self:column(b)
  local keys = ffi.new "struct kt_keycol[2]"
  keys[0].data, keys[0].width, keys[1].data, keys[1].width = x.codes, 4, y.codes, 4
  local ids = F.alloc(4, self.rows)
  local g = C.kt_group_new(keys, 2, nil, self.rows, 0, ids)
  if g == nil then error "not enough memory" end
  g = ffi.gc(g, C.kt_group_free)
  local first = C.kt_group_first(g)
  local function text(c, i) return c.codes[i] >= 0 and F.text(c.dict, c.codes[i]) or nil end
  return remapped(self, a, ids, C.kt_group_count(g), function(k) return fn(text(x, first[k]), text(y, first[k])) end)
end

--- Group of each row of self by `name` among the rows of other by `other_name`.
local function join(self, name, other, other_name)
  local c, o = self:column(name), other:column(other_name)
  local keys = ffi.new "struct kt_keycol[1]"
  keys[0].data, keys[0].width = o.codes, 4
  local ids = F.alloc(4, other.rows)
  local g = C.kt_group_new(keys, 1, nil, other.rows, 1, ids)
  if g == nil then error "not enough memory" end
  g = ffi.gc(g, C.kt_group_free)
  local map = F.alloc(4, C.kt_dict_count(c.dict))
  C.kt_dict_translate(o.dict, c.dict, map)
  local mine = F.alloc(4, self.rows)
  C.kt_k_map32(mine, c.codes, map, self.rows)
  keys[0].data = mine
  local out = F.alloc(4, self.rows)
  if C.kt_group_probe(g, keys, nil, self.rows, out) ~= 0 then error "not enough memory" end
  return out, g, ids
end

--- other_value of the first row of `other` whose other_key is this row's key.
function raw_methods.lookup(self, key, other, other_key, other_value)
  local found, g = join(self, key, other, other_key)
  C.kt_k_compose(found, found, C.kt_group_first(g), self.rows)
  local v = other:column(other_value)
  local codes = F.alloc(4, self.rows)
  C.kt_k_gather(codes, v.codes, 4, found, self.rows)
  return { raw = self, name = other_value, dict = v.dict, codes = codes, keep = other }
end

--- How many rows of `other` have this row's key, as text.
function raw_methods.count_of(self, key, other, other_key)
  local found, g, ids = join(self, key, other, other_key)
  local counts = F.alloc(8, C.kt_group_count(g))
  ffi.fill(counts, 8 * C.kt_group_count(g), 0)
  C.kt_k_count(counts, nil, 4, nil, ids, nil, other.rows)
  local out = remapped(self, key, found, C.kt_group_count(g), function(k) return tostring(tonumber(counts[k])) end)
  local zero = C.kt_dict_intern(out.dict, "0", 1)
  for i = 0, self.rows - 1 do
    if found[i] < 0 then out.codes[i] = zero end
  end
  return out
end

--- A column that has one text in every row (nil: provided, but NULL).
---@param text string?
---@return erp.RawColumn
function M.constant(text) return { const = text == nil and false or text } end

return M
