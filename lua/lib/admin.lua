--- The running service, by the admin socket in its data directory.
local config = require "kt.config"
local fetch = require "kt.fetch"
local file = require "kt.file"
local json = require "json"

local M = {}

--- A path segment as it goes into a URL.
---@param text string
---@return string
function M.escape(text)
  return (text:gsub("[^A-Za-z0-9._-]", function(c) return ("%%%02X"):format(c:byte()) end))
end

--- Ask the service as its own user. Answers nothing when none listens: a socket may be left from one
--- that was killed, and the lock of the data directory then says which it is. Yields.
---@param method string
---@param path string below /api/v1
---@param body table?
---@return table? doc what it answered; {} for an answer without body
---@return table? err code and message of its problem
function M.ask(method, path, body)
  local socket = config.get("KONTOR_DATA_DIR") .. "/kontor.sock"
  if not file.stat(socket) then return nil end
  local reply, err = fetch {
    method = method, unix = socket, timeout = 60, url = "http://localhost/api/v1" .. path,
    headers = body and { ["Content-Type"] = "application/json" } or nil, body = body and json.encode(body) or nil,
  }
  if not reply then
    if err.code == "upstream_failed" then return nil end
    return nil, err
  end
  if reply.status == 204 then return {} end
  local doc, bad = json.decode(reply.body)
  if doc and reply.status < 300 then return doc end
  return nil, doc and { code = doc.code, message = doc.detail or doc.title, errors = doc.errors } or bad
end

return M
