-- The audit log: one entry for every write, made as an op that goes into the commit of that write.
-- Entries are never changed.

local clock = require "kt.clock"
local crypto = require "kt.crypto"
local ids = require "domain.ids"
local json = require "json"
local log = require "kt.log"
local schema = require "http.schema"
local T = require "http.types"
local value = require "value"

local M = {}

local max_changes = 4096 -- bytes of JSON
local max_value = 400    -- bytes of JSON of one value

-- What belongs to the master database; every other type belongs to its project's.
local master = {project = true, agent = true, system_prompt = true, setup = true, script = true,
  model_config = true, tool = true, mcp_server = true, key = true, route = true}

M.types = {
  entry = T.object("AuditEntry", {
    {"audit_id", T.made_id("aud"), from_id = true}, {"at", T.ts}, {"actor", T.str()}, {"actor_name", T.str()},
    {"role", T.str()}, {"via", T.enum{"key", "session", "dev", "cli", "engine"}}, {"action", T.str()},
    {"target_type", T.str()}, {"target_id", T.str()}, {"outcome", T.enum{"ok", "denied", "error"}},
    {"code", T.str(), nullable = true}, {"request_id", T.str(), nullable = true},
    {"execution_id", T.str(), nullable = true}, {"address", T.str(), nullable = true},
    {"changes", T.list(T.object(nil, {{"pointer", T.str{max = 2000}}, {"from", T.any}, {"to", T.any}}))},
    {"count", T.int(1)},
  }),
}

local function bounded(v)
  local text = json.encode(v)
  if text and #text <= max_value then return v end
  return ("(%d bytes of JSON)"):format(text and #text or 0)
end

---Changes cut to what an entry holds; the last one then says how many are left out.
local function cut(changes)
  local out, size = {}, 2
  for i, c in ipairs(changes) do
    local item = {pointer = c.pointer, from = bounded(c.from), to = bounded(c.to)}
    size = size + #json.encode(item) + 1
    if size > max_changes - 100 then
      out[#out + 1] = {pointer = "", from = json.null, to = ("(%d more)"):format(#changes - i + 1)}
      break
    end
    out[#out + 1] = item
  end
  return json.array(out)
end

---The op that writes an entry.
---@param principal kontor.Principal
---@param action string `<type>.<verb>`
---@param target_type string
---@param target_id string
---@param changes? table[] as of schema.diff
---@param req? table the request: its id is noted
---@param more? {outcome?: string, code?: string, execution_id?: string, master?: boolean} master: it is about
--- the whole, though others of its type are a project's
---@return table op for db:commit of the database that `target_type` belongs to
function M.entry(principal, action, target_type, target_id, changes, req, more)
  more = more or {}
  return {
    op = "insert", coll = (more.master or master[target_type]) and "kt_m_audit_log" or "kt_p_audit_log",
    doc = {
      _id = ids.new("aud"), at = value.date(clock.now()), actor = principal.id, actor_name = principal.name,
      role = principal.role, via = principal.via, action = action, target_type = target_type,
      target_id = target_id, outcome = more.outcome or "ok", code = more.code or json.null,
      request_id = req and req.id or json.null, execution_id = more.execution_id or json.null,
      address = principal.address or json.null, changes = cut(changes or {}), count = 1,
    },
  }
end

---The changes of a document that comes into being, or is replaced.
---@param ty kontor.Type
---@param before table|nil plain form
---@param after table|nil plain form
function M.changes(ty, before, after)
  local list = {}
  for _, c in ipairs(schema.diff(before, after)) do
    local f = ty.by_name[c.pointer:match("^/([^/]*)")]
    if not f or not f.ro then list[#list + 1] = c end
  end
  return list
end

-- Refusals wait here for the next flush: one entry for who, what, why and minute, with a count.
local refusals, waiting = {}, 0
local refusals_max = 1000

---Note that a principal was refused. Requests without a valid key are only counted (metrics).
---@param principal kontor.Principal
---@param route kontor.Route
---@param code string
function M.denied(principal, route, code)
  local now = clock.now()
  local minute = math.floor(now / 60000)
  local id = "aud_" .. crypto.sha256(table.concat({principal.id, route.operation_id, code, minute}, "\n")):sub(1, 32)
  local entry = refusals[id]
  if not entry then
    if waiting >= refusals_max then return end
    waiting = waiting + 1
    entry = {count = 0, doc = M.entry(principal, "auth.denied", "route", route.operation_id, nil, nil,
      {outcome = "denied", code = code}).doc}
    refusals[id] = entry
  end
  entry.count = entry.count + 1
end

---Write down the refusals noted so far. Entries of the same minute add up, also those of other workers.
---@param db table the master database
function M.flush_denied(db)
  local list = refusals
  refusals, waiting = {}, 0
  for id, entry in pairs(list) do
    entry.doc._id, entry.doc.count = nil, nil
    local _, err = db:update_one("kt_m_audit_log", {_id = id}, {set_on_insert = entry.doc, inc = {count = entry.count}}, {upsert = true})
    if err then log.error("audit.denied", {msg = tostring(err.code) .. ": " .. tostring(err.message)}) end
  end
end

return M
