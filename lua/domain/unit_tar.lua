-- A project as one tar, out and in: GET …/export and POST /master/projects/import. The layout is that of
-- domain/unit_files.lua. Both need a folder on the disk of this host for a while:
--
--   <data>/exports/<id>/files    the export that is being sent
--   <data>/imports/<id>          what came, taken apart; the job takes it over
--   …/<id>.part                  beside each, locked by who works at it; of an import, the bytes as they came
--
-- Whatever is not locked was left by a process that died.

local audit = require "domain.audit"
local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local file = require "kt.file"
local log = require "kt.log"
local parts = require "kt.part"
local problem = require "http.problem"
local project = require "domain.project"
local tar = require "kt.tar"
local task = require "kt.task"
local unit_files = require "domain.unit_files"

local M = {}

local exports, imports = "exports", "imports"
local at_once = 2 -- of each, in a worker: every one takes its size on the disk
local pause, patience = 0.05, 600 -- of these pauses

local running = {[exports] = 0, [imports] = 0}
local places = 0 -- that are not yet left
local working = {} -- tasks of M.work
local draining = false

local function warn(event, err) log.warn(event, {msg = tostring(err.code) .. ": " .. tostring(err.message)}) end

-- Remove a place, when whatever a broken-off request left running has let go of it.
local function leave(place)
  local ok, err
  for _ = 1, patience do
    ok, err = file.remove(place.folder)
    if ok or err.code == "not_found" then
      err = nil
      break
    end
    task.sleep(pause)
  end
  if err then warn("unit_tar.leave", err) end
  while place.part:busy() do task.sleep(pause) end
  place.part:remove()
  place.part:close()
  places = places - 1
end

-- A place of this request, which is left when the request ends, however it does.
---@return {folder: string, part: table}|nil
---@return kontor.Error|nil concurrency_limited
local function take(what)
  if running[what] >= at_once then
    return nil, problem.err("concurrency_limited", ("%d %s are under way here; a worker takes no more at once."):format(at_once, what))
  end
  local root = config.get("KONTOR_DATA_DIR") .. "/" .. what
  local folder = root .. "/" .. crypto.uuid7()
  running[what] = running[what] + 1
  task.defer(function() running[what] = running[what] - 1 end)
  local ok, err = file.mkdir(root)
  if not ok and err.code ~= "already_exists" then return nil, err end
  local part
  part, err = parts.open(folder .. ".part")
  if not part then return nil, err end
  local place = {folder = folder, part = part}
  places = places + 1
  task.defer(function() task.detach(leave, place) end)
  return place
end

---- out ----

local function names_of(db, summary)
  local names = {}
  for _, c in ipairs(summary.collections) do
    names[#names + 1] = ("%s/%s.bson"):format(db, c.name)
    names[#names + 1] = ("%s/%s.metadata.json"):format(db, c.name)
  end
  -- Last here too: what was cut off on its way is no export.
  names[#names + 1] = "manifest.json"
  return names
end

---@class kontor.UnitTar
---@field source table kt.tar pack, closed with the task
---@field name string of the file

---The project as it is now. For the task of a request: with its end all of it goes.
---@param ctx kontor.Context
---@return kontor.UnitTar|nil
---@return kontor.Error|nil
function M.export(ctx)
  local id = ctx.project.id
  local place, err = take(exports)
  if not place then return nil, err end
  local folder = place.folder .. "/files"
  local summary
  summary, err = unit_files.export(id, folder)
  if not summary then return nil, err end
  local source
  source, err = tar.pack(folder, names_of(ctx.project.db.name, summary))
  if not source then return nil, err end
  task.defer(function() source:close() end)
  local done
  done, err = project.master():commit{audit.entry(ctx.principal, "project.export", "project", id, nil, ctx.req)}
  if not done then return nil, err end
  return {source = source, name = ("%s-%s.tar"):format(id, os.date("!%Y%m%dT%H%M%SZ", math.floor(summary.at.ms / 1000)))}
end

---- what is left over ----

local function sweep(what)
  local root = config.get("KONTOR_DATA_DIR") .. "/" .. what
  local entries, err = file.list(root)
  if not entries then return err.code == "not_found" or nil, err end
  local ids = {}
  for _, entry in ipairs(entries) do ids[entry.name:gsub("%.part$", "")] = true end
  for id in pairs(ids) do
    local folder = root .. "/" .. id
    local part
    part, err = parts.open(folder .. ".part")
    if part then
      places = places + 1
      leave{folder = folder, part = part}
    elseif err.code ~= "conflict" then
      return nil, err
    end
  end
  return true
end

---Do the work of a request in a task that a drain can end.
---@param fn function
---@return any what it returns; draining
function M.work(fn, ...)
  local t = task.spawn(fn, ...)
  working[t] = true
  task.defer(function() working[t] = nil end)
  local result, err = t:join()
  if not result and draining and err.code == "cancelled" then return nil, problem.err("draining") end
  return result, err
end

---End what is under way, and wait until nothing of it is left on the disk. Yields.
---@param seconds number at most
function M.drain(seconds)
  local ends = clock.monotonic() + seconds
  draining = true
  for t in pairs(working) do t:cancel() end
  while places > 0 and clock.monotonic() < ends do task.sleep(pause) end
end

---Remove what processes that died left over. At worker start; yields.
function M.sweep()
  for _, what in ipairs{exports, imports} do
    local ok, err = sweep(what)
    if not ok then warn("unit_tar.sweep", err) end
  end
end

return M
