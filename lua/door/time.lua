--- The door's time: sleeping. time.now, random and uuid are derived inside the script VM.

local clock = require "kt.clock"
local task = require "kt.task"

local M = {}

--- Longest sleep: a year.
local LONGEST = 366 * 86400

local function seconds_of(call)
  local seconds = call.args.seconds
  if type(seconds) ~= "number" or not (seconds >= 0) or seconds > LONGEST then
    return nil, {
      code = "validation_failed",
      message = "time.sleep wants seconds from 0 to " .. LONGEST,
      retryable = false,
    }
  end
  return seconds
end

--- time.sleep(seconds): counted from the run's logical time, so that a run that is rebuilt from its
--- journal wakes when it would have; but never longer than its seconds by the machine's clock, which may
--- have been set back since.
M.sleep = { class = "effect" }

---@param call door.Call
---@return integer? ms UTC
function M.sleep.wake_at(call)
  local seconds = seconds_of(call)
  return seconds and math.ceil(math.min(call.now, clock.now()) + seconds * 1000)
end

---@param call door.Call
function M.sleep.run(call)
  local seconds, bad = seconds_of(call)
  if not seconds then
    return nil, bad
  end
  local left = (M.sleep.wake_at(call) - clock.now()) / 1000
  if left > 0 then
    local ok, err = task.sleep(left)
    if not ok then
      return nil, err
    end
  end
  return nil
end

return M
