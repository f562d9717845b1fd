-- Ids that the service makes: prefix and a UUIDv7 in hex, so they sort by time. An execution id
-- carries its project's number, so the database is found from the id alone.

local crypto = require "kt.crypto"

local M = {}

---@param prefix "inst"|"ds"|"aud"|"key"|"appr"|"job"|"bak"
---@return string
function M.new(prefix) return prefix .. "_" .. crypto.uuid7() end

---@param number integer of the project
---@return string
function M.execution(number) return ("exec_%d_%s"):format(number, crypto.uuid7()) end

---@param execution_id string
---@return integer|nil the project's number
function M.project_number(execution_id)
  return tonumber(execution_id:match("^exec_([1-9]%d*)_%x+$"))
end

return M
