-- Routes of a versioned document: create, list, get, replace, versions. One shape for all kinds.

local answer = require "http.answer"
local cursor = require "http.cursor"
local json = require "json"
local lists = require "domain.lists"
local problem = require "http.problem"
local project = require "domain.project"
local schema = require "http.schema"
local T = require "http.types"
local versions = require "domain.versions"

local M = {}

local version_number = {kind = "str", max = 10, pattern = "^[1-9][0-9]{0,8}$", id = true,
  match = function(s) return #s <= 9 and s:find("^[1-9]%d*$") end}
M.version_number = version_number

local function database(ctx) return ctx.project and ctx.project.db or project.master() end

local function list_versions(kind)
  local labels_of = function(head)
    local names = {}
    for name, n in pairs(head.labels) do
      names[n] = names[n] or {}
      table.insert(names[n], name)
    end
    for _, list in pairs(names) do table.sort(list) end
    return names
  end
  return function(ctx)
    local db, id = database(ctx), ctx.params[kind.id_field]
    local head, err = db:find_one(kind.coll, {_id = id}, {projection = {"labels"}})
    if not head then return nil, err or problem.err("not_found") end
    local binding, after, bad = lists.place(ctx)
    if bad then return nil, bad end
    local limit = ctx.query.limit
    local rows
    -- The versions of one thing are a range of _id: no further index is needed.
    rows, err = db:find(kind.versions, {{"_id", "prefix", kind.kind .. "/" .. id .. "/"}}, {sort = {{"version", -1}, {"_id", -1}},
      limit = limit + 1, after = after, projection = {"version", "sha256", "created_by", "created_at"}})
    if not rows then return nil, err end
    local labels, data, next_cursor = labels_of(head), {}, nil
    for i = 1, math.min(limit, #rows) do
      rows[i].labels = json.array(labels[rows[i].version] or {})
      data[i] = schema.to_plain(versions.types.version, rows[i])
    end
    if #rows > limit then
      next_cursor = cursor.seal({rows[limit].version, rows[limit]._id}, binding)
    end
    return answer.page(json.encode(json.array(data)), next_cursor, limit)
  end
end

---@class kontor.CrudSpec
---@field kind table of domain/versions.lua
---@field name string operation name, as `Agent`
---@field base string path of the collection
---@field id_type kontor.Type
---@field params table further path parameters
---@field role string least role to write
---@field tag string
---@field what string for the summaries, as "agent template"
---@field example table of POST
---@field replace_example table of PUT
---@field example_id string what PUT's example is sent to
---@field create? fun(ctx): table|nil, kontor.Error|nil
---@field filters? table[] of the list
---@field filter? fun(ctx, filter) adds to the store's filter
---@field sort? table

---@param spec kontor.CrudSpec
---@return kontor.Route[]
function M.routes(spec)
  local kind, id_field = spec.kind, spec.kind.id_field
  local ty = kind.type
  local one = spec.base .. "/{" .. id_field .. "}"
  local params = {}
  for k, v in pairs(spec.params or {}) do params[k] = v end
  params[id_field] = spec.id_type
  local with_version = {n = version_number}
  for k, v in pairs(params) do with_version[k] = v end
  local filters = {{"archived", T.bool, default = false, doc = "also those that are archived"}}
  for _, f in ipairs(spec.filters or {}) do filters[#filters + 1] = f end
  local plural = (spec.plural or spec.name .. "s")
  return {
    {method = "POST", path = spec.base, operation_id = "create" .. spec.name, role = spec.role, tag = spec.tag,
      summary = "Create " .. spec.what, params = spec.params, body = ty, example = spec.example,
      answers = {[201] = {type = ty, doc = "Created", headers = {"Location", "ETag"}}},
      handler = spec.create or function(ctx) return versions.create(kind, ctx, database(ctx)) end},
    {method = "GET", path = spec.base, operation_id = "list" .. plural, role = "viewer", tag = spec.tag,
      summary = "List " .. spec.what, params = spec.params, query = lists.query(filters),
      answers = {[200] = {list = ty, doc = "A page"}},
      handler = function(ctx)
        local filter = {}
        if not ctx.query.archived then filter.archived = false end
        if spec.filter then spec.filter(ctx, filter) end
        return lists.page(ctx, {db = database(ctx), coll = kind.coll, filter = filter, type = ty, sort = spec.sort})
      end},
    {method = "GET", path = one, operation_id = "get" .. spec.name, role = "viewer", tag = spec.tag,
      summary = "Get " .. spec.what, params = params, answers = {[200] = {type = ty, headers = {"ETag"}}},
      handler = function(ctx) return versions.get(kind, database(ctx), ctx.params[id_field]) end},
    {method = "PUT", path = one, operation_id = "update" .. spec.name, role = spec.role, tag = spec.tag,
      summary = "Replace " .. spec.what .. "; makes the next version", params = params, body = ty, mode = "replace",
      if_match = true, example = spec.replace_example,
      answers = {[200] = {type = ty, headers = {"ETag"}}},
      handler = function(ctx) return versions.replace(kind, ctx, database(ctx), ctx.params[id_field]) end},
    {method = "GET", path = one .. "/versions", operation_id = "list" .. spec.name .. "Versions", role = "viewer",
      tag = spec.tag, summary = "List the versions of " .. spec.what, params = params, query = lists.query(),
      answers = {[200] = {list = versions.types.version, doc = "A page, newest first"}}, handler = list_versions(kind)},
    {method = "GET", path = one .. "/versions/{n}", operation_id = "get" .. spec.name .. "Version", role = "viewer",
      tag = spec.tag, summary = "Get a version of " .. spec.what, params = with_version,
      answers = {[200] = {type = ty, headers = {"ETag"}}},
      handler = function(ctx) return versions.get_version(kind, database(ctx), ctx.params[id_field], ctx.params.n) end},
  }
end

return M
