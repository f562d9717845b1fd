--- A folder of source files as the tables of a sweep.
local crypto = require "kt.crypto"
local json = require "json"

local M = {}

local FORMATS = { csv = "csv", ndjson = "ndjson" }
local CHUNK = 1048576

local function sha256_of(path)
  local handle, why = io.open(path, "rb")
  if not handle then return nil, why end
  local hash = crypto.hash_new()
  while true do
    local bytes, err = handle:read(CHUNK)
    if err then
      handle:close()
      return nil, err
    end
    if not bytes then break end
    hash:update(bytes)
  end
  handle:close()
  return hash:hex()
end

--- The tables of a folder: its .csv and .ndjson files, by name.
---@param dir string
---@param list fun(dir: string): string[]?, table? names of its files
---@return erp.SourceFile[]? files
---@return table? err data_rejected
function M.tables(dir, list)
  local names, err = list(dir)
  if not names then return nil, err end
  table.sort(names)
  local files = {}
  for _, name in ipairs(names) do
    local format = FORMATS[(name:match("%.(%w+)$") or ""):lower()]
    if format then
      local path = dir .. "/" .. name
      local sha256, why = sha256_of(path)
      if not sha256 then return nil, { code = "data_rejected", message = why, retryable = false } end
      files[#files + 1] = { name = name, path = path, format = format, sha256 = sha256 }
    end
  end
  return files
end

--- Key date of the folder's manifest.json, nil without one.
---@param dir string
---@return string? as_of
---@return table? err data_rejected: manifest.json is no JSON object
function M.as_of(dir)
  local handle = io.open(dir .. "/manifest.json", "rb")
  if not handle then return nil end
  local text = handle:read("*a")
  handle:close()
  local manifest, err = json.decode(text or "")
  if type(manifest) ~= "table" then
    return nil, { code = "data_rejected", message = "manifest.json: " .. (err and err.message or "is no object"), retryable = false }
  end
  return type(manifest.as_of) == "string" and manifest.as_of or nil
end

return M
