-- The collections that master data is promised in: there from the start, not with their first document.

local promised = {"kt_m_agents", "kt_m_tools", "kt_m_mcps", "kt_m_system_prompts", "kt_m_projects", "kt_m_model_configs"}

return {
  scope = "master",
  run = function(db)
    for _, name in ipairs(promised) do
      local ok, err = db:ensure_collection(name)
      if not ok then return nil, err end
    end
    return true
  end,
}
