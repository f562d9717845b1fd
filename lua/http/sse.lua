-- Server-sent events of an execution: numbered events with their `id`, passing ones without; a
-- comment every 15 s keeps proxies from closing an idle stream.

local clock = require "kt.clock"
local json = require "json"

local M = {}

M.media_type = "text/event-stream"

local quiet_seconds = 15
local ask_seconds = 5

---One event as SSE text.
---@param event table of api.md 6
---@return string
function M.encode(event)
  local id = event.seq and ("id: %d\n"):format(event.seq) or ""
  -- JSON has no raw line breaks, so one data line is enough.
  return ("%sevent: %s\ndata: %s\n\n"):format(id, event.type, json.encode(event))
end

---Stream a follower until its last event or until the client has gone.
---@param req table kt.http request
---@param follower table of engine.follow
---@param allowed fun(): boolean may the client still read; asked every few seconds, the stream ends when not
---@return boolean|nil ok
---@return kontor.Error|nil
function M.stream(req, follower, allowed)
  local ok, err = req:start(200, {["Content-Type"] = M.media_type, ["Cache-Control"] = "no-store",
    ["X-Accel-Buffering"] = "no"})
  if not ok then return nil, err end
  ok, err = req:write("retry: 2000\n\n")
  local asked, wrote = clock.monotonic(), clock.monotonic()
  -- A drain closes the follower; the client comes back by itself, to another worker.
  while ok do
    local now = clock.monotonic()
    if now - asked >= ask_seconds then
      if not allowed() then return req:finish() end
      asked = now
    end
    local event
    event, err = follower:next(ask_seconds)
    local text = event and M.encode(event)
    if not event then
      if not err then return req:finish() end
      if err.code ~= "deadline_exceeded" then break end
      if now - wrote >= quiet_seconds - ask_seconds then text = ": \n\n" end
    end
    if text then
      ok, err = req:write(text)
      wrote = now
    end
  end
  return nil, err
end

return M
