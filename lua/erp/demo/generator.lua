--- The generator with ground truth (erp-rules.md, section 5): a consistent demo company, planted exceptions, labels.
-- So far: the tables of purchase to pay, tax, stock, sales and production, and the rules of erp/demo/rules. A further rule
-- is one module there, a further table one entry in erp/demo/columns.
local json = require "json"

local calendar = require "erp.calendar"
local plant = require "erp.demo.plant"
local random = require "erp.demo.random"
local world = require "erp.demo.world"
local write = require "erp.demo.write"

local M = {}

M.AS_OF = "2025-06-30"
M.VERSION = "1"

---@param seed string
---@return boolean
function M.valid_seed(seed) return random.seed(seed) ~= nil end

---@param id string
---@return boolean
function M.has_rule(id) return plant.has_rule(id) end

---@class erp.demo.Options
---@field seed string unsigned 64-bit, decimal
---@field n integer purchase order lines
---@field as_of integer day number
---@field per_million integer planted cases for a million grain units; 0: a clean world without decoys
---@field decoys_per_case integer
---@field rules table<string, boolean>? nil: all

--- Write the company. Raises what the sink raises.
---@param open fun(file: string): erp.demo.Sink
---@param opts erp.demo.Options
---@return { files: table[], rows: integer, planted: integer, decoys: integer } result files with name, rows, bytes, sha256
function M.write(open, opts)
  local out = write.open(open)
  local company = world.new(opts)
  company:write(out)
  local labels = plant.write(company, out, opts)
  out.labels = write.open(open, { "labels" }).labels
  local result = { rows = 0, planted = 0, decoys = 0 }
  for _, label in ipairs(labels) do
    out.labels:row(label)
    local kind = label.must == "fire" and "planted" or "decoys"
    result[kind] = result[kind] + 1
  end
  result.files = write.close(out)
  for _, file in ipairs(result.files) do result.rows = result.rows + file.rows end
  return result
end

--- manifest.json.
---@param opts erp.demo.Options
---@param result table of write
---@return table
function M.manifest(opts, result)
  local files = {}
  for i, file in ipairs(result.files) do
    files[i] = json.ordered({ name = file.name, rows = file.rows, bytes = file.bytes, sha256 = file.sha256 },
      { "name", "rows", "bytes", "sha256" })
  end
  return json.ordered({ generator = "kontor demo-data", version = M.VERSION, seed = tostring(opts.seed), n = opts.n,
      as_of = calendar.text(opts.as_of), planted = result.planted, decoys = result.decoys, files = json.array(files) },
    { "generator", "version", "seed", "n", "as_of", "planted", "decoys", "files" })
end

return M
