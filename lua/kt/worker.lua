--- The Lua side of a worker process (runtime/cmd/worker.c): starts the app, drains it.
local log = require "kt.log"
local task = require "kt.task"

local M = {}

local drains = {}

local function text_of(err)
  if type(err) == "table" then return tostring(err.message or err.code) end
  return tostring(err)
end

---@class kt.worker.ctx
---@field slot integer         slot of this worker, from 0
---@field epoch string         its incarnation: 32 hex digits, new with every process
---@field home string          folder of lua/, agents/, migrations/
---@field listen_fd integer    the TCP listening socket of the slot
---@field admin_fd integer?    the listening unix socket, in slot 0 only
---@field drain fun(fn: fun(seconds: number))  have fn called, as a task, when the worker drains

--- Called once, as a task. Raises when the app cannot start.
---@param slot string
---@param epoch string
---@param home string
---@param admin_fd string  "-1" for none
---@return boolean
function M.start(slot, epoch, home, admin_fd)
  local ctx = {
    slot = tonumber(slot),
    epoch = epoch,
    home = home,
    listen_fd = 3,
    admin_fd = admin_fd ~= "-1" and tonumber(admin_fd) or nil,
    drain = function(fn) drains[#drains + 1] = fn end,
  }
  local ok, err = require("app").start(ctx)
  if not ok then
    error({ code = type(err) == "table" and err.code or "internal",
      message = "the app did not start: " .. text_of(err or "app.start returned nothing") }, 0)
  end
  return true
end

--- Called once, as a task: runs all drain functions beside each other and waits for them.
---@param seconds string
---@return boolean
function M.drain(seconds)
  local running = {}
  for i, fn in ipairs(drains) do running[i] = task.spawn(fn, tonumber(seconds)) end
  for _, t in ipairs(running) do
    local results = { pcall(t.join, t) }
    if results[1] and results[2] == nil and results[3] ~= nil then
      log.error("worker.drain_failed", { msg = text_of(results[3]) })
    elseif not results[1] then
      log.error("worker.drain_failed", { msg = text_of(results[2]) })
    end
  end
  return true
end

return M
