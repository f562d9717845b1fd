--- The statuses of an execution (api.md 4) and which may follow which.

local M = {}

---@type table<string, boolean>
M.FINAL = { completed = true, failed = true, cancelled = true, timed_out = true }

---@type table<string, table<string, boolean>>
M.NEXT = {
  queued = { running = true, failed = true, cancelled = true, timed_out = true },
  delayed = { queued = true, cancelled = true },
  -- back to queued: a worker that drains gives it to another
  running = {
    waiting = true, paused = true, queued = true,
    completed = true, failed = true, cancelled = true, timed_out = true,
  },
  waiting = { running = true, failed = true, cancelled = true, timed_out = true },
  paused = { running = true, failed = true, cancelled = true, timed_out = true },
  completed = {}, failed = {}, cancelled = {}, timed_out = {},
}

--- stop_reason by final status (`failed` has many).
M.STOP_REASON = { completed = "done", cancelled = "cancelled", timed_out = "deadline" }

return M
