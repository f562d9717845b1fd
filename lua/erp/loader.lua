--- Files to canonical tables: reads the source files, applies a mapping and the key date, and keeps account of what was
-- wrong with the data.
local T = require "erp.table"
local schema = require "erp.schema"

local M = {}

---@class erp.SourceFile
---@field name string path relative to the data folder, as in input_hash
---@field path string where the bytes are
---@field format string csv or ndjson
---@field sha256 string of the bytes as delivered

---@class erp.Source a file that has been read
---@field file erp.SourceFile
---@field raw table erp.table raw

--- Read all files; nothing is opened after this.
---@param files erp.SourceFile[]
---@return table<string, erp.Source>? sources by file name without extension
---@return table? err data_rejected
function M.read(files)
  local sources = {}
  for _, file in ipairs(files) do
    local stem = file.name:gsub("%.[%w.]*$", "")
    if sources[stem] then
      return nil, { code = "data_rejected", retryable = false,
        message = string.format("%s and %s are the same table", sources[stem].file.name, file.name) }
    end
    local raw, err = T.read(file.path, { name = file.name, format = file.format })
    if not raw then
      err.message = file.name .. ": " .. tostring(err.message)
      return nil, err
    end
    sources[stem] = { file = file, raw = raw }
  end
  return sources
end

local function number_test(op, limit)
  limit = T.decimal(limit)
  local tests = {
    gt = function(v) return v > limit end, ge = function(v) return v >= limit end,
    lt = function(v) return v < limit end, le = function(v) return v <= limit end,
  }
  local test = tests[op]
  return function(text)
    local value = text and T.decimal(text)
    return value and test(value) or false
  end
end

local function row_test(op, value)
  if op == "null" then return function(text) return text == nil end end
  if op == "notnull" then return function(text) return text ~= nil end end
  if op == "eq" then return function(text) return text == value end end
  if op == "ne" then return function(text) return text ~= nil and text ~= value end end
  if op == "in" then
    local set = {}
    for _, v in ipairs(value) do set[v] = true end
    return function(text) return text ~= nil and set[text] or false end
  end
  return number_test(op, value)
end

-- The raw column that a mapping's column stands for; nil when the source does not have it.
local function raw_column(raw, column, sources)
  if type(column) == "string" then return raw.has[column] and raw:column(column) or nil end
  if column.const ~= nil then return T.constant(column.const) end
  if column.count or column.lookup then
    local other = sources[column.count or column.lookup]
    local theirs, ours = next(column.on)
    if not other or not raw.has[ours] or not other.raw.has[theirs] then return nil end
    if column.count then return raw:count_of(ours, other.raw, theirs) end
    return other.raw.has[column.value] and raw:lookup(ours, other.raw, theirs, column.value) or nil
  end
  if not raw.has[column.from] then return nil end
  if column.map then
    return raw:map(column.from, function(text)
      -- A text that the map does not know goes through as it is: the reader of the typed column then rejects it by line.
      return column.map[text or ""] or column.default or text
    end)
  end
  return raw:map(column.from, function(text)
    if text == nil then return column.null end
    return column.notnull
  end)
end

-- A part of a canonical table, nil when its source is not there.
local function build_part(def, part, sources, company)
  local source = sources[part.from]
  if not source then return nil end
  local raw = source.raw
  if part.where then
    if not raw.has[part.where[1]] then return nil end
    raw = raw:where(part.where[1], row_test(part.where[2], part.where[3]))
  end
  local columns = {}
  for name, column in pairs(part.columns) do columns[name] = raw_column(raw, column, sources) end
  for _, column in ipairs(def.columns) do
    if column.name == "company_id" and columns.company_id == nil and company then
      columns.company_id = T.constant(company)
    end
  end
  return { raw = raw, columns = columns }
end

-- The parts of a table that comes under its canonical name.
local function canonical_part(def, source)
  local columns = {}
  for _, column in ipairs(def.columns) do
    if source.raw.has[column.name] then columns[column.name] = column.name end
  end
  return { from = def.name, columns = columns }
end

---@class erp.FileAccount what one source file brought
---@field name string
---@field rows integer rows of data in the file
---@field rejected integer cells (and broken rows) that were not taken
---@field duplicates integer rows equal in all columns, removed
---@field errors table[] {file, line, column, code, message}, at most 100, by line and column

