-- A project as one tar, out and in: GET …/export and POST /master/projects/import. The layout is that of
-- domain/unit_files.lua. Both need a folder on the disk of this host for a while:
--
--   <data>/exports/<id>/files    the export that is being sent
--   <data>/jobs/<job_id>         what came, taken apart, where the job that loads it will look for it
--   …/<id>.part                  beside each, locked by who works at it; of an import, the bytes as they came
--
-- What is not locked, and no running job's, was left by a process that died.

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

local exports, jobs = "exports", "jobs" -- the folders, below that of the data
local at_once = 2 -- of each, in a worker: every one takes its size on the disk
local max_entries = 2000 -- a project has some 30 collections of two files
local pause, patience = 0.05, 600 -- of these pauses

local running = {[exports] = 0, [jobs] = 0}
local places = 0 -- that are not yet left
local working = {} -- tasks of M.work
local draining = false

local function warn(event, err) log.warn(event, {msg = tostring(err.code) .. ": " .. tostring(err.message)}) end

---@class kontor.TarPlace
---@field folder string
---@field part table kt.part
---@field kept? boolean the folder is somebody else's by now
---@field handed_over? boolean somebody else leaves it

-- What a broken-off request left running may still be writing there.
local function remove(folder)
  local ok, err
  for _ = 1, patience do
    ok, err = file.remove(folder)
    if ok or err.code == "not_found" then return end
    task.sleep(pause)
  end
  warn("unit_tar.leave", err)
end

---Let go of a place. Yields.
---@param place kontor.TarPlace
function M.leave(place)
  if not place.kept then remove(place.folder) end
  while place.part:busy() do task.sleep(pause) end
  place.part:remove()
  place.part:close()
  places = places - 1
end

-- A place of this request, which is left when the request ends, however it does.
---@param kind string exports or jobs
---@param name string
---@return kontor.TarPlace|nil
---@return kontor.Error|nil concurrency_limited
local function take(kind, name)
  if running[kind] >= at_once then
    return nil, problem.err("concurrency_limited", ("A worker takes no more than %d at once."):format(at_once))
  end
  running[kind] = running[kind] + 1
  task.defer(function() running[kind] = running[kind] - 1 end)
  local root = config.get("KONTOR_DATA_DIR") .. "/" .. kind
  local ok, err = file.mkdir(root)
  if not ok and err.code ~= "already_exists" then return nil, err end
  local part
  part, err = parts.open(root .. "/" .. name .. ".part")
  if not part then return nil, err end
  places = places + 1
  local place = {folder = root .. "/" .. name, part = part}
  task.defer(function()
    if not place.handed_over then task.detach(M.leave, place) end
  end)
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
  local place, err = take(exports, crypto.uuid7())
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

---- in ----

local function rejected(what) return nil, problem.err("data_rejected", what) end

-- A name from a tar as text that may be shown.
local function shown(name) return '"' .. name:sub(1, 200):gsub("[^ -~]", "?") .. '"' end

local function too_large(limit)
  return nil, problem.err("body_too_large", ("An import has at most %.0f bytes (KONTOR_IMPORT_MAX_BYTES)."):format(limit))
end

local function receive(ctx, part, limit)
  local announced = tonumber(ctx.req.headers["content-length"])
  if announced and announced > limit then return too_large(limit) end
  while true do
    local chunk, err = ctx.req:read()
    if err then return nil, err end
    if not chunk then break end
    if part:size() + #chunk > limit then return too_large(limit) end
    local ok
    ok, err = part:write(chunk)
    if not ok then return nil, err end
  end
  if part:size() == 0 then return rejected("The body is empty.") end
  return true
end

-- What an entry may be: the file of the manifest, one folder, and in it two files a collection.
---@return string|nil path inside the layout; nil: refused
---@return string|nil folder, when it is only that
local function layout(name)
  local path = name:gsub("^%./", "")
  if path == "" or path == "." then return "", "" end
  local folder, rest = path:match("^([a-z0-9][a-z0-9_-]*)/(.*)$")
  if path == "manifest.json" or (folder and rest:find("^[a-z][a-z0-9_]*%.bson$"))
    or (folder and rest:find("^[a-z][a-z0-9_]*%.metadata%.json$")) then
    return path
  end
  if folder and rest == "" then return path, folder end
  return nil
end

