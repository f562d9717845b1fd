--- The queue of this worker: who may start at once, who waits, and the loop that starts what is due.

local clock = require "kt.clock"
local config = require "kt.config"
local lease = require "engine.lease"
local log = require "kt.log"
local metrics = require "engine.metrics"
local projects = require "domain.project"
local ready = require "engine.ready"
local runner = require "engine.runner"
local value = require "value"

local M = {}

--- Seconds between looks at the ready rows when nothing is noted here.
local LOOK_SECONDS = 1
--- Projects served in one turn.
local TURN = 100

--- Projects that have queued runs, as far as this worker knows.
---@type table<string, boolean>
local backlog = {}
--- Starts that were admitted and are not yet in the store.
---@type table<string, integer>
local reserved = {}
--- Accepts that count the queue or are about to be in it.
---@type table<string, integer>
local lining = {}
--- Projects whose room changed.
---@type table<string, boolean>
local poked = {}
local others = 0

--- How many other workers live. Those of this service count before they are seen.
---@param n integer
function M.set_others(n)
  others = math.max(n, config.get("KONTOR_WORKERS") - 1)
end

local function quota(project)
  return project.doc.quotas.running
end

--- Free places of a project.
local function room(project, db)
  local id = project.id
  local used = runner.running(id) + (reserved[id] or 0)
  if others > 0 then
    -- With more workers the store knows what the others run.
    local n, err = db:count("kt_p_executions", { status = "running" }, quota(project) + 1)
    if not n then
      return nil, err
    end
    used = math.max(used, n + (reserved[id] or 0))
  end
  return quota(project) - used
end

--- May a run of the project start at once? A yes holds a place until `settle`.
---@param project table
---@param db table
---@return boolean? yes, table? err
function M.admit(project, db)
  local id = project.id
  if backlog[id] or M.draining then
    return false
  end
  local free, err = room(project, db)
  if not free then
    return nil, err
  elseif free <= 0 then
    return false
  end
  reserved[id] = (reserved[id] or 0) + 1
  return true
end

--- The place that `admit` held is used (the run is started) or not needed.
---@param project_id string
function M.settle(project_id)
  reserved[project_id] = reserved[project_id] > 1 and reserved[project_id] - 1 or nil
end

--- Is there room in the queue? A yes holds a place until `lined_up`. Among accepts of one worker the
--- quota holds exactly: what is held counts, so near the end a place may look taken that will come free.
--- Other workers' accepts of the same moment are not seen.
---@param project table
---@param db table
---@return boolean? yes, table? err queue_full
function M.line_up(project, db)
  local id, limit = project.id, project.doc.quotas.queued
  local held = (lining[id] or 0) + 1
  lining[id] = held
  local n, err = db:count("kt_p_executions", { { "status", "in", { "queued", "delayed" } } }, limit)
  if n and n + held <= limit then
    return true
  end
  M.lined_up(id)
  return nil, err or {
    code = "queue_full", retryable = true, retry_after = 5,
    message = string.format("the project's quota queued is used up: %d of %d", n, limit),
    quota = { name = "queued", used = n, limit = limit },
  }
end

--- The place that `line_up` held is used or not needed.
---@param project_id string
function M.lined_up(project_id)
  lining[project_id] = lining[project_id] > 1 and lining[project_id] - 1 or nil
end

--- A run was put into the queue: later ones line up behind it.
---@param project_id string
function M.queued(project_id)
  backlog[project_id] = true
end

--- Something of the project ended or was queued: look soon.
---@param project_id string
function M.poke(project_id)
  if backlog[project_id] then
    poked[project_id] = true
    ready.noted:signal()
  end
end

