-- What a project uses of its quotas. The limits are in its document (/master/projects/{project_id}).

local quota = require "domain.quota"
local T = require "http.types"

return {
  {method = "GET", path = "/api/v1/projects/{project_id}/quotas", operation_id = "getQuotas", role = "viewer",
    tag = "projects", summary = "What is used of the project's quotas", params = {project_id = T.project_id},
    answers = {[200] = {type = quota.types.quotas}}, handler = quota.get},
}
