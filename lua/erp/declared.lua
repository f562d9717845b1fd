--- What a rule or mapping script declares, checked before it may run (when a script is pushed or seeded).
local R = require "erp.rule"
local mapping = require "erp.mapping"
local report = require "erp.report"
local sweep = require "erp.sweep"

local M = {}

local function fault(path, ...)
  return nil, { code = "script_error", message = string.format(...), retryable = false, where = { script = path, line = 0 } }
end

-- A list with named fields beside it comes out of the script VM with texts for its numbers.
local function restored(value)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, inner in pairs(value) do
    out[type(key) == "string" and key:match("^[1-9]%d*$") and tonumber(key) or key] = restored(inner)
  end
  return out
end

--- A rule as it is declared, from what kt.script.check gives.
---@param decl table
---@return table? rule as erp.rule wants it, but for its run, which does nothing
---@return table? err
function M.rule(decl)
  local copy = restored(decl)
  copy.run = decl.run and function() end -- a declaration comes without its functions
  return R.declare(copy)
end

local function check_rule(path, decl)
  local ok, err = M.rule(decl)
  if not ok then return fault(path, "%s", err.message) end
  if not sweep.catalog({ [path] = "" }).rules[decl.id] then
    return fault(path, "rule '%s' is to live in a file rules/%s.lua", decl.id, decl.id)
  end
  local category = report.category(decl.id)
  if not category then return fault(path, "'%s' is no rule id of a category", decl.id) end
  if decl.category ~= category then return fault(path, "rule '%s' belongs to category '%s'", decl.id, category) end
  return true
end

-- What a file is to declare, by where it lives: nothing else finds it there.
local function kind_of(path)
  local folder, name = path:match("^agents/.-([^/]+)/([^/]+)%.lua$")
  if folder == "rules" then return "rule" end
  if folder == "mappings" then return "mapping" end
  return name == "workflow" and "workflow" or nil
end

--- Check what a script declared.
---@param path string
---@param decl table as kt.script.check gives it: kind and fields, functions replaced by true
---@return boolean? ok
---@return table? err script_error
function M.check(path, decl)
  local kind = kind_of(path)
  if kind and decl.kind ~= kind then return fault(path, "a file of this name declares a %s, not a %s", kind, decl.kind or "lib") end
  if decl.kind == "rule" then return check_rule(path, decl) end
  if decl.kind == "mapping" then
    local ok, err = mapping.check(decl)
    if not ok then return fault(path, "%s", err.message) end
    if not sweep.catalog({ [path] = "" }).mappings[decl.name] then
      return fault(path, "mapping '%s' is to live in a file mappings/%s.lua", decl.name, decl.name)
    end
  end
  return true
end

return M
