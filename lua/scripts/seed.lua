--- agents/ on disk is the seed of the scripts in master data: what is new comes in, what a release
--- changed replaces what was seeded, what was pushed since stays. In development mode files win.

local file = require "kt.file"
local log = require "kt.log"
local principal = require "http.principal"
local registry = require "scripts.registry"

local M = {}

--- Is this file of agents/ a script of master data? Specs stay on disk, and agent.lua is read by
--- setup/erp-defaults and never runs.
---@param path string
---@return boolean
function M.is_script(path)
  if not registry.valid_path(path) or path:find("/spec/") or path:find("^agents/[^/]+/agent%.lua$") then
    return false
  end
  return path:find("%.lua$") ~= nil or path:find("%.j2$") ~= nil
end

local function walk(root, at, into)
  local entries, err = file.list(root .. "/" .. at)
  if not entries then
    return nil, err
  end
  for _, entry in ipairs(entries) do
    local path = at .. "/" .. entry.name
    if entry.kind == "dir" then
      local ok
      ok, err = walk(root, path, into)
      if not ok then
        return nil, err
      end
    elseif entry.kind == "file" and M.is_script(path) then
      into[path], err = file.read(root .. "/" .. path)
      if not into[path] then
        return nil, err
      end
    end
  end
  return true
end

--- Sources of agents/ below `home`.
---@param home string
---@return table<string, string>? files by path, table? err
function M.files(home)
  local files = {}
  local stat = file.stat(home .. "/agents")
  if not stat then
    return files
  end
  local ok, err = walk(home, "agents", files)
  return ok and files, err
end

--- Bring master data up to the files. One agent's broken file leaves that agent as it was.
---@param home string
---@param dev boolean files win
---@return boolean? ok, table? err of the store; a broken script is logged with its place
function M.run(home, dev)
  local files, err = M.files(home)
  local heads
  if files then
    heads, err = registry.heads()
  end
  if not heads then
    return nil, err
  end
  local groups = {}
  for path, source in pairs(files) do
    local head = heads[path]
    local sha256 = require("kt.crypto").sha256(source)
    if not head or head.sha256 ~= sha256 and (dev or head.sha256 == head.seed_sha256) then
      local group = path:match("^agents/[^/]+/") or path
      groups[group] = groups[group] or {}
      groups[group][path] = source
    end
  end
  for group, changes in pairs(groups) do
    local pushed
    pushed, err = registry.activate(changes, { principal = principal.system(), note = "agents/ on disk" }, true)
    if pushed then
      log.info("scripts.seeded", { msg = group .. ": " .. #pushed .. " scripts" })
    elseif err.code == "script_error" or err.code == "validation_failed" then
      M.complain(group, err)
    else
      return nil, err
    end
  end
  return true
end

--- Say in the log what is wrong with a script.
---@param path string
---@param err table
function M.complain(path, err)
  log.error("scripts.refused", { msg = registry.describe(err, path) })
end

--- Development mode: a file that changes is pushed.
---@param home string
---@return table? watcher with :close()
function M.watch(home)
  local watch = require "kt.watch"
  return watch.dir(home .. "/agents", function(relative)
    local path = "agents/" .. relative
    if not M.is_script(path) then
      return
    end
    local source = file.read(home .. "/" .. path)
    if not source then
      return -- removed: what runs in master data stays
    end
    local pushed, err = registry.activate({ [path] = source },
      { principal = principal.system(), note = "changed on disk" }, true)
    if not pushed then
      M.complain(path, err)
    elseif pushed[1].changed then
      log.info("scripts.pushed", { msg = path .. " is now version " .. pushed[1].version })
    end
  end)
end

return M
