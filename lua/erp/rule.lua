--- Runs one rule over a data set: evaluability (erp-rules.md 2.9), severity, keys, order, hashes.
--
-- DECLARATION of a rule script (data, except run):
--   rule{
--     id = "IMT-007", title = "Duplicate invoice, exact", category = "invoice_matching",
--     params = { scope = {"enum", "company", values = {"company", "group"}},   -- {type, default}
--                min_gross = {"decimal", "0"}, horizon_days = {"integer", 30}, -- default nil = NULL
--                include_parked = {"flag", false}, reasons = {"list", {"a"}} },
--         types: decimal (p.x is a Decimal), integer, flag, enum, text, list, bands. Every rule also
--         has min_impact {"decimal", "0"} and sev_bands (below) without declaring them.
--     requires = { "invoice.vendor_id", {any = {"gl_item.clearing_date", "gl_item.open_doc"}}, "vendor" },
--         each entry: "table", "table.column", {any = {entry, …}} or {all = {entry, …}}; or, for the
--         whole list, a function(p) that returns it. Keys of a table named are required too.
--     reasons = { {"exact", needs = {"invoice.reference"}}, {"no_reference"} },   in order of precedence
--         when = function(p) -> boolean: a reason that parameters switch off is not "not run"
--     reads = { "invoice_line" },        tables that evidence reads besides (for t and input_hash)
--     run = function(t, p, emit) … end }
--
-- FINDING:
--   emit{ key = {v, …}, overlap = {"INV", v, …}?,        values: text or integer; NULL is ""; dates by t.iso
--         reason = "exact", kind = "cash", impact = Decimal, currency = "USD"?, (default: t.currency_cc)
--         severity = {step = -1, floor = "high", level = "critical"}?   level replaces S
--         evidence = {name = text|number|boolean|Decimal|list|map}, explanation = "…" }
--   Decimals in evidence become texts without trailing zeros; what is nil is left out.
--
-- FOR THE CALLER (erp.analyst):
--   R = require "erp.rule"
--   decl, err = R.declare(decl)                        checks the shape of a declaration
--   params, err = R.params(decl, overrides)            {name = text|number|…}: "5", 5, true, nil; effective
--   R.canonical_params(decl, params) -> JSON text      (section 0: hashes)
--   result = R.run(decl, data, {params = params, version = sha256 of the script})
--       result = {rule_id, version, as_of, params, status, not_run = {{reason, missing = {…}}, …},
--                 population, findings = {…}, suppressed, skipped = {reason = n}, warnings = {…}, error?}
--       finding = {rule_id, finding_key, reason, severity, impact = {amount, currency, amount_rc, kind},
--                  evidence, overlap_key, explanation, rank = {severity 0..3, |amount_rc| Decimal or nil}}
--       findings are sorted as section 0 says; amounts are decimal texts, rounded; dates are texts.
--   R.status(decl, data, params) -> "ok"|"partial"|"not_evaluable", not_run
--   R.sort(findings)                                   the order of section 0 over several rules too
--   R.tables(decl, data, params) -> {"invoice", …}     sorted; the tables that input_hash names: those
--       of the declaration, `currency` (rounding), and `fx_rate` when the report has another currency
--   R.input_hash{as_of="2014-09-30", mapping=hex, params=hex, rule=id, script=hex, tables={["invoice.csv"]=hex}} -> hex

local D = require "erp.table.decimal"
local F = require "erp.table.ffi"
F.hot()
local data_set = require "erp.table.data"
local json = require "json"
local crypto = require "kt.crypto"

local M = {}

local LEVELS = { "low", "medium", "high", "critical" }
local RANK = { low = 0, medium = 1, high = 2, critical = 3 }
M.RANK = RANK
local KINDS = { cash = true, exposure = true, misstatement = true, capital = true, revenue = true, cost = true, control = true }
local COMMON = { min_impact = { "decimal", "0" }, sev_bands = { "bands", { "1000", "10000", "100000" } } }

