--- Script VMs of this worker, by project and bundle: kept warm, the least used closed first.

local config = require "kt.config"
local file = require "kt.file"
local script = require "kt.script"
local template = require "template"

local M = {}

--- VMs kept warm.
M.WARM = 32
--- Live runs of one VM; a busy project gets more than one VM.
M.RUNS = 1000
--- Memory of one VM.
M.BYTES = 32 * 1024 * 1024

---@class engine.Vm
---@field vm table kt.script vm
---@field runs integer
---@field used integer order of last use

---@type table<string, engine.Vm[]>
local pools = {}
local order, total = 0, 0

--- Files of the service that every bundle may require: what renders templates.
---@type table<string, string>?
local shared

local function shared_files()
  if shared then
    return shared
  end
  local files = {}
  for _, name in ipairs(template.runtime_modules) do
    local path = name:gsub("%.", "/") .. ".lua"
    local source, err = file.read(config.home() .. "/lua/" .. path)
    if not source then
      return nil, err
    end
    files[path] = source
  end
  shared = files
  return files
end

--- The files of a bundle and those that every bundle may require. Yields.
---@param bundle_files table<string, string>
---@return table<string, string>? files a new table, table? err
function M.with_shared(bundle_files)
  local extra, err = shared_files()
  if not extra then
    return nil, err
  end
  local files = {}
  for path, source in pairs(bundle_files) do
    files[path] = source
  end
  for path, source in pairs(extra) do
    files[path] = source
  end
  return files
end

local function close_oldest()
  local oldest, key, at
  for k, pool in pairs(pools) do
    for i, entry in ipairs(pool) do
      if entry.runs == 0 and (not oldest or entry.used < oldest.used) then
        oldest, key, at = entry, k, i
      end
    end
  end
  if not oldest then
    return false
  end
  table.remove(pools[key], at)
  if #pools[key] == 0 then
    pools[key] = nil
  end
  oldest.vm:close()
  total = total - 1
  return true
end

--- A VM with the bundle's scripts, for one run. Give it back with `release`.
---@param project_id string
---@param bundle {sha256: string, files: table<string, string>}
---@return engine.Vm? entry, table? err script_error
function M.acquire(project_id, bundle)
  local key = project_id .. "\n" .. bundle.sha256
  order = order + 1
  for _, entry in ipairs(pools[key] or {}) do
    if entry.runs < M.RUNS then
      entry.runs, entry.used = entry.runs + 1, order
      return entry
    end
  end
  local files, err = M.with_shared(bundle.files)
  local vm
  if files then
    vm, err = script.vm { files = files, cap = M.BYTES, share = project_id }
  end
  if not vm then
    return nil, err
  end
  local entry = { vm = vm, runs = 1, used = order }
  pools[key] = pools[key] or {}
  table.insert(pools[key], entry)
  total = total + 1
  while total > M.WARM and close_oldest() do end
  return entry
end

---@param entry engine.Vm
function M.release(entry)
  entry.runs = entry.runs - 1
  while total > M.WARM and close_oldest() do end
end

--- The VMs of this worker.
---@return {project_id: string, bundle: string, bytes: integer, peak: integer, runs: integer}[]
function M.list()
  local list = {}
  for key, pool in pairs(pools) do
    local project_id, bundle = key:match("^(.*)\n(.*)$")
    for _, entry in ipairs(pool) do
      local stats = entry.vm:stats()
      list[#list + 1] = { project_id = project_id, bundle = bundle, bytes = stats.used, peak = stats.peak, runs = entry.runs }
    end
  end
  return list
end

--- Close every VM that nothing runs in.
function M.close()
  while close_oldest() do end
end

return M
