-- Requests a minute of a project: a bucket that holds one minute's worth and fills up evenly.
--
-- What counts: every request to a route of the project, and every WebSocket handshake for one of its
-- executions, whatever its answer is, once the principal is known and allowed to make it. What does
-- not: master data and health (so a limit can always be raised), frames and events of a stream, what
-- comes over the admin socket, and what is refused here. Each worker has its own buckets: with n
-- workers a client of many connections may get up to n times as much, never less than the limit.

local clock = require "kt.clock"
local problem = require "http.problem"

local M = {}

local window = 60 -- seconds

---@class kontor.Bucket
---@field left number requests
---@field at number when `left` was right, monotonic seconds
---@field limit integer

---@type table<string, kontor.Bucket> by project; only projects that exist get in
local buckets = {}

-- The bucket as it is now, under the limit of the document as it is now.
local function filled(project)
  local limit, now = project.doc.quotas.requests_per_minute, clock.monotonic()
  local b = buckets[project.id]
  if not b then
    b = {left = limit, at = now, limit = limit}
    buckets[project.id] = b
  end
  -- What has been used stays used when the limit changes.
  b.left = math.max(0, math.min(limit, b.left + (limit - b.limit) + (now - b.at) * limit / window))
  b.at, b.limit = now, limit
  return b
end

---Count one request.
---@param project kontor.Project
---@return true|nil
---@return kontor.Error|nil rate_limited, with the headers of draft-ietf-httpapi-ratelimit-headers. No
---other answer has them: a 404 must not tell whether the project is there
function M.take(project)
  local b = filled(project)
  if b.left >= 1 then
    b.left = b.left - 1
    return true
  end
  -- With a limit of 0 nothing comes back; a minute is when to look again.
  local wait = b.limit > 0 and math.ceil((1 - b.left) * window / b.limit) or window
  return nil, problem.err("rate_limited", ("The project may make %d requests a minute."):format(b.limit), {
    retry_after = wait, quota = {name = "requests_per_minute", used = b.limit, limit = b.limit},
    headers = {["RateLimit-Policy"] = ('"requests_per_minute";q=%d;w=%d'):format(b.limit, window),
      RateLimit = ('"requests_per_minute";r=0;t=%d'):format(wait)},
  })
end

---Requests that are used up at this worker.
---@param project kontor.Project
---@return integer
function M.used(project)
  local b = filled(project)
  return math.max(0, math.ceil(b.limit - b.left))
end

return M
