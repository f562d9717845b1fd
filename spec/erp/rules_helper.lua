--- Runs a rule of the agent on small tables, for the specs of the rules.
local assert = require "luassert"
local R = require "erp.rule"
local T = require "erp.table"
local file = require "kt.file"
local schema = require "erp.schema"
local script = require "erp.script"

local M = {}

local agent = package.path:match("([^;]*)/lua/%?%.lua") .. "/agents/erp-exception-management/"
local libs

--- Declaration of a rule, loaded as the analyst loads it.
---@param id string
---@return table
function M.load(id)
  if not libs then
    libs = {}
    for _, entry in ipairs(assert(file.list(agent .. "lib"))) do libs["lib/" .. entry.name] = assert(file.read(agent .. "lib/" .. entry.name)) end
  end
  local source = assert(file.read(agent .. "rules/" .. id .. ".lua"))
  return assert(R.declare(assert(script.load("rules/" .. id .. ".lua", source, "rule", libs))))
end

--- Run a rule over rows by table.
---@param id string
---@param tables table<string, table[]> a row names its columns; company_id is C1 where it is not given, NULL where it is false
---@param params table?
---@param opts { as_of: string?, extract_date: string?, currency: string? }?
---@return table result, table decl, table params, erp.Data data
function M.run(id, tables, params, opts)
  opts = opts or {}
  local decl, ctx, built = M.load(id), T.context(), {}
  for name, rows in pairs(tables) do
    for _, row in ipairs(rows) do
      if row.company_id == nil and schema.tables[name].column.company_id then row.company_id = "C1" end
      row.company_id = row.company_id or nil
    end
    built[name] = T.from_rows(schema.tables[name], rows, ctx)
    assert.same({}, built[name].errors)
  end
  local data = T.set { ctx = ctx, tables = built, defs = schema.tables, as_of = opts.as_of or "2014-09-30",
    company_currency = opts.currency or "USD", extract_date = opts.extract_date }
  local p = assert(R.params(decl, params))
  local result = R.run(decl, data, { params = p })
  assert.is_nil(result.error)
  return result, decl, p, data
end

--- "key reason severity amount" of each finding, joined by "; ".
function M.keys(result)
  local out = {}
  for i, f in ipairs(result.findings) do out[i] = f.finding_key .. " " .. f.reason .. " " .. f.severity .. " " .. f.impact.amount end
  return table.concat(out, "; ")
end

--- Every number and date of an explanation is in the evidence.
function M.explained(result)
  for _, f in ipairs(result.findings) do
    local have = {}
    local function note(v)
      if type(v) == "table" then for _, x in pairs(v) do note(x) end
      else for n in tostring(v):gmatch "[%d.-]+" do have[n] = true end end
    end
    note(f.evidence)
    note(f.finding_key)
    for n in f.explanation:gmatch "%d[%d.-]*" do
      n = n:gsub("[.-]+$", "")
      assert.truthy(have[n] or have["-" .. n] or f.finding_key:find(n, 1, true), f.explanation .. " | " .. n)
    end
  end
end

--- base with `more` over it; "" in more is NULL.
---@return table<string, string>
function M.row(base, more)
  local row = {}
  for k, v in pairs(base) do row[k] = v end
  for k, v in pairs(more or {}) do row[k] = v end
  for k, v in pairs(row) do if v == "" then row[k] = nil end end
  return row
end

return M
