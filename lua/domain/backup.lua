-- Backups: exports of a project that the service keeps, a folder each, below KONTOR_BACKUP_DIR:
--
--   <project_id>/<backup_id>/   as domain/unit_files.lua writes it
--
-- The folders are all there is: one that was copied there is a backup too, and one that is removed is none.

local answer = require "http.answer"
local clock = require "kt.clock"
local config = require "kt.config"
local cursor = require "http.cursor"
local file = require "kt.file"
local ids = require "domain.ids"
local json = require "json"
local lists = require "domain.lists"
local problem = require "http.problem"
local project = require "domain.project"
local rfc3339 = require "http.rfc3339"
local schema = require "http.schema"
local T = require "http.types"
local unit_files = require "domain.unit_files"
local value = require "value"

local M = {}

M.types = {
  id = T.made_id("bak"),
  backup = T.object("Backup", {
    {"backup_id", T.made_id("bak"), from_id = true},
    {"created_at", T.ts, doc = "The point of time that it holds"},
    {"bytes", T.int(0)}, {"sha256", T.hash, doc = "Of its manifest, which has those of all files"},
    {"collections", T.list(T.object(nil, {{"name", T.str()}, {"count", T.int(0)}}))},
  }),
}
local ty = M.types.backup

---@return string
local function root()
  local dir = config.get("KONTOR_BACKUP_DIR")
  return dir ~= "" and dir or config.get("KONTOR_DATA_DIR") .. "/backups"
end

---Folder of a project's backups.
---@param project_id string
---@return string
function M.dir(project_id) return root() .. "/" .. project_id end

---Folder of one.
---@param project_id string
---@param backup_id string well-formed
---@return string
function M.folder(project_id, backup_id) return M.dir(project_id) .. "/" .. backup_id end

---@param project_id string
---@param backup_id string well-formed
---@return table|nil stored form of a Backup
---@return kontor.Error|nil not_found
function M.read(project_id, backup_id)
  local m, err, sha256 = unit_files.manifest(M.folder(project_id, backup_id))
  if not m then
    if err.code == "not_found" then err = problem.err("not_found", "there is no backup " .. backup_id) end
    return nil, err
  end
  local bytes, collections = 0, json.array{}
  for i, c in ipairs(m.collections) do
    bytes = bytes + c.bytes + c.metadata_bytes
    collections[i] = {name = c.name, count = c.documents}
  end
  return {_id = backup_id, created_at = value.date(rfc3339.parse(m.at)), bytes = bytes, sha256 = sha256, collections = collections}
end

-- What exports that were killed have left: nothing has been written to it for a day.
local function sweep(dir)
  for _, entry in ipairs(file.list(dir) or {}) do
    local st = entry.name:find(".part-", 1, true) and file.stat(dir .. "/" .. entry.name)
    if st and st.mtime < clock.now() - 24 * 3600 * 1000 then file.remove(dir .. "/" .. entry.name) end
  end
end

---Make one. The project works meanwhile.
---@param project_id string
---@param backup_id? string a new one when absent
---@return table|nil stored form of a Backup
---@return kontor.Error|nil
function M.make(project_id, backup_id)
  backup_id = backup_id or ids.new("bak")
  local ok, err = file.mkdir(M.dir(project_id))
  if ok then sweep(M.dir(project_id)) end
  if ok then ok, err = unit_files.export(project_id, M.folder(project_id, backup_id)) end
  if not ok then return nil, err end
  return M.read(project_id, backup_id)
end

-- Ids of the folders that are backups by their names, newest first.
local function names(project_id)
  local entries, err = file.list(M.dir(project_id))
  if not entries then
    if err.code == "not_found" then return {} end
    return nil, err
  end
  local list = {}
  for _, entry in ipairs(entries) do
    if entry.kind == "dir" and M.types.id.match(entry.name) then table.insert(list, 1, entry.name) end
  end
  return list
end

---Backups of a project, newest first. A folder that cannot be read is left out: GET of that one says why.
---@param project_id string
---@param before? string only those older than this id
---@param limit? integer
---@return table[]|nil stored forms
---@return kontor.Error|nil
function M.list(project_id, before, limit)
  local found, err = names(project_id)
  if not found then return nil, err end
  local list = {}
  for _, name in ipairs(found) do
    if #list == limit then break end
    local one = (not before or name < before) and M.read(project_id, name)
    if one then list[#list + 1] = one end
  end
  return list
end

---Remove all but the newest, unless one of them is just being restored.
---@param project_id string
---@param keep integer
---@return integer|nil removed
---@return kontor.Error|nil
function M.prune(project_id, keep)
  local busy, err = project.master():find_one("kt_m_jobs", {project_id = project_id, status = "running", kind = "restore"},
    {projection = {"_id"}})
  if busy or err then return not err and 0 or nil, err end
  local list
  list, err = names(project_id)
  if not list then return nil, err end
  for i = keep + 1, #list do
    local ok
    ok, err = file.remove(M.folder(project_id, list[i]))
    if not ok then return nil, err end
  end
  return math.max(0, #list - keep)
end

-- Is there such a project, in whatever state it is?
local function known(id)
  if not project.exists_here(id) then return nil, problem.err("not_found") end
  local doc, err = project.master():find_one("kt_m_projects", {_id = id}, {projection = {"_id"}})
  return doc and true, err or not doc and problem.err("not_found") or nil
end

---GET: a page of them.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.page(ctx)
  local id = ctx.params.project_id
  local ok, err = known(id)
  if not ok then return nil, err end
  local binding, after, bad = lists.place(ctx)
  if bad then return nil, bad end
  local list
  list, err = M.list(id, after and after[1], ctx.query.limit + 1)
  if not list then return nil, err end
  local texts = {}
  for i = 1, math.min(#list, ctx.query.limit) do texts[i] = schema.to_json(ty, list[i]) end
  return answer.page("[" .. table.concat(texts, ",") .. "]",
    #list > #texts and cursor.seal({list[#texts]._id}, binding) or nil, ctx.query.limit)
end

---GET one.
---@param ctx kontor.Context
function M.get(ctx)
  local ok, err = known(ctx.params.project_id)
  local one
  if ok then one, err = M.read(ctx.params.project_id, ctx.params.backup_id) end
  if err and err.code == "not_found" then err = problem.err("not_found") end
  return one and answer.text(200, schema.to_json(ty, one)), err
end

return M