local function account(source, tables)
  local raw = source.raw
  local acc = { name = source.file.name, rows = raw.rows, rejected = 0, duplicates = 0, errors = {} }
  local seen, longest = {}, 0
  local function add(errors)
    for _, e in ipairs(errors) do
      local key = string.format("%s:%s:%s", tostring(e.line), tostring(e.column), tostring(e.code))
      if (e.file == nil or e.file == acc.name) and not seen[key] then
        seen[key] = true
        acc.errors[#acc.errors + 1] = { file = acc.name, line = e.line, column = e.column, code = e.code, message = e.message }
      end
    end
  end
  add(raw.errors)
  for _, tab in ipairs(tables) do
    add(tab.errors)
    longest = math.max(longest, tab.rejected)
    acc.duplicates = math.max(acc.duplicates, tab.duplicates)
  end
  table.sort(acc.errors, function(a, b)
    if a.line ~= b.line then return (a.line or 0) < (b.line or 0) end
    if a.column ~= b.column then return tostring(a.column) < tostring(b.column) end
    return tostring(a.code) < tostring(b.code)
  end)
  -- One cell may feed several tables: the list knows it once, the counts of the tables know how many there are at least.
  acc.rejected = math.max(#acc.errors, raw.rejected + longest)
  while #acc.errors > 100 do acc.errors[#acc.errors] = nil end
  return acc
end

-- Currency of the first company (by id) of a table that comes under its canonical name.
local function first_currency(source)
  if not source or not source.raw.has.company_id or not source.raw.has.currency then return nil end
  local id, currency
  source.raw:map2("company_id", "currency", function(a, b)
    if a and b and (not id or a < id) then id, currency = a, b end
    return b
  end)
  return currency
end

-- Names of the sources that a table's parts read, each once: where its rows come from, then what counts and look-ups read.
local function read_by(parts, sources)
  local list, seen = {}, {}
  local function add(stem)
    if stem and sources[stem] and not seen[stem] then list[#list + 1], seen[stem] = stem, true end
  end
  for _, part in ipairs(parts) do add(part.from) end
  for _, part in ipairs(parts) do
    for _, column in pairs(part.columns or {}) do
      if type(column) == "table" then add(column.count or column.lookup) end
    end
  end
  return list
end

-- The parts of every canonical table that there is, by name.
local function all_parts(mapping, sources)
  if not mapping.canonical then return mapping.parts end
  local parts = {}
  for _, name in ipairs(schema.order) do
    if sources[name] then parts[name] = { canonical_part(schema.tables[name], sources[name]) } end
  end
  return parts
end

-- One canonical table; nil when none of its sources is there.
local function build_table(def, parts, sources, company, ctx)
  if parts[1].rows then
    for _, row in ipairs(parts[1].rows) do row.company_id = row.company_id or company end
    return T.from_rows(def, parts[1].rows, ctx)
  end
  local built = {}
  for _, part in ipairs(parts) do built[#built + 1] = build_part(def, part, sources, company) end
  return built[1] and T.build(def, built, ctx)
end

---@class erp.Loaded
---@field data table erp.table set that rules run on
---@field files table[] {name, rows, sha256} of the files that the mapping reads, by name
---@field accounts erp.FileAccount[] of the same files
---@field ignored string[] files that the mapping does not read
---@field sources table<string, string[]> canonical table -> files
---@field report_currency string

--- Build the canonical tables and apply the key date.
---@param mapping erp.Mapping
---@param sources table<string, erp.Source>
---@param opts { as_of: string, extract_date: string?, currency: string? } currency: the report's, default the company's
---@return erp.Loaded
function M.build(mapping, sources, opts)
  local company_currency = mapping.currency or first_currency(sources.company) or opts.currency or "USD"
  local ctx, parts_of, uses = T.context(), all_parts(mapping, sources), {}
  for _, parts in pairs(parts_of) do
    for _, stem in ipairs(read_by(parts, sources)) do uses[stem] = (uses[stem] or 0) + 1 end
  end
  for stem, source in pairs(sources) do
    if not uses[stem] then source.raw:release() end
  end
  local tables, names, made_of = {}, {}, {}
  for _, name in ipairs(schema.order) do
    local parts = parts_of[name]
    local tab = parts and build_table(schema.tables[name], parts, sources, mapping.company, ctx)
    tables[name], names[name] = tab, {}
    for _, stem in ipairs(parts and read_by(parts, sources) or {}) do
      if tab then
        table.insert(names[name], sources[stem].file.name)
        made_of[stem] = made_of[stem] or {}
        table.insert(made_of[stem], tab)
      end
      uses[stem] = uses[stem] - 1
      if uses[stem] == 0 then sources[stem].raw:release() end
    end
  end
  local report_currency = opts.currency or company_currency
  local data = T.set { ctx = ctx, tables = tables, defs = schema.tables, as_of = opts.as_of, extract_date = opts.extract_date,
    company_currency = company_currency, report_currency = report_currency, sources = names }
  local loaded = { data = data, files = {}, accounts = {}, ignored = {}, sources = names, report_currency = report_currency }
  for stem, source in pairs(sources) do
    local file = source.file
    if made_of[stem] then
      table.insert(loaded.files, { name = file.name, rows = source.raw.rows, sha256 = file.sha256 })
      table.insert(loaded.accounts, account(source, made_of[stem]))
    else
      table.insert(loaded.ignored, file.name)
    end
  end
  local function by_name(a, b) return a.name < b.name end
  table.sort(loaded.files, by_name)
  table.sort(loaded.accounts, by_name)
  table.sort(loaded.ignored)
  return loaded
end

return M
