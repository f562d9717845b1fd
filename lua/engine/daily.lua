--- What is done for a project once a day without anybody asking: its backup (`backup` of the project: at HH:MM UTC,
--- keep N) and the deletion of what it no longer keeps (`retention_days`), that one at a quiet time of its own.
---
--- kt_m_daily has a row a project:
---
---   {_id = project_id, backup_at = "03:00", backup_due, retention_due, owner}
---
--- A due time that has passed is worked off once, however long ago it was, and moves to the next day when the work is
--- done; when it failed, by an hour. `owner` is the incarnation (engine/lease.lua) that works at the project: whoever
--- changes it from what he read has it, and what a dead one had is there for the next. Both works may be done again
--- wherever they were cut off. Every worker looks once a minute, at the projects and these rows alone.

local audit = require "domain.audit"
local backup = require "domain.backup"
local clock = require "kt.clock"
local crypto = require "kt.crypto"
local fault = require "kt.fault"
local given = require "lib.given"
local json = require "json"
local lease = require "engine.lease"
local log = require "kt.log"
local metrics = require "engine.metrics"
local patient = require "lib.patient"
local places = require "lib.places"
local principals = require "http.principal"
local projects = require "domain.project"
local retention = require "domain.retention"
local task = require "kt.task"
local value = require "value"

local M = {}

--- Set when the worker is to end: nothing new is begun, deletions stop after their next commit.
M.draining = false

--- Seconds of deletions of one project; then others get their turn, and it goes on at the next look.
M.SLICE_SECONDS = 60

local COLLECTION = "kt_m_daily"
local HOUR = 3600 * 1000
local DAY = 24 * HOUR
--- Deletions are spread over the first hours of the UTC day.
local QUIET_SECONDS = 4 * 3600
--- Seconds between looks when nothing is due before.
local LOOK_SECONDS = 60
local PAGE = 500
--- Statuses in which a project's day is carried out; an archived one's data does not change, so it needs no backup.
local KEPT = { active = true, suspended = true, archived = true }

--- The first time after `after` at which a UTC day has the age `of_day`.
---@param of_day integer ms
---@param after integer ms UTC, exclusive
---@return integer ms UTC
local function next_after(of_day, after)
  local at = math.floor(after / DAY) * DAY + of_day
  return at > after and at or at + DAY
end

local function time_of(at)
  local hour, minute = at:match("^(%d%d):(%d%d)$")
  return (hour * 60 + minute) * 60000
end

local function quiet_time(project_id)
  return tonumber(crypto.sha256(project_id):sub(1, 8), 16) % QUIET_SECONDS * 1000
end

local function ms(date) return given(date) and date.ms end

--- The next times of a project as they have to be.
---@param doc table of kt_m_projects
---@param row table of kt_m_daily; {} when there is none
---@param now integer ms UTC
---@return {backup_at: string?, backup_due: integer?, retention_due: integer?}
local function times(doc, row, now)
  local due, policy = {}, given(doc.backup)
  -- The first times are the next ones after what set them, so none is left out because nobody looked. What is
  -- further off than a day is so by a clock that was wrong.
  local function sane(date) return ms(date) and ms(date) <= now + DAY and ms(date) or nil end
  if policy and doc.status ~= "archived" then
    due.backup_at = policy.at
    if row.backup_at == policy.at then
      due.backup_due = sane(row.backup_due) or next_after(time_of(policy.at), now)
    else
      due.backup_due = next_after(time_of(policy.at), doc.updated_at.ms)
    end
  end
  if retention.wanted(doc) then
    due.retention_due = sane(row.retention_due)
      or next_after(quiet_time(doc._id), row.retention_due and now or doc.created_at.ms)
  end
  return due
end

