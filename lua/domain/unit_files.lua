-- A project as files: what mongorestore reads, and a manifest that says what it all is.
--
--   DIR/<database>/<collection>.bson, .metadata.json
--   DIR/manifest.json   {format, engine, database, at, project, migrations, collections: [{name, documents, bytes,
--                       sha256, metadata_bytes, metadata_sha256}]}
--
-- The manifest is written last: a folder without one is no export.

local crypto = require "kt.crypto"
local file = require "kt.file"
local json = require "json"
local problem = require "http.problem"
local project = require "domain.project"
local rfc3339 = require "http.rfc3339"
local schema = require "http.schema"
local store = require "kt.store"

local M = {}

local format = 1
local collection_order = {"name", "documents", "bytes", "sha256", "metadata_bytes", "metadata_sha256"}

local function manifest(doc, db, summary)
  local rows, err = db:find("kt_p_migrations", {{"_id", "ne", "lock"}}, {sort = {{"_id", 1}}})
  if not rows then return nil, err end
  local migrations, collections = json.array{}, json.array{}
  for i, row in ipairs(rows) do migrations[i] = row.name end
  for i, c in ipairs(summary.collections) do collections[i] = json.ordered(c, collection_order) end
  return json.encode(json.ordered({
    format = format, engine = store.stats().engine, database = db.name, at = rfc3339.format(summary.at.ms),
    project = assert(json.decode(schema.to_json(project.types.project, doc))), migrations = migrations, collections = collections,
  }, {"format", "engine", "database", "at", "project", "migrations", "collections"}))
end

local function write(doc, folder)
  local db = store.database(project.database_name(doc._id))
  local inside = folder .. "/" .. db.name
  local ok, err = file.mkdir(inside)
  if not ok then return nil, err end
  local summary
  summary, err = db:export(inside)
  if not summary then return nil, err end
  -- Read again: what is on the disk must be what was sent there.
  ok, err = db:verify(inside, summary)
  if not ok then return nil, err end
  local text
  text, err = manifest(doc, db, summary)
  if text then ok, err = file.write(folder .. "/manifest.json", text .. "\n") end
  if not text or not ok then return nil, err end
  return summary
end

---All of a project as it is at one point of time, verified, into a folder that is made. It appears whole or
---not at all. Reads the store alone, so the project works meanwhile and its database is not migrated. Yields.
---@param id string
---@param folder string not there yet
---@return {at: userdata, collections: table[]}|nil summary as of db:export
---@return kontor.Error|nil already_exists: the folder is there
function M.export(id, folder)
  local doc, err = project.master():find_one("kt_m_projects", {_id = id})
  if not doc then return nil, err or problem.err("not_found", "there is no project " .. id) end
  if doc.status == "creating" or doc.status == "erasing" then
    return nil, problem.err("invalid_state", ("the project %s is %s"):format(id, doc.status))
  end
  if file.stat(folder) then return nil, problem.err("already_exists", folder .. " is there already") end
  local part = ("%s.part-%s"):format(folder, crypto.uuid7())
  local summary
  summary, err = write(doc, part)
  local ok = summary ~= nil
  if ok then ok, err = file.rename(part, folder) end
  if not ok then
    if file.stat(part) then file.remove(part) end
    return nil, err
  end
  return summary
end

return M