local function failure(code, fmt, ...) return nil, { code = code, message = fmt:format(...), retryable = false } end

-- Parameters ---------------------------------------------------------------------------------

local is_null = json.null

local readers = {}

function readers.decimal(v)
  if type(v) ~= "string" and type(v) ~= "number" and not D.is_decimal(v) then return nil end
  local ok, d = pcall(D.decimal, v)
  return ok and d or nil
end
function readers.integer(v)
  local ok, d = pcall(D.decimal, v)
  if not ok or d:round(0) ~= d then return nil end
  return tonumber(d:text())
end
function readers.flag(v)
  if v == true or v == "true" or v == "1" or v == 1 then return true end
  if v == false or v == "false" or v == "0" or v == 0 then return false end
  return nil
end
function readers.text(v) return type(v) == "string" and v or nil end
function readers.enum(v, spec)
  for _, allowed in ipairs(spec.values) do if v == allowed then return v end end
  return nil
end
function readers.list(v)
  if type(v) == "string" then -- from the command line: a,b
    local list = {}
    for item in v:gmatch "[^,]+" do list[#list + 1] = item end
    return list
  end
  return type(v) == "table" and v or nil
end
function readers.bands(v)
  local list = readers.list(v)
  if not list or #list ~= 3 then return nil end
  local out = {}
  for i = 1, 3 do
    out[i] = readers.decimal(list[i])
    if not out[i] or (i > 1 and not (out[i - 1] < out[i])) then return nil end
  end
  return out
end

local function spec_of(decl, name) return decl.params[name] or COMMON[name] end

--- Effective parameters, typed as a rule reads them.
---@param decl table
---@param overrides table<string, any>? json.null sets NULL
---@return table? params, table? err
function M.params(decl, overrides)
  local out = {}
  local function take(name, v)
    local spec = spec_of(decl, name)
    if not spec then return failure("validation_failed", "%s has no parameter \"%s\"", decl.id, name) end
    if v == is_null or v == nil then
      out[name] = nil
      return true
    end
    local value = readers[spec[1]](v, spec)
    if value == nil then
      return failure("validation_failed", "%s.%s: \"%s\" is no %s", decl.id, name, tostring(v),
        spec.values and "one of " .. table.concat(spec.values, ", ") or spec[1])
    end
    out[name] = value
    return true
  end
  for _, set in ipairs { COMMON, decl.params } do
    for name, spec in pairs(set) do
      if spec[2] ~= nil then
        local ok, err = take(name, spec[2])
        if not ok then return nil, err end
      end
    end
  end
  for name, v in pairs(overrides or {}) do
    local ok, err = take(name, v)
    if not ok then return nil, err end
  end
  return out
end

--- Parameters as JSON values: numbers as decimal texts, NULL as null.
---@return table
function M.plain_params(decl, params)
  local out = {}
  for _, set in ipairs { COMMON, decl.params } do
    for name in pairs(set) do
      local v = params[name]
      if v == nil then
        v = json.null
      elseif D.is_decimal(v) or type(v) == "number" then
        v = D.decimal(v):text()
      elseif type(v) == "table" then
        local list = {}
        for i, x in ipairs(v) do list[i] = type(x) ~= "string" and D.decimal(x):text() or x end
        v = json.array(list)
      end
      out[name] = v
    end
  end
  return out
end

function M.canonical_params(decl, params) return json.encode(M.plain_params(decl, params), { sort = true }) end

-- Declarations -------------------------------------------------------------------------------

--- Checks the shape of a declaration and fills what may be left out.
---@return table? decl, table? err
function M.declare(decl)
  local function bad(fmt, ...) return failure("script_error", "rule %s: " .. fmt, tostring(decl.id), ...) end
  if type(decl) ~= "table" or type(decl.id) ~= "string" then return failure("script_error", "a rule needs an id") end
  if type(decl.run) ~= "function" then return bad "run is no function" end
  if type(decl.title) ~= "string" or type(decl.category) ~= "string" then return bad "title or category is missing" end
  decl.params, decl.reads, decl.requires = decl.params or {}, decl.reads or {}, decl.requires or {}
  for name, spec in pairs(decl.params) do
    if type(spec) ~= "table" or not readers[spec[1]] then return bad("parameter %s has no type", tostring(name)) end
  end
  if type(decl.reasons) ~= "table" or #decl.reasons == 0 then return bad "reasons are missing" end
  for i, reason in ipairs(decl.reasons) do
    if type(reason[1]) ~= "string" then return bad("reason %d has no name", i) end
  end
  return decl
end

local function requires_of(decl, params)
  return type(decl.requires) == "function" and decl.requires(params) or decl.requires
end

--- Names of the tables in a list of needs.
local function collect(list, into)
  for _, need in ipairs(list or {}) do
    if type(need) == "string" then into[need:match "^[^.]+"] = true
    else collect(need.any or need.all, into) end
  end
  return into
end

local function tables_of(decl, params)
  local set = collect(requires_of(decl, params), {})
  for _, reason in ipairs(decl.reasons) do collect(reason.needs, set) end
  collect(decl.reads, set)
  return set
end

function M.tables(decl, data, params)
  local set = tables_of(decl, params)
  set.currency = true
  if data.currency_rc ~= data.currency_cc then set.fx_rate = true end
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- Evaluability (2.9) -------------------------------------------------------------------------

local function missing_of(data, list, out)
  local function note(path)
    for _, seen in ipairs(out) do if seen == path then return end end
    out[#out + 1] = path
  end
  for _, need in ipairs(list or {}) do
    if type(need) == "string" then
      if not data_set.has(data, need) then note(need) end
      local tab = need:match "^[^.]+"
      if data.present[tab] then
        for _, column in ipairs(data.defs[tab].columns) do
          if column.key and not column.optional and not data_set.has(data, tab .. "." .. column.name) then
            note(tab .. "." .. column.name)
          end
        end
      end
    elseif need.all then
      missing_of(data, need.all, out)
    else
      local lacking, found = {}, false
      for _, alternative in ipairs(need.any) do
        local lack = missing_of(data, { alternative }, {})
        found = found or #lack == 0
        for _, path in ipairs(lack) do lacking[#lacking + 1] = path end
      end
      if not found then for _, path in ipairs(lacking) do note(path) end end
    end
  end
  return out
end

--- Which reasons can run.
---@return string status "ok", "partial" or "not_evaluable"
---@return {reason: string, missing: string[]}[] not_run
---@return table<string, boolean> runs
function M.status(decl, data, params)
  local common = missing_of(data, requires_of(decl, params), {})
  local not_run, runs, any = {}, {}, false
  for _, reason in ipairs(decl.reasons) do
    if not reason.when or reason.when(params) then
      local lack = {}
      for i, path in ipairs(common) do lack[i] = path end
      missing_of(data, reason.needs, lack)
      if #lack == 0 then
        runs[reason[1]], any = true, true
      else
        not_run[#not_run + 1] = { reason = reason[1], missing = lack }
      end
    end
  end
  return not any and "not_evaluable" or #not_run > 0 and "partial" or "ok", not_run, runs
end

-- Findings -----------------------------------------------------------------------------------

local function escaper(separator)
  local own = separator:byte()
  local pattern = "[%z\1-\31\127\\" .. separator .. "]"
  local function replace(c)
    if c == "\\" or c == separator then return "\\" .. c end
    return ("\\x%02x"):format(c:byte())
  end
  return function(v)
    if type(v) == "number" then return D.decimal(v):text() end
    if type(v) ~= "string" then error("a key part is text or an integer, not " .. (v == nil and "NULL" or type(v)), 0) end
    for i = 1, #v do -- nearly no key has to be changed, and gsub is not compiled
      local b = v:byte(i)
      if b < 32 or b == 127 or b == 92 or b == own then return (v:gsub(pattern, replace)) end
    end
    return v
  end
end
local key_part, overlap_part = escaper "|", escaper ":"

local function joined(parts, escape, separator)
  local out = {}
  for i, v in ipairs(parts) do out[i] = escape(v) end
  return table.concat(out, separator)
end
M.finding_key = function(parts) return joined(parts, key_part, "|") end
M.overlap_key = function(parts) return joined(parts, overlap_part, ":") end

--- Evidence as JSON values; name: of v within path, for the error.
local function plain(v, path, name)
  local kind = type(v)
  if kind == "string" or kind == "boolean" then return v end
  if kind == "number" then
    if v ~= math.floor(v) then error("evidence " .. path .. tostring(name) .. " is a binary fraction: use a Decimal", 0) end
    return v
  end
  if D.is_decimal(v) then return v:text() end
  if kind ~= "table" then error("evidence " .. path .. tostring(name) .. " is a " .. kind, 0) end
  local out = {}
  for k, x in pairs(v) do out[k] = plain(x, name and path .. name .. "." or path, k) end
  return (#out > 0 or next(out) == nil) and json.array(out) or out
end

local function severity_of(params, amount_rc, spec)
  local rank
  if spec.level then
    rank = RANK[spec.level] or error("no such severity: " .. tostring(spec.level), 0)
  elseif amount_rc == nil then
    rank = RANK.medium
  else
    local size = amount_rc:abs()
    rank = 0
    for _, band in ipairs(params.sev_bands) do if size >= band then rank = rank + 1 end end
  end
  rank = math.max(0, math.min(3, rank + (spec.step or 0)))
  if spec.floor then rank = math.max(rank, RANK[spec.floor] or error("no such severity: " .. tostring(spec.floor), 0)) end
  return rank
end

local function approx(d) return (tonumber(d.hi) * 2 ^ 64 + tonumber(d.lo)) / 10 ^ d.scale end

--- The order of section 0: severity, |amount_rc|, rule (over several), key.
local function before(a, b)
  local x, y = a.rank, b.rank
  if x[1] ~= y[1] then return x[1] > y[1] end
  if x[2] == nil or y[2] == nil then
    if x[2] ~= nil or y[2] ~= nil then return x[2] ~= nil end
  else
    -- Doubles decide what is far apart, the exact numbers the rest.
    local p, q = x[3], y[3]
    if math.abs(p - q) > 1e-9 * math.max(p, q) then return p > q end
    if x[2] ~= y[2] then return x[2] > y[2] end
  end
  if a.rule_id ~= b.rule_id then return a.rule_id < b.rule_id end
  return a.finding_key < b.finding_key
end

---@param findings table[]
function M.sort(findings)
  table.sort(findings, before)
  return findings
end

--- Keys and overlap of a finding, its severity and amounts.
local function finding_of(decl, data, params, allowed, found)
  if not KINDS[found.kind] then error("no such impact kind: " .. tostring(found.kind), 0) end
  if not D.is_decimal(found.impact) then error("impact is no Decimal", 0) end
  local key = M.finding_key(found.key)
  local currency = found.currency or data.currency_cc
  local amount_rc
  if currency == data.currency_rc then
    amount_rc = found.impact
  else
    if currency ~= data.currency_cc and not allowed.fx_rate then
      error("a finding in " .. currency .. " needs fx_rate among the tables read", 0)
    end
    local rate = data_set.service(data, "fx")(currency, data.currency_rc, data.as_of)
    amount_rc = rate and found.impact * rate or nil
  end
  local round = data_set.service(data, "round")
  local decimals = data_set.service(data, "decimals")
  local rank = severity_of(params, amount_rc, found.severity or {})
  local size = amount_rc and amount_rc:abs()
  return {
    rule_id = decl.id, finding_key = key, reason = found.reason, severity = LEVELS[rank + 1],
    impact = {
      amount = round(found.impact, currency):text(decimals(currency)), currency = currency,
      amount_rc = amount_rc and round(amount_rc, data.currency_rc):text(decimals(data.currency_rc)) or json.null,
      kind = found.kind,
    },
    evidence = plain(found.evidence or {}, ""),
    overlap_key = M.overlap_key(found.overlap or { decl.id, key }),
    explanation = found.explanation or "",
    rank = { rank, size, size and approx(size) },
  }
end

local function where_of(message)
  local script, line = tostring(message):match "^(.-):(%d+):"
  return script and { script = script, line = tonumber(line) } or nil
end

--- Run one rule. Never raises for what the script does: that is status "error".
---@param decl table from M.declare
---@param data erp.Data
---@param opts {params: table?, version: string?}
---@return table result
function M.run(decl, data, opts)
  local params = opts.params or assert(M.params(decl))
  local status, not_run, runs = M.status(decl, data, params)
  local result = { rule_id = decl.id, version = opts.version, as_of = data.as_of_text, params = M.plain_params(decl, params),
    status = status, not_run = json.array(not_run), population = 0, findings = json.array {}, suppressed = 0, skipped = {},
    warnings = json.array {} }
  if status == "not_evaluable" then return result end
  local allowed = tables_of(decl, params)
  local findings, seen, suppressed, skipped = {}, {}, 0, {}
  local run = {
    allowed = allowed, reasons = runs,
    skip = function(reason, n) skipped[reason] = (skipped[reason] or 0) + (n or 1) end,
    population = function(n) result.population = n end,
  }
  local known = {}
  for _, reason in ipairs(decl.reasons) do known[reason[1]] = true end
  local function emit(found)
    if not known[found.reason] then error("no such reason: " .. tostring(found.reason), 2) end
    local ok, finding = pcall(finding_of, decl, data, params, allowed, found)
    if not ok then error(finding, 2) end
    if seen[finding.finding_key] then error("two findings have the key " .. finding.finding_key, 2) end
    seen[finding.finding_key] = true
    if found.impact:abs() < params.min_impact then
      suppressed = suppressed + 1
    else
      findings[#findings + 1] = finding
    end
  end
  -- A rule makes many small things that live until its report is written: collecting them is in vain.
  local pause = collectgarbage("setpause", 400)
  F.reheat()
  local ok, err = pcall(decl.run, data_set.rule_view(data, run), params, emit)
  collectgarbage("setpause", pause)
  if err == "not enough memory" then -- nothing else would collect what the rule has left, and the report needs some
    findings, seen = nil, nil
    collectgarbage()
    result.status, result.error = "error", { code = "memory_limit", message = "the rule needs more memory than it may have" }
    return result
  elseif not ok then
    local message = type(err) == "table" and err.message or tostring(err)
    result.status, result.error = "error", { code = type(err) == "table" and err.code or "script_error", message = message,
      where = where_of(message) }
    return result
  end
  result.findings, result.suppressed, result.skipped = json.array(M.sort(findings)), suppressed, skipped
  if next(skipped) ~= nil and result.status == "ok" then result.status = "partial" end
  if allowed.stock and data.extract_date and data.extract_date ~= data.as_of_text then
    result.warnings[1] = "stock_snapshot"
  end
  return result
end

--- sha256 over what a rule's findings depend on (section 0: hashes).
---@param spec {as_of: string, mapping: string, params: string, rule: string, script: string, tables: table<string, string>}
---@return string hex
function M.input_hash(spec)
  local lines = { "as_of " .. spec.as_of, "mapping " .. spec.mapping, "params " .. spec.params,
    "rule " .. spec.rule .. " " .. spec.script }
  local names = {}
  for name in pairs(spec.tables) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do lines[#lines + 1] = "table " .. name .. " " .. spec.tables[name] end
  return crypto.sha256(table.concat(lines, "\n") .. "\n")
end

return M
