-- The types of which every request and answer is declared (api.md 1). A type is a plain table; what
-- is done with it is in schema.lua (validate, store, show) and openapi.lua (document).
--
--   T.object("Project", {
--     {"project_id", T.project_id, required = true, immutable = true},
--     {"description", T.str{max = 2000}, default = ""},
--     {"status", T.enum{"creating", "active"}, ro = true},
--   })
--
-- A field: {name, type, required=, default=, nullable=, ro=, immutable=, doc=}. `ro`: set by the
-- service; `immutable`: given once. A nullable field without a default is null when absent. Fields of
-- answers alone: from_id= (stored as `_id`), text={literal, field, literal, …} (put together out of
-- stored fields), derived= (an object made out of the document itself).

local M = {}

local max_int = 9007199254740992

---@class kontor.Type
---@field kind string str, int, num, bool, dec, usd, ts, date, map, list, object, any, json
---@field name? string name in the API document

---@param o? {max?: integer, min?: integer, pattern?: string, match?: fun(s: string): any, enum?: string[], what?: string}
---@return kontor.Type
function M.str(o)
  o = o or {}
  return {kind = "str", min = o.min, max = o.max or 200, pattern = o.pattern, match = o.match,
    enum = o.enum, what = o.what, format = o.format}
end

---Text of up to `max` bytes.
function M.text(max) return {kind = "str", max_bytes = max or 262144} end

---@param values string[]
function M.enum(values) return M.str{enum = values} end

function M.int(min, max) return {kind = "int", min = min or -max_int, max = max or max_int} end
function M.num(min, max) return {kind = "num", min = min, max = max} end

M.bool = {kind = "bool"}
M.dec = {kind = "dec"}
-- Money that is spent or may be: a decimal from 0 with at most 9 decimals outside, int64 nano-USD in the store, where the field's
-- name ends in _nano instead of _usd.
M.usd = {kind = "usd"}
M.ts = {kind = "ts"}
M.date = {kind = "date"}
M.any = {kind = "any"}
M.json_schema = {kind = "map", max_bytes = 65536, max_depth = 32, what = "a JSON Schema"}

---An open object. `known` are fields of it that are checked when they are there; nothing is filled in.
---@param known? table[]
function M.map(known, name)
  return {kind = "map", max_bytes = 65536, max_depth = 16, fields = known, name = name}
end

---@param item kontor.Type
---@param o? {max?: integer, unique?: boolean}
function M.list(item, o)
  o = o or {}
  return {kind = "list", item = item, max = o.max or 1000, unique = o.unique}
end

---@param name? string its name among the API document's components
---@param fields table[]
function M.object(name, fields)
  local by_name = {}
  for _, f in ipairs(fields) do by_name[f[1]] = f end
  return {kind = "object", name = name, fields = fields, by_name = by_name}
end

local function id(pattern, match, example)
  return {kind = "str", max = 200, pattern = pattern, match = match, example = example, id = true}
end

local function slug_of(max, inner)
  local many = "^[a-z0-9]" .. inner .. "*[a-z0-9]$"
  return function(s)
    return #s <= max and (s:find(many) or (#s == 1 and s:find("^[a-z0-9]$"))) and true or false
  end
end

M.slug = id("^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$", slug_of(64, "[a-z0-9._%-]"), "a-slug")
M.project_id = id("^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$", slug_of(48, "[a-z0-9%-]"), "acme-corp-2024")

-- The name that a model calls a tool by.
M.tool_id = id("^[a-z0-9][a-z0-9_-]{0,63}$", function(s) return #s <= 64 and s:find("^[a-z0-9][a-z0-9_-]*$") end,
  "ticket-search")

-- "latest", a label, or a version number as string.
M.ref = M.str{max = 64, pattern = "^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$",
  match = function(s)
    return s:find("^[A-Za-z0-9][A-Za-z0-9._%-]*[A-Za-z0-9]$") or s:find("^[A-Za-z0-9]$")
  end}

local function hex(s, n) return #s == n and not s:find("[^0-9a-f]") end

---An id that the service makes: prefix and 32 hex digits.
function M.made_id(prefix)
  return id("^" .. prefix .. "_[0-9a-f]{32}$", function(s)
    return s:sub(1, #prefix + 1) == prefix .. "_" and hex(s:sub(#prefix + 2), 32)
  end, prefix .. "_01980000000070008000000000000000")
end

M.execution_id = id("^exec_[1-9][0-9]{0,9}_[0-9a-f]{32}$", function(s)
  local n, tail = s:match("^exec_([1-9]%d*)_(.*)$")
  return n and #n <= 10 and hex(tail, 32)
end, "exec_1_01980000000070008000000000000000")

M.instance_id = id("^inst_(?:[0-9a-f]{32}|legacy_[a-z0-9._-]{1,64})$", function(s)
  local tail = s:match("^inst_(.*)$")
  if not tail then return false end
  local legacy = tail:match("^legacy_(.*)$")
  if legacy then return M.slug.match(legacy) end
  return hex(tail, 32)
end, "inst_01980000000070008000000000000000")

M.hash = id("^[0-9a-f]{64}$", function(s) return hex(s, 64) end)

-- A file name of a dataset: one path segment, no hidden or special names.
M.table_name = id("^[A-Za-z0-9_](?:[A-Za-z0-9._ -]{0,118}[A-Za-z0-9])?$", function(s)
  return #s <= 120 and (s:find("^[A-Za-z0-9_][A-Za-z0-9._ %-]*[A-Za-z0-9]$") or s:find("^[A-Za-z0-9_]$"))
    and not s:find("..", 1, true)
end, "invoice.csv")

-- A script's place: agents/x/workflow.lua. Segments of letters, digits, '.', '_', '-'; none begins
-- with a dot.
M.script_path = M.str{max = 200, pattern = "^[a-z0-9_-][a-z0-9._-]*(?:/[a-z0-9_-][a-z0-9._-]*)*\\.lua$",
  match = function(s)
    if not s:find("%.lua$") or s:find("//", 1, true) then return false end
    for segment in (s .. "/"):gmatch("([^/]*)/") do
      if not segment:find("^[a-z0-9_%-][a-z0-9._%-]*$") then return false end
    end
    return true
  end}

return M
