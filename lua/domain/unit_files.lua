-- A project as files: what mongorestore reads, and a manifest that says what it all is.
--
--   DIR/<database>/<collection>.bson, .metadata.json
--   DIR/manifest.json   {format, engine, database, at, project, migrations, collections: [{name, documents, bytes,
--                       sha256, metadata_bytes, metadata_sha256}]}
--
-- The manifest is written last: a folder without one is no export.

local config = require "kt.config"
local crypto = require "kt.crypto"
local file = require "kt.file"
local json = require "json"
local problem = require "http.problem"
local project = require "domain.project"
local migrations = require "domain.migrations"
local rfc3339 = require "http.rfc3339"
local schema = require "http.schema"
local store = require "kt.store"

local M = {}

local format = 1
local manifest_bytes = 4 * 1048576
local whole = {active = true, suspended = true, archived = true} -- else its database is not all there
local collection_order = {"name", "documents", "bytes", "sha256", "metadata_bytes", "metadata_sha256"}

local function manifest(doc, db, summary)
  local rows, err = db:find("kt_p_migrations", {{"_id", "ne", "lock"}}, {sort = {{"_id", 1}}})
  if not rows then return nil, err end
  local done, collections = json.array{}, json.array{}
  for i, row in ipairs(rows) do done[i] = row.name end
  for i, c in ipairs(summary.collections) do collections[i] = json.ordered(c, collection_order) end
  return json.encode(json.ordered({
    format = format, engine = store.stats().engine, database = db.name, at = rfc3339.format(summary.at.ms),
    project = assert(json.decode(schema.to_json(project.types.project, doc))), migrations = done, collections = collections,
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
  if not whole[doc.status] then return nil, problem.err("invalid_state", ("the project %s is %s"):format(id, doc.status)) end
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

local function rejected(folder, what) return nil, problem.err("data_rejected", folder .. "/manifest.json " .. what) end

local function fault(m)
  local function list(v) return type(v) == "table" and getmetatable(v) == json.array_mt end
  if type(m) ~= "table" then return "is no object" end
  if m.format ~= format then return "has format " .. tostring(m.format) .. ", this program reads " .. format end
  if type(m.database) ~= "string" or #m.database > 63 or not m.database:find("^[a-z0-9][a-z0-9_-]*$") then return "has no name of a database" end
  if type(m.at) ~= "string" or not rfc3339.parse(m.at) then return "has no time" end
  if type(m.project) ~= "table" then return "has no project" end
  if not project.types.project.by_name.project_id[2].match(tostring(m.project.project_id)) then return "has no id of a project" end
  local number = m.project.number
  if type(number) ~= "number" or number < 1 or number % 1 ~= 0 then return "has no number of a project" end
  if not list(m.migrations) then return "has no migrations" end
  for _, name in ipairs(m.migrations) do
    if type(name) ~= "string" or not name:find("^%d%d%d%d_") then return "names a migration that is none" end
  end
  if not list(m.collections) then return "has no collections" end
  for _, c in ipairs(m.collections) do
    if type(c) ~= "table" or type(c.name) ~= "string" or type(c.documents) ~= "number" or type(c.bytes) ~= "number"
      or type(c.sha256) ~= "string" or type(c.metadata_bytes) ~= "number" or type(c.metadata_sha256) ~= "string" then
      return "has a collection without its sums"
    end
  end
end

---What a folder holds, by its manifest. The files themselves are not looked at: db:verify does that.
---@param folder string
---@return {database: string, at: string, project: table, migrations: string[], collections: table[]}|nil manifest
---@return kontor.Error|nil not_found; data_rejected says what is wrong; invalid_state: of a newer version
---@return string|nil sha256 of the manifest, on success
function M.manifest(folder)
  local text, err = file.read(folder .. "/manifest.json", manifest_bytes)
  if not text then
    if err.code == "not_found" then err = problem.err("not_found", folder .. " has no manifest.json: it is no export") end
    return nil, err
  end
  local m, why = json.decode(text)
  if m == nil then return rejected(folder, "is no JSON: " .. tostring(type(why) == "table" and why.message or why)) end
  why = fault(m)
  if why then return rejected(folder, why) end
  local ok
  ok, err = migrations.accepts("project", m.migrations, folder)
  if not ok then return nil, err end
  return m, nil, crypto.sha256(text)
end

---The folder of a job's own files. It goes with the job; what a crash left is swept (domain/unit_tar.lua).
---@param job_id string
---@return string
function M.work_folder(job_id) return ("%s/jobs/%s"):format(config.get("KONTOR_DATA_DIR"), job_id) end

return M
