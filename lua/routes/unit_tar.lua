-- A project as one tar: out of a project, and into a new one.

local clock = require "kt.clock"
local dispatch = require "http.dispatch"
local ids = require "domain.ids"
local job = require "domain.job"
local log = require "kt.log"
local T = require "http.types"
local task = require "kt.task"
local unit = require "units.copy"
local unit_tar = require "domain.unit_tar"

local media_type = "application/x-tar"
local ask_seconds = 5 -- may the client still read

local function send(ctx, made)
  local req, still, left = ctx.req, dispatch.still(ctx), made.source:size()
  local ok, err = req:start(200, {["Content-Type"] = media_type, ["Content-Length"] = ("%.0f"):format(left),
    ["Content-Disposition"] = ('attachment; filename="%s"'):format(made.name), ["Cache-Control"] = "no-store",
    ["X-Content-Type-Options"] = "nosniff"})
  local asked = clock.monotonic()
  while ok do
    local bytes
    bytes, err = made.source:read()
    if not bytes then break end
    left = left - #bytes
    if left == 0 then return req:finish(bytes) end
    if clock.monotonic() - asked >= ask_seconds then
      asked = clock.monotonic()
      if not still() then return nil, {code = "unauthenticated", message = "the key is not valid any more"} end
    end
    ok, err = req:write(bytes)
  end
  return nil, err
end

local function export(ctx)
  local made, err = unit_tar.export(ctx)
  if not made then return nil, err end
  local ok
  ok, err = send(ctx, made)
  -- It is cut where it is: by its length the client sees that this is not the whole.
  if not ok and err.code ~= "cancelled" then
    log.warn("unit_tar.export", {request_id = ctx.req.id, project_id = ctx.project.id, msg = err.code .. ": " .. tostring(err.message)})
  end
  return {streamed = true}
end

-- The job's commit, in a task that the client does not end: then the folder is the job's.
local function begin(ctx, place, job_id)
  task.defer(function() task.detach(unit_tar.leave, place) end)
  local done, err = unit.handler(function() return unit.import(ctx, place.folder, job_id) end)(ctx)
  -- Not known: who sweeps will see whether there is a job.
  place.kept = done ~= nil or err.code == "outcome_unknown"
  return done, err
end

local function import(ctx)
  ctx.params = {project_id = ctx.query.project_id}
  -- Before the bytes come.
  local ok, err = unit.refuse_taken(ctx.query.project_id)
  if not ok then return nil, err end
  local job_id = ids.new("job")
  local place
  place, err = unit_tar.receive(ctx, job_id)
  if not place then return nil, err end
  place.handed_over = true
  return task.detach(begin, ctx, place, job_id):join()
end

return {
  {method = "GET", path = "/api/v1/projects/{project_id}/export", operation_id = "exportProject", role = "admin", tag = "units",
    summary = "A project as a tar of BSON files, as it is now", params = {project_id = T.project_id}, produces = {media_type},
    answers = {[200] = {doc = "The tar", media = {media_type}, headers = {"Content-Disposition", "Content-Length"}}},
    handler = function(ctx)
      if ctx.req.method == "HEAD" then return {status = 200, headers = {["Content-Type"] = media_type}} end
      return unit_tar.work(export, ctx)
    end},
  {method = "POST", path = "/api/v1/master/projects/import", operation_id = "importProject", role = "admin", tag = "units",
    summary = "Make a new project out of the tar of an export",
    query = {{"project_id", T.project_id, required = true, doc = "of the new project"}, unit.types.without_secrets},
    upload = {media_type, "application/gzip"}, headers = {{"Content-Encoding", "gzip or identity; gzip is also taken without"}},
    answers = {[202] = {type = job.types.job, doc = "A job loads it", headers = {"Location"}}},
    handler = function(ctx) return unit_tar.work(import, ctx) end},
}
