-- API keys of the whole, and of one project; and who one is.

local answer = require "http.answer"
local api_key = require "domain.api_key"
local json = require "json"
local lists = require "domain.lists"
local T = require "http.types"

local ty = api_key.types.key

local me = T.object("Me", {{"principal_id", T.str()}, {"name", T.str()}, {"role", T.enum(api_key.roles)},
  {"projects", T.list(T.str())}, {"via", T.enum{"key", "session", "dev", "cli"}}})

---@param base string
---@param params table of the path
---@param suffix string of the operation ids
---@param of string for the summaries
---@param example table
---@return kontor.Route[]
local function routes(base, params, suffix, of, example)
  local one = {key_id = T.made_id("key")}
  for name, type in pairs(params) do one[name] = type end
  -- Whose keys there are is for those who may make them; of the whole, for all projects' admins alone.
  local all = next(params) == nil
  return {
    {method = "POST", path = base, operation_id = "create" .. suffix, role = "admin", tag = "keys", whole = all,
      summary = "Make a key" .. of, params = params, body = ty, example = example,
      answers = {[201] = {type = api_key.types.created, doc = "The key, shown this once", headers = {"Location"}}},
      handler = api_key.create},
    {method = "GET", path = base, operation_id = "list" .. suffix .. "s", role = "admin", tag = "keys", whole = all,
      summary = "List the keys" .. of, params = params, query = lists.query(),
      answers = {[200] = {list = ty, doc = "A page, by id"}}, handler = api_key.list},
    {method = "GET", path = base .. "/{key_id}", operation_id = "get" .. suffix, role = "admin", tag = "keys", whole = all,
      summary = "Get a key" .. of .. ", without its secret", params = one, answers = {[200] = {type = ty}}, handler = api_key.get},
    {method = "DELETE", path = base .. "/{key_id}", operation_id = "revoke" .. suffix, role = "admin", tag = "keys", whole = all,
      summary = "Revoke a key" .. of, params = one, answers = {[204] = {doc = "Revoked"}}, handler = api_key.revoke},
  }
end

local list = routes("/api/v1/master/api-keys", {}, "ApiKey", "", {name = "CI", role = "operator", projects = {"default"}})
for _, route in ipairs(routes("/api/v1/projects/{project_id}/api-keys", {project_id = T.project_id}, "ProjectApiKey",
  " of a project", {name = "Controller", role = "viewer"})) do
  route.master = true -- the rows are there, not in the project
  list[#list + 1] = route
end
list[#list + 1] = {method = "GET", path = "/api/v1/me", operation_id = "getMe", role = "viewer", tag = "keys",
  summary = "Who one is here", answers = {[200] = {type = me}},
  handler = function(ctx)
    local p = ctx.principal
    return answer.doc(200, json.ordered({principal_id = p.id, name = p.name, role = p.role, projects = json.array(p.projects), via = p.via},
      {"principal_id", "name", "role", "projects", "via"}))
  end}
return list
