-- Projects, and the health of the whole.

local answer = require "http.answer"
local config = require "kt.config"
local health = require "domain.health"
local lists = require "domain.lists"
local project = require "domain.project"
local schema = require "http.schema"
local problem = require "http.problem"
local T = require "http.types"
local versions = require "domain.versions"

local base = "/api/v1/master/projects"
local ty = project.types.project
local params = {project_id = T.project_id}

local example = {project_id = "acme-corp-2024", project_name = "Acme 2024", customer_name = "Acme Corp",
  description = "Exception management for Acme's ERP", settings = {currency = "USD"}}
local replacement = {project_name = "Acme 2024", customer_name = "Acme Corporation",
  settings = {currency = "USD", sync_wait_seconds = 30}, quotas = {running = 10}}

return {
  {method = "POST", path = base, operation_id = "createProject", role = "admin", tag = "projects",
    summary = "Create a project and its database", body = ty, example = example,
    answers = {[201] = {type = ty, doc = "Created", headers = {"Location", "ETag"}}},
    handler = project.create},
  {method = "GET", path = base, operation_id = "listProjects", role = "viewer", tag = "projects",
    summary = "List one's projects",
    query = lists.query{{"archived", T.bool, default = false, doc = "also those that are archived"}},
    answers = {[200] = {list = ty, doc = "A page, by id"}},
    handler = function(ctx)
      local filter = {}
      if not ctx.query.archived then filter[#filter + 1] = {"status", "ne", "archived"} end
      if not config.get("ENABLE_MULTI_TENANT") then filter._id = config.get("DEFAULT_PROJECT_ID") end
      local mine = ctx.principal.projects
      if mine[1] ~= "*" then filter[#filter + 1] = {"_id", "in", mine} end
      return lists.page(ctx, {db = project.master(), coll = "kt_m_projects", filter = filter, type = ty, sort = lists.by_id})
    end},
  {method = "GET", path = base .. "/{project_id}", operation_id = "getProject", role = "viewer", tag = "projects",
    master = true, summary = "Get a project", params = params, answers = {[200] = {type = ty, headers = {"ETag"}}},
    handler = function(ctx)
      if not project.exists_here(ctx.params.project_id) then return nil, problem.err("not_found") end
      local text, err = project.master():find_one_json("kt_m_projects", {_id = ctx.params.project_id}, schema.view(ty))
      if not text then return nil, err or problem.err("not_found") end
      return answer.text(200, text, {ETag = versions.etag_of(text)})
    end},
  {method = "PUT", path = base .. "/{project_id}", operation_id = "updateProject", whole = true, role = "admin", tag = "projects",
    master = true, summary = "Replace a project", params = params, body = ty, mode = "replace", if_match = true,
    example = replacement, answers = {[200] = {type = ty, headers = {"ETag"}}}, handler = project.replace},
  {method = "GET", path = "/api/v1/master/health", operation_id = "getMasterHealth", role = "viewer", tag = "service",
    summary = "Health of the service and what it depends on",
    answers = {[200] = {type = health.types.master}, [503] = {type = health.types.master, doc = "Down"}},
    handler = health.master},
}
