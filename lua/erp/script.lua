--- Compiles a rule, mapping or lib script in an analyst: text only, a fresh environment a script, a defined order of pairs.
-- The environment has no way out (no io, os, debug, package, load, ffi); the process is what keeps a hostile script in
-- (kt.sandbox), this keeps an honest one deterministic.
local sandbox_env = require("kt.script").sandbox_env

local M = {}

---@class erp.Script
---@field kind string rule or mapping
---@field decl table what it declared

local function fault(path, message)
  local script, line, text = tostring(message):match("^(.-):(%d+): (.*)$")
  return nil, { code = "script_error", message = text or tostring(message), retryable = false,
    where = { script = script or path, line = tonumber(line) or 0 } }
end

--- Load a script that declares with one call.
---@param path string where it lives, for messages
---@param source string
---@param kind string "rule" or "mapping"
---@param libs table<string, string>? path -> source of what it may require, by path, or by name below lib/
---@return table? decl
---@return table? err code script_error with where = {script, line}
function M.load(path, source, kind, libs)
  local declared
  local loaded = {}
  local env = sandbox_env()
  env._G, env.coroutine = nil, nil -- no rule needs them
  env[kind] = function(decl)
    if declared then error("declares twice", 2) end
    if type(decl) ~= "table" then error(kind .. " wants a table", 2) end
    declared = decl
  end
  env.require = function(name)
    if loaded[name] ~= nil then return loaded[name] end
    for lib_path, lib_source in env.pairs(libs or {}) do
      if lib_path == name or lib_path:match("lib/([^/]+)%.lua$") == name:gsub("^lib[./]", "") then
        local chunk = assert(load(lib_source, "@" .. lib_path, "t", setmetatable({}, { __index = env })))
        local value = chunk()
        loaded[name] = value == nil and true or value
        return loaded[name]
      end
    end
    error("there is no lib '" .. tostring(name) .. "' in the bundle", 2)
  end
  local chunk, err = load(source, "@" .. path, "t", env)
  if not chunk then return fault(path, err) end
  local ok, message = pcall(chunk)
  if not ok then return fault(path, message) end
  if not declared then return fault(path, path .. ":0: declares no " .. kind) end
  return declared
end

return M
