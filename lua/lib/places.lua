--- Where executions live: the databases by their configured names.

local config = require "kt.config"
local kept = require "lib.kept"
local store = require "kt.store"

local M = {}

--- The master database.
---@return table db
function M.master()
  return store.database(config.get("MASTER_DATABASE_NAME"))
end

--- What was read of master data, until any of it changes.
---@type lib.Kept
M.kept = kept.new(M.master)

---@param project_id string of a project that exists
---@return table db
function M.project(project_id)
  return store.database(config.get("PROJECT_DATABASE_PREFIX") .. project_id)
end

--- The project's short number out of an execution id `exec_<n>_<32 hex>`.
---@param execution_id string
---@return integer? number nil for what is no execution id
function M.project_number(execution_id)
  local number, hex = execution_id:match("^exec_([1-9]%d*)_(%x+)$")
  if not number or #number > 15 or #hex ~= 32 or hex:find("%u") then
    return nil
  end
  return tonumber(number) --[[@as integer]]
end

return M
