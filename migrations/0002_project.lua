-- Collections that a project has from its beginning, with their indexes; every other collection
-- comes with its first write.

local newest = {name = "newest", keys = {{"created_at", -1}, {"_id", -1}}}

local indexes = {
  {"kt_p_agent_instances", newest},
  {"kt_p_executions", newest},
  {"kt_p_executions", {name = "status", keys = {{"status", 1}, {"created_at", -1}, {"_id", -1}}}},
  {"kt_p_results", {name = "execution", keys = {{"execution_id", 1}}}},
  {"kt_p_results", {name = "day", keys = {{"day", 1}}}},
  {"kt_p_token_usage", {name = "day", keys = {{"day", 1}, {"agent_id", 1}, {"model", 1}}}},
  {"kt_p_audit_log", {name = "newest", keys = {{"at", -1}, {"_id", -1}}}},
  {"kt_p_audit_log", {name = "actor", keys = {{"actor", 1}, {"at", -1}}}},
}

return {
  scope = "project",
  run = function(db)
    for _, i in ipairs(indexes) do
      local ok, err = db:ensure_index(i[1], i[2])
      if not ok then return nil, err end
    end
    return true
  end,
}
