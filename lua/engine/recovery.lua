--- What a dead worker left: its running executions end as failed with worker_lost (until another
--- worker can take them over), what waits is armed again. Everything gets its one result. Its jobs are
--- begun again here.

local clock = require "kt.clock"
local finish = require "engine.finish"
local jobs = require "domain.job"
local lease = require "engine.lease"
local log = require "kt.log"
local places = require "lib.places"
local projects = require "domain.project"
local ready = require "engine.ready"

local M = {}

--- Ids of all projects.
local function project_ids()
  local list, after = {}, nil
  repeat
    local page, err = places.master():find("kt_m_projects", {},
      { sort = { { "_id", 1 } }, limit = 500, after = after, projection = { "_id" } })
    if not page then
      return nil, err
    end
    for _, doc in ipairs(page) do
      list[#list + 1] = doc._id
      after = { doc._id }
    end
  until #page < 500
  return list
end

local function end_lost(project, db, doc)
  local result, err = finish.from_outside(project, db, doc, {
    status = "failed",
    stop_reason = "worker_lost",
    partial = false,
    error = { code = "worker_lost", message = "the worker that ran this ended", retryable = true },
  })
  if result then
    log.warn("execution.worker_lost", { project_id = project.id, execution_id = doc._id })
  end
  return result, err
end

--- Executions of dead incarnations in one project.
---@param project table
---@param gone table<string, boolean> epochs
---@return boolean? ok, table? err
local function end_all(project, gone)
  local db = project.db
  local after
  repeat
    local list, err = db:find("kt_p_executions", { status = "running" },
      { sort = { { "_id", 1 } }, limit = 200, after = after })
    if not list then
      return nil, err
    end
    for _, doc in ipairs(list) do
      after = { doc._id }
      if gone[doc.owner_epoch] then
        local ended
        ended, err = end_lost(project, db, doc)
        if not ended and err.code ~= "lost" then
          return nil, err
        end
      end
    end
  until #list < 200
  local waiting, err = db:find("kt_p_executions", { { "status", "in", { "queued", "delayed", "waiting" } } },
    { sort = { { "due_at", 1 }, { "_id", 1 } }, limit = 1, projection = { "due_at" } })
  if not waiting then
    return nil, err
  elseif waiting[1] then
    return ready.note(project.id, waiting[1].due_at and waiting[1].due_at.ms or clock.now())
  end
  return true
end

--- Deal with dead incarnations; their rows go when all is done, so a failure is tried again.
---@param rows table[] of kt_m_workers
function M.run(rows)
  if #rows == 0 then
    return
  end
  local gone = {}
  for _, row in ipairs(rows) do
    gone[row._id] = true
  end
  -- First the jobs: runs of a project that one works at are that job's to end.
  local whole, err = jobs.take_over(gone)
  local list, failed = project_ids()
  whole, err = whole and list ~= nil, err or failed
  for _, id in ipairs(list or {}) do
    local project
    project, err = projects.open(id)
    if project then
      local ok
      ok, err = end_all(project, gone)
      whole = whole and ok
    elseif err and err.code ~= "not_found" and err.code ~= "restoring" then
      whole = false
    end
  end
  if whole then
    for epoch in pairs(gone) do
      lease.forget(epoch)
    end
  else
    log.warn("recovery.incomplete", { msg = err and err.message })
  end
end

return M
