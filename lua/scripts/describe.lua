--- The error of a script as text with its place, once: `agents/x/workflow.lua:3: …`. Lua's own
--- messages begin with it, others do not.

---@param err {message: string?, code: string?, where: {script: string, line: integer?}?}
---@param path string? of the script, where the error names none
---@return string
return function(err, path)
  local where, message = err.where or {}, tostring(err.message or err.code)
  local script, line = where.script or path, where.line
  if not script then
    return message
  end
  local place = script .. ":" .. (line and line ~= 0 and line .. ":" or "") .. " "
  return message:sub(1, #place) == place and message or place .. message
end
