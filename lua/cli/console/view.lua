--- How the console writes: columns, sizes, times. Nothing that the service sends steers the terminal.
local given = require "lib.given"

local M = {}

--- Text without control characters but line ends and tabs.
---@param text string
---@return string
function M.safe(text)
  text = text:gsub("[%z\1-\8\11-\31\127]", function(c) return ("\\%03d"):format(c:byte()) end)
  return (text:gsub("\194[\128-\159]", function(c) return ("\\u{%02x}"):format(c:byte(2)) end))
end

local function width(text)
  local _, continued = text:gsub("[\128-\191]", "")
  return #text - continued
end

--- Lines in columns; a column whose head begins with ">" is aligned to the right.
---@param heads string[]
---@param rows (string|number)[][]
---@return string
function M.columns(heads, rows)
  local widths, right, lines = {}, {}, {}
  local all = { {} }
  for c, head in ipairs(heads) do
    right[c] = head:sub(1, 1) == ">"
    all[1][c] = head:gsub("^>", "")
  end
  for _, row in ipairs(rows) do all[#all + 1] = row end
  for _, row in ipairs(all) do
    for c = 1, #heads do
      row[c] = M.safe(tostring(row[c] == nil and "" or row[c])):gsub("\n", " ")
      widths[c] = math.max(widths[c] or 0, width(row[c]))
    end
  end
  for i, row in ipairs(all) do
    local cells = {}
    for c = 1, #heads do
      local pad = (" "):rep(widths[c] - width(row[c]))
      cells[c] = right[c] and pad .. row[c] or row[c] .. pad
    end
    lines[i] = (table.concat(cells, "  "):gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

---@param n number|userdata|nil
---@return string
function M.bytes(n)
  n = given(n)
  if not n then return "-" end
  if n < 1024 then return ("%d B"):format(n) end
  if n < 1024 * 1024 then return ("%.1f KiB"):format(n / 1024) end
  return ("%.1f MiB"):format(n / 1024 / 1024)
end

--- A length of time in the unit that suits it.
---@param ms number|userdata|nil
---@return string
function M.span(ms)
  ms = given(ms)
  if not ms then return "-" end
  if ms < 1000 then return ("%d ms"):format(math.max(0, ms)) end
  local s = ms / 1000
  if s < 60 then return ("%.1f s"):format(s) end
  if s < 3600 then return ("%d min"):format(s / 60) end
  if s < 86400 then return ("%.1f h"):format(s / 3600) end
  return ("%.1f d"):format(s / 86400)
end

--- Time of day (UTC) of ms or of an RFC 3339 text.
---@param at number|string
---@return string
function M.clock(at)
  if type(at) == "string" then return at:sub(12, 19) end
  return os.date("!%H:%M:%S", math.floor(at / 1000)) --[[@as string]]
end

--- An execution id as it is shown: the end of it, which is as good as the whole in commands.
---@param id string
---@return string
function M.short(id) return "…" .. id:sub(-8) end

--- "1 record", "2 records".
---@param n integer
---@param one string
---@return string
function M.count(n, one) return n .. " " .. one .. (n == 1 and "" or "s") end

return M