--- The op that brings a row up to its project's policies; nil when it is.
local function renewed(doc, row, due)
  local set, unset = {}, {}
  local function field(name, want)
    if want ~= nil and row[name] ~= want then set[name] = want
    elseif want == nil and row[name] ~= nil then unset[#unset + 1] = name end
  end
  field("backup_at", due.backup_at)
  field("backup_due", due.backup_due and value.date(due.backup_due))
  field("retention_due", due.retention_due and value.date(due.retention_due))
  if not next(set) and #unset == 0 then
    return nil
  elseif not row._id then
    return { op = "update", coll = COLLECTION, filter = { _id = doc._id }, update = { set_on_insert = set }, upsert = true }
  end
  -- Unless someone else changed it meanwhile.
  return { op = "update", coll = COLLECTION, filter = { _id = doc._id, backup_at = row.backup_at or json.null,
    backup_due = row.backup_due or json.null, retention_due = row.retention_due or json.null },
    update = { set = next(set) and set or nil, unset = #unset > 0 and unset or nil } }
end

local function all(coll, projection)
  local list, after = {}, nil
  repeat
    local page, err = places.master():find(coll, {}, { sort = { { "_id", 1 } }, limit = PAGE, after = after, projection = projection })
    if not page then
      return nil, err
    end
    for _, doc in ipairs(page) do
      list[#list + 1] = doc
    end
    after = #page > 0 and { page[#page]._id }
  until #page < PAGE
  return list
end

local function commit(ops)
  for first = 1, #ops, PAGE do
    local done, err = places.master():commit({ unpack(ops, first, math.min(first + PAGE - 1, #ops)) })
    if not done then
      return nil, err
    end
  end
  return true
end

--- Bring the rows up to the projects.
---@return string[]? due ids of projects with something due, the longest first
---@return table|integer err_or_next ms UTC of what is due next
local function plan()
  -- The rows first: one whose project is not there then has none any more.
  local rows, err = all(COLLECTION)
  local docs
  if rows then
    docs, err = all("kt_m_projects", { "status", "backup", "retention_days", "created_at", "updated_at" })
  end
  if not docs then
    return nil, err
  end
  local by_id, ops, due, now, next_due = {}, {}, {}, clock.now(), math.huge
  for _, row in ipairs(rows) do
    by_id[row._id] = row
  end
  for _, doc in ipairs(docs) do
    local row = by_id[doc._id] or {}
    by_id[doc._id] = nil
    if KEPT[doc.status] then
      local want = times(doc, row, now)
      ops[#ops + 1] = renewed(doc, row, want)
      local first = math.min(want.backup_due or math.huge, want.retention_due or math.huge)
      if first <= now then
        due[#due + 1] = { id = doc._id, at = first }
      else
        next_due = math.min(next_due, first)
      end
    end
  end
  for id in pairs(by_id) do
    ops[#ops + 1] = { op = "delete", coll = COLLECTION, filter = { _id = id } }
  end
  local ok
  ok, err = commit(ops)
  if not ok then
    return nil, err
  end
  table.sort(due, function(a, b) return a.at < b.at end)
  for i, one in ipairs(due) do
    due[i] = one.id
  end
  return due, next_due
end

--- Take a project for its work; nil when there is nothing to do or someone else does it.
---@param id string
---@return table? row, table? err
local function claim(id)
  local row, err = places.master():find_one(COLLECTION, { _id = id })
  if not row then
    return nil, err
  end
  local owner = given(row.owner)
  if owner and owner ~= lease.epoch() then
    local living
    living, err = lease.living()
    if not living then
      return nil, err
    end
    for _, worker in ipairs(living) do
      if worker._id == owner then
        return nil
      end
    end
  end
  return places.master():find_and_modify(COLLECTION, { _id = id, owner = owner or json.null,
    backup_due = row.backup_due or json.null, retention_due = row.retention_due or json.null },
    { update = { set = { owner = lease.epoch() } }, new = true })
end

--- Change the row that this worker has claimed.
local function put(row, update)
  return patient.call(function()
    return places.master():update_one(COLLECTION, { _id = row._id, owner = lease.epoch() }, update)
  end)
end

local function say(level, what, id, text)
  log[level]("daily." .. what, { project_id = id, msg = text })
end

local function message(err) return tostring(err.code) .. ": " .. tostring(err.message) end

local function note_backup(id, changes, more)
  if not projects.open(id) then
    return -- of an erased project nothing is left
  end
  local _, err = places.master():commit { audit.entry(principals.system(), "project.backup", "project", id, changes, nil, more) }
  if err then
    say("error", "backup", id, "not noted in the audit log: " .. message(err))
  end
end

local function backed_up(project)
  local made, err = backup.make(project.id)
  if not made then
    return nil, err
  end
  metrics.backed_up(project.id, "ok")
  note_backup(project.id, { { pointer = "/backup_id", from = json.null, to = made._id } })
  local removed
  removed, err = backup.prune(project.id, project.doc.backup.keep)
  if not removed then
    say("error", "prune", project.id, "older backups stay: " .. message(err)) -- until the next one is made
  end
  return ("%s; %d older ones removed"):format(made._id, removed or 0)
end

local function cleared(project)
  local ends = clock.monotonic() + M.SLICE_SECONDS
  local deleted, err = retention.apply(project, function()
    return not M.draining and clock.monotonic() < ends and projects.open(project.id) ~= nil
  end)
  if not deleted then
    return nil, err
  end
  local parts = {}
  for kind, n in pairs(deleted) do
    parts[#parts + 1] = ("%s %.0f"):format(kind, n)
  end
  table.sort(parts)
  return #parts > 0 and "deleted: " .. table.concat(parts, ", ") or "nothing to delete"
end

--- Work off what is due of a project that this worker has claimed.
local function work(row)
  local project, err = projects.open(row._id)
  if not project then
    return nil, err
  end
  local now, doc = clock.now(), project.doc
  local policy = given(doc.backup)
  local jobs = {
    { name = "backup", of_day = policy and time_of(policy.at), run = backed_up },
    { name = "retention", of_day = quiet_time(row._id), run = cleared },
  }
  for _, job in ipairs(jobs) do
    local due = ms(row[job.name .. "_due"])
    if due and due <= now and job.of_day then
      local returned, told
      returned, told, err = pcall(job.run, project)
      if not returned then -- a fault with one project is not to keep the others from their backups
        told, err = nil, type(told) == "table" and told or { code = "internal", message = tostring(told) }
      end
      if not told and (err.code == "cancelled" or not projects.open(row._id)) then
        return nil, err -- it is not over: it stays due
      end
      local at = next_after(job.of_day, clock.now())
      if told then
        say("info", job.name, row._id, told)
      else
        at = math.min(at, clock.now() + HOUR)
        say("error", job.name, row._id, message(err) .. "; tried again at " .. clock.format(at))
        if job.name == "backup" then
          metrics.backed_up(row._id, "error")
          note_backup(row._id, nil, { outcome = "error", code = err.code })
        end
      end
      fault.kill("daily." .. job.name)
      local ok
      ok, err = put(row, { set = { [job.name .. "_due"] = value.date(at) } })
      if not ok then
        return nil, err
      end
    end
  end
  return true
end

--- Look once: work off what is due of all projects, one after another. Yields, for long.
---@return integer? next_due ms UTC; 0 when something is left to do, math.huge when no project has a policy
---@return table? err
function M.look()
  local due, next_due = plan()
  if not due then
    return nil, next_due
  end
  for _, id in ipairs(due) do
    if M.draining then
      break
    end
    local row, err = claim(id)
    if row then
      local worked, why = work(row)
      local given_back, failed = put(row, { unset = { "owner" } })
      if not worked and why.code == "cancelled" then
        next_due = 0
      elseif not (worked and given_back) and not M.draining then
        say("warn", "put_off", id, message(why or failed)) -- it is taken again at a next look
      end
    elseif err then
      return nil, err
    end
  end
  return next_due
end

--- The loop. Ends when its task is cancelled.
function M.loop()
  repeat
    local next_due, err = M.look()
    if not next_due and not M.draining then
      log.warn("daily.look_failed", { msg = message(err) })
    end
    local pause = next_due and (next_due - clock.now()) / 1000 or LOOK_SECONDS
  until M.draining or not task.sleep(math.max(0.1, math.min(pause, LOOK_SECONDS)))
end

return M
