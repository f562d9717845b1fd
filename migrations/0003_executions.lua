-- Indexes of the engine: what is due of a status, and the findings of an instance by rule.

return {
  scope = "project",
  run = function(db)
    local ok, err = db:ensure_index("kt_p_executions", { name = "due", keys = { { "status", 1 }, { "due_at", 1 } } })
    if ok then
      ok, err = db:ensure_index("kt_p_findings", { name = "rule",
        keys = { { "instance_id", 1 }, { "rule_id", 1 } } })
    end
    if ok then
      ok, err = db:ensure_index("kt_p_results", { name = "instance",
        keys = { { "instance_id", 1 }, { "created_at", -1 } } })
    end
    return ok and true or nil, err
  end,
}
