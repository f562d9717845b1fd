--- Bundles: the set of script versions that a run needs, named by the sha256 of its manifest.
---
--- A manifest is text, one line a script, sorted by path:
---
---   kontor-bundle 1
---   <path> <sha256 of the source>
---
--- It is kept beside the sources in kt_m_script_versions under its own sha256, so a run that was
--- accepted long ago finds exactly its scripts.

local crypto = require "kt.crypto"

local M = {}

local HEADER = "kontor-bundle 1"

--- Scripts of every agent.
M.SHARED = "lib/"

--- What runs together with `path`: the prefix of its agent, nil for what all agents share.
---@param path string
---@return string? prefix `agents/<agent_id>/`
function M.group(path)
  return path:match("^(agents/[^/]+/)")
end

---@param hashes table<string, string> sha256 by path
---@return string manifest, string sha256
function M.manifest(hashes)
  local paths = {}
  for path in pairs(hashes) do
    paths[#paths + 1] = path
  end
  table.sort(paths)
  local lines = { HEADER }
  for i, path in ipairs(paths) do
    lines[i + 1] = path .. " " .. hashes[path]
  end
  local text = table.concat(lines, "\n") .. "\n"
  return text, crypto.sha256(text)
end

---@param text string
---@return table<string, string>? hashes, table? err store_corrupt
function M.parse(text)
  local hashes
  for line in text:gmatch("([^\n]*)\n") do
    if not hashes then
      if line ~= HEADER then
        break
      end
      hashes = {}
    else
      local path, hash = line:match("^(%S+) (%x+)$")
      if not path then
        return nil, { code = "store_corrupt", message = "a bundle's manifest cannot be read" }
      end
      hashes[path] = hash
    end
  end
  if not hashes then
    return nil, { code = "store_corrupt", message = "this is no bundle's manifest" }
  end
  return hashes
end

return M
