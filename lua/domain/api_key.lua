-- API keys (kt_m_api_keys): who may do what where. A key is shown once, when it is made:
--
--   kt_<32 hex: its id>_<43 characters: 32 random bytes>
--
-- Stored is the SHA-256 of the random part. (No slow hash: 256 random bits are not guessed, and every
-- request asks.) Its id finds the row, the hash is compared in constant time.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local commit = require "domain.commit"
local config = require "kt.config"
local crypto = require "kt.crypto"
local given = require "lib.given"
local ids = require "domain.ids"
local json = require "json"
local lists = require "domain.lists"
local log = require "kt.log"
local problem = require "http.problem"
local project = require "domain.project"
local schema = require "http.schema"
local T = require "http.types"
local task = require "kt.task"
local value = require "value"

local M = {}

local coll = "kt_m_api_keys"

-- Seconds that a worker believes what it read: a key that another worker revoked is refused so much
-- later at most, in the worker that revoked it at once.
local believe_seconds = 1
local believed_max = 10000

M.roles = {"viewer", "operator", "author", "admin"}

local scope = T.list(T.str{max = 48, pattern = T.project_id.pattern .. "|^\\*$", match = function(s)
  return s == "*" or T.project_id.match(s)
end}, {max = 200, unique = true})

M.types = {
  key = T.object("ApiKey", {
    {"key_id", T.made_id("key"), ro = true, from_id = true},
    {"name", T.str{min = 1}, required = true},
    {"role", T.enum(M.roles), required = true},
    {"projects", scope, doc = 'Ids, or ["*"]: all projects and master data; when absent all, or the project of the path'},
    {"expires_at", T.ts, nullable = true},
    {"created_by", T.str(), ro = true}, {"created_at", T.ts, ro = true},
    {"last_used_day", T.date, ro = true, nullable = true},
  }),
}
local ty = M.types.key

-- Fields of the answer to POST alone.
local with_secret = {}
for i, f in ipairs(ty.fields) do with_secret[i] = f end
with_secret[#with_secret + 1] = {"api_key", T.str(), ro = true, nullable = true,
  doc = "Shown this once; null when the answer is repeated for an Idempotency-Key"}
M.types.created = T.object("ApiKeyCreated", with_secret)

local function master() return project.master() end

local believed, count = {}, 0 -- key text -> {principal | false, until}
local exist = {answer = nil, till = 0}

-- The day of a key's last use, once a day.
local function used(doc)
  local today = clock.format(clock.now()):sub(1, 10)
  if doc.last_used_day == today then return end
  task.detach(function()
    local _, err = master():update_one(coll, {_id = doc._id}, {set = {last_used_day = today}})
    if err then log.warn("key.last_used", {msg = tostring(err.code)}) end
  end)
end

local function read(text)
  local id, secret = text:match("^kt_(%x+)_([A-Za-z0-9_-]+)$")
  if not id or #id ~= 32 or #secret ~= 43 then return false end
  local doc, err = master():find_one(coll, {_id = "key_" .. id})
  if err then return nil, err end
  -- Also for an id that is not there: how long it takes says nothing.
  local same = crypto.equal(doc and doc.hash or ("0"):rep(64), crypto.sha256(secret))
  if not doc or not same then return false end
  used(doc)
  return {id = doc._id, name = doc.name, role = doc.role, projects = doc.projects, via = "key",
    expires_at = doc.expires_at ~= json.null and doc.expires_at or nil}
end

---Whose key is this?
---@param text string as sent
---@return kontor.Principal|false|nil principal false: of nobody (any more)
---@return kontor.Error|nil
function M.find(text)
  local now = clock.monotonic()
  local known = believed[text]
  if not known or known.till <= now then
    local who, err = read(text)
    if who == nil then return nil, err end
    if not known then
      if count >= believed_max then believed, count = {}, 0 end
      count = count + 1
    end
    known = {who = who, till = now + believe_seconds}
    believed[text] = known
  end
  local who = known.who
  if who and who.expires_at and who.expires_at.ms <= clock.now() then return false end
  return who
end

---Is any key stored? As long as none is, development mode may serve without one.
---@return boolean|nil
---@return kontor.Error|nil
function M.exist()
  local now = clock.monotonic()
  if exist.till <= now then
    local n, err = master():count(coll, {}, 1)
    if not n then return nil, err end
    exist.answer, exist.till = n > 0, now + believe_seconds
  end
  return exist.answer
end

---The same as far as it is known, without asking the store.
---@return boolean
function M.known() return exist.answer == true end

-- Keys have changed here: what was read is nothing worth any more.
local function forget()
  believed, count, exist.till = {}, 0, 0
  M.exist() -- so that it is known; who cannot read it now asks later
end

-- What the row is listed under: one project's own keys are found by it.
local function scope_of(projects)
  return #projects == 1 and projects[1] or "several"