--- Take a run: it is ours when the update matched.
local function claim(project, db, doc, reason)
  local now = value.date(clock.now())
  local set = { status = "running", owner_epoch = lease.epoch() }
  if not doc.started_at then
    set.started_at = now
    set.deadline_at = value.date(now.ms + doc.timeout_ms)
  end
  local taken, err = db:find_and_modify("kt_p_executions",
    { _id = doc._id, status = doc.status, token = doc.token },
    { update = { set = set, inc = { token = 1 }, unset = { "due_at" } }, new = true })
  if err then
    return nil, err
  elseif taken then
    runner.start(project, taken, reason)
  end
  return true
end

local function first_due(db, status)
  local list, err = db:find("kt_p_executions", { status = status },
    { sort = { { "due_at", 1 }, { "_id", 1 } }, limit = 1, projection = { "due_at" } })
  if not list then
    return nil, err
  end
  return list[1] and list[1].due_at.ms
end

--- Start what is due of one project. Returns when its next work is due, nil when it has none.
---@return integer? at ms UTC
local function serve(project)
  local db = project.db
  local now = value.date(clock.now())
  local delayed, err = db:find("kt_p_executions", { { "status", "eq", "delayed" }, { "due_at", "lte", now } },
    { sort = { { "due_at", 1 }, { "_id", 1 } }, limit = 500 })
  for _, doc in ipairs(delayed or {}) do
    local moved = db:update_one("kt_p_executions", { _id = doc._id, status = "delayed" },
      { set = { status = "queued" } })
    if moved and moved.modified == 1 then
      runner.announce(project.id, doc, "queued")
    end
  end
  local free
  if delayed then
    free, err = room(project, db)
  end
  if not free then
    log.warn("queue.read_failed", { project_id = project.id, msg = err.message })
    return clock.now() + 1000
  end
  local wanted = {
    -- What began before comes first.
    { { { "status", "eq", "waiting" }, { "due_at", "lte", now } }, { { "due_at", 1 }, { "_id", 1 } } },
    { { { "status", "eq", "queued" } }, { { "priority", -1 }, { "due_at", 1 }, { "_id", 1 } } },
  }
  for _, query in ipairs(wanted) do
    if free > 0 then
      local list = db:find("kt_p_executions", query[1], { sort = query[2], limit = free })
      for _, doc in ipairs(list or {}) do
        local reason = doc.status == "waiting" and "wake" or doc.started_at and "resume" or nil
        local ok = claim(project, db, doc, reason)
        free = free - (ok and 1 or 0)
      end
    end
  end
  local queued = first_due(db, "queued")
  backlog[project.id] = queued and true or nil
  metrics.queue_age(project.id, queued and math.max(0, (clock.now() - queued) / 1000) or 0)
  local at
  for _, status in ipairs { "queued", "delayed", "waiting" } do
    local due = first_due(db, status)
    if due then
      -- Due but without a place: look again in a second (or when a run ends here).
      local now_ms = clock.now()
      at = math.min(at or math.huge, due <= now_ms and now_ms + 1000 or due)
    end
  end
  return at
end

local function serve_row(row)
  local project, err = projects.open(row._id)
  if project then
    ready.served(row, serve(project))
  elseif not err or err.code == "not_found" then
    ready.served(row, nil)
  else -- it is being restored, or cannot be opened now
    ready.served(row, clock.now() + 1000)
  end
end

--- The loop. Ends when its task is cancelled.
function M.loop()
  while not M.draining do
    local rows, err = ready.due(TURN)
    if not rows then
      log.warn("queue.read_failed", { msg = err.message })
      rows = {}
    end
    local served = {}
    for _, row in ipairs(rows) do
      served[row._id] = true
      serve_row(row)
    end
    local list = poked
    poked = {}
    for id in pairs(list) do
      local row = not served[id] and ready.row(id)
      if row then
        serve_row(row)
      end
    end
    if others > 0 then
      runner.check_cancelled()
    end
    if next(poked) == nil then
      local ok, stop = ready.noted:wait(ready.pause(LOOK_SECONDS))
      if not ok and stop.code ~= "deadline_exceeded" then
        return
      end
    end
  end
end

return M
