--- Texts.
local M = {}

--- The first bytes of a text, at most `bytes`, no character cut in the middle.
---@param text string UTF-8
---@param bytes integer
---@return string
function M.cut(text, bytes)
  if #text <= bytes then return text end
  while bytes > 0 and text:byte(bytes + 1) >= 0x80 and text:byte(bytes + 1) < 0xC0 do bytes = bytes - 1 end
  return text:sub(1, bytes)
end

return M
