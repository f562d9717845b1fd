--- Waiting for the store: what a run that was accepted needs of it is asked for again until the store is
--- back, or the run's own time ends.

local task = require "kt.task"

local M = {}

--- Seconds between two tries: from the first to the longest.
local FIRST, LONGEST = 0.1, 2

--- What f(...) gives, asked again as long as the store cannot be reached. For reads, and for writes that
--- may be made twice. Yields.
---@generic T
---@param f fun(...): T|nil, kontor.Error|nil
---@return T|nil value, kontor.Error|nil err any other failure of f; `cancelled` when the task ends first
function M.call(f, ...)
  local pause = FIRST
  while true do
    local value, err = f(...)
    if type(err) ~= "table" or err.code ~= "store_unavailable" then
      return value, err
    end
    local slept, stop = task.sleep(pause)
    if not slept then
      return nil, stop
    end
    pause = math.min(2 * pause, LONGEST)
  end
end

return M
