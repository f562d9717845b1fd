-- The audit log: one entry for every write, made as an op that goes into the commit of that write.
-- Entries are never changed.

local clock = require "kt.clock"
local ids = require "domain.ids"
local json = require "json"
local schema = require "http.schema"
local T = require "http.types"
local value = require "value"

local M = {}

local max_changes = 4096 -- bytes of JSON
local max_value = 400    -- bytes of JSON of one value

-- What belongs to the master database; every other type belongs to its project's.
local master = {project = true, agent = true, system_prompt = true, setup = true, script = true,
  model_config = true, tool = true, mcp_server = true, key = true}

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
---@param more? {outcome?: string, code?: string, execution_id?: string}
---@return table op for db:commit of the database that `target_type` belongs to
function M.entry(principal, action, target_type, target_id, changes, req, more)
  more = more or {}
  return {
    op = "insert", coll = master[target_type] and "kt_m_audit_log" or "kt_p_audit_log",
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

return M
