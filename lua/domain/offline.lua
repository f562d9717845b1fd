--- The store without a service: what a command does when none runs.
local config = require "kt.config"
local file = require "kt.file"
local migrations = require "domain.migrations"
local store = require "kt.store"

local M = {}

--- Who a command is, to the audit log.
---@return kontor.Principal
function M.principal()
  local user = os.getenv("USER") or "?"
  return { id = "cli:" .. user, name = user, role = "admin", projects = { "*" }, via = "cli" }
end

--- Call `use` with the master database open and up to date, under the lock of the data directory. Yields.
---@generic T
---@param use fun(master: table): T|nil, table?
---@return T|nil result, table? err conflict while a service has the data directory
function M.with_master(use)
  local dir = config.get("KONTOR_DATA_DIR")
  local lock, err = file.lock_data_dir(dir)
  if not lock then return nil, err end
  local ok, result
  ok, err = store.open { dir = dir }
  if ok then
    local name = config.get("MASTER_DATABASE_NAME")
    ok, err = store.create(name)
    if ok or err.code == "already_exists" then ok, err = migrations.load(config.home()) end
    local master = store.database(name)
    if ok then ok, err = migrations.run("master", master) end
    if ok then result, err = use(master) end
    store.close()
  end
  lock:release()
  return result, err
end

return M