-- The entries of a tar into a folder, each as it must be.
---@return table<string, {size: integer, sha256: string}>|nil by path
---@return kontor.Error|nil
local function take_apart(reader, to, limit)
  local files, made, left, count = {}, {[""] = true}, limit, 0
  while true do
    local entry, err = reader:next()
    if err then return nil, err end
    if not entry then return files end
    count = count + 1
    local name = shown(entry.name)
    if count > max_entries then return rejected(("%s: the tar has more than %d entries."):format(name, max_entries)) end
    local path, only_folder = layout(entry.name)
    if not path or (only_folder and entry.kind == "file") then
      return rejected(name .. ": an export has manifest.json, and <database>/<collection>.bson and .metadata.json, nothing else.")
    end
    if entry.kind ~= (only_folder and "dir" or "file") then return rejected(("%s: is a %s."):format(name, entry.kind)) end
    if only_folder then
      -- Its bytes would be read over.
      if entry.size > 0 then return rejected(name .. ": a folder with content.") end
    else
      if files[path] then return rejected(name .. ": is there twice.") end
      if entry.size > left then return too_large(limit) end
      local folder = path:match("^(.*)/") or ""
      if not made[folder] then
        local ok
        ok, err = file.mkdir(to .. "/" .. folder)
        if not ok then return nil, err end
        made[folder] = true
      end
      files[path], err = reader:extract(to .. "/" .. path, left)
      if not files[path] then
        if err.code == "body_too_large" then return too_large(limit) end
        return nil, err.code == "data_rejected" and problem.err(err.code, name .. ": " .. err.message) or err
      end
      left = left - files[path].size
    end
  end
end

-- The files against what the manifest says of them: all, no other, none changed.
local function check(files, manifest)
  local function compare(path, size, sha256)
    local got = files[path]
    if not got then return "is missing" end
    if got.size ~= size then return ("has %.0f bytes, in the manifest %.0f"):format(got.size, size) end
    if got.sha256 ~= sha256 then return "has another SHA-256 than in the manifest" end
    files[path] = nil
  end
  files["manifest.json"] = nil
  for _, c in ipairs(manifest.collections) do
    local path = ("%s/%s"):format(manifest.database, c.name)
    local why = compare(path .. ".bson", c.bytes, c.sha256)
    if why then return rejected(("%s: %s."):format(shown(path .. ".bson"), why)) end
    why = compare(path .. ".metadata.json", c.metadata_bytes, c.metadata_sha256)
    if why then return rejected(("%s: %s."):format(shown(path .. ".metadata.json"), why)) end
  end
  local other = next(files)
  if other then return rejected(shown(other) .. ": is not in the manifest.") end
  return true
end

-- Messages about files name them as they are in the tar.
local function inside(err, folder)
  local at = err.message and err.message:find(folder .. "/", 1, true)
  if at then err.message = err.message:sub(1, at - 1) .. err.message:sub(at + #folder + 1) end
  return err
end

local function unpack_all(place, limit)
  local reader, err = tar.open(place.folder .. ".part")
  if not reader then return nil, err end
  task.defer(function() reader:close() end)
  local ok
  ok, err = file.mkdir(place.folder)
  if not ok then return nil, err end
  local files
  files, err = take_apart(reader, place.folder, limit)
  if not files then return nil, err end
  if not files["manifest.json"] then return rejected('"manifest.json": is missing: this is no whole export.') end
  local manifest
  manifest, err = unit_files.manifest(place.folder)
  if not manifest then return nil, inside(err, place.folder) end
  return check(files, manifest)
end

---The tar that a request brings, as a checked export in a folder. For the task of a request: with its end it
---goes, unless it is handed over.
---@param ctx kontor.Context
---@param job_id string of the job that will load it
---@return kontor.TarPlace|nil
---@return kontor.Error|nil data_rejected names the entry; body_too_large
function M.receive(ctx, job_id)
  local limit = config.get("KONTOR_IMPORT_MAX_BYTES")
  local encoding = (ctx.req.headers["content-encoding"] or "identity"):lower()
  if encoding ~= "identity" and encoding ~= "gzip" and encoding ~= "x-gzip" then
    return nil, problem.err("unsupported_media_type", "Content-Encoding must be gzip or identity.")
  end
  local place, err = take(jobs, job_id)
  if not place then return nil, err end
  local ok
  ok, err = receive(ctx, place.part, limit)
  if ok then ok, err = unpack_all(place, limit) end
  if ok then ok, err = place.part:cut(0) end -- what is taken apart need not be there twice
  return ok and place, err
end

---- what is left over ----

-- Does a job work in this folder?
local function in_use(kind, id)
  if kind ~= jobs then return false end
  local job, err = project.master():find_one("kt_m_jobs", {_id = id, status = "running"}, {projection = {"_id"}})
  return job ~= nil, err
end

local function sweep(kind)
  local root = config.get("KONTOR_DATA_DIR") .. "/" .. kind
  local entries, err = file.list(root)
  if not entries then return err.code == "not_found" or nil, err end
  local ids = {}
  for _, entry in ipairs(entries) do ids[entry.name:gsub("%.part$", "")] = true end
  for id in pairs(ids) do
    local part, kept
    part, err = parts.open(root .. "/" .. id .. ".part")
    if part then
      -- Asked while it is locked: who hands a folder over to a job has its row written before he lets go.
      kept, err = in_use(kind, id)
      places = places + 1
      M.leave{folder = root .. "/" .. id, part = part, kept = kept or err ~= nil}
    end
    if err and err.code ~= "conflict" then return nil, err end
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
  for _, kind in ipairs{exports, jobs} do
    local ok, err = sweep(kind)
    if not ok then warn("unit_tar.sweep", err) end
  end
end

return M
