-- Secrets: of the whole (kt_m_secrets) and of a project (kt_p_secrets). Stored is a sealed box
-- (kt.vault) that opens under its key, in its database and under its name alone:
--
--   {_id = name, key_id, nonce, box, version, updated_at, updated_by}
--
-- A value comes in by PUT and goes out by M.value alone, to what sends it; no answer, entry of the
-- audit log, event, error or log holds it. kt_m_secrets also has documents of the service itself,
-- `system/…`, which are none of these: a name has no slash.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local commit = require "domain.commit"
local config = require "kt.config"
local if_match = require "http.if_match"
local json = require "json"
local lists = require "domain.lists"
local problem = require "http.problem"
local project = require "domain.project"
local schema = require "http.schema"
local store = require "kt.store"
local T = require "http.types"
local value = require "value"
local vault = require "kt.vault"

local M = {}

local attempts = 5
local masked = "***"
local own = {{"key_id", "exists", true}} -- not the service's own

---Is this the name of a secret? Such a text may stand behind `secret:`.
---@param s string
---@return boolean
function M.valid_name(s) return #s <= 64 and s:find("^[A-Za-z0-9_][A-Za-z0-9._-]*$") ~= nil end

-- In a path any text is taken for one, so that PUT can say what is wrong with it.
local name = T.str{max = 1000, pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", match = function() return true end}

M.types = {
  name = name,
  value = T.object("SecretValue", {
    {"value", T.str{min = 1, max = 16384}, required = true, doc = "Sealed; no answer ever holds it"},
  }),
  secret = T.object("Secret", {
    {"name", name, from_id = true}, {"key_id", T.str(), doc = "Of the key that it is sealed under"},
    {"version", T.int(1)}, {"updated_at", T.ts}, {"updated_by", T.str()},
  }),
}
local ty = M.types.secret

---@class kontor.secret.Place where secrets are kept
---@field db table kt.store database
---@field coll string
---@field scope string what a box is sealed for, with its name
---@field project_id string|nil

---@return kontor.secret.Place
function M.of_master() return {db = project.master(), coll = "kt_m_secrets", scope = "master"} end

---@param id string
---@param db table
---@return kontor.secret.Place
function M.of_project(id, db)
  return {db = db, coll = "kt_p_secrets", scope = "project/" .. id, project_id = id}
end

local function place_of(ctx)
  return ctx.project and M.of_project(ctx.project.id, ctx.project.db) or M.of_master()
end

---The folder of the key file.
---@return string
function M.dir() return config.get("KONTOR_DATA_DIR") end

---May the key file seal? It belongs to this machine, as the embedded store does.
---@return boolean
function M.own_key() return store.stats().engine == "sqlite" end

---@param place kontor.secret.Place
---@param id string
---@param text string
---@return {key_id: string, nonce: any, box: any}|nil
---@return kontor.Error|nil invalid_state: there is no key
function M.seal(place, id, text) return vault.seal(M.dir(), place.scope .. "\n" .. id, text, M.own_key()) end

---The value in a stored document.
---@param place kontor.secret.Place
---@param doc table
---@return string|nil
---@return kontor.Error|nil
function M.open(place, doc) return vault.open(M.dir(), place.scope .. "\n" .. doc._id, doc) end

---The op of an entry in the audit log of a place.
---@param place kontor.secret.Place
function M.entry(place, principal, verb, id, changes, req)
  return audit.entry(principal, "secret." .. verb, "secret", id, changes, req, {master = not place.project_id})
end

local function find(place, id)
  if not M.valid_name(id) then return nil, problem.err("not_found") end
  local doc, err = place.db:find_one(place.coll, {_id = id})
  if not doc then return nil, err or problem.err("not_found") end
  return doc
end

local function write(ctx, place, id)
  local before, err = place.db:find_one(place.coll, {_id = id})
  if err then return nil, err end
  if before or ctx.if_match then
    local ok
    ok, err = if_match.check(ctx, before and before.version or 0)
    if not ok then return nil, err end
    if not before then return nil, problem.err("version_mismatch", "There is no such secret.") end
  end
  local doc
  doc, err = M.seal(place, id, ctx.body.value)
  if not doc then return nil, err end
  doc._id, doc.version = id, before and before.version + 1 or 1
  doc.updated_at, doc.updated_by = value.date(clock.now()), ctx.principal.name
  return commit.run(ctx, place.db, {
    before and {op = "replace", coll = place.coll, filter = {_id = id, version = before.version}, doc = doc, must_match = true}
      or {op = "insert", coll = place.coll, doc = doc},
    M.entry(place, ctx.principal, before and "update" or "create", id,
      {{pointer = "/value", from = before and masked or json.null, to = masked}}, ctx.req),
  }, {status = 204, headers = {}})
end

---PUT: the value from now on.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.put(ctx)
  local id = ctx.params.name
  if not M.valid_name(id) then
    return nil, problem.field({parameter = "name"}, "pattern", "must match " .. name.pattern)
  end
  local place = place_of(ctx)
  for _ = 1, attempts do
    local done, err = write(ctx, place, id)
    if done then return done end
    -- Somebody else has put or deleted it meanwhile.
    if err.code ~= "conflict" and not (err.code == "already_exists" and err.coll == place.coll) then return nil, err end
  end
  return nil, problem.err("conflict")
end

---DELETE.
---@param ctx kontor.Context
function M.delete(ctx)
  local place = place_of(ctx)
  local doc, err = find(place, ctx.params.name)
  if not doc then return nil, err end
  local done
  done, err = commit.run(ctx, place.db, {
    {op = "delete", coll = place.coll, filter = {_id = doc._id}, must_match = true},
    M.entry(place, ctx.principal, "delete", doc._id, {{pointer = "/value", from = masked, to = json.null}}, ctx.req),
  }, {status = 204, headers = {}})
  if not done and err.code == "conflict" then err = problem.err("not_found") end
  return done, err
end

---GET: what is known of a secret beside its value.
---@param ctx kontor.Context
function M.get(ctx)
  local doc, err = find(place_of(ctx), ctx.params.name)
  return doc and answer.text(200, schema.to_json(ty, doc), {ETag = answer.etag(doc.version)}), err
end

---GET: a page of them.
---@param ctx kontor.Context
function M.list(ctx)
  local place = place_of(ctx)
  return lists.page(ctx, {db = place.db, coll = place.coll, filter = own, type = ty, sort = lists.by_id})
end

---All of them at once, for a command.
---@param ctx kontor.Context
function M.all(ctx)
  local place = place_of(ctx)
  local docs, err = place.db:find(place.coll, own, {sort = lists.by_id})
  if not docs then return nil, err end
  local texts = {}
  for i, doc in ipairs(docs) do texts[i] = schema.to_json(ty, doc) end
  return answer.page("[" .. table.concat(texts, ",") .. "]", nil, #docs)
end

---The value that a name stands for in a project: its own secret, else that of the whole. The only way to
---one: whoever asks sends it where it is for, and keeps it nowhere.
---@param of {id: string, db: table}|nil a project; nil: of the whole alone
---@param id string
---@return string|nil
---@return kontor.Error|nil not_found; invalid_state: its key is not here
function M.value(of, id)
  local place, doc, err
  if of then
    place = M.of_project(of.id, of.db)
    doc, err = find(place, id)
  end
  if not doc and (not err or err.code == "not_found") then
    place = M.of_master()
    doc, err = find(place, id)
  end
  if not doc then
    if err.code == "not_found" then err = problem.err("not_found", "there is no secret " .. id) end
    return nil, err
  end
  local text
  text, err = M.open(place, doc)
  if not text then
    return nil, problem.err(err.code, ("the secret %s of %s does not open: %s"):format(id, place.scope, err.message))
  end
  return text
end

return M
