--- kt_m_ready: one row a project that has work for later, so that workers look at one collection and
--- not into every database.
---
---   {_id = project_id, next_run_at, version}
---
--- A row is lowered before a run is acknowledged as queued or waiting. `version` counts the
--- notes, so that who found nothing removes a row only if nobody noted anything meanwhile. A row
--- without work is harmless.

local clock = require "kt.clock"
local log = require "kt.log"
local places = require "lib.places"
local task = require "kt.task"
local value = require "value"

local M = {}

local COLLECTION = "kt_m_ready"

--- Signalled when this worker noted something.
M.noted = nil

--- Something of the project is due at `at`.
---@param project_id string
---@param at integer ms UTC
---@return boolean? ok, table? err
function M.note(project_id, at)
  local done, err = places.master():update_one(COLLECTION, { _id = project_id },
    { min = { next_run_at = value.date(at) }, inc = { version = 1 } }, { upsert = true })
  if not done then
    -- The run itself is in the store; the scan at the next start finds it.
    log.error("ready.note_failed", { project_id = project_id, msg = err.message })
    return nil, err
  end
  if M.noted then
    M.noted:signal()
  end
  return true
end

--- Rows that are due.
---@param limit integer
---@return table[]? rows, table? err
function M.due(limit)
  return places.master():find(COLLECTION, { { "next_run_at", "lte", value.date(clock.now()) } },
    { sort = { { "next_run_at", 1 } }, limit = limit })
end

--- Seconds until the next row is due, at most `most`.
---@param most number
---@return number
function M.pause(most)
  local rows = places.master():find(COLLECTION, {}, { sort = { { "next_run_at", 1 } }, limit = 1 })
  local row = rows and rows[1]
  if not row then
    return most
  end
  return math.max(0.001, math.min(most, (row.next_run_at.ms - clock.now()) / 1000))
end

---@param project_id string
---@return table? row
function M.row(project_id)
  return places.master():find_one(COLLECTION, { _id = project_id })
end

--- The project was served: its next work is due at `at`, or it has none.
---@param row table as it was before
---@param at integer? ms UTC
function M.served(row, at)
  local filter = { _id = row._id, version = row.version }
  if at then
    return places.master():update_one(COLLECTION, filter,
      { set = { next_run_at = value.date(at) }, inc = { version = 1 } })
  end
  return places.master():delete_one(COLLECTION, filter)
end

function M.start()
  M.noted = task.event()
end

return M
