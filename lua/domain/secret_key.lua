-- The key that secrets are sealed under, and its rotation: every secret, of the whole and of all
-- projects, is opened and sealed anew under the present key. Where the key file is in use, that is a new
-- key, made here; where KONTOR_MASTER_KEY is, the one that it holds now.
--
-- A rotation that is under way is a document of kt_m_secrets (`system/rotation`), written before anything
-- is changed. Whoever finds it goes on with that rotation: a second request, or the next start after a
-- crash. Every secret opens all the time, under the old key or the new one: keys leave the key file by hand alone,
-- copies of the data need them.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local fault = require "kt.fault"
local given = require "lib.given"
local json = require "json"
local log = require "kt.log"
local principals = require "http.principal"
local problem = require "http.problem"
local project = require "domain.project"
local secret = require "domain.secret"
local store = require "kt.store"
local T = require "http.types"
local value = require "value"
local vault = require "kt.vault"

local M = {}

local marker_id = "system/rotation"
local page = 100 -- secrets sealed anew in one commit

local unopened = T.object("UnopenedSecret", {
  {"project_id", T.project_id, nullable = true, doc = "null: a secret of the whole"}, {"name", T.str(), nullable = true},
  {"key_id", T.str(), nullable = true}, {"message", T.str{max = 2000}},
})

M.types = {
  rotate = T.object("RotateSecretKey", {}),
  rotated = T.object("SecretKeyRotation", {
    {"key_id", T.str(), doc = "Of the present key"},
    {"resealed", T.int(0), doc = "Secrets that were sealed under another one"},
    {"resumed", T.bool, doc = "It went on with a rotation that had been cut off"},
    {"failed", T.list(unopened), doc = "What could not be sealed anew, and is as it was"},
  }),
}

local function failure(report, place, doc, err)
  report.failed[#report.failed + 1] = json.ordered({project_id = place.project_id or json.null, name = doc and doc._id or json.null,
    key_id = doc and doc.key_id or json.null, message = tostring(err.message or err.code)},
    {"project_id", "name", "key_id", "message"})
end

-- Seals a page anew, in one commit. Who was put or deleted meanwhile no longer matches, and needs nothing.
local function reseal_page(place, docs, principal, req, report)
  local ops = {}
  for _, doc in ipairs(docs) do
    local text, err = secret.open(place, doc)
    local sealed
    if text then sealed, err = secret.seal(place, doc._id, text) end
    if sealed then
      ops[#ops + 1] = {op = "update", coll = place.coll, filter = {_id = doc._id, version = doc.version, key_id = doc.key_id},
        update = {set = {key_id = sealed.key_id, nonce = sealed.nonce, box = sealed.box}}}
    else failure(report, place, doc, err) end
  end
  local n = #ops
  if n == 0 then return true end
  ops[n + 1] = secret.entry(place, principal, "reseal", report.key_id, nil, req)
  ops[n + 1].doc.count = n
  fault.kill("secret.reseal")
  local done, err = place.db:commit(ops)
  if not done then return nil, err end
  for i = 1, n do report.resealed = report.resealed + done[i].matched end
  return true
end

