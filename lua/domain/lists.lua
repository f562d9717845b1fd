-- Lists: keyset paging over one collection, the documents going from the store to JSON text without
-- passing through Lua.

local answer = require "http.answer"
local cursor = require "http.cursor"
local schema = require "http.schema"
local T = require "http.types"

local M = {}

---Query parameters that every list has.
---@param fields? table[] the filters
---@return table[]
function M.query(fields)
  local list = {}
  for _, f in ipairs(fields or {}) do list[#list + 1] = f end
  list[#list + 1] = {"limit", T.int(1, 500), default = 50, doc = "items a page"}
  list[#list + 1] = {"cursor", T.str{max = 4096}, doc = "page.next_cursor of the page before"}
  return list
end

local newest_first = {{"created_at", -1}, {"_id", -1}}
M.newest_first = newest_first
M.by_id = {{"_id", 1}}

---@class kontor.ListSpec
---@field db table
---@field coll string
---@field filter table of the store
---@field type kontor.Type of the documents
---@field sort? table newest first when absent

---What the cursor of this request is bound to, and where the page begins.
---@param ctx kontor.Context
---@return string binding
---@return any[]|nil after
---@return kontor.Error|nil
function M.place(ctx)
  local filters = {}
  for name, v in pairs(ctx.query) do
    if name ~= "cursor" and name ~= "limit" then filters[name] = v end
  end
  local binding = cursor.binding(ctx.route.operation_id, ctx.params.project_id, {q = filters, p = ctx.params})
  if not ctx.query.cursor then return binding end
  local after, err = cursor.open(ctx.query.cursor, binding)
  return binding, after, err
end

---@param ctx kontor.Context
---@param spec kontor.ListSpec
---@return kontor.Answer|nil
---@return kontor.Error|nil
function M.page(ctx, spec)
  local binding, after, err = M.place(ctx)
  if err then return nil, err end
  local limit, sort = ctx.query.limit, spec.sort or newest_first
  local text, count, last = spec.db:find_json(spec.coll, spec.filter,
    {sort = sort, limit = limit, after = after, view = schema.view(spec.type)})
  if not text then return nil, count end
  local next_cursor
  if count == limit then
    -- A cursor is given only where something follows.
    local more, failed = spec.db:find(spec.coll, spec.filter,
      {sort = sort, limit = 1, after = last, projection = {"_id"}})
    if not more then return nil, failed end
    if #more > 0 then next_cursor = cursor.seal(last, binding) end
  end
  return answer.page(text, next_cursor, limit)
end

return M
