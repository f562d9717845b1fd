-- All routes, in the order in which the API document shows them.

local M = {}

local modules = {"service", "master", "unit_tar", "agents", "prompts", "tools", "setup", "quotas", "instances", "datasets", "executions",
  "scripts", "api_keys", "secrets", "units", "audit"}

---@return kontor.Route[]
function M.all()
  local list = {}
  for _, name in ipairs(modules) do
    for _, route in ipairs(require("routes." .. name)) do list[#list + 1] = route end
  end
  return list
end

return M
