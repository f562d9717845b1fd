-- Indexes of the master database, and the installation's key for sealed cursors.

local crypto = require "kt.crypto"

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local indexes = {
  {"kt_m_projects", {name = "number", keys = {{"number", 1}}, unique = true}},
  {"kt_m_audit_log", {name = "newest", keys = {{"at", -1}, {"_id", -1}}}},
  {"kt_m_audit_log", {name = "actor", keys = {{"actor", 1}, {"at", -1}}}},
}

return {
  scope = "master",
  run = function(db)
    for _, i in ipairs(indexes) do
      local ok, err = db:ensure_index(i[1], i[2])
      if not ok then return nil, err end
    end
    local _, err = db:insert("kt_m_secrets", {_id = "system/cursor", data = hex(crypto.random(32))})
    if err and err.code ~= "already_exists" then return nil, err end
    return true
  end,
}
