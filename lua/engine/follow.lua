--- Following an execution: every numbered event after `since` in order and without a gap, then live.
---
--- A follower listens to the hub first and reads the journal then, so nothing falls between. What it
--- cannot get from the hub (another worker's run, more than its bounded queue holds) it reads from
--- the journal: hints only save time. Passing events are dropped when the follower is behind.

local clock = require "kt.clock"
local hub = require "engine.hub"
local journal = require "engine.journal"
local places = require "lib.places"
local states = require "engine.states"
local task = require "kt.task"
local value = require "value"

local M = {}

--- Events that wait for a follower.
local QUEUE = 256
--- Events read at once.
local PAGE = 256
--- Seconds between looks at the journal when nobody tells.
M.POLL_SECONDS = 0.5

local LAST = {
  ["execution.completed"] = true,
  ["execution.failed"] = true,
  ["execution.cancelled"] = true,
  ["execution.timed_out"] = true,
}

---@class engine.Follower
---@field status string when it joined
---@field last_seq integer when it joined
local Follower = {}
Follower.__index = Follower

--- The execution; an error when it has no events any more.
local function look(self)
  local doc, err = self.db:find_one("kt_p_executions", { _id = self.execution_id },
    { projection = { "status", "last_seq", "events_deleted_at" } })
  err = err or doc and journal.gone(doc)
  return not err and doc or nil, err
end

---@param project_id string
---@param execution_id string
---@param since integer exclusive
---@return engine.Follower? follower, table? err not_found; gone: its events were deleted
function M.open(project_id, execution_id, since)
  local self = setmetatable({
    db = places.project(project_id),
    execution_id = execution_id,
    sent = since,
    queue = {},
    behind = true, -- there may be events in the journal that are not in the queue
    polled = 0,
    wake = task.event(),
  }, Follower)
  self.listen = function(event)
    if #self.queue < QUEUE then
      self.queue[#self.queue + 1] = event
    else
      self.behind = true
    end
    self.wake:signal()
  end
  hub.subscribe(execution_id, self.listen)
  local doc, err = look(self)
  local last
  if doc then
    last, err = journal.last_seq(self.db, execution_id)
  end
  if not last then
    hub.unsubscribe(execution_id, self.listen)
    return nil, err or { code = "not_found", retryable = false }
  end
  self.status = doc.status
  self.last_seq = last
  self.queue[1] = {
    v = 1,
    type = "execution.status",
    execution_id = execution_id,
    at = tostring(value.date(clock.now())),
    data = { status = doc.status },
  }
  return self
end

--- Read the journal after what was sent, into the front of the queue.
local function catch_up(self)
  local events, err = journal.events_after(self.db, self.execution_id, self.sent, PAGE)
  if not events then
    return nil, err
  end
  if events[1] and events[1].seq > self.sent + 1 then
    -- Deleted from the front meanwhile.
    local _, gone = look(self)
    return nil, gone or { code = "store_corrupt", message = self.execution_id .. ": event " .. self.sent + 1 .. " is missing" }
  end
  self.polled = clock.monotonic()
  self.behind = #events >= PAGE
  if #events > 0 then
    local after = events[#events].seq
    local queue = {}
    for _, event in ipairs(self.queue) do
      if not event.seq then
        queue[#queue + 1] = event
      end
    end
    for _, event in ipairs(events) do
      queue[#queue + 1] = event
    end
    for _, event in ipairs(self.queue) do
      if event.seq and event.seq > after and not self.behind then
        queue[#queue + 1] = event
      end
    end
    self.queue = queue
  end
  return true
end

--- The next event. Yields at most `timeout` seconds.
---@param timeout number?
---@return table? event nil when the last one was given before
---@return table? err deadline_exceeded when nothing came in time
function Follower:next(timeout)
  local until_at = timeout and clock.monotonic() + timeout
  while not self.ended do
    local event = table.remove(self.queue, 1)
    if event and not event.seq then
      return event
    elseif event and event.seq == self.sent + 1 then
      self.sent = event.seq
      self.ended = LAST[event.type]
      return event
    elseif event and event.seq > self.sent then
      table.insert(self.queue, 1, event)
      self.behind = true
    end
    if self.behind or (not event and clock.monotonic() - self.polled >= M.POLL_SECONDS) then
      local ok, err = catch_up(self)
      if not ok then
        return nil, err
      end
      if #self.queue == 0 and not self.behind then
        -- A client may ask for more than there is: of an ended run nothing comes any more.
        local doc
        doc, err = look(self)
        if not doc and err then
          return nil, err
        elseif not doc or (states.FINAL[doc.status] and doc.last_seq <= self.sent) then
          self.ended = true
        end
      end
    elseif not event then
      local left = until_at and until_at - clock.monotonic() or M.POLL_SECONDS
      if left <= 0 then
        return nil, { code = "deadline_exceeded", message = "no event came in time", retryable = true }
      end
      local ok, err = self.wake:wait(math.min(left, M.POLL_SECONDS))
      if not ok and err.code ~= "deadline_exceeded" then
        return nil, err
      elseif not ok and task.time_left() and task.time_left() <= 0 then
        return nil, err
      end
    end
  end
  return nil
end

function Follower:close()
  hub.unsubscribe(self.execution_id, self.listen)
  self.ended = true
  self.wake:signal()
end

--- Numbered events after `since`, at most `limit`.
---@param project_id string
---@param execution_id string
---@param since integer exclusive
---@param limit integer
---@return engine.Event[]? events, table? err
function M.list(project_id, execution_id, since, limit)
  local list, from = {}, since
  repeat
    local page, err = journal.events_after(places.project(project_id), execution_id, from, limit)
    if not page then
      return nil, err
    end
    for _, event in ipairs(page) do
      if #list < limit then
        list[#list + 1] = event
      end
      from = event.seq
    end
  until #page == 0 or #list == limit
  return list
end

return M
