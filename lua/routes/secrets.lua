-- Secrets of the whole, and of one project; and the key that they are sealed under.

local lists = require "domain.lists"
local secret = require "domain.secret"
local secret_key = require "domain.secret_key"
local T = require "http.types"

local ty = secret.types.secret

---@param base string
---@param params table of the path
---@param suffix string of the operation ids
---@param of string for the summaries
---@return kontor.Route[]
local function routes(base, params, suffix, of)
  local one = {name = secret.types.name}
  for name, type in pairs(params) do one[name] = type end
  -- Those of the whole are used in all projects: they are for whoever has them all.
  local all = next(params) == nil
  return {
    {method = "GET", path = base, operation_id = "list" .. suffix .. "s", role = "admin", tag = "secrets", whole = all,
      summary = "List the secrets" .. of .. ", without their values", params = params, query = lists.query(),
      answers = {[200] = {list = ty, doc = "A page, by name"}}, handler = secret.list},
    {method = "GET", path = base .. "/{name}", operation_id = "get" .. suffix, role = "admin", tag = "secrets", whole = all,
      summary = "Get what is known of a secret" .. of .. ", without its value", params = one,
      answers = {[200] = {type = ty, headers = {"ETag"}}}, handler = secret.get},
    {method = "PUT", path = base .. "/{name}", operation_id = "put" .. suffix, role = "admin", tag = "secrets", whole = all,
      summary = "Set a secret" .. of, params = one, body = secret.types.value, secret_body = true, if_match = true,
      example = {value = "Bearer kgT5w0sPz1"}, answers = {[204] = {doc = "It has this value from now on"}}, handler = secret.put},
    {method = "DELETE", path = base .. "/{name}", operation_id = "delete" .. suffix, role = "admin", tag = "secrets", whole = all,
      summary = "Delete a secret" .. of, params = one, answers = {[204] = {doc = "Deleted"}}, handler = secret.delete},
  }
end

local list = routes("/api/v1/master/secrets", {}, "Secret", "")
for _, route in ipairs(routes("/api/v1/projects/{project_id}/secrets", {project_id = T.project_id}, "ProjectSecret", " of a project")) do
  list[#list + 1] = route
end
list[#list + 1] = {method = "POST", path = "/api/v1/master/secret-key/rotate", operation_id = "rotateSecretKey", role = "admin",
  tag = "secrets", whole = true, summary = "Seal all secrets anew, under a new key",
  body = secret_key.types.rotate, example = {}, answers = {[200] = {type = secret_key.types.rotated}}, handler = secret_key.post}
return list
