-- Versioned documents (templates, prompts, instances): the head in its collection, every version in
-- kt_m_versions or kt_p_versions, `_id` = kind/id/version. A PUT makes version n+1 and keeps the old.
--
-- A kind is a table: {kind, coll, versions, audit, id_field, type, path = fun(ctx, id) -> Location,
-- check = fun(ctx, plain, db) -> errors | nil}.

local answer = require "http.answer"
local audit = require "domain.audit"
local clock = require "kt.clock"
local commit = require "domain.commit"
local if_match = require "http.if_match"
local problem = require "http.problem"
local schema = require "http.schema"
local T = require "http.types"
local value = require "value"

local M = {}

local replace_attempts = 5

---Fields that every versioned document ends with.
function M.fields()
  return {
    {"labels", T.map(), ro = true},
    {"archived", T.bool, ro = true},
    {"created_by", T.str(), immutable = true, default = function(ctx) return ctx.principal.name end},
    {"updated_by", T.str(), ro = true},
    {"created_at", T.ts, ro = true},
    {"updated_at", T.ts, ro = true},
    {"metadata", T.map(), default = {}},
  }
end

---A document type out of its own fields and the common ones; the version comes second, so that it
---is found at the beginning of a JSON text.
---@param name string
---@param fields table[] the first is the id
function M.type(name, fields)
  table.insert(fields, 2, {"version", T.int(1), ro = true})
  fields[1].from_id = true
  for _, f in ipairs(M.fields()) do fields[#fields + 1] = f end
  return T.object(name, fields)
end

M.types = {
  version = T.object("Version", {
    {"version", T.int(1)}, {"sha256", T.hash}, {"created_by", T.str()}, {"created_at", T.ts},
    {"labels", T.list(T.str())},
  }),
}

---The ETag of a JSON text that was made with the view of a versioned type.
---@param text string
---@return string|nil
function M.etag_of(text)
  local n = text:match('^{"[a-z_]+":"[^"]*","version":(%d+)')
  return n and answer.etag(tonumber(n))
end

local function version_op(kind, stored, principal)
  local id = stored._id
  return {op = "insert", coll = kind.versions, doc = {
    _id = ("%s/%s/%d"):format(kind.kind, id, stored.version), kind = kind.kind, id = id,
    version = stored.version, doc = stored, sha256 = value.hash(value.encode(stored)),
    created_by = principal.name, created_at = stored.updated_at}}
end

---The stored form of a new document.
---@param kind table
---@param plain table
---@param principal kontor.Principal
function M.first(kind, plain, principal)
  local stored = schema.to_stored(kind.type, plain)
  local now = value.date(clock.now())
  stored.version, stored.labels, stored.archived = 1, {}, false
  stored.created_at, stored.updated_at, stored.updated_by = now, now, principal.name
  return stored
end

---Ops of a new document: head, version, audit entry.
function M.create_ops(kind, stored, principal, req)
  return {
    {op = "insert", coll = kind.coll, doc = stored},
    version_op(kind, stored, principal),
    audit.entry(principal, kind.audit .. ".create", kind.audit, stored._id,
      audit.changes(kind.type, nil, schema.to_plain(kind.type, stored)), req),
  }
end

---Ops of a further version; matched against the version it was made from.
function M.replace_ops(kind, before, after, principal, req)
  return {
    {op = "replace", coll = kind.coll, filter = {_id = before._id, version = before.version}, doc = after,
      must_match = true},
    version_op(kind, after, principal),
    audit.entry(principal, kind.audit .. ".update", kind.audit, before._id,
      audit.changes(kind.type, schema.to_plain(kind.type, before), schema.to_plain(kind.type, after)), req),
  }
end

---The stored form of the version after `before` with the given content.
function M.following(kind, before, plain, principal)
  local stored = schema.to_stored(kind.type, plain)
  for _, f in ipairs(kind.type.fields) do
    if (f.ro or f.immutable) and not f.from_id then
      local name = schema.stored_name(f)
      stored[name] = before[name]
    end
  end
  stored._id = before._id
  stored.version = before.version + 1
  stored.updated_at, stored.updated_by = value.date(clock.now()), principal.name
  return stored
end

local function checked(kind, ctx, db, plain, before)
  if not kind.check then return true end
  local errors, err = kind.check(ctx, plain, db, before)
  if err then return nil, err end
  if errors and #errors > 0 then return nil, problem.err("validation_failed", nil, {errors = errors}) end
  return true
end

---POST. The id is in the body (master data) or was put there by the caller.
---@param kind table
---@param ctx kontor.Context
---@param db table
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.create(kind, ctx, db)
  local ok, err = checked(kind, ctx, db, ctx.body)
  if not ok then return nil, err end
  local stored = M.first(kind, ctx.body, ctx.principal)
  local result = answer.created(kind.path(ctx, stored._id), schema.to_json(kind.type, stored), 1)
  local done
  done, err = commit.run(ctx, db, M.create_ops(kind, stored, ctx.principal, ctx.req), result)
  if not done then
    if err.code == "already_exists" and err.coll == kind.coll then
      return nil, problem.err("already_exists", "This id is taken.")
    end
    return nil, err
  end
  return done
end

---PUT.
function M.replace(kind, ctx, db, id)
  for _ = 1, replace_attempts do
    local before, err = db:find_one(kind.coll, {_id = id})
    if not before then return nil, err or problem.err("not_found") end
    local ok
    ok, err = if_match.check(ctx, before.version)
    if not ok then return nil, err end
    local errors = schema.check_repeated(ctx.checked, schema.to_plain(kind.type, before))
    if #errors > 0 then return nil, problem.err("validation_failed", nil, {errors = errors}) end
    if before.archived then return nil, problem.err("archived") end
    ok, err = checked(kind, ctx, db, ctx.body, before)
    if not ok then return nil, err end
    local after = M.following(kind, before, ctx.body, ctx.principal)
    local result = answer.text(200, schema.to_json(kind.type, after), {ETag = answer.etag(after.version)})
    local done
    done, err = commit.run(ctx, db, M.replace_ops(kind, before, after, ctx.principal, ctx.req), result)
    if done then return done end
    if err.code ~= "conflict" and err.code ~= "already_exists" then return nil, err end
    -- Someone else was first: read again, and check If-Match again.
  end
  return nil, problem.err("conflict")
end

---GET one.
function M.get(kind, db, id)
  local text, err = db:find_one_json(kind.coll, {_id = id}, schema.view(kind.type))
  if not text then return nil, err or problem.err("not_found") end
  return answer.text(200, text, {ETag = M.etag_of(text)})
end

---GET …/versions/{n}.
function M.get_version(kind, db, id, n)
  local row, err = db:find_one(kind.versions, {_id = ("%s/%s/%s"):format(kind.kind, id, n)})
  if not row then return nil, err or problem.err("not_found") end
  return answer.text(200, schema.to_json(kind.type, row.doc), {ETag = answer.etag(row.version)})
end

---Which version a ref names.
---@param db table
---@param kind table
---@param id string
---@param ref string "latest", a label or a number
---@return table|nil doc stored form
---@return kontor.Error|nil
function M.resolve(kind, db, id, ref)
  local head, err = db:find_one(kind.coll, {_id = id})
  if not head then return nil, err or problem.err("not_found") end
  if ref == "latest" then return head end
  local n = ref:find("^[1-9]%d*$") and tonumber(ref) or head.labels[ref]
  if n == head.version then return head end
  local row
  if n then row, err = db:find_one(kind.versions, {_id = ("%s/%s/%d"):format(kind.kind, id, n)}) end
  if not row then return nil, err or problem.err("not_found") end
  return row.doc
end

return M
