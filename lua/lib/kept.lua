--- What was read from a database, kept in this worker until anything in it changes: the store says at once
--- whether something did, in this process or another, so nothing old is ever given.

local M = {}

--- Values kept of one database.
local MAX = 256

---@class lib.Kept
---@field database fun(): kt.store.Database
---@field version number
---@field values table<string, any>
---@field count integer
local Kept = {}
Kept.__index = Kept

---@param database fun(): kt.store.Database whose changes make the values old
---@return lib.Kept
function M.new(database)
  return setmetatable({ database = database, version = -1, values = {}, count = 0 }, Kept)
end

--- The kept value of a key, else what `read` gives, which is kept. Everybody gets the same table: it is
--- read and never changed. Yields when it reads.
---@generic T
---@param key string
---@param read fun(key: string, ...): T|nil, kontor.Error|nil
---@return T|nil value, kontor.Error|nil err as `read` gave it; failures and nil are not kept
function Kept:get(key, read, ...)
  -- Asked before reading: a commit in between makes what is read old at the next look, not wrong.
  local version = self.database():version()
  if version ~= self.version or version < 0 or self.count >= MAX then
    self.version, self.values, self.count = version, {}, 0
  end
  local value = self.values[key]
  if value ~= nil then return value end
  local err
  value, err = read(key, ...)
  if value ~= nil and version == self.version and version >= 0 then
    self.values[key] = value
    self.count = self.count + 1
  end
  return value, err
end

return M
