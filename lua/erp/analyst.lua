--- The program of an analyst: loads one data set, runs the rules, tells its parent what it found.
-- It runs in a `kontor analyst` child (kt.analyst, which also says what a job and its messages are), where nothing can be
-- opened once the tables are read and before a script is compiled. erp.sweep also calls it in its own process.
local crypto = require "kt.crypto"
local given = require "lib.given"
local json = require "json"

local R = require "erp.rule"
local loader = require "erp.loader"
local mappings = require "erp.mapping"
local script = require "erp.script"

local PIECE = 200 -- findings in one message
local NO_DATE = "1970-01-01" -- the key date of a run without data: no row is there to compare with it

local function failure(code, ...)
  return nil, { code = code, message = string.format(...), retryable = false }
end

-- "RULE.name" -> value, split by rule: mapping defaults first, what the run says on top.
local function split_params(known, ...)
  local by_rule = {}
  for i = 1, select("#", ...) do
    local layer = select(i, ...)
    for key, value in pairs(layer.params or {}) do
      local rule_id, name = key:match("^([^.]+)%.(.+)$")
      if rule_id and known[rule_id] then
        by_rule[rule_id] = by_rule[rule_id] or {}
        by_rule[rule_id][name] = value
      elseif layer.strict then
        return failure("validation_failed", "parameter '%s': there is no rule '%s'", key, rule_id or key)
      end
    end
  end
  return by_rule
end

-- Compile and declare all rules; a broken one is reported as a rule with status error.
local function load_rules(job, mapping)
  local known, rules = {}, {}
  for _, id in ipairs(job.known or {}) do known[id] = true end
  for _, rule in ipairs(job.rules) do known[rule.rule_id] = true end
  local by_rule, err = split_params(known, { params = mapping.params }, { params = given(job.params), strict = true })
  if not by_rule then return nil, err end
  for i, source in ipairs(job.rules) do
    local rule = { rule_id = source.rule_id, version = crypto.sha256(source.source) }
    local decl
    decl, rule.error = script.load(source.path, source.source, "rule", job.libs)
    if decl then rule.decl, rule.error = R.declare(decl) end
    if rule.decl and rule.decl.id ~= source.rule_id then
      rule.error = { code = "script_error", retryable = false, where = { script = source.path, line = 0 },
        message = string.format("%s declares rule '%s'", source.path, tostring(rule.decl.id)) }
      rule.decl = nil
    end
    if rule.decl then
      local params, why = R.params(rule.decl, by_rule[rule.rule_id] or {})
      if not params then return nil, why end
      rule.params = params
    end
    rules[i] = rule
  end
  return rules
end

local function count_severities(findings)
  local counts = { low = 0, medium = 0, high = 0, critical = 0 }
  for _, finding in ipairs(findings) do counts[finding.severity] = counts[finding.severity] + 1 end
  return counts
end

local function input_hash(rule, loaded, as_of, mapping_sha256, params)
  local tables, sha256 = {}, {}
  for _, file in ipairs(loaded.files) do sha256[file.name] = file.sha256 end
  for _, name in ipairs(R.tables(rule.decl, loaded.data, rule.params)) do
    for _, file in ipairs(loaded.sources[name] or {}) do tables[file] = sha256[file] end
  end
  return R.input_hash { as_of = as_of, mapping = mapping_sha256, params = crypto.sha256(params), rule = rule.rule_id,
    script = rule.version, tables = tables }
end

local function send_findings(send, rule_id, findings)
  for first = 1, #findings, PIECE do
    local items = {}
    for i = first, math.min(first + PIECE - 1, #findings) do
      local f = findings[i]
      local rank = f.rank and f.rank[2]
      items[#items + 1] = { rule_id = f.rule_id, finding_key = f.finding_key, reason = f.reason, severity = f.severity,
        impact = f.impact, evidence = f.evidence, overlap_key = f.overlap_key, explanation = f.explanation,
        rank = rank and tostring(rank) or json.null }
    end
    send { type = "findings", rule_id = rule_id, items = items }
  end
end

local function run_rule(rule, loaded, context, send)
  send { type = "begin", rule_id = rule.rule_id }
  local started = os.clock()
  local message = { type = "rule", rule_id = rule.rule_id, version = rule.version, findings = 0, suppressed = 0,
    population = 0, not_run = json.array {}, skipped = {}, warnings = json.array {}, by_severity = count_severities {} }
  if not rule.decl then
    message.status, message.error, message.title, message.params = "error", rule.error, rule.rule_id, {}
  else
    local decl = rule.decl
    local params = R.canonical_params(decl, rule.params)
    local result = R.run(decl, loaded.data, { params = rule.params, version = rule.version })
    send_findings(send, rule.rule_id, result.findings)
    message.title, message.status, message.error = decl.title, result.status, result.error
    message.not_run, message.population = json.array(result.not_run or {}), result.population
    message.findings, message.by_severity = #result.findings, count_severities(result.findings)
    message.suppressed, message.skipped = result.suppressed, result.skipped or {}
    message.warnings = json.array(result.warnings or {})
    message.params = json.decode(params)
    message.input_hash = input_hash(rule, loaded, context.as_of, context.mapping_sha256, params)
  end
  message.duration_ms = math.floor((os.clock() - started) * 1000 + 0.5)
  send(message)
end

---@param job table see kt.analyst; `known` names rules that exist but were not chosen
---@param send fun(message: table)
---@param opts { close: fun()? }? close: shuts the sandbox, default that of kt.sandbox
---@return true?
---@return table? err validation_failed, script_error, data_rejected
return function(job, send, opts)
  local sources, err = loader.read(job.tables)
  if not sources then return nil, err end
  local close = opts and opts.close or require("kt.sandbox").close
  close()

  local decl
  decl, err = script.load(job.mapping.path, job.mapping.source, "mapping", job.libs)
  if not decl then return nil, err end
  local mapping
  mapping, err = mappings.check(decl)
  if not mapping then return nil, err end
  local rules
  rules, err = load_rules(job, mapping)
  if not rules then return nil, err end

  local extract_date = given(job.extract_date) or mapping.as_of
  local as_of = given(job.as_of) or extract_date
  if not as_of and next(sources) then
    return failure("validation_failed", "the mapping '%s' has no key date: give as_of", mapping.name)
  end
  local loaded = loader.build(mapping, sources, { as_of = as_of or NO_DATE, extract_date = extract_date, currency = given(job.currency) })
  for _, account in ipairs(loaded.accounts) do
    send { type = "table", name = account.name, rows = account.rows, rejected = account.rejected,
      duplicates = account.duplicates, errors = json.array(account.errors) }
  end
  local context = { as_of = as_of or NO_DATE, mapping_sha256 = crypto.sha256(job.mapping.source) }
  send { type = "mapped", as_of = as_of or json.null, extract_date = extract_date or json.null, mapping = mapping.name, mapping_sha256 = context.mapping_sha256,
    currency = loaded.report_currency, files = json.array(loaded.files), ignored = json.array(loaded.ignored) }

  local done = {}
  for _, message in ipairs(given(job.done) or {}) do done[message.rule_id] = true end
  for _, rule in ipairs(rules) do
    if not done[rule.rule_id] then run_rule(rule, loaded, context, send) end
  end
  send { type = "done" }
  return true
end
