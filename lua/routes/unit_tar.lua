-- A project as one tar: out of a project, and into a new one.

local clock = require "kt.clock"
local dispatch = require "http.dispatch"
local log = require "kt.log"
local T = require "http.types"
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

return {
  {method = "GET", path = "/api/v1/projects/{project_id}/export", operation_id = "exportProject", role = "admin", tag = "projects",
    summary = "A project as a tar of BSON files, as it is now", params = {project_id = T.project_id}, produces = {media_type},
    answers = {[200] = {doc = "The tar", media = {media_type}, headers = {"Content-Disposition", "Content-Length"}}},
    handler = function(ctx)
      if ctx.req.method == "HEAD" then return {status = 200, headers = {["Content-Type"] = media_type}} end
      return unit_tar.work(export, ctx)
    end},
}
