-- Sealed cursors of keyset paging: where the last page ended, bound to the operation, the project
-- and the filters, with an HMAC. A cursor that was changed, made elsewhere or is used with other
-- filters is 422 invalid_cursor. It says nothing that its bearer has not seen.

local crypto = require "kt.crypto"
local json = require "json"
local problem = require "http.problem"
local value = require "value"

local M = {}

local mac_bytes = 16
local key

---Set the key, one for the whole installation (kept in master data). Called at start.
---@param secret string
function M.set_key(secret) key = secret end

local function refused()
  return nil, problem.err("invalid_cursor", "The cursor is not valid here; start again without it.",
    {errors = {{parameter = "cursor", code = "invalid", message = "is not a cursor of this list and these filters"}}})
end

---What a cursor is bound to.
---@param operation string
---@param project_id string|nil
---@param filters table plain query parameters without cursor and limit
---@return string
function M.binding(operation, project_id, filters)
  return crypto.sha256(json.encode({operation = operation, project = project_id or "", filters = filters}))
end

---@param keys any[] values of the sort keys of the last document
---@param binding string
---@return string
function M.seal(keys, binding)
  local blob = value.encode({k = json.array(keys), b = binding:sub(1, 32)})
  local mac = crypto.hmac_sha256(key, blob):sub(1, mac_bytes)
  return crypto.base64url_encode(mac .. blob)
end

---@param cursor string
---@param binding string
---@return any[]|nil keys
---@return kontor.Error|nil
function M.open(cursor, binding)
  if #cursor > 4096 or cursor:find("[^A-Za-z0-9_-]") then return refused() end
  local bytes = crypto.base64url_decode(cursor)
  if not bytes or #bytes <= mac_bytes then return refused() end
  local blob = bytes:sub(mac_bytes + 1)
  local mac = crypto.hmac_sha256(key, blob):sub(1, mac_bytes)
  if not crypto.equal(mac, bytes:sub(1, mac_bytes)) then return refused() end
  local v = value.decode(blob)
  if type(v) ~= "table" or v.b ~= binding:sub(1, 32) then return refused() end
  return v.k
end

return M
