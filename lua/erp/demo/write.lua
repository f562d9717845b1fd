--- Streams rows to CSV files: constant memory, the hash of each file taken as it is written.
local columns = require "erp.demo.columns"

local M = {}
local concat = table.concat
local CHUNK = 512

---@class erp.demo.Sheet one file
local Sheet = {}
Sheet.__index = Sheet

--- Add a row; columns that it does not name are empty. Values are texts without comma, quote or line break, or integers.
---@param row table<string, string|integer>
function Sheet:row(row)
  local names, cells = self.columns, self.cells
  for i = 1, #names do cells[i] = row[names[i]] or "" end
  local lines = self.lines
  lines[#lines + 1] = concat(cells, ",")
  self.rows = self.rows + 1
  if #lines >= CHUNK then self:flush() end
end

function Sheet:flush()
  if #self.lines == 0 then return end
  self.lines[#self.lines + 1] = ""
  self.sink:write(concat(self.lines, "\n"))
  self.lines = {}
end

---@class erp.demo.Sink what the files are written to
---@field write fun(self, bytes: string) raises when it fails
---@field close fun(self): string, integer sha256 in hex and bytes

--- Open the given tables, or all but labels.
---@param open fun(file: string): erp.demo.Sink
---@param names string[]?
---@return table<string, erp.demo.Sheet> out
function M.open(open, names)
  local out = {}
  if not names then
    names = {}
    for name in pairs(columns) do
      if name ~= "labels" then names[#names + 1] = name end
    end
    table.sort(names)
  end
  for _, name in ipairs(names) do
    local sheet = setmetatable({ name = name, columns = columns[name], cells = {}, lines = {}, rows = 0 }, Sheet)
    sheet.sink = open(name .. ".csv")
    sheet.lines[1] = concat(sheet.columns, ",")
    out[name] = sheet
  end
  return out
end

--- Finish all files.
---@param out table<string, erp.demo.Sheet>
---@return { name: string, rows: integer, bytes: integer, sha256: string }[] files sorted by name
function M.close(out)
  local files = {}
  for name, sheet in pairs(out) do
    sheet:flush()
    local sha256, bytes = sheet.sink:close()
    files[#files + 1] = { name = name .. ".csv", rows = sheet.rows, bytes = bytes, sha256 = sha256 }
  end
  table.sort(files, function(a, b) return a.name < b.name end)
  return files
end

return M
