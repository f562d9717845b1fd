--- kontor analyze: the analysis of a folder, offline, with the rules of agents/ on disk. Same report and input hashes as the
-- service for the same files.
local file = require "kt.file"
local json = require "json"

local calendar = require "erp.calendar"
local describe = require "scripts.describe"
local folder = require "erp.folder"
local options = require "lib.options"
local sweep = require "erp.sweep"
local table_view = require "erp.table_view"

local AGENT = "erp-exception-management"

local spec = {
  usage = "kontor analyze --data DIR [--mapping NAME] …",
  options = {
    { "data", "DIR", "folder of .csv and .ndjson files", required = true },
    { "mapping", "NAME", "mapping script", default = "identity" },
    { "rules", "A,B", "only these rules", many = true, default = "all" },
    { "as-of", "DATE", "key date", default = "manifest.json's, or the mapping's" },
    { "currency", "CUR", "currency of the report", default = "the company's" },
    { "param", "RULE.name=VALUE", "parameter of a rule; null: inactive", many = true },
    { "report", "FILE", "write the JSON report there" },
    { "previous", "FILE", "report of an earlier run, for the trend" },
    { "format", "F", "what to print: table or json", default = "table" },
    { "rule-deadline", "SECONDS", "a rule that takes longer is stopped and reported", default = "60" },
    { "agents", "DIR", "scripts to use instead of the installed agent's" },
  },
}

local function fail(code, message)
  io.stderr:write("kontor analyze: ", message, "\n")
  return code
end

-- <home>/lua/?.lua is on the path.
local function home() return package.path:match("([^;]*)/lua/%?%.lua") or "." end

local function names_in(dir)
  local entries, err = file.list(dir)
  if not entries then return nil, err end
  local names = {}
  for _, entry in ipairs(entries) do
    if entry.kind == "file" then names[#names + 1] = entry.name end
  end
  return names
end

local function read_bundle(dir)
  local bundle = {}
  for _, kind in ipairs { "rules", "mappings", "lib" } do
    local names, problem = names_in(dir .. "/" .. kind)
    if not names and problem.code ~= "not_found" then return nil, problem end
    for _, name in ipairs(names or {}) do
      if name:match("%.lua$") then
        local source, err = file.read(dir .. "/" .. kind .. "/" .. name)
        if not source then return nil, err end
        bundle["agents/" .. AGENT .. "/" .. kind .. "/" .. name] = source
      end
    end
  end
  if not next(bundle) then return nil, { message = "there are no scripts" } end
  return bundle
end

local function split(lists)
  if not lists then return nil end
  local out = {}
  for _, list in ipairs(lists) do
    for item in list:gmatch("[^,%s]+") do out[#out + 1] = item end
  end
  return out
end

local function read_params(texts)
  local params = {}
  for _, text in ipairs(texts or {}) do
    local name, value = text:match("^([%w-]+%.[%w_]+)=(.*)$")
    if not name then return nil, "--param '" .. text .. "' is not RULE.name=VALUE" end
    if params[name] ~= nil then return nil, "--param " .. name .. " is given twice" end
    if value == "null" then
      params[name] = json.null
    elseif value:match("^[%[{]") then
      local decoded, err = json.decode(value)
      if err then return nil, "--param " .. name .. ": " .. err.message end
      params[name] = decoded
    else
      params[name] = value
    end
  end
  return params
end

local function read_previous(path)
  if not path then return nil end
  local text, err = file.read(path)
  if not text then return nil, err.message end
  local previous
  previous, err = json.decode(text)
  if type(previous) ~= "table" or type(previous.categories) ~= "table" then
    return nil, path .. ": " .. (err and err.message or "is no report")
  end
  return previous
end

---@param args string[]
---@return integer exit code: 0 also with findings, 1 failed, 2 usage
return function(args)
  local values, code = options.read("analyze", args, spec)
  if not values then return code end
  local format = values.format or "table"
  if format ~= "table" and format ~= "json" then return fail(2, "--format is table or json, not '" .. format .. "'") end
  if values["as-of"] and not calendar.parse(values["as-of"]) then
    return fail(2, "--as-of '" .. values["as-of"] .. "' is no date (YYYY-MM-DD)")
  end
  if values.currency and not values.currency:find("^%u%u%u$") then
    return fail(2, "--currency '" .. values.currency .. "' is no currency (USD)")
  end
  local rule_deadline = tonumber(values["rule-deadline"] or "60")
  if not rule_deadline or rule_deadline <= 0 or rule_deadline > 86400 then
    return fail(2, "--rule-deadline is a number of seconds, at most 86400")
  end
  local rules = split(values.rules)
  if rules and not rules[1] then return fail(2, "--rules names no rule") end
  local params, problem
  params, problem = read_params(values.param)
  if not params then return fail(2, problem) end

  local tables, err = folder.tables(values.data, names_in)
  if not tables then return fail(1, values.data .. ": " .. tostring(err.message)) end
  local extract_date
  extract_date, err = folder.as_of(values.data)
  if err then return fail(1, values.data .. "/" .. err.message) end
  local previous
  previous, problem = read_previous(values.previous)
  if problem then return fail(1, problem) end
  local scripts = values.agents or home() .. "/agents/" .. AGENT
  local bundle
  bundle, err = read_bundle(scripts)
  if not bundle then return fail(1, scripts .. ": " .. tostring(err.message)) end

  local result
  result, err = sweep.run { bundle = bundle, mapping = values.mapping or "identity", rules = rules, params = params,
    as_of = values["as-of"], currency = values.currency, extract_date = extract_date, tables = tables, previous = previous,
    rule_deadline = rule_deadline }
  if not result then
    return fail(err.code == "validation_failed" and 2 or 1, describe(err))
  end
  if values.report then
    local written
    written, err = file.write(values.report, result.report)
    if not written then return fail(1, values.report .. ": " .. tostring(err.message)) end
  end
  if format == "json" then
    io.stdout:write(result.report, "\n")
  else
    io.stdout:write(table_view.render(result))
    if values.report then io.stdout:write("\nReport: ", values.report, "\n") end
  end
  return 0
end
