--- What a run chooses of its agent's rules and mappings, checked before anything is done: a mistake is
--- told to who makes it, not found in a failed run.
local script = require "kt.script"

local R = require "erp.rule"
local declared = require "erp.declared"
local given = require "lib.given"
local report = require "erp.report"
local sweep = require "erp.sweep"

local M = {}

local function names(set)
  local list = {}
  for name in pairs(set) do list[#list + 1] = name end
  table.sort(list)
  return table.concat(list, ", ")
end

local function check_names(list, known, what, pointer, add)
  for i, name in ipairs(given(list) or {}) do
    if not known[name] then
      add(("%s/%d"):format(pointer, i - 1), "not_found", ("there is no %s '%s' (there are: %s)"):format(what, name, names(known)))
    end
  end
end

-- What is known of a bundle: its catalog and the rules declared so far. A bundle never changes, and the
-- registry gives one table for it; to declare a rule takes a VM.
local bundles = setmetatable({}, { __mode = "k" })

local function known(files)
  local bundle = bundles[files]
  if not bundle then
    bundle = { catalog = sweep.catalog(files), declared = {} }
    bundles[files] = bundle
  end
  return bundle
end

-- The rules that parameters name, declared; a rule that cannot be is no mistake of who runs it.
local function declarations(files)
  local catalog, kept = known(files).catalog, known(files).declared
  return function(id)
    if kept[id] == nil then
      local path = catalog.rules[id]
      local decl, err = script.check { path = path, source = files[path], libs = catalog.libs }
      if not decl and err.code ~= "script_error" then return false end -- not for ever: the request was given up
      kept[id] = decl and declared.rule(decl) or false
    end
    return kept[id]
  end
end

local function check_params(params, catalog, files, pointer, add)
  local declaration = declarations(files)
  local keys = {}
  for key in pairs(given(params) or {}) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local at = pointer .. "/" .. key:gsub("~", "~0"):gsub("/", "~1")
    local id, name = key:match("^([^.]+)%.(.+)$")
    if not id then
      add(at, "pattern", ("'%s' is no parameter: it is named RULE.name, such as PRD-005.mode"):format(key))
    elseif not catalog.rules[id] then
      add(at, "not_found", ("there is no rule '%s' (there are: %s)"):format(id, names(catalog.rules)))
    elseif declaration(id) then
      local ok, err = R.params(declaration(id), { [name] = params[key] })
      if not ok then add(at, "invalid", err.message) end
    end
  end
end

--- Check the keys of input_data, or of an agent's or instance's settings, that choose what an analysis
--- does: rules, categories, mapping, rule_params. Nothing is said of an agent without rules. Yields.
---@param files table<string, string> the agent's bundle: source by path
---@param chosen { rules: string[]?, categories: string[]?, mapping: string?, rule_params: table<string, any>? }
---@param pointer string of `chosen` in the body
---@param errors kontor.FieldError[] what is wrong is added
function M.check(files, chosen, pointer, errors)
  local catalog = known(files).catalog
  if next(catalog.rules) == nil then return end
  local function add(at, code, message)
    errors[#errors + 1] = { pointer = at, code = code, message = message }
  end
  local categories = {}
  for _, id in ipairs(report.categories) do categories[id] = true end
  check_names(chosen.rules, catalog.rules, "rule", pointer .. "/rules", add)
  check_names(chosen.categories, categories, "category", pointer .. "/categories", add)
  local mapping = given(chosen.mapping)
  if mapping and not catalog.mappings[mapping] then
    add(pointer .. "/mapping", "not_found", ("there is no mapping '%s' (there are: %s)"):format(mapping, names(catalog.mappings)))
  end
  check_params(chosen.rule_params, catalog, files, pointer .. "/rule_params", add)
end

return M
