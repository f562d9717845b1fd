--- The console's way to the service: one request over the admin socket for every command.
local config = require "kt.config"
local edit = require "kt.edit"
local fetch = require "kt.fetch"
local ffi = require "ffi"
local json = require "json"
local task = require "kt.task"

local M = {}

ffi.cdef "int access(const char *path, int mode);"
local READ_WRITE, ENOENT, EACCES = 6, 2, 13
--- Seconds that an answer may take: longer than any evaluation, and than a follower waits.
local PATIENCE = 90
local ANSWER_BYTES = 64 * 1024 * 1024

--- Folder of the service's data; nil: as configured.
---@type string?
M.data = nil
--- Ctrl-C gives the request up instead of ending the process.
M.interactive = false

---@return string
function M.socket()
  return (M.data or config.get("KONTOR_DATA_DIR")) .. "/kontor.sock"
end

-- Why the socket cannot be reached.
local function unreachable(path, detail)
  local code = ffi.C.access(path, READ_WRITE) == 0 and 0 or ffi.errno()
  local message
  if code == ENOENT then
    message = "no service runs here: there is no " .. path .. " (kontor serve; --data DIR names another data folder)"
  elseif code == EACCES then
    message = path .. " is another user's: only the service's own user may look inside"
  else
    message = "the service does not answer at " .. path .. " (" .. tostring(detail) .. ")"
  end
  return { code = "unreachable", message = message }
end

local function send(command, body)
  local path = M.socket()
  local reply, err = fetch { method = "POST", unix = path, url = "http://localhost/console/" .. command, timeout = PATIENCE,
    max = ANSWER_BYTES, headers = { ["Content-Type"] = "application/json", ["X-Kontor-User"] = os.getenv("USER") },
    body = json.encode(body) }
  if not reply then
    if err.code == "upstream_failed" then return nil, unreachable(path, err.message) end
    return nil, err
  end
  local doc, bad = json.decode(reply.body)
  if not doc then return nil, { code = "unreachable", message = "the service gave no answer: " .. tostring(bad and bad.message or bad) } end
  if reply.status ~= 200 then return nil, { code = doc.code or "internal", message = doc.message or doc.detail or "status " .. reply.status } end
  return doc
end

--- Ask the service. Yields. A null of the answer is nil here.
---@param command string
---@param body table
---@return table? answer
---@return {code: string, message: string}? err unreachable: there is no service; interrupted: Ctrl-C
function M.ask(command, body)
  if not M.interactive then return send(command, body) end
  local interrupted = false
  local job = task.spawn(send, command, body)
  local watch = task.spawn(function()
    if edit.interrupted() then
      interrupted = true
      job:cancel()
    end
  end)
  local answer, err = job:join()
  watch:cancel()
  watch:join()
  if interrupted and not answer then return nil, { code = "interrupted", message = "stopped" } end
  return answer, err
end

return M