end

-- Keys are master data, also those of a project: it must be there.
local function in_project(ctx)
  local id = ctx.params.project_id
  if not id then return true end
  local found, err = project.open(id)
  return found and true, err
end

local function check(ctx, stored)
  local errors, here = {}, ctx.params.project_id
  if stored.expires_at ~= json.null and stored.expires_at.ms <= clock.now() then
    errors[1] = {pointer = "/expires_at", code = "invalid", message = "is in the past"}
  end
  local named = given(ctx.body.projects)
  if here then
    if named and (#named ~= 1 or named[1] ~= here) then
      errors[#errors + 1] = {pointer = "/projects", code = "invalid", message = "can only be the project of the path"}
    end
    stored.projects = json.array{here}
  elseif not named then
    stored.projects = json.array{"*"}
  else
    for i, id in ipairs(named) do
      if id == "*" then
        if #named > 1 then
          errors[#errors + 1] = {pointer = "/projects/" .. (i - 1), code = "invalid", message = "stands alone"}
        end
      else
        local doc, err = master():find_one("kt_m_projects", {_id = id}, {projection = {"_id"}})
        if err then return nil, err end
        if not doc then
          errors[#errors + 1] = {pointer = "/projects/" .. (i - 1), code = "not_found", message = "does not exist"}
        end
      end
    end
    if #named == 0 then errors[#errors + 1] = {pointer = "/projects", code = "min", message = "is empty"} end
  end
  if #errors > 0 then return nil, problem.err("validation_failed", nil, {errors = errors}) end
  return true
end

---POST: make a key. While KONTOR_DEV=1 serves everybody as admin there must be none.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.create(ctx)
  if config.get("KONTOR_DEV") then
    return nil, problem.err("invalid_state", "KONTOR_DEV=1 serves everybody as admin: start without it to use keys.")
  end
  local ok, err = in_project(ctx)
  if not ok then return nil, err end
  local stored = schema.to_stored(ty, ctx.body)
  ok, err = check(ctx, stored)
  if not ok then return nil, err end
  local secret = crypto.base64url_encode(crypto.random(32))
  stored._id = ids.new("key")
  stored.hash = crypto.sha256(secret)
  stored.scope = scope_of(stored.projects)
  stored.created_by, stored.created_at = ctx.principal.name, value.date(clock.now())
  stored.last_used_day = json.null
  local plain = schema.to_plain(M.types.created, stored)
  plain.api_key = json.null
  local location = ctx.req.path .. "/" .. stored._id
  local function result() return answer.text(201, json.encode(plain), {Location = location}) end
  local done
  -- What is kept for a repetition does not hold the key.
  done, err = commit.run(ctx, master(), {
    {op = "insert", coll = coll, doc = stored},
    audit.entry(ctx.principal, "key.create", "key", stored._id,
      {{pointer = "/name", from = json.null, to = stored.name}, {pointer = "/role", from = json.null, to = stored.role},
        {pointer = "/projects", from = json.null, to = stored.projects}}, ctx.req),
  }, result())
  if not done then return nil, err end
  forget()
  plain.api_key = "kt_" .. stored._id:sub(5) .. "_" .. secret
  return result()
end

-- A project's keys are those that are for it alone; whoever has more is nobody's business there.
local function mine(ctx, id)
  return {_id = id, scope = ctx.params.project_id}
end

local function find(ctx)
  local ok, err = in_project(ctx)
  if not ok then return nil, err end
  local doc
  doc, err = master():find_one(coll, mine(ctx, ctx.params.key_id))
  if not doc then return nil, err or problem.err("not_found") end
  return doc
end

---GET: a page of keys, without their secrets.
---@param ctx kontor.Context
function M.list(ctx)
  local ok, err = in_project(ctx)
  if not ok then return nil, err end
  return lists.page(ctx, {db = master(), coll = coll, filter = mine(ctx), type = ty, sort = lists.by_id})
end

---GET one.
---@param ctx kontor.Context
function M.get(ctx)
  local doc, err = find(ctx)
  return doc and answer.text(200, schema.to_json(ty, doc)), err
end

---DELETE: the key is refused from now on, in other workers a second later at most.
---@param ctx kontor.Context
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.revoke(ctx)
  local doc, err = find(ctx)
  if not doc then return nil, err end
  local done
  done, err = commit.run(ctx, master(), {
    {op = "delete", coll = coll, filter = {_id = doc._id}, must_match = true},
    audit.entry(ctx.principal, "key.revoke", "key", doc._id, {{pointer = "/name", from = doc.name, to = json.null}}, ctx.req),
  }, {status = 204, headers = {}})
  if not done then
    if err.code == "conflict" then return nil, problem.err("not_found") end
    return nil, err
  end
  forget()
  return done
end

return M
