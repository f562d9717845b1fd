--- The tables of a data set as files: what an analyst reads while it sweeps. The blobs of the store
--- are the truth, the files are a copy for as long as they are read.

local clock = require "kt.clock"
local config = require "kt.config"
local crypto = require "kt.crypto"
local file = require "kt.file"
local given = require "lib.given"
local sweep = require "erp.sweep"

local M = {}

--- Folder of all such files.
local function folder()
  return config.get("KONTOR_DATA_DIR") .. "/sweeps"
end

--- Remove what sweeps of a dead worker left.
function M.clear_all()
  file.remove(folder())
end

local function fetch(db, dataset, into)
  local ok, err = file.mkdir(into)
  if not ok then
    return nil, err
  end
  local files = {}
  for i, t in ipairs(dataset.tables) do
    local path = into .. "/" .. i .. "." .. t.format
    ok, err = db:blob_to_file(t.sha256, path)
    if not ok then
      return nil, err
    end
    files[i] = { name = t.name, path = path, format = t.format, sha256 = t.sha256 }
  end
  return files
end

--- Call `use` with the files of a data set's tables, which are gone afterwards. Yields.
---@generic T
---@param db table of the project
---@param dataset table its document
---@param name string of a folder that nobody else uses
---@param use fun(files: { name: string, path: string, format: string, sha256: string }[]): T|nil, table?
---@return T|nil result, table? err
function M.with(db, dataset, name, use)
  local into = folder() .. "/" .. name
  local result
  local files, err = fetch(db, dataset, into)
  if files then
    result, err = use(files)
  end
  file.remove(into)
  return result, err
end

--- Read a data set as an analysis would, before one does. Yields.
---@param db table of the project
---@param dataset table its document
---@param scripts table<string, string> the mapping with its libs, by path
---@return { tables: table[], ignored: string[], warnings: table[] }? inspected, table? err
function M.inspect(db, dataset, scripts)
  return M.with(db, dataset, dataset._id .. "-" .. crypto.uuid7(), function(files)
    return sweep.inspect { bundle = scripts, mapping = dataset.mapping, tables = files,
      as_of = given(dataset.as_of) or clock.format(clock.now()):sub(1, 10) }
  end)
end

return M
