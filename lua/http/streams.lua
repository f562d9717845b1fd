-- The followers that answers stream from, so that a drain can end them: their clients come back to
-- another worker with the number of the last event they have.

local task = require "kt.task"

local M = {draining = false}

local open = {}

---Note a follower for the life of the current request; it is closed with it, also when the client
---goes away in the middle.
---@param follower table of engine.follow
function M.hold(follower)
  open[follower] = true
  task.defer(function()
    open[follower] = nil
    follower:close()
  end)
end

---End all streams, for the service goes down.
function M.drain()
  M.draining = true
  local list = {}
  for follower in pairs(open) do list[#list + 1] = follower end
  for _, follower in ipairs(list) do follower:close() end
end

return M
