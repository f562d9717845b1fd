--- Metrics of executions (api.md 10). At most 1,000 project values, then `other`.

local metrics = require "kt.metrics"

local M = {}

local PROJECTS = 1000

local total = metrics.counter("kontor_executions_total", "Executions that changed to a status.", { "project", "status" })
local running = metrics.gauge("kontor_executions_running", "Executions that run in this worker.", { "project" })
local queue_age = metrics.gauge("kontor_queue_age_seconds", "Age of the oldest execution that is due and waits.", { "project" })

local backups = metrics.counter("kontor_backups_total", "Backups by policy, made (ok) or failed (error).", { "project", "status" })

local seen, count = {}, 0

local function label(project_id)
  if not seen[project_id] then
    if count >= PROJECTS then
      return "other"
    end
    seen[project_id] = true
    count = count + 1
  end
  return project_id
end

---@param project_id string
---@param status string final status
function M.ended(project_id, status)
  total:inc({ project = label(project_id), status = status }, 1)
end

---@param project_id string
---@param status "ok"|"error"
function M.backed_up(project_id, status)
  backups:inc({ project = label(project_id), status = status }, 1)
end

---@param project_id string
---@param n integer
function M.running(project_id, n)
  running:set({ project = label(project_id) }, n)
end

---@param project_id string
---@param seconds number
function M.queue_age(project_id, seconds)
  queue_age:set({ project = label(project_id) }, seconds)
end

return M
