--- The Lua side of `kontor analyst`: one job in, messages out (kt.analyst is its parent).
local json = require "json"

-- Raises when the parent cannot be told: to a file, which an analyst may not write, or a full device.
local function send(message)
  local text, err = json.encode(message)
  if not text then error(err, 0) end
  local ok, why = io.stdout:write(text, "\n")
  if ok then ok, why = io.stdout:flush() end
  if not ok then error("cannot write to standard output: " .. why, 0) end
end

local function failure(err)
  if type(err) == "table" then
    return { code = err.code or "internal", message = tostring(err.message or err.code), where = err.where }
  end
  return { code = "internal", message = tostring(err) }
end

---@param text string  the job as JSON
---@return integer     exit code
return function(text)
  local job, err = json.decode(text)
  if not job then
    send { type = "error", error = failure(err) }
    return 1
  end
  local results = { pcall(function() return require("erp.analyst")(job, send) end) }
  if results[1] and (results[2] ~= nil or results[3] == nil) then return 0 end
  if results[2] == "not enough memory" then error(results[2], 0) end -- the exit code says it, that needs none
  send { type = "error", error = failure(results[1] and results[3] or results[2]) }
  return 1
end
