-- Uploads of tables on their way: rows of kt_p_uploads and files below <data>/uploads/<project>.
-- Nothing of it is seen in a dataset before its commit.
--
--   <dataset>:<table>   a resumable upload: its bytes as they came are in a file, `reserved` bytes
--                       count in the account of storage (domain/storage.lua), never less than the file has
--   put:<id>            a table that is being entered: `sha256` says which blob it made
--   free:<sha256>       a blob that a dataset used until now
--
-- A row that is left over (its worker died, its client never came back) is taken back after a day,
-- with its file, its reservation, and its blob when no dataset uses it.

local clock = require "kt.clock"
local config = require "kt.config"
local file = require "kt.file"
local log = require "kt.log"
local projects = require "domain.project"
local storage = require "domain.storage"
local task = require "kt.task"
local value = require "value"

local M = {}

local coll = storage.uploads
local keep_ms = 24 * 3600 * 1000
local stray_ms = 3600 * 1000 -- a file without a row: nothing has been written to it for so long
local look_seconds = 600

---Folder of a project's files; made when it is not there. Yields.
---@param project kontor.Project
---@return string|nil
---@return kontor.Error|nil
function M.folder(project)
  local path = ("%s/uploads/%s"):format(config.get("KONTOR_DATA_DIR"), project.id)
  local ok, err = file.mkdir(path)
  if not ok and err.code ~= "already_exists" then return nil, err end
  return path
end

---A table is the same with and without `.csv`.
---@param name string
---@return string
function M.table_key(name) return (name:gsub("%.csv$", "")) end

---@param dataset_id string
---@param name string of the table
---@return string id of the row of its resumable upload
function M.id(dataset_id, name) return dataset_id .. ":" .. M.table_key(name) end

---@param folder string
---@param id string of a resumable upload
---@return string path
function M.path(folder, id) return folder .. "/" .. id:gsub(":", ".", 1) .. ".part" end

---@return table op that makes a row; fails as already_exists
function M.insert(row)
  row.touched_at = value.date(clock.now())
  row.reserved = row.reserved or 0
  return {op = "insert", coll = coll, doc = row}
end

---Say what an upload has really got, and that it is alive.
---@param project kontor.Project
---@param row table
---@param size integer bytes of its file
---@return true|nil
---@return kontor.Error|nil conflict: it was given up
function M.settle(project, row, size)
  local now, err = project.db:find_one(coll, {_id = row._id})
  if not now then return nil, err or {code = "conflict", message = "the upload was given up", retryable = true} end
  local done
  done, err = project.db:commit{
    {op = "update", coll = coll, filter = {_id = row._id, reserved = now.reserved},
      update = {set = {touched_at = value.date(clock.now()), reserved = size}}, must_match = true},
    storage.op{storage_bytes = size - now.reserved},
  }
  return done and true, err
end

---Take an upload back: its file, its blob, its reservation, its row. May be repeated.
---@param project kontor.Project
---@param row table
---@return true|nil
---@return kontor.Error|nil
function M.drop(project, row)
  local db, err = project.db, nil
  if row.format then
    local folder
    folder, err = M.folder(project)
    if not folder then return nil, err end
    local ok
    ok, err = file.remove(M.path(folder, row._id))
    if not ok and err.code ~= "not_found" then return nil, err end
  end
  if row.sha256 then
    local ok
    ok, err = storage.release(db, row.sha256)
    if not ok then return nil, err end
  end
  for _ = 1, 20 do
    local now
    now, err = db:find_one(coll, {_id = row._id})
    if not now then return not err and true or nil, err end
    -- The blob lost another use after it was looked at here: who took that one frees it.
    if now._id:find("^free:") and now.touched_at ~= row.touched_at then return true end
    local done
    done, err = db:commit{
      {op = "delete", coll = coll, filter = {_id = row._id, reserved = now.reserved, touched_at = now.touched_at}, must_match = true},
      storage.op{storage_bytes = -now.reserved},
    }
    if done then return true end
    if err.code ~= "conflict" then return nil, err end
  end
  return nil, err
