-- Jobs are found by what they do and for whom, and the audit log's entries by what they are about: the
-- erasing of a project removes both.

local indexes = {
  {"kt_m_jobs", {name = "status", keys = {{"status", 1}}}},
  {"kt_m_jobs", {name = "project", keys = {{"project_id", 1}}}},
  {"kt_m_audit_log", {name = "target", keys = {{"target_id", 1}, {"at", -1}}}},
}

return {
  scope = "master",
  run = function(db)
    for _, i in ipairs(indexes) do
      local ok, err = db:ensure_index(i[1], i[2])
      if not ok then return nil, err end
    end
    return true
  end,
}
