--- Text of others on somebody's terminal: a name or a cell must not begin a line of its own, nor
--- move the cursor.
local M = {}

local function escape(c) return string.format("\\x%02X", c:byte(-1)) end

--- Control characters of ASCII and of Latin-1 (U+0080 to U+009F) as \xNN.
---@param text string UTF-8
---@return string
---@return integer count of what was replaced
function M.text(text)
  local clean, ascii = text:gsub("%c", escape)
  local latin
  clean, latin = clean:gsub("\xC2[\x80-\x9F]", escape)
  return clean, ascii + latin
end

return M