end

---Take all uploads of a filter back. May be repeated.
---@param project kontor.Project
---@param filter? table of rows; all of the project when absent
---@return true|nil
---@return kontor.Error|nil
function M.drop_all(project, filter)
  local rows, err = project.db:find(coll, filter or {})
  if not rows then return nil, err end
  for _, row in ipairs(rows) do
    local ok
    ok, err = M.drop(project, row)
    if not ok then return nil, err end
  end
  return true
end

---Take back what is on its way to a dataset that takes nothing any more, and what it used. What fails
---is left to the sweep.
---@param project kontor.Project
---@param filter table of rows
function M.clear(project, filter)
  task.detach(function()
    local ok, err = M.drop_all(project, filter)
    if not ok then log.warn("upload.clear", {project_id = project.id, msg = err.code .. ": " .. tostring(err.message)}) end
  end)
end

-- Files that no row knows: of a put that was broken off, of an upload that was entered.
local function sweep_files(project, folder)
  local entries, err = file.list(folder)
  if not entries then return nil, err end
  for _, entry in ipairs(entries) do
    local path = folder .. "/" .. entry.name
    local dataset_id, key = entry.name:match("^(ds_%x+)%.(.*)%.part$")
    local row, st
    if dataset_id then
      row, err = project.db:find_one(coll, {_id = dataset_id .. ":" .. key})
      if err then return nil, err end
    end
    st = not row and file.stat(path)
    if st and st.mtime + stray_ms < os.time() * 1000 then file.remove(path) end
  end
  return true
end

-- What was on its way to a dataset whose sealing or archiving ended in a crash, before it was cleared.
local function drop_late(project)
  local ids, err = project.db:distinct(coll, "dataset_id", {})
  if not ids then return nil, err end
  for _, id in ipairs(ids) do
    local closed
    closed, err = project.db:find_one("kt_p_datasets", {{"status", "nin", {"open", "sealing"}}, _id = id}, {projection = {"_id"}})
    local ok = closed == nil and not err
    if closed then ok, err = M.drop_all(project, {dataset_id = id}) end
    if not ok then return nil, err end
  end
  return true
end

---Take back what is left over in a project.
---@param project kontor.Project
---@return true|nil
---@return kontor.Error|nil
function M.sweep(project)
  local ok, err = M.drop_all(project, {{"touched_at", "lt", value.date(clock.now() - keep_ms)}})
  if ok then ok, err = drop_late(project) end
  local folder
  if ok then folder, err = M.folder(project) end
  if not folder then return nil, err end
  return sweep_files(project, folder)
end

-- The folder of a project that was erased, perhaps on another host.
local function drop_folder(root, id)
  local doc, err = projects.master():find_one("kt_m_projects", {_id = id}, {projection = {"_id"}})
  if doc or err then return not err or nil, err end
  return file.remove(root .. "/" .. id)
end

local function look()
  local root = config.get("KONTOR_DATA_DIR") .. "/uploads"
  local entries, err = file.list(root)
  if not entries then return err.code == "not_found" or nil, err end
  for _, entry in ipairs(entries) do
    local project, ok
    project, err = projects.open(entry.name)
    if project then ok, err = M.sweep(project)
    elseif err.code == "not_found" then ok, err = drop_folder(root, entry.name) end
    if not ok and err.code ~= "not_found" then log.warn("upload.sweep", {project_id = entry.name, msg = err.code .. ": " .. tostring(err.message)}) end
  end
  return true
end

local loop

---Sweep now and every ten minutes, beside what the worker does.
function M.start()
  loop = task.detach(function()
    repeat
      local ok, err = look()
      if not ok then log.warn("upload.sweep", {msg = err.code .. ": " .. tostring(err.message)}) end
    until not task.sleep(look_seconds)
  end)
end

function M.stop()
  if loop then loop:cancel() end
  loop = nil
end

return M
