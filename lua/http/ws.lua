-- WebSocket of an execution (api.md 6): hello, then all events after `since` in order, then live.

local clock = require "kt.clock"
local json = require "json"
local log = require "kt.log"
local streams = require "http.streams"

local M = {}

local wait_seconds = 5
local hello_order = {"v", "type", "execution_id", "status", "last_seq", "since"}

-- Why a stream ends, as close code and reason.
local function farewell(err, last_seq)
  if not err and streams.draining then return 1001, "last_seq=" .. last_seq end
  if not err then return 1000, "" end
  if err.code == "too_slow" then return 1013, "last_seq=" .. last_seq end
  return 1011, err.code or "internal"
end

---@param ws table of req:upgrade
---@param follower table of engine.follow
---@param hello {execution_id: string, status: string, last_seq: integer, since: integer}
---@param allowed fun(): boolean may the client still read; asked every few seconds
function M.stream(ws, follower, hello, allowed)
  local last_seq = hello.since
  local ok, err = ws:send(json.encode(json.ordered({v = 1, type = "hello", execution_id = hello.execution_id,
    status = hello.status, last_seq = hello.last_seq, since = hello.since}, hello_order)))
  local asked = clock.monotonic()
  while ok and not ws:closed() do
    if clock.monotonic() - asked >= wait_seconds then
      if not allowed() then return ws:close(1008, "the key is not valid any more") end
      asked = clock.monotonic()
    end
    local event
    event, err = follower:next(wait_seconds)
    if event then
      ok, err = ws:send(json.encode(event))
      if ok and event.seq then last_seq = event.seq end
    elseif not err then break
    elseif err.code == "deadline_exceeded" then err = nil
    else ok = nil end
  end
  if err and err.code == "cancelled" then return end -- the client has gone
  local code, reason = farewell(err, last_seq)
  if code == 1011 and reason ~= "gone" then
    log.error("ws.fault", {execution_id = hello.execution_id, msg = tostring(err.code) .. ": " .. tostring(err.message)})
  end
  ws:close(code, reason)
end

return M
