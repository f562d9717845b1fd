--- Mapping declarations: how the tables of a source become canonical tables (erp-rules.md, section 4).
--
--   mapping{
--     name = "adventureworks", company = "AW", currency = "USD", as_of = "2014-09-30",
--     params = { ["PRD-005.mode"] = "history" },            defaults of rule parameters
--     tables = "canonical" |                                 table = file name, column = header
--     tables = { vendor = { from = "Vendor", columns = { … } },           one source table
--                fx_rate = { { from = …, columns = … }, { … } },          several, rows one after the other
--                tax_code = { rows = { { country = "US", … } } } } }      constant rows
--
-- `from` names a source file without its extension. `where = {column, op, value}` takes only some of its rows: op null,
-- notnull, eq, ne, in (texts) and gt, ge, lt, le (numbers). A canonical table or column that is not listed is missing.
-- A column is one of
--   "Header"                                       as it is                {const = "USD"} | {const = false}    a text, or NULL
--   {from = "Status", map = {["1"] = "pending"}, default = "blocked"}      a value for each text; default: for all others
--                                                  and NULL; without it other texts are read as they are, NULL stays NULL
--   {from = "EndDate", null = "released", notnull = "delivered"}           by whether it is filled
--   {count = "PurchaseOrderDetail", on = {PurchaseOrderID = "PurchaseOrderID"}}   rows of another source with this value:
--                                                  on = {its column = our column}
--   {lookup = "Header", on = {ID = "HeaderID"}, value = "CreatedAt"}       a cell of the first such row
-- company_id is set on every table to the mapping's company when it is not listed.
local calendar = require "erp.calendar"
local schema = require "erp.schema"

local M = {}

local OPS = { null = 0, notnull = 0, eq = 1, ne = 1, ["in"] = 1, gt = 1, ge = 1, lt = 1, le = 1 }

local function is_text(v) return type(v) == "string" end

local function check_column(column)
  if is_text(column) then return column ~= "" or nil, "an empty header" end
  if type(column) ~= "table" then return nil, "a column is a header or a table" end
  if column.const ~= nil then
    return (is_text(column.const) or column.const == false) or nil, "const is a text or false"
  end
  if column.count or column.lookup then
    local left, right = next(column.on or {})
    if not (is_text(left) and is_text(right)) then return nil, "on = {its column = our column}" end
    if column.lookup and not is_text(column.value) then return nil, "lookup needs value, a column of the other source" end
    return true
  end
  if not is_text(column.from) then return nil, "names no source column (from)" end
  if column.map then
    for k, v in pairs(column.map) do
      if not (is_text(k) and is_text(v)) then return nil, "map has texts on both sides" end
    end
    return (column.default == nil or is_text(column.default)) or nil, "default is a text"
  end
  return (is_text(column.null) or is_text(column.notnull)) or nil, "has neither map nor null or notnull"
end

local function check_part(def, part)
  if part.rows then
    for i, row in ipairs(part.rows) do
      for name, value in pairs(row) do
        if not def.column[name] then return nil, string.format("row %d: there is no column '%s'", i, tostring(name)) end
        if not is_text(value) then return nil, string.format("row %d: %s is no text", i, name) end
      end
    end
    return true
  end
  if not is_text(part.from) then return nil, "names no source (from)" end
  if type(part.columns) ~= "table" then return nil, "has no columns" end
  local where = part.where
  if where and not (is_text(where[1]) and OPS[where[2]] and (OPS[where[2]] == 0 or where[3] ~= nil)) then
    return nil, "where = {column, op, value}"
  end
  for name, column in pairs(part.columns) do
    if not def.column[name] then return nil, string.format("there is no column '%s'", tostring(name)) end
    local ok, why = check_column(column)
    if not ok then return nil, name .. ": " .. why end
  end
  return true
end

---@class erp.Mapping
---@field name string
---@field canonical boolean tables come with canonical names
---@field company string?
---@field currency string?
---@field as_of string?
---@field params table<string, any> "RULE.name" -> value
---@field parts table<string, table[]> canonical table -> its parts

--- Check a declaration.
---@param decl table
---@return erp.Mapping? mapping
---@return table? err code script_error, message names table and column
function M.check(decl)
  local function bad(...)
    return nil, { code = "script_error", retryable = false,
      message = "mapping '" .. tostring(decl.name) .. "': " .. string.format(...) }
  end
  if not is_text(decl.name) then return bad("has no name") end
  for _, field in ipairs { "company", "currency", "as_of" } do
    if decl[field] ~= nil and not is_text(decl[field]) then return bad("%s is no text", field) end
  end
  if decl.as_of and not calendar.parse(decl.as_of) then return bad("as_of '%s' is no date", decl.as_of) end
  for name in pairs(decl.params or {}) do
    if not tostring(name):match("^%u+%-%d+%.[%w_]+$") then return bad("params: '%s' is not RULE.name", tostring(name)) end
  end
  local mapping = { name = decl.name, company = decl.company, currency = decl.currency, as_of = decl.as_of,
    params = decl.params or {}, parts = {}, canonical = decl.tables == "canonical" }
  if mapping.canonical then return mapping end
  if type(decl.tables) ~= "table" then return bad("has no tables") end
  if not decl.company or not decl.currency then return bad("needs company and currency") end
  for name, table_decl in pairs(decl.tables) do
    local def = schema.tables[name]
    if not def then return bad("there is no canonical table '%s'", tostring(name)) end
    if type(table_decl) ~= "table" then return bad("%s is no table", name) end
    local parts = table_decl[1] and table_decl or { table_decl }
    for _, part in ipairs(parts) do
      local ok, why = check_part(def, part)
      if not ok then return bad("%s: %s", name, why) end
      if part.rows and #parts > 1 then return bad("%s: constant rows stand alone", name) end
    end
    mapping.parts[name] = parts
  end
  return mapping
end

return M
