-- What a project uses of its quotas for what is stored, counted from now on in the commits that change
-- it (domain/storage.lua, runtime/store/blob.c): here counted once. A put of a blob at the same moment
-- is not seen: migrations run before a project is served.

local value = require "value"

local page = 200

local function stored(db)
  local bytes, after = 0, nil
  while true do
    local list, err = db:find("kt_p_blobs", {{"bytes", "gte", 0}}, {sort = {{"_id", 1}}, limit = page, after = after,
      projection = {"bytes"}})
    if not list then return nil, err end
    for _, chunk in ipairs(list) do bytes = bytes + tonumber(tostring(chunk.bytes)) end
    if #list < page then return bytes end
    after = {list[#list]._id}
  end
end

return {
  scope = "project",
  run = function(db)
    local there, err = db:find_one("kt_p_counters", {_id = "usage"})
    if there or err then return there and true, err end
    local bytes
    bytes, err = stored(db)
    if not bytes then return nil, err end
    local datasets
    datasets, err = db:count("kt_p_datasets", {{"status", "ne", "archived"}})
    if not datasets then return nil, err end
    local _, failed = db:insert("kt_p_counters", {_id = "usage", storage_bytes = value.int64(bytes),
      datasets = value.int64(datasets), added = value.int64(0), removed = value.int64(0)})
    if failed and failed.code ~= "already_exists" then return nil, failed end
    return true
  end,
}