local function reseal(place, principal, req, report)
  local after
  while true do
    local docs, err = place.db:find(place.coll, {{"key_id", "exists", true}, {"key_id", "ne", report.key_id}},
      {sort = {{"_id", 1}}, limit = page, after = after})
    if not docs then return nil, err end
    local ok
    ok, err = reseal_page(place, docs, principal, req, report)
    if not ok then return nil, err end
    if #docs < page then return true end
    after = {docs[#docs]._id}
  end
end

-- All of them, also those that ENABLE_MULTI_TENANT hides; their databases as they are, without migrations.
local function reseal_projects(principal, req, report)
  local after
  while true do
    local docs, err = project.master():find("kt_m_projects", {{"status", "nin", {"creating", "erasing"}}},
      {sort = {{"_id", 1}}, limit = page, after = after, projection = {"_id"}})
    if not docs then return nil, err end
    for _, doc in ipairs(docs) do
      local place = secret.of_project(doc._id, store.database(project.database_name(doc._id)))
      local ok
      ok, err = reseal(place, principal, req, report)
      if not ok then
        log.error("secret.reseal", {project_id = doc._id, msg = tostring(err.code) .. ": " .. tostring(err.message)})
        failure(report, place, nil, {message = "its database: " .. tostring(err.code)})
      end
    end
    if #docs < page then return true end
    after = {docs[#docs]._id}
  end
end

-- The rotation to go on with: one that is under way, else a new one.
local function begin(principal)
  local master = project.master()
  local marker, err = master:find_one("kt_m_secrets", {_id = marker_id})
  if marker or err then return marker, err or true end
  local keys
  keys, err = vault.keys(secret.dir(), secret.own_key())
  if not keys then return nil, err end
  if not keys.current and not secret.own_key() then
    return nil, problem.err("invalid_state", "KONTOR_MASTER_KEY is not set: there is no key to seal under.")
  end
  marker = {_id = marker_id, from = keys.current or json.null, started_at = value.date(clock.now()), by = principal.name}
  local ok
  ok, err = master:insert("kt_m_secrets", marker)
  if ok then return marker, false end
  if err.code ~= "already_exists" then return nil, err end
  return begin(principal)
end

-- The key to seal under from now on.
local function present_key(marker)
  local keys, err = vault.keys(secret.dir(), secret.own_key())
  if not keys then return nil, err end
  if keys.from_env then return keys.current end
  if not secret.own_key() then
    return nil, problem.err("invalid_state", "KONTOR_MASTER_KEY is not set: there is no key to seal under.")
  end
  fault.kill("secret.key")
  return vault.next(secret.dir(), given(marker.from) or "")
end

---Rotate, or go on with a rotation that was cut off.
---@param principal kontor.Principal
---@param req? table
---@return {key_id: string, resealed: integer, resumed: boolean, failed: table[]}|nil
---@return kontor.Error|nil
function M.rotate(principal, req)
  local marker, resumed = begin(principal)
  if not marker then return nil, resumed end
  local key_id, err = present_key(marker)
  if not key_id then return nil, err end
  local report = {key_id = key_id, resealed = 0, resumed = resumed, failed = json.array{}}
  local ok
  ok, err = reseal(secret.of_master(), principal, req, report)
  if ok then ok, err = reseal_projects(principal, req, report) end
  if not ok then return nil, err end
  local entry = audit.entry(principal, "secret_key.rotate", "secret_key", key_id,
    {{pointer = "/key_id", from = marker.from, to = key_id}}, req, {master = true, outcome = report.failed[1] and "error" or "ok"})
  fault.kill("secret.rotated")
  ok, err = project.master():commit{
    {op = "delete", coll = "kt_m_secrets", filter = {_id = marker_id, started_at = marker.started_at}, must_match = true}, entry}
  -- Somebody else who went on with it was faster.
  if not ok and err.code ~= "conflict" then return nil, err end
  log.info("secret.rotated", {msg = ("%d under %s, %d failed"):format(report.resealed, key_id, #report.failed)})
  return report
end

---POST: rotate.
---@param ctx kontor.Context
function M.post(ctx)
  local report, err = M.rotate(ctx.principal, ctx.req)
  if not report then return nil, err end
  return answer.doc(200, json.ordered(report, {"key_id", "resealed", "resumed", "failed"}))
end

---Before anything is served: the key file must be one that can be used.
---@return true|nil
---@return kontor.Error|nil
function M.check()
  local keys, err = vault.keys(secret.dir(), secret.own_key())
  return keys and true, err
end

---After the start: go on with a rotation that a crash has cut off.
function M.resume()
  local marker, err = project.master():find_one("kt_m_secrets", {_id = marker_id}, {projection = {"_id"}})
  if marker then err = select(2, M.rotate(principals.system())) end
  if err then log.error("secret.resume", {msg = tostring(err.code) .. ": " .. tostring(err.message)}) end
end

return M
